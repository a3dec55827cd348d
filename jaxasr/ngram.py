"""N-gram language models of text: `python -m jaxasr.ngram TEXT... --output=FILE.arpa`."""

import array
import dataclasses
import itertools
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import rich.console
import rich.progress
import rich.table
import tyro

from jaxasr import config, consoles
from jaxasr.command_line import Imports, options_of
from jaxasr.data import arpa, kneser_ney, tables, textfile
from jaxasr.data.kneser_ney import Discounts
from jaxasr.data.ngrams import NgramModel
from jaxasr.errors import ConfigError, DataError, exit_with_message
from jaxasr.evaluate import read_texts


@dataclasses.dataclass(frozen=True)
class NgramOptions:
    """An n-gram language model of text, by interpolated modified Kneser-Ney smoothing as lmplz's, as an ARPA file.

    A TEXT is a file with a sentence a line, or a manifest (Kaldi folder, .jsonl, .csv, .tsv), of which the transcripts
    count; .gz may stand behind the names of files.

    python -m jaxasr.ngram data/train more.txt --model=exp/asr --output=exp/lm.arpa
    """

    text: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="TEXT ...")]
    """Files of sentences, manifests."""
    output: str
    """The ARPA file; packed where its name ends in .gz."""
    order: int = 3
    """Words of the longest n-grams."""
    model: str | None = None
    """Workdir or model folder: the model is of its tokens (characters, sub-words, ...), for `jaxasr.decode --ngram`.
    By default it is of the words between white space."""
    valid: tuple[str, ...] = ()
    """Text that the perplexity is measured on, as TEXT."""
    discount_fallback: bool = False
    """Where text is too small, or has too few different tokens, to estimate discounts, take lmplz's: 0.5, 1 and
    1.5."""
    progress: Literal["auto", "off"] = "auto"
    """A progress bar on stderr where that is a terminal."""
    imports: Imports = ()


class Sentences(NamedTuple):
    """Numbers of words, sentence behind sentence, each with `<s>` before and `</s>` behind it."""

    tokens: np.ndarray
    positions: np.ndarray
    """Of each token in its sentence."""
    blank: int
    """Lines and transcripts without a word, which are left out."""

    @property
    def number(self) -> int:
        """How many sentences there are."""
        return int(np.sum(self.tokens == kneser_ney.BEGIN))

    @property
    def said(self) -> np.ndarray:
        """Which tokens a model tells, bool (N,): all but `<s>`."""
        return self.tokens != kneser_ney.BEGIN


class Perplexity(NamedTuple):
    """On text that the model has not seen; each sentence's end counts as a word."""

    all: float
    known: float
    """Without words that the model does not know."""
    unknown: int
    words: int


class Estimated(NamedTuple):
    """What `estimate` found."""

    model: NgramModel
    discounts: list[Discounts]
    text: Sentences
    valid: Perplexity | None


# Text --------------------------------------------------------------------------------------------------------


def read_sentences(path: str) -> Iterator[tuple[str, str]]:
    """Where each sentence of a TEXT stands, and the sentence.

    Raises:
      DataError: the file is a part of a Kaldi folder, or cannot be read.

    >>> from jaxasr.corpora import digits
    >>> next(read_sentences(str(digits() / "test")))[1]
    'ZERO'
    """
    if pathlib.Path(path).is_dir() or tables.is_table(path):
        return ((f"{path}: {name}", text) for name, text in read_texts(path).items())
    if pathlib.Path(path).name == "text":
        raise DataError(
            f"{path}: Kaldi's name for a file with an id before each sentence; sentences alone, or the folder, were "
            "expected; give the folder, or rename a file without ids."
        )
    return ((f"{path}:{number}", line) for number, line in enumerate(textfile.physical_lines(path), 1))


def numbered(
    texts: Iterable[tuple[str, str]], split: Callable[[str], Sequence[str]], number_of: Callable[[str], int]
) -> Sentences:
    """The sentences in numbers.

    Raises:
      DataError: a sentence has `<s>` or `</s>` for a word.
    """
    tokens, lengths, blank = array.array("i"), array.array("i"), 0
    for where, text in texts:
        words = split(text)
        numbers = [number_of(word) for word in words]
        if kneser_ney.BEGIN in numbers or kneser_ney.END in numbers:
            raise DataError(
                f"{where}: <s> or </s> among the words; sentences without them were expected, since each gets its own; "
                "remove them."
            )
        if words:
            tokens.extend([kneser_ney.BEGIN, *numbers, kneser_ney.END])
            lengths.append(len(words) + 2)
        blank += not words
    sizes = np.array(lengths, np.int64)
    starts = np.cumsum(sizes) - sizes
    return Sentences(np.array(tokens, np.int64), np.arange(len(tokens)) - np.repeat(starts, sizes), blank)


