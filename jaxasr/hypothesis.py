"""What is said of an utterance, with confidences and times, as Python's values."""

import itertools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxasr.data.lexicon import HANZI
from jaxasr.search.hypotheses import Hypotheses, NBest
from jaxasr.tasks.base import Task


class Word(NamedTuple):
    """A word of a hypothesis: what stands between white space, or a hanzi."""

    text: str
    start: float
    """In seconds from the start of the utterance."""
    end: float
    confidence: float
    """That of its least sure token."""


class Alternative(NamedTuple):
    """One of the hypotheses that a beam search kept."""

    text: str
    score: float
    tokens: list[int]


class Hypothesis(NamedTuple):
    """The text of one utterance, and what the search can say of its tokens; None where it cannot."""

    id: str
    text: str
    score: float
    """Log-probability in nats, as the search scored it."""
    tokens: list[int]
    confidences: list[float] | None = None
    """The probability, 0 to 1, of each token as the search chose it: exp of its log-probability."""
    times: list[tuple[float, float]] | None = None
    """Where each token begins and ends, in seconds from the start of the utterance."""
    words: list[Word] | None = None
    """As `with_words` puts them together."""
    pieces: list[str] | None = None
    """What the text has of each token, white space left out; `with_words` tells."""
    nbest: list[Alternative] | None = None
    """What a beam search kept, this hypothesis first."""
    seconds: float | None = None
    """Of the utterance's sound."""
    silence: float | None = None
    """The share of sound cut into segments that was taken for silence, and not listened to."""


def hypothesis_of(task: Task, found: Hypotheses, row: int, utterance_id: str, samples: int) -> Hypothesis:
    """One row of what a search found in an utterance of so many samples (or frames of features)."""
    count = found.lengths[row]
    tokens = found.tokens[row, :count].tolist()
    confidences = times = None
    if found.log_probs is not None:
        confidences = np.exp(found.log_probs[row, :count]).tolist()
    if found.spans is not None and np.all(np.isfinite(found.spans[row, :count])):
        times = [(start, end) for start, end in _seconds(task, found.spans[row, :count], samples).tolist()]
    said = Hypothesis(utterance_id, task.text(tokens), float(found.scores[row]), tokens, confidences, times)
    return said._replace(nbest=_alternatives(task, found.nbest, row), seconds=samples / task.input_rate)


def _alternatives(task: Task, nbest: NBest | None, row: int) -> list[Alternative] | None:
    if nbest is None:
        return None
    ranked = zip(nbest.tokens[row], nbest.lengths[row], nbest.scores[row], strict=True)
    kept = [(tokens[:count].tolist(), float(score)) for tokens, count, score in ranked if score > -np.inf]
    return [Alternative(task.text(tokens), score, tokens) for tokens, score in kept]


def _seconds(task: Task, spans: Any, samples: int) -> np.ndarray:
    """Encoded frames as seconds. Where their last one would end behind the sound, all are so much shorter."""
    assert task.frame_ms is not None
    sound, frames = samples / task.input_rate, max(int(task.frames(samples)), 1)
    return np.minimum(np.asarray(spans, np.float64) * min(task.frame_ms / 1000.0, sound / frames), sound)


def with_words(task: Task, said: Hypothesis) -> Hypothesis:
    """The hypothesis with its pieces and words.

    A word goes from the first of its tokens to its last; there are none without times.

    Tokens belong to the word that the text has more of, or has anew, with them; white space to none. The words of
    one token share its time evenly.
    """
    if said.pieces is not None:
        return said
    said = said._replace(pieces=[task.text([token]) for token in said.tokens])
    if said.times is None or said.confidences is None:
        return said
    words: list[Word] = []
    first, before = 0, list[str]()  # the last word's first token, and the words of the text from there on
    for place, ((start, end), confidence) in enumerate(zip(said.times, said.confidences, strict=True)):
        parts = _parts(task.text(said.tokens[first : place + 1]))
        new = parts[len(before) :]
        if new:
            bounds = np.linspace(start, end, len(new) + 1).tolist()
            words += [Word(text, *both, confidence) for text, both in zip(new, itertools.pairwise(bounds), strict=True)]
            first, parts = place, _parts(task.text(said.tokens[place : place + 1]))
        elif parts != before:
            words[-1] = Word(parts[-1], words[-1].start, end, min(words[-1].confidence, confidence))
        before = parts
    return said._replace(words=words)


def joined(texts: Sequence[str]) -> str:
    """Texts one behind the other, with a space between them unless hanzi meet.

    >>> joined(["one", "two"])
    'one two'
    >>> joined(["你", "好"])
    '你好'
    """
    whole = ""
    for text in filter(None, texts):
        hanzi = re.search(f"[{HANZI}]$", whole) and re.match(f"[{HANZI}]", text)
        whole += ("" if hanzi or not whole else " ") + text
    return whole


def _parts(text: str) -> list[str]:
    return re.findall(rf"[{HANZI}]|[^\s{HANZI}]+", text)
