"""Which words a model gets wrong, and what it hears instead."""

import collections
import dataclasses
from collections.abc import Iterable

from jaxasr.evaluate import aligned
from jaxasr.scoring import UtteranceScore


@dataclasses.dataclass
class WordErrors:
    """What became of one word, or of one character where the script has no spaces."""

    word: str
    count: int = 0
    """Times it stands in the references."""
    deleted: int = 0
    inserted: int = 0
    """Times it was recognised where nothing of the kind was said."""
    heard_as: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """What was recognised in its place."""

    @property
    def substituted(self) -> int:
        """How often another word was heard in its place."""
        return self.heard_as.total()

    @property
    def wrong(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substituted + self.deleted + self.inserted


def by_word(utterances: Iterable[UtteranceScore]) -> list[WordErrors]:
    """Every word that is in a reference or a hypothesis, the most errors first; of equals the rarer word first.

    >>> from jaxasr.scoring import ErrorCounts, UtteranceScore
    >>> heard = UtteranceScore("u1", "ONE TWO", "ONE TOO", ErrorCounts(1, 0, 0, 2), ErrorCounts(1, 0, 0, 6))
    >>> [(entry.word, dict(entry.heard_as)) for entry in by_word([heard])]
    [('TWO', {'TOO': 1}), ('ONE', {})]
    """
    found: dict[str, WordErrors] = {}
    for utterance in utterances:
        for operation, reference, hypothesis in aligned(utterance)[0]:
            word = reference if reference is not None else hypothesis
            assert word is not None
            entry = found.setdefault(word, WordErrors(word))
            entry.count += reference is not None
            entry.deleted += operation == "delete"
            entry.inserted += operation == "insert"
            if operation == "substitute" and hypothesis is not None:
                entry.heard_as[hypothesis] += 1
    return sorted(found.values(), key=lambda e: (-e.wrong, e.count, e.word))


def confusions(words: Iterable[WordErrors]) -> list[tuple[str, str, int]]:
    """(said, recognised, times), the most frequent first."""
    pairs = [(entry.word, other, times) for entry in words for other, times in entry.heard_as.items()]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))