class _Open(dict[str, int]):
    """Numbers of words that are given as they come."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


# Estimation --------------------------------------------------------------------------------------------------


def estimate(options: NgramOptions, shown: rich.console.Console | None = None) -> Estimated:
    """What the command line does, without printing the summary.

    Raises:
      ConfigError: options mean nothing, or the file cannot be written.
    """
    if not options.text:
        raise ConfigError("TEXT: none; files of sentences or manifests were expected; name what to count.")
    if not 1 <= options.order <= 9:
        raise ConfigError(f"--order={options.order}: 1 to 9 was expected; change it.")
    config.import_modules(options.imports, "--import")
    split, words = _spelling(options.model)
    ids = _Open({word: number for number, word in enumerate(words)})
    number_of = ids.__getitem__ if options.model is None else lambda word: ids.get(word, kneser_ney.UNK)
    sentences = _numbered(options.text, split, number_of, shown)
    counted, fallback = sentences[:2], kneser_ney.FALLBACK if options.discount_fallback else None
    model, discounts = kneser_ney.estimate(list(ids), *counted, options.order, fallback)
    try:
        pathlib.Path(options.output).parent.mkdir(parents=True, exist_ok=True)
        arpa.write(options.output, model)
    except OSError as error:
        raise ConfigError(
            f"--output={options.output}: {error.strerror}; a file to write was expected; choose another."
        ) from error
    valid = None
    if options.valid:
        known = _numbered(options.valid, split, lambda word: model.ids.get(word, kneser_ney.UNK), shown)
        valid = perplexity(model, known)
    return Estimated(model, discounts, sentences, valid)


def _spelling(folder: str | None) -> tuple[Callable[[str], Sequence[str]], tuple[str, ...]]:
    """What cuts a text, and the words that the model has in any case."""
    if folder is None:
        return str.split, kneser_ney.SPECIAL
    from jaxasr import checkpoint  # JAX, which nothing else here needs

    task: Any = checkpoint.load_task(checkpoint.model_folder(folder))
    tokens = task.vocabulary.tokens
    return task.tokens, (*kneser_ney.SPECIAL, *tokens[len(task.vocabulary.FIRST) : -1])


def _numbered(
    paths: Sequence[str],
    split: Callable[[str], Sequence[str]],
    number_of: Callable[[str], int],
    console: rich.console.Console | None,
) -> Sentences:
    texts = itertools.chain.from_iterable(map(read_sentences, paths))
    if console is not None:
        texts = rich.progress.track(texts, "Reading", console=console, transient=True, total=None)
    found = numbered(texts, split, number_of)
    if not found.number:
        raise DataError(f"{paths[0]}: no sentence with a word in it; text was expected; give another file.")
    return found


def perplexity(model: NgramModel, sentences: Sentences) -> Perplexity:
    """How many words as likely as each other the model wavers between at each word of the sentences."""
    said = sentences.said
    scores = model.log10_scores(sentences.tokens, sentences.positions)[said]
    known = sentences.tokens[said] != kneser_ney.UNK
    every, of_known = (float(10.0 ** -np.mean(part)) for part in (scores, scores[known]))
    words = len(scores) - sentences.number
    return Perplexity(every, of_known, int(np.sum(~known)), words)


# Command line ------------------------------------------------------------------------------------------------


def print_summary(found: Estimated, console: rich.console.Console) -> None:
    """Prints what was counted, the discounts of each order, and the perplexity of held-out text."""
    text = found.text
    words = len(text.tokens) - 2 * text.number
    left_out = f" ({text.blank} without words left out)" if text.blank else ""
    console.print(f"{text.number} sentences{left_out}, {words} words", highlight=False)
    table = rich.table.Table(box=None, pad_edge=False)
    for heading in ("order", "n-grams", "D1", "D2", "D3+"):
        table.add_column(heading, justify="right")
    for number, (order, discounts) in enumerate(zip(found.model.orders, found.discounts, strict=True), 1):
        table.add_row(str(number), str(len(order.words)), *(f"{discount:.4f}" for discount in discounts))
    console.print(table, highlight=False)
    if found.valid is not None:
        all_, known, unknown, words = found.valid
        rate = 100.0 * unknown / max(words, 1)
        console.print(
            f"--valid: perplexity {all_:.2f}, {known:.2f} without the {unknown} unknown of {words} words "
            f"({rate:.2f} %)",
            highlight=False,
        )


@exit_with_message
def main(argv: Sequence[str] | None = None) -> None:
    """The command line: `argv`, or else the program's own arguments."""
    options = options_of(NgramOptions, argv, "ngram")
    console = consoles.console(stderr=True)
    shown = console if options.progress == "auto" and console.is_terminal else None
    print_summary(estimate(options, shown), consoles.console())


if __name__ == "__main__":
    main(sys.argv[1:])
