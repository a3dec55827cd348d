"""N-gram models by interpolated modified Kneser-Ney smoothing, with the numbers of KenLM's lmplz.

Chen and Goodman, 1998, An Empirical Study of Smoothing Techniques for Language Modeling (TR-10-98), equations 26 and
following; Heafield et al., 2013, https://aclanthology.org/P13-2121.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxasr.data.ngrams import NgramModel, Order
from jaxasr.errors import DataError

UNK, BEGIN, END = range(3)
"""Numbers of `<unk>`, `<s>` and `</s>` among the words."""
SPECIAL = (NgramModel.UNK, NgramModel.BEGIN, NgramModel.END)
LEAST = 1e-30
"""Of a probability, which must have a logarithm."""


class Discounts(NamedTuple):
    """What is taken from counts of one, of two and of three or more."""

    one: float
    two: float
    more: float


FALLBACK = Discounts(0.5, 1.0, 1.5)
"""lmplz's for `--discount_fallback`."""


class _Grams(NamedTuple):
    """The distinct n-grams of one length, sorted by (prefix, word)."""

    prefixes: np.ndarray
    words: np.ndarray
    suffixes: np.ndarray
    """Where the order below has all words but the first."""
    begins: np.ndarray
    """Whether the first word is `<s>`."""
    counts: np.ndarray


def estimate(
    words: Sequence[str],
    tokens: np.ndarray,
    positions: np.ndarray,
    order: int,
    fallback: Discounts | None = None,
) -> tuple[NgramModel, list[Discounts]]:
    """The model of the sentences and the discounts of each order.

    Args:
      words: `SPECIAL` first; what does not occur gets its share of what is taken from all others.
      tokens, positions: (N,), as `NgramModel.log10_scores` takes them; `<unk>` may occur, and counts as any word.
      fallback: discounts for orders of which none can be estimated.

    Raises:
      DataError: the discounts of an order cannot be estimated and there is no fallback.
    """
    grams = _grams(tokens, positions, order, len(words))
    orders: list[Order] = []
    discounts: list[Discounts] = []
    for number, these in enumerate(grams):
        counts = _adjusted(these, grams[number + 1] if number + 1 < order else None)
        discounts.append(_discounts(counts, number + 1, order, fallback))
        taken = np.array([0.0, *discounts[-1]])[np.minimum(counts, 3)]
        contexts = len(orders[-1].words) if orders else 1
        totals = np.bincount(these.prefixes, counts, contexts)
        with np.errstate(invalid="ignore", divide="ignore"):
            lower_share = np.bincount(these.prefixes, taken, contexts) / totals
        lower = 10.0 ** orders[-1].log10_probs[these.suffixes] if orders else 1.0 / (len(words) - 1)  # all but <s>
        probs = (counts - taken) / totals[these.prefixes] + lower_share[these.prefixes] * lower
        if orders:
            seen = np.where(totals > 0, lower_share, 1.0)
            orders[-1] = orders[-1]._replace(log10_backoffs=np.log10(np.maximum(seen, LEAST)))
        else:
            probs[BEGIN] = 1.0  # as lmplz writes it; no sentence goes on with it
        orders.append(Order(these.prefixes, these.words, np.log10(np.maximum(probs, LEAST)), np.zeros(len(probs))))
    return NgramModel(tuple(words), tuple(orders)), discounts


def _grams(tokens: np.ndarray, positions: np.ndarray, order: int, num_words: int) -> list[_Grams]:
    tokens = tokens.astype(np.int64)
    every = np.arange(num_words)
    counts = np.bincount(tokens, minlength=num_words)
    found = [_Grams(np.zeros_like(every), every, np.zeros_like(every), every == BEGIN, counts)]
    rows = tokens  # of the n-gram that ends here, in the order below
    for number in range(1, order):
        (ends,) = np.nonzero(positions >= number)
        keys = rows[ends - 1] * num_words + tokens[ends]
        keys, first, here, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        suffixes = rows[ends[first]]
        found.append(_Grams(keys // num_words, keys % num_words, suffixes, positions[ends[first]] == number, counts))
        rows = np.full(len(tokens), -1)
        rows[ends] = here
    return found


def _adjusted(grams: _Grams, above: _Grams | None) -> np.ndarray:
    """How many different words stand before each n-gram; the count where none can, or in the highest order."""
    counts = grams.counts
    if above is not None:
        counts = np.where(grams.begins, counts, np.bincount(above.suffixes, minlength=len(counts)))
    return np.where(grams.words == BEGIN, 0, counts)


def _discounts(counts: np.ndarray, number: int, order: int, fallback: Discounts | None) -> Discounts:
    """Equation 26, of how many n-grams have each count."""
    of = np.bincount(np.minimum(counts, 5), minlength=6)[:5].astype(float)
    fault = next((f"none of its {number}-grams has a count of {n}" for n in (1, 2, 3) if of[n] == 0), "")
    if not fault:
        y = of[1] / (of[1] + 2.0 * of[2])
        found = Discounts(*(float(n - (n + 1) * y * of[n + 1] / of[n]) for n in (1, 2, 3)))
        if all(0.0 <= discount <= n for n, discount in enumerate(found, 1)):
            return found
        fault = f"counts of its {number}-grams give discounts of {', '.join(f'{d:.2f}' for d in found)}"
    if fallback is not None:
        return fallback
    raise DataError(
        f"--order={order}: {fault}, as in small or repeated text, or of few tokens, such as characters; text of which "
        "Kneser-Ney's discounts can be estimated was expected; give --discount_fallback, or more text, each line once, "
        "or a smaller --order."
    )
