r"""N-gram models in ARPA files: `\data\`, how many n-grams there are, and a section for each length."""

import gzip
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from jaxasr.data import textfile
from jaxasr.data.ngrams import NgramModel, Order
from jaxasr.errors import DataError

# Writing -----------------------------------------------------------------------------------------------------


def write(path: str | os.PathLike[str], model: NgramModel) -> None:
    """Writes the model, packed by gzip where the name ends in .gz.

    Raises:
      OSError: the file cannot be written.
    """
    opened = gzip.open if os.fspath(path).endswith(".gz") else open
    with opened(path, "wt", encoding="utf-8", newline="\n") as file:
        file.writelines(_written(model))


def _written(model: NgramModel) -> Iterator[str]:
    yield "\\data\\\n"
    yield from (f"ngram {number}={len(order.words)}\n" for number, order in enumerate(model.orders, 1))
    grams: list[str] = []
    for number, order in enumerate(model.orders, 1):
        last = [model.words[word] for word in order.words.tolist()]
        before = [f"{grams[prefix]} " for prefix in order.prefixes.tolist()] if grams else itertools.repeat("")
        grams = [first + word for first, word in zip(before, last, strict=bool(grams))]
        yield f"\n\\{number}-grams:\n"
        if number == len(model.orders):
            yield from (f"{p:.7g}\t{gram}\n" for p, gram in zip(order.log10_probs + 0.0, grams, strict=True))
        else:
            rows = zip(order.log10_probs + 0.0, grams, order.log10_backoffs + 0.0, strict=True)
            yield from (f"{p:.7g}\t{gram}\t{backoff:.7g}\n" for p, gram, backoff in rows)
    yield "\n\\end\\\n"


# Reading -----------------------------------------------------------------------------------------------------


PIECE = 100_000
"""Lines that are cut into words at a time: so cut they take ten times the memory of what is kept of them."""
UNKNOWN = "<UNK>"
"""`<unk>` as CMU's programs write it."""


def read(path: str | os.PathLike[str]) -> NgramModel:
    """The model of a file, unpacked where its name ends in .gz.

    Raises:
      DataError: the file is not as it should be; with the line where it is not.
    """
    lines = _Lines(os.fspath(path))
    model = NgramModel((), ())
    for number, count in enumerate(lines.counts(), 1):
        model = _with_order(model, lines, number, count)
    lines.skip_blank()
    if lines.here != b"\\end\\":
        raise DataError(
            f"{lines.where()}: {lines.shown()}; \\end\\ was expected behind the last n-gram; correct the file, or make "
            "it anew."
        )
    return model


class _Lines:
    """The lines of a file, and how far they are read."""

    def __init__(self, path: str):
        self.path = path
        self.lines = textfile.unpacked(path).split(b"\n")
        self.at = 0

    @property
    def here(self) -> bytes | None:
        return self.lines[self.at].strip() if self.at < len(self.lines) else None

    def where(self) -> str:
        return f"{self.path}:{min(self.at, len(self.lines) - 1) + 1}"

    def shown(self) -> str:
        return "the end" if self.here is None else textfile.show(self.here.decode(errors="replace"))

    def skip_blank(self) -> None:
        while self.here == b"":
            self.at += 1

    def counts(self) -> list[int]:
        """How many n-grams of each length there are; what stands before the data is a comment."""
        while self.here != b"\\data\\":
            if self.here is None:
                raise DataError(
                    f"{self.path}: no line \\data\\; an n-gram model in ARPA form was expected; give another file, or "
                    "write a binary model as ARPA with the program that made it."
                )
            self.at += 1
        self.at += 1
        found: list[int] = []
        while (said := re.fullmatch(rb"ngram\s+(\d{1,9})\s*=\s*(\d{1,18})", self.here or b"")) or self.here == b"":
            if said and int(said[1]) != len(found) + 1:
                break
            found += [int(said[2])] if said else []
            self.at += 1
        if not found or not (self.here or b"").endswith(b"-grams:"):
            raise DataError(
                f"{self.where()}: {self.shown()}; 'ngram {len(found) + 1}=COUNT', then \\1-grams:, was expected; "
                "correct the file, or make it anew."
            )
        return found

    def section(self, number: int, count: int) -> Iterator[tuple[int, list[list[bytes]]]]:
        """The words of each line of a section by pieces, and which line each of them begins at."""
        self.skip_blank()
        if self.here != b"\\%d-grams:" % number:
            raise DataError(
                f"{self.where()}: {self.shown()}; \\{number}-grams: was expected; correct the file or the counts at "
                "its head, or make it anew."
            )
        first, end = self.at + 1, self.at + 1 + count
        for start in range(first, max(min(end, len(self.lines)), first + 1), PIECE):
            rows = [line.split() for line in self.lines[start : min(start + PIECE, end)]]
            for self.at, words in enumerate(rows, start):
                if len(words) not in (number + 1, number + 2):
                    raise DataError(
                        f"{self.where()}: {self.shown()}; 'LOG10 {number} WORDS [BACKOFF]' was expected, {count} times "
                        "by the head of the file; correct it, or make the file anew."
                    )
            yield start, rows
        self.at = end

    def gram(self, line: int, number: int) -> str:
        """The first words of an n-gram, as messages quote them."""
        return textfile.show(b" ".join(self.lines[line].split()[1 : number + 1]).decode(errors="replace"))

    def fault(self, line: int, came: str, wanted: str) -> DataError:
        """Of the n-gram in a line."""
        return DataError(f"{self.path}:{line + 1}: {came}; {wanted} was expected; correct it, or make the file anew.")


