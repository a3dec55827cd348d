"""The options of a search, as every command that decodes takes them."""

import dataclasses
import math

from jaxasr.errors import ConfigError
from jaxasr.search.choices import EVERY, Fusion, Search
from jaxasr.tasks.base import Task

READ_BY = {
    "ctc_beam": ("beam", "nbest", "token_beam", "length_bonus", "blank_skip"),
    "joint": ("beam", "nbest", "token_beam", "ctc_weight", "length_bonus", "maxlenratio", "minlenratio"),
    "rescore": ("beam", "nbest", "token_beam", "ctc_weight", "length_bonus", "blank_skip"),
}
"""The options that each search reads; one that is not here reads none."""


@dataclasses.dataclass(frozen=True)
class SearchFlags:
    """How to look for the text."""

    search: str | None = None
    """Such as ctc_greedy, ctc_beam, attention_greedy or joint; by default the first that the model has."""
    beam: int = 10
    """Hypotheses that a beam search keeps at a time."""
    nbest: int = 1
    """Hypotheses that a beam search returns."""
    token_beam: int = 0
    """Tokens that a hypothesis goes on with, the best by the model's heads: of a frame by ctc_beam, 0 for all; of a
    step by joint, 0 for 1.5 times the beam."""
    ctc_weight: float = 0.3
    """Share of CTC's score where a decoder scores as well, whatever it was in training; 1 takes nothing of the
    decoder's."""
    length_bonus: float = 0.0
    """Nats that a beam search adds for every token."""
    blank_skip: float = 1.0
    """Probability of blank above which ctc_beam passes over a frame, as one that says nothing; 1 for none."""
    maxlenratio: float = 0.0
    """Most tokens for each encoded frame that joint finds; below 0 that many tokens. 0 for as many as frames, and to
    end where what goes on is far worse than what has ended."""
    minlenratio: float = 0.0
    """Fewest tokens for each encoded frame that joint finds; below 0 that many tokens."""

    def choices(self, task: Task) -> Search:
        """Raises ConfigError where they cannot be."""
        name = self.search or task.searches()[0]
        self._check_idle(name, task)
        if not 0 < self.nbest <= self.beam:
            raise ConfigError(
                f"--beam={self.beam} --nbest={self.nbest}: whole numbers from 1, the second at most the first, were "
                "expected; change them."
            )
        if self.token_beam < 0 or not 0.0 < self.blank_skip <= 1.0 or not math.isfinite(self.length_bonus):
            raise ConfigError(
                f"--token_beam={self.token_beam} --blank_skip={self.blank_skip} --length_bonus={self.length_bonus}: "
                "0 or more, a probability above 0 and a finite number were expected; change them."
            )
        if not 0.0 <= self.ctc_weight <= 1.0:
            raise ConfigError(f"--ctc_weight={self.ctc_weight}: a share from 0 to 1 was expected; change it.")
        if not (math.isfinite(self.maxlenratio) and math.isfinite(self.minlenratio)):
            raise ConfigError(
                f"--maxlenratio={self.maxlenratio} --minlenratio={self.minlenratio}: finite numbers were expected; "
                "change them."
            )
        token_beam = self.token_beam
        if name == "joint" and self.ctc_weight == 1.0:
            token_beam = token_beam or EVERY  # no decoder tells which tokens are likely
        return Search(name, self.beam, self.nbest, self.maxlenratio, self.minlenratio, token_beam)

    def fusion(self, task: Task) -> Fusion:
        """Reads what the search is to weigh beside the model."""
        del task
        return Fusion(self.ctc_weight, self.length_bonus, self.blank_skip)

    def _check_idle(self, search: str, task: Task) -> None:
        """Raises ConfigError where an option would change nothing."""
        read = {"search", *READ_BY.get(search, ())} - {*task.idle_options(search)}
        for field in dataclasses.fields(self):
            if (value := getattr(self, field.name)) != field.default and field.name not in read:
                raise ConfigError(
                    f"--{field.name}={value} with --search={search}: it would change nothing; {field.default} was "
                    "expected; remove it, or give another search or model."
                )
