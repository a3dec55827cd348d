"""Which options suit data: for the training that comes after a check."""

import itertools
from collections import Counter
from collections.abc import Sequence

from jaxasr.data.checks.part import Part
from jaxasr.data.tokenizer import BpeTokenizer, CharTokenizer, WordTokenizer

LITTLE_SECONDS = 3600.0
FRAME_SECONDS = 0.06
"""Of the usual network, and of the recipe for little."""
UNSEEN, SHORT = 0.05, 0.01
"""Shares of words that training lacks, and of utterances with too few frames (as --max_infeasible), that are borne."""
ENOUGH = 10_000
"""Utterances by which frames are judged."""


def options(train: Sequence[Part], held_out: Sequence[Part]) -> list[str]:
    """Recipe, tokens and frames for a training.

    What is known to be less than an hour is trained on with the recipe for so little, whose tokens are words. They are
    characters where words are held out that training lacks; so, then, are the errors by which models are chosen where
    texts have no spaces. Where characters come faster than frames, these are shorter, or tokens are sub-words, if texts
    have spaces: whole words where there are few, as of digits.
    """
    parts = [*train, *held_out]
    little = bool(sum(part.seconds.sum() for part in parts) < LITTLE_SECONDS)  # NaN, where a length is unknown, is not
    recipe = ["--config=an4_sanm"] * little
    known = unseen_words(train, held_out) <= UNSEEN
    if little and known:
        return recipe
    unspaced = sum(part.symbols.get(" ", 0) for part in parts) < sum(len(part.rows) for part in parts) / 2
    if too_fast(parts) <= SHORT:
        chosen = ["--tokenizer=char"] * little
    elif little:
        chosen = ["--tokenizer=char", "--encoder.subsampling=conv2d"]
    elif known and few_words(train):
        chosen = ["--tokenizer=word"]
    else:
        chosen = ["--frontend.lfr_m=5", "--frontend.lfr_n=4"] if unspaced else ["--tokenizer=bpe"]
    return recipe + chosen + ["--best_metric=cer"] * unspaced


def unseen_words(train: Sequence[Part], held_out: Sequence[Part]) -> float:
    """Share of held-out words that training lacks; with nothing held out, of words that a single text has."""
    split = WordTokenizer().tokens
    texts = Counter(word for part in train for row in part.rows for word in set(split(row.text)))
    known = {word for word, count in texts.items() if held_out or count > 1}
    words = [word for part in held_out or train for row in part.rows for word in split(row.text)]
    return sum(word not in known for word in words) / max(len(words), 1)


def few_words(train: Sequence[Part]) -> bool:
    """Whether all words to train on are fewer than the sub-words that are learnt by default, which needs more."""
    split = WordTokenizer().tokens
    return len({word for part in train for row in part.rows for word in split(row.text)}) < BpeTokenizer.size


def too_fast(parts: Sequence[Part]) -> float:
    """Share of utterances with fewer frames than CTC needs for their characters, where their lengths are known."""
    rows = ((row.text, seconds) for part in parts for row, seconds in zip(part.rows, part.seconds, strict=True))
    some, split = list(itertools.islice(rows, ENOUGH)), CharTokenizer().tokens
    short = sum(seconds < FRAME_SECONDS * frames_needed(split(text)) for text, seconds in some)
    return short / max(len(some), 1)


def frames_needed(tokens: Sequence[str]) -> int:
    """The fewest frames that CTC can align tokens with: one for each, and one between two that are equal.

    >>> frames_needed(["h", "e", "l", "l", "o"])
    6
    """
    return len(tokens) + sum(one == other for one, other in itertools.pairwise(tokens))
