"""Corpora mixed by weights: how many utterances of each an epoch has, and which."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxasr.errors import DataError


class Drawn(NamedTuple):
    """The utterances of an epoch."""

    indices: np.ndarray
    """(M,) which utterance each is."""
    repeats: np.ndarray
    """(M,) how often the same one stands before it."""


def counts(sizes: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Utterances of each corpus in an epoch of sum(sizes), by weight; largest remainders make them add up.

    Raises:
      DataError: a corpus is empty, or its weight gives it nothing.

    >>> counts([900, 100], [0.5, 0.5])
    [500, 500]
    """
    total = sum(sizes)
    shares = np.asarray(weights) / max(weights)
    exact = total * shares / shares.sum()
    whole = np.floor(exact).astype(int)
    largest = np.argsort(whole - exact, kind="stable")
    whole[largest[: total - whole.sum()]] += 1
    for number, (size, count, weight) in enumerate(zip(sizes, whole, weights, strict=True), 1):
        if not (size and count):
            what = f"a weight of {weight:g} gives it none of {total} utterances" if size else "no utterance can be used"
            raise DataError(
                f"--train_weights: manifest {number} of --train: {what}; at least one an epoch was expected; change "
                "the weight, or remove the manifest and its weight."
            )
    return whole.tolist()


def draw(corpora: np.ndarray, weights: Sequence[float], seed: int, epoch: int) -> Drawn:
    """What stands in an epoch: whole passes over each corpus, and a part of one more.

    These parts go round a corpus from one epoch to the next, in an order of `seed`; so over any number of epochs all
    of its utterances are used equally often, within one.

    Args:
      corpora: (N,) the corpus of each utterance, an index into `weights`.
      weights: what the corpora's shares are by; none for every utterance once.

    >>> draw(np.array([0, 0, 0, 1]), [0.5, 0.5], seed=0, epoch=0).indices.tolist()
    [0, 1, 3, 3]
    """
    if not weights:
        return Drawn(np.arange(len(corpora)), np.zeros(len(corpora), np.int64))
    indices, repeats = [], []
    for corpus, count in enumerate(counts(_sizes(corpora, weights), weights)):
        mine = np.flatnonzero(corpora == corpus)
        passes, rest = divmod(count, len(mine))
        order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(corpus,))).permutation(len(mine))
        part = mine[order[(epoch * rest + np.arange(rest)) % len(mine)]]
        indices += [mine] * passes + [part]
        repeats += [np.full(len(mine), number) for number in range(passes)] + [np.full(rest, passes)]
    return Drawn(np.concatenate(indices), np.concatenate(repeats))


def uses(corpora: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """(N,) how often each utterance stands in an epoch, on average.

    >>> uses(np.array([0, 0, 0, 1]), [1.0, 1.0]).round(2).tolist()
    [0.67, 0.67, 0.67, 2.0]
    """
    if not weights:
        return np.ones(len(corpora))
    sizes = _sizes(corpora, weights)
    return (np.array(counts(sizes, weights)) / sizes)[corpora]


def _sizes(corpora: np.ndarray, weights: Sequence[float]) -> list[int]:
    return np.bincount(corpora, minlength=len(weights)).tolist()
