"""The options of a search, as every command that decodes takes them."""

import dataclasses
from collections.abc import Mapping

from jaxasr.errors import ConfigError
from jaxasr.language_models import neural_lm
from jaxasr.search.choices import Fusion, Search
from jaxasr.search.scorers import Scorer, Weighted
from jaxasr.tasks.base import Task


@dataclasses.dataclass(frozen=True)
class SearchFlags:
    """How to look for the text."""

    search: str | None = None
    """Such as ctc_greedy or attention_greedy; by default the first that the model has."""
    beam: int = 10
    """Hypotheses that a beam search keeps at a time."""
    nbest: int = 1
    """Hypotheses that a beam search returns."""
    ctc_weight: float = 0.3
    """Share of CTC's score where a decoder scores as well."""
    length_bonus: float = 0.0
    """Nats that a beam search adds for every token."""
    lm: str | None = None
    """Workdir, or model folder, of a language model (--task=lm) that a beam search asks."""
    lm_weight: float = 0.3
    """What its log-probabilities are multiplied by."""

    def choices(self, task: Task) -> Search:
        """Raises ConfigError where they cannot be."""
        search = Search(self.search or task.usual_search(), self.beam, self.nbest)
        if not 0 < self.nbest <= self.beam:
            raise ConfigError(
                f"--beam={self.beam} --nbest={self.nbest}: whole numbers from 1, the second at most the first, were "
                "expected; change them."
            )
        if self.lm is not None and search.name not in task.beam_searches():
            raise ConfigError(
                f"--lm={self.lm} with --search={search.name}: it asks no language model; one of "
                f"{', '.join(task.beam_searches()) or 'no search that this model has'} was expected; give another "
                "search, or remove --lm."
            )
        return search

    def weights(self, task: Task, scorers: Mapping[str, Scorer]) -> tuple[str, ...]:
        """The options that weigh something in this search, those of `scorers` among them."""
        name = self.choices(task).name
        if name not in task.beam_searches():
            return ()
        return (*scorers, *(("ctc_weight",) if name != "ctc_beam" else ()), "length_bonus")

    def scorers(self, task: Task) -> Mapping[str, Scorer]:
        """What the search asks beside the model, by the option that weighs it; read from disk."""
        vocabulary = getattr(task, "vocabulary", None)
        return {} if self.lm is None or vocabulary is None else {"lm_weight": neural_lm(self.lm, vocabulary)}

    def fusion(self, scorers: Mapping[str, Scorer]) -> Fusion:
        """What the search weighs, of these scorers."""
        weighted = tuple(Weighted(scorer, getattr(self, name)) for name, scorer in scorers.items())
        return Fusion(self.ctc_weight, self.length_bonus, scorers=weighted)
