"""N-gram models that back off (Katz, 1987, https://doi.org/10.1109/TASSP.1987.1165125), as arrays."""

import dataclasses
import functools
from typing import ClassVar, NamedTuple

import numpy as np


class Order(NamedTuple):
    """The n-grams of one length, an entry each, sorted by (prefix, word)."""

    prefixes: np.ndarray
    """int64: where the order below has all words but the last; 0 for unigrams."""
    words: np.ndarray
    """int64: the last word."""
    log10_probs: np.ndarray
    """Of the last word after the others."""
    log10_backoffs: np.ndarray
    """Weight of the shorter context where this one has not seen a word; 0 in the highest order."""


@dataclasses.dataclass(frozen=True)
class NgramModel:
    """Words by their numbers, and the n-grams of each length from 1; every word is a unigram, in its order."""

    words: tuple[str, ...]
    orders: tuple[Order, ...]

    UNK: ClassVar[str] = "<unk>"
    BEGIN: ClassVar[str] = "<s>"
    END: ClassVar[str] = "</s>"

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        """The number of each word."""
        return {word: number for number, word in enumerate(self.words)}

    @functools.cached_property
    def _keys(self) -> list[np.ndarray]:
        return [order.prefixes * len(self.words) + order.words for order in self.orders]

    def find(self, order: int, prefixes: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Where `orders[order]` has these n-grams; -1 where it has not, or where the prefix is -1.

        Args:
          prefixes, words: int (N,); a prefix is the place of the words before in `orders[order - 1]`.
        """
        keys, wanted = self._keys[order], prefixes * len(self.words) + words
        found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((prefixes >= 0) & (keys[found] == wanted), found, -1) if len(keys) else np.full(len(words), -1)

    def log10_scores(self, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Of each token after those before it in its sentence.

        Args:
          tokens: int (N,), numbers of words, sentence behind sentence, each with `<s>` before and `</s>` behind it.
          positions: of each in its sentence, from 0; what stands there for a `<s>` means nothing.
        """
        rows = tokens
        scores = self.orders[0].log10_probs[tokens]
        for number, order in enumerate(self.orders[1:], 1):
            contexts = np.where(positions >= number, np.concatenate([[-1], rows[:-1]]), -1)
            backoffs = np.where(contexts >= 0, self.orders[number - 1].log10_backoffs[contexts], 0.0)
            rows = self.find(number, contexts, tokens)
            scores = np.where(rows >= 0, order.log10_probs[rows] if len(order.words) else 0.0, scores + backoffs)
        return scores
