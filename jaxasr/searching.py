"""The options of a search, as every command that decodes takes them."""

import dataclasses
import math
from collections.abc import Mapping

from jaxasr.errors import ConfigError
from jaxasr.language_models import neural_lm
from jaxasr.search.choices import Fusion, Search
from jaxasr.search.scorers import Scorer, Weighted
from jaxasr.tasks.base import Task

READ_BY = {"ctc_beam": ("beam", "nbest", "token_beam", "length_bonus", "blank_skip", "lm", "lm_weight")}
"""The options that each search reads; one that is not here reads none."""
BESIDE = {"lm_weight": "lm"}
"""Options that change nothing without another."""


@dataclasses.dataclass(frozen=True)
class SearchFlags:
    """How to look for the text."""

    search: str | None = None
    """Such as ctc_greedy, ctc_beam or attention_greedy; by default the first that the model has."""
    beam: int = 10
    """Hypotheses that a beam search keeps at a time."""
    nbest: int = 1
    """Hypotheses that a beam search returns."""
    token_beam: int = 0
    """Tokens of a frame that ctc_beam goes on with, the best by CTC; 0 for all."""
    ctc_weight: float = 0.3
    """Share of CTC's score where a decoder scores as well."""
    length_bonus: float = 0.0
    """Nats that a beam search adds for every token."""
    blank_skip: float = 1.0
    """Probability of blank above which ctc_beam passes over a frame, as one that says nothing; 1 for none."""
    lm: str | None = None
    """Workdir, or model folder, of a language model (--task=lm) that a beam search asks."""
    lm_weight: float = 0.3
    """What its log-probabilities are multiplied by."""

    def choices(self, task: Task) -> Search:
        """Raises ConfigError where they cannot be."""
        search = Search(self.search or task.usual_search(), self.beam, self.nbest, token_beam=self.token_beam)
        self._check_idle(search.name)
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
        if not math.isfinite(self.lm_weight):
            raise ConfigError(f"--lm_weight={self.lm_weight}: a finite number was expected; change it.")
        return search

    def scorers(self, task: Task) -> Mapping[str, Scorer]:
        """What the search asks beside the model, by the option that weighs it; read from disk."""
        vocabulary = getattr(task, "vocabulary", None)
        return {} if self.lm is None or vocabulary is None else {"lm_weight": neural_lm(self.lm, vocabulary)}

    def fusion(self, scorers: Mapping[str, Scorer]) -> Fusion:
        """What the search weighs, of these scorers."""
        weighted = tuple(Weighted(scorer, getattr(self, name)) for name, scorer in scorers.items())
        return Fusion(self.ctc_weight, self.length_bonus, self.blank_skip, weighted)

    def weights(self, search: str, scorers: Mapping[str, Scorer]) -> tuple[str, ...]:
        """The options that weigh something in this search, those of `scorers` among them."""
        own = (name for name in ("ctc_weight", "length_bonus") if name in READ_BY.get(search, ()))
        return (*scorers, *own)

    def _check_idle(self, search: str) -> None:
        """Raises ConfigError where an option would change nothing."""
        for field in dataclasses.fields(self):
            value, idle = getattr(self, field.name), field.name not in ("search", *READ_BY.get(search, ()))
            if idle and value != field.default:
                raise ConfigError(
                    f"--{field.name}={value} with --search={search}: it would change nothing; {field.default} was "
                    "expected; remove it, or give another search."
                )
            needed = BESIDE.get(field.name)
            if needed is not None and getattr(self, needed) is None and value != field.default:
                raise ConfigError(
                    f"--{field.name}={value} without --{needed}: it would change nothing; {field.default} was "
                    f"expected; remove it, or give --{needed}."
                )