def _with_order(model: NgramModel, lines: _Lines, number: int, count: int) -> NgramModel:
    """The model and n-grams a word longer than its longest."""
    ids = {word.encode(): i for i, word in enumerate(model.words)}
    if NgramModel.UNK in model.ids:
        ids.setdefault(UNKNOWN.encode(), model.ids[NgramModel.UNK])
    pieces: list[Order] = []
    starts: list[int] = []
    for start, rows in lines.section(number, count):
        if number == 1:
            _add_words(ids, lines, start, rows)
        pieces.append(_entries(model, ids, lines, start, rows))
        starts.append(start)
    words = model.words or _named(ids)
    order = Order(*map(np.concatenate, zip(*pieces, strict=True)))
    keys = order.prefixes * len(words) + order.words
    by_key = np.argsort(keys, kind="stable")
    if len(twice := np.flatnonzero(np.diff(keys[by_key]) == 0)):
        line = starts[0] + int(by_key[twice[0] + 1])
        raise lines.fault(line, f"{lines.gram(line, number)} for the second time", "each n-gram once")
    return NgramModel(words, (*model.orders, Order(*(column[by_key] for column in order))))


def _named(ids: Iterable[bytes]) -> tuple[str, ...]:
    words = tuple(word.decode() for word in ids)
    return words if NgramModel.UNK in words else tuple(NgramModel.UNK if word == UNKNOWN else word for word in words)


def _add_words(ids: dict[bytes, int], lines: _Lines, start: int, rows: list[list[bytes]]) -> None:
    """Gives the unigrams of a piece their numbers."""
    for line, row in enumerate(rows, start):
        try:
            row[1].decode()
        except UnicodeDecodeError:
            raise lines.fault(line, f"{row[1]!r}", "a word in UTF-8") from None
        if row[1] in ids:
            raise lines.fault(line, f"{lines.gram(line, 1)} for the second time", "each word once")
        ids[row[1]] = len(ids)


def _entries(model: NgramModel, ids: dict[bytes, int], lines: _Lines, start: int, rows: list[list[bytes]]) -> Order:
    """The n-grams of a piece, in the order of its lines."""
    number = len(model.orders) + 1
    columns = [np.array([ids.get(row[place], -1) for row in rows], np.int64) for place in range(1, number + 1)]
    for column in columns:
        if len(unknown := np.flatnonzero(column < 0)):
            line = start + int(unknown[0])
            raise lines.fault(line, f"{lines.gram(line, number)} has a word", "one of the unigrams")
    prefixes = columns[0] if number > 1 else np.zeros(len(rows), np.int64)
    for place, column in enumerate(columns[1:-1], 1):
        prefixes = model.find(place, prefixes, column)
    if len(missing := np.flatnonzero(prefixes < 0)):
        line = start + int(missing[0])
        came = f"{lines.gram(line, number)} without {lines.gram(line, number - 1)}"
        raise lines.fault(line, came, "the n-gram without its last word, among the shorter ones,")
    probs = _numbers(lines, start, [row[0] for row in rows])
    if len(above := np.flatnonzero(probs > 0.0)):
        came = f"log10 {probs[above[0]]:g}"
        raise lines.fault(start + int(above[0]), came, "a logarithm of a probability, at most 0,")
    backoffs = _numbers(lines, start, [row[number + 1] if len(row) > number + 1 else b"0" for row in rows])
    return Order(prefixes, columns[-1], probs, backoffs)


def _numbers(lines: _Lines, start: int, shown: Sequence[bytes]) -> np.ndarray:
    try:
        found = np.array([float(number) for number in shown])
    except ValueError:
        found = np.array([float(x) if textfile.NUMBER.fullmatch(x.decode("latin-1")) else np.nan for x in shown])
    if len(faulty := np.flatnonzero(~np.isfinite(found))):
        number = textfile.show(shown[faulty[0]].decode(errors="replace"))
        raise lines.fault(start + int(faulty[0]), number, "a finite number")
    return found
