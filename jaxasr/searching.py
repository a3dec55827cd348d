"""The options of a search, as every command that decodes takes them."""

import dataclasses
from collections.abc import Mapping

from jaxasr.errors import ConfigError
from jaxasr.search.choices import Fusion, Search
from jaxasr.search.hotwords import read_hotwords
from jaxasr.search.ngram import read_ngram
from jaxasr.search.scorers import Scorer, Weighted
from jaxasr.tasks.base import Task
from jaxasr.tasks.speech import SpeechTask


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
        search = Search(self.search or task.searches()[0], self.beam, self.nbest)
        if not 0 < self.nbest <= self.beam:
            raise ConfigError(
                f"--beam={self.beam} --nbest={self.nbest}: whole numbers from 1, the second at most the first, were "
                "expected; change them."
            )
        for name in ("ngram", "hotwords"):
            if (value := getattr(self, name)) is not None and search.name not in task.beam_searches():
                raise ConfigError(
                    f"--{name}={value} with --search={search.name}: it asks nothing beside the model; one of "
                    f"{', '.join(task.beam_searches()) or 'no search that this model has'} was expected; give another "
                    f"search, or remove --{name}."
                )
        return search

    def scorers(self, task: Task) -> Mapping[str, Scorer]:
        """What the search asks beside the model, by the option that weighs it; read from disk."""
        found: dict[str, Scorer] = {}
        if isinstance(task, SpeechTask) and task.vocabulary is not None:
            if self.ngram is not None:
                found["ngram_weight"] = read_ngram(self.ngram, task.vocabulary, task.tokens)
            if self.hotwords is not None:
                found["hotwords_weight"] = read_hotwords(
                    self.hotwords, task.vocabulary, task.tokens, task.word_bounds()
                )
        return found

    def fusion(self, task: Task) -> Fusion:
        """Reads what the search is to weigh beside the model."""
        weighted = (Weighted(scorer, getattr(self, name)) for name, scorer in self.scorers(task).items())
        return Fusion(self.ctc_weight, self.length_bonus, scorers=tuple(weighted))
