"""The options of a search, as every command that decodes takes them."""

import dataclasses
import math
from collections.abc import Mapping

from jaxasr.errors import ConfigError
from jaxasr.language_models import neural_lm
from jaxasr.search.choices import EVERY, Fusion, Search
from jaxasr.search.hotwords import read_hotwords
from jaxasr.search.ngram import read_ngram
from jaxasr.search.scorers import Scorer, Weighted
from jaxasr.tasks.base import Task
from jaxasr.tasks.speech import SpeechTask

SCORERS = {"lm": "lm_weight", "ngram": "ngram_weight", "hotwords": "hotwords_weight"}
"""Options that name what a beam search asks beside the model, and what each is weighed by."""
BEAM = ("beam", "nbest", "token_beam", "length_bonus", *SCORERS, *SCORERS.values())
READ_BY = {
    "ctc_beam": (*BEAM, "blank_skip"),
    "joint": (*BEAM, "ctc_weight", "maxlenratio", "minlenratio"),
    "rescore": (*BEAM, "ctc_weight", "blank_skip"),
}
"""The options that each search reads; one that is not here reads none."""
MOST_A_FRAME, MOST_TOKENS = 100, 100_000
"""That joint may be told to find; it has room for all of them from the start."""


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
    lm: str | None = None
    """Workdir, or model folder, of a language model (--task=lm) that a beam search asks."""
    lm_weight: float = 0.3
    """What its log-probabilities are multiplied by."""
    ngram: str | None = None
    """ARPA file, .gz packed, of an n-gram model of the model's tokens (python -m jaxasr.ngram) that a beam search
    asks."""
    ngram_weight: float = 0.3
    """What its log-probabilities are multiplied by."""
    hotwords: str | None = None
    """File with a phrase a line, and behind a tab a weight other than 1: a beam search gives their tokens a bonus."""
    hotwords_weight: float = 2.0
    """Nats for every token of a phrase of weight 1."""

    def choices(self, task: Task) -> Search:
        """Raises ConfigError where they cannot be."""
        name = self.search or task.usual_search()
        task.check_search(name)
        self._check_idle(name, task)
        self._check_ranges()
        token_beam = self.token_beam
        if name == "joint" and self.ctc_weight == 1.0:
            token_beam = token_beam or EVERY  # no decoder tells which tokens are likely
        return Search(name, self.beam, self.nbest, self.maxlenratio, self.minlenratio, token_beam)

    def scorers(self, task: Task) -> Mapping[str, Scorer]:
        """What the search asks beside the model, by the option that weighs it; read from disk."""
        found: dict[str, Scorer] = {}
        if isinstance(task, SpeechTask) and task.vocabulary is not None:
            if self.lm is not None:
                found["lm_weight"] = neural_lm(self.lm, task.vocabulary)
            if self.ngram is not None:
                found["ngram_weight"] = read_ngram(self.ngram, task.vocabulary, task.tokens)
            if self.hotwords is not None:
                known = task.vocabulary, task.tokens, task.word_bounds()
                found["hotwords_weight"] = read_hotwords(self.hotwords, *known)
        return found

    def fusion(self, scorers: Mapping[str, Scorer]) -> Fusion:
        """What the search weighs, of these scorers."""
        weighted = tuple(Weighted(scorer, getattr(self, name)) for name, scorer in scorers.items())
        return Fusion(self.ctc_weight, self.length_bonus, self.blank_skip, weighted)

    def weights(self, task: Task, scorers: Mapping[str, Scorer]) -> tuple[str, ...]:
        """The options that weigh something in the search, those of `scorers` among them."""
        name = self.choices(task).name
        read = {*READ_BY.get(name, ())} - {*task.idle_options(name)}
        return (*scorers, *(option for option in ("ctc_weight", "length_bonus") if option in read))

    def _check_ranges(self) -> None:
        if not 0 < self.nbest <= self.beam:
            raise ConfigError(
                f"--beam={self.beam} --nbest={self.nbest}: whole numbers from 1, the second at most the first, were "
                "expected; change them."
            )
        if self.token_beam < 0 or not 0.0 < self.blank_skip <= 1.0:
            raise ConfigError(
                f"--token_beam={self.token_beam} --blank_skip={self.blank_skip}: 0 or more, and a probability above 0, "
                "were expected; change them."
            )
        if not 0.0 <= self.ctc_weight <= 1.0:
            raise ConfigError(f"--ctc_weight={self.ctc_weight}: a share from 0 to 1 was expected; change it.")
        for name in ("maxlenratio", "minlenratio"):
            value = getattr(self, name)
            if not -MOST_TOKENS <= value <= MOST_A_FRAME or (value < 0.0 and value != int(value)):
                raise ConfigError(
                    f"--{name}={value}: a ratio from 0 to {MOST_A_FRAME}, or below 0 a whole number of tokens down to "
                    f"{-MOST_TOKENS}, was expected; change it."
                )
        for name in ("length_bonus", *SCORERS.values()):
            if not math.isfinite(value := getattr(self, name)):
                raise ConfigError(f"--{name}={value}: a finite number was expected; change it.")

    def _check_idle(self, search: str, task: Task) -> None:
        """Raises ConfigError where an option would change nothing."""
        read = {"search", *READ_BY.get(search, ())} - {*task.idle_options(search)}
        changed = {f.name: value for f in dataclasses.fields(self) if (value := getattr(self, f.name)) != f.default}
        for name, value in changed.items():
            if name not in read:
                raise ConfigError(
                    f"--{name}={value} with --search={search}: it would change nothing; {getattr(SearchFlags, name)} "
                    "was expected; remove it, or give another search or model."
                )
        for needed, name in SCORERS.items():
            if name in changed and needed not in changed:
                raise ConfigError(
                    f"--{name}={changed[name]} without --{needed}: it would change nothing; "
                    f"{getattr(SearchFlags, name)} was expected; remove it, or give --{needed}."
                )
