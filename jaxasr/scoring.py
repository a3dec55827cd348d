"""Word and character error rates: alignment, counts, bootstrap interval."""

import collections
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from rapidfuzz.distance import Levenshtein

from jaxasr.data.cleaners import Cleaning
from jaxasr.data.textfile import few
from jaxasr.errors import DataError

Operation = Literal["equal", "substitute", "delete", "insert"]

# From rapidfuzz's names.
OPERATIONS: Mapping[str, Operation] = {
    "equal": "equal",
    "replace": "substitute",
    "delete": "delete",
    "insert": "insert",
}


class Step(NamedTuple):
    """One column of an alignment."""

    operation: Operation
    reference: str | None
    hypothesis: str | None


class ErrorCounts(NamedTuple):
    """The fewest edits that turn a reference into a hypothesis, and the tokens of the reference."""

    substitutions: int
    deletions: int
    insertions: int
    reference: int

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference token; without any such token 0 if there are no errors either, else inf.

        >>> ErrorCounts(substitutions=1, deletions=0, insertions=1, reference=8).rate
        0.25
        """
        if self.reference == 0:
            return math.inf if self.errors else 0.0
        return self.errors / self.reference


class UtteranceScore(NamedTuple):
    """One utterance's texts and errors; `hypothesis` is None where there was none."""

    id: str
    reference: str
    hypothesis: str | None
    words: ErrorCounts
    characters: ErrorCounts


class Score(NamedTuple):
    """What `score` finds."""

    wer: ErrorCounts
    cer: ErrorCounts
    wer_interval: tuple[float, float]
    """95 % interval of `wer.rate`."""
    utterances: tuple[UtteranceScore, ...]

    @property
    def wrong_sentences(self) -> int:
        """Utterances with a wrong word."""
        return sum(utterance.words.errors > 0 for utterance in self.utterances)

    @property
    def ser(self) -> float:
        """Share of utterances with a wrong word."""
        return self.wrong_sentences / len(self.utterances)

    @property
    def missing(self) -> list[str]:
        """Ids without a hypothesis."""
        return [utterance.id for utterance in self.utterances if utterance.hypothesis is None]


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Step]:
    """The columns of an alignment with the fewest edits.

    >>> align("a b".split(), "a c".split())[1].operation
    'substitute'
    """
    steps = []
    for opcode in Levenshtein.opcodes(reference, hypothesis):
        left = reference[opcode.src_start : opcode.src_end]
        right = hypothesis[opcode.dest_start : opcode.dest_end]
        # Either both are as long or one is empty.
        steps += [Step(OPERATIONS[opcode.tag], *pair) for pair in itertools.zip_longest(left, right)]
    return steps


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> ErrorCounts:
    """The edits of `align`, counted.

    >>> count_errors("the cat sat".split(), "the hat sat down".split())
    ErrorCounts(substitutions=1, deletions=0, insertions=1, reference=3)
    """
    found = collections.Counter(edit.tag for edit in Levenshtein.editops(reference, hypothesis))
    return ErrorCounts(found["replace"], found["delete"], found["insert"], len(reference))


def words(text: str) -> list[str]:
    """What stands between white space.

    >>> words(" one  two ")
    ['one', 'two']
    """
    return text.split()


def characters(text: str, *, spaces: bool = True) -> list[str]:
    """The code points of the stripped text; spaces inside count, as in jiwer, unless told otherwise.

    >>> characters("a b", spaces=False)
    ['a', 'b']
    """
    return list(text.strip() if spaces else "".join(text.split()))


def score(references: Mapping[str, str], hypotheses: Mapping[str, str], *, spaces: bool = True) -> Score:
    """The errors of hypotheses against references with the same ids; a missing hypothesis is all deletions.

    Without `spaces` the character error rate leaves white space out, as FunASR and ESPnet do.

    >>> score({"a": "one two"}, {"a": "one too"}).wer.rate
    0.5
    """
    _check_ids(references, hypotheses)
    scored = (_score_one(name, text, hypotheses.get(name), spaces) for name, text in references.items())
    utterances = tuple(scored)
    by_words = [utterance.words for utterance in utterances]
    return Score(
        wer=_total(by_words),
        cer=_total(utterance.characters for utterance in utterances),
        wer_interval=bootstrap_interval(by_words),
        utterances=utterances,
    )


def score_cleaned(
    cleaning: Cleaning, references: Mapping[str, str], hypotheses: Mapping[str, str], *, spaces: bool = True
) -> Score:
    """`score` of references cleaned as the training text was, since the model can say nothing else."""
    cleaned = {name: cleaning.without_symbols(cleaning(text)) for name, text in references.items()}
    return score(cleaned, {name: cleaning.without_symbols(text) for name, text in hypotheses.items()}, spaces=spaces)


def _check_ids(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> None:
    if not references:
        raise DataError("references: there are none; at least one was expected; check what wrote them.")
    unknown = [name for name in hypotheses if name not in references]
    if unknown:
        raise DataError(
            f"hypotheses: {len(unknown)} of {len(hypotheses)} ids have no reference ({few(unknown)}); hypotheses "
            "for these references were expected; check that the two files belong together."
        )


def _score_one(name: str, reference: str, hypothesis: str | None, spaces: bool) -> UtteranceScore:
    found = hypothesis or ""
    return UtteranceScore(
        name,
        reference,
        hypothesis,
        count_errors(words(reference), words(found)),
        count_errors(characters(reference, spaces=spaces), characters(found, spaces=spaces)),
    )


def _total(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    return ErrorCounts(*(sum(column) for column in zip(*counts, strict=True)))


def bootstrap_interval(
    counts: Sequence[ErrorCounts], *, resamples: int = 1000, coverage: float = 0.95
) -> tuple[float, float]:
    """Quantiles of the rate over utterances drawn with replacement; the seed is fixed.

    Bisani and Ney, 2004, https://doi.org/10.1109/ICASSP.2004.1326009.

    >>> bootstrap_interval([ErrorCounts(1, 0, 0, 2), ErrorCounts(0, 0, 0, 2)])
    (0.0, 0.5)
    """
    rng = np.random.default_rng(0)
    pairs = np.array([(count.errors, count.reference) for count in counts])
    sums = np.stack([pairs[rng.integers(len(pairs), size=len(pairs))].sum(axis=0) for _ in range(resamples)])
    errors, tokens = sums.T
    rates = np.where(tokens > 0, errors / np.maximum(tokens, 1), np.where(errors > 0, np.inf, 0.0))
    # Between two infinite rates nothing can be interpolated.
    low, high = np.quantile(rates, [(1 - coverage) / 2, (1 + coverage) / 2], method="nearest")
    return float(low), float(high)
