"""The options of a search, as every command that decodes takes them."""

import dataclasses

from jaxasr.errors import ConfigError
from jaxasr.search.choices import Fusion, Search
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

    def choices(self, task: Task) -> Search:
        """Raises ConfigError where they cannot be."""
        search = Search(self.search or task.usual_search(), self.beam, self.nbest)
        if not 0 < self.nbest <= self.beam:
            raise ConfigError(
                f"--beam={self.beam} --nbest={self.nbest}: whole numbers from 1, the second at most the first, were "
                "expected; change them."
            )
        return search

    def fusion(self, task: Task) -> Fusion:
        """Reads what the search is to weigh beside the model."""
        del task
        return Fusion(self.ctc_weight, self.length_bonus)
