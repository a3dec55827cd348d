"""Word and character error rates of hypotheses: `python -m jaxasr.evaluate REF HYP`."""

import dataclasses
import json
import math
import os
import pathlib
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import rich.console
import rich.table
import rich.text
import tyro
from rich.cells import cell_len

from jaxasr import config, consoles
from jaxasr.command_line import Imports, options_of
from jaxasr.data import manifest, tables, textfile
from jaxasr.data.cleaners import Cleaning, read_symbols
from jaxasr.errors import ConfigError, exit_with_message, harmless
from jaxasr.scoring import ErrorCounts, Operation, Score, Step, UtteranceScore, align, characters, score_cleaned, words

STYLES: Mapping[Operation, str] = {"equal": "", "substitute": "yellow", "delete": "red", "insert": "cyan"}


# Files -------------------------------------------------------------------------------------------------------


def read_texts(path: str | os.PathLike[str]) -> dict[str, str]:
    """Texts by id, from a Kaldi `text` file, a folder with one, JSON lines (results or a manifest) or a table."""
    path = pathlib.Path(path)
    if path.is_dir():
        path = path / "text"
    if not tables.is_table(str(path)):
        found = textfile.lines(path)
        if not found[0].startswith("{"):
            return _of_kaldi(path, found)
    (utterances,) = manifest.with_ids([list(tables.read_texts(str(path)))])
    return {utterance.id: utterance.text for utterance in utterances}


def read_results(path: pathlib.Path) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """(text, row) by id from JSON lines of results, as decoding writes them to hyp.jsonl."""
    rows = [textfile.json_object(f"{path}:{number}", line) for number, line in enumerate(textfile.lines(path), 1)]
    return {name: (text, row) for (name, text), row in zip(read_texts(path).items(), rows, strict=True)}


def _of_kaldi(path: pathlib.Path, lines: Iterable[str]) -> dict[str, str]:
    seen: dict[str, str] = {}
    texts = {}
    for number, line in enumerate(lines, 1):
        name, *rest = line.split(maxsplit=1)
        textfile.claim(seen, name, f"{path}:{number}")
        texts[name] = "".join(rest).strip()
    return texts


# Output ------------------------------------------------------------------------------------------------------


def print_score(score: Score, console: rich.console.Console, *, worst: int = 0) -> None:
    """A table of the error rates, then the `worst` utterances aligned, most errors first."""
    table = rich.table.Table(box=None, pad_edge=False)
    for heading in ("", "rate", "95 % interval", "errors", "sub", "del", "ins", "of"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    interval = f"{100 * score.wer_interval[0]:.2f} - {100 * score.wer_interval[1]:.2f}"
    table.add_row("WER", *_cells(score.wer, interval, "words"))
    table.add_row("CER", *_cells(score.cer, "", "characters"))
    total = len(score.utterances)
    table.add_row("SER", _percent(score.ser), "", str(score.wrong_sentences), "", "", "", f"{total} utterances")
    console.print(table, highlight=False)
    if score.missing:
        console.print(
            f"{len(score.missing)} without a hypothesis, counted as deletions: {textfile.few(score.missing)}",
            highlight=False,
            markup=False,
        )
    for utterance in worst_first(score.utterances)[:worst]:
        _print_utterance(utterance, console)


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"


def _cells(counts: ErrorCounts, interval: str, tokens: str) -> list[str]:
    edits = (counts.errors, counts.substitutions, counts.deletions, counts.insertions)
    return [_percent(counts.rate), interval, *map(str, edits), f"{counts.reference} {tokens}"]


def _by_characters(utterance: UtteranceScore) -> bool:
    """Whether words say little, since the script puts no spaces between them."""
    letters = (letter for letter in utterance.reference if unicodedata.category(letter) == "Lo")
    return any(unicodedata.east_asian_width(letter) == "W" for letter in letters)


def _shown_errors(utterance: UtteranceScore) -> int:
    return utterance.characters.errors if _by_characters(utterance) else utterance.words.errors


def aligned(utterance: UtteranceScore) -> tuple[list[Step], str]:
    """The alignment of an utterance, and what it aligns: words, or characters where the script has no spaces.

    >>> wrong = ErrorCounts(1, 0, 0, 2)
    >>> aligned(UtteranceScore("u1", "ONE TWO", "ONE TOO", wrong, wrong))[0][1]
    Step(operation='substitute', reference='TWO', hypothesis='TOO')
    """
    reference, hypothesis = utterance.reference, utterance.hypothesis or ""
    if _by_characters(utterance):
        return align(characters(reference, spaces=False), characters(hypothesis, spaces=False)), "characters"
    return align(words(reference), words(hypothesis)), "words"


def worst_first(utterances: Iterable[UtteranceScore]) -> list[UtteranceScore]:
    """The utterances that have errors, most errors first.

    >>> made = [UtteranceScore(str(n), "ONE TWO", None, *[ErrorCounts(n, 0, 0, 2)] * 2) for n in range(3)]
    >>> [utterance.id for utterance in worst_first(made)]
    ['2', '1']
    """
    return sorted((u for u in utterances if _shown_errors(u)), key=lambda u: -_shown_errors(u))


def _print_utterance(utterance: UtteranceScore, console: rich.console.Console) -> None:
    steps, unit = aligned(utterance)
    steps = [Step(s.operation, *(side and harmless(side) for side in (s.reference, s.hypothesis))) for s in steps]
    errors = sum(step.operation != "equal" for step in steps)
    total = sum(step.reference is not None for step in steps)
    found = "no hypothesis" if utterance.hypothesis is None else f"{errors} errors"
    console.print(f"\n{harmless(utterance.id)}: {found} in {total} {unit}", highlight=False, markup=False)
    for block in _blocks(steps, console.width - len("REF: ")):
        for row in _rows(block):
            console.print(row, soft_wrap=True)


def _blocks(steps: Sequence[Step], width: int) -> Iterator[list[Step]]:
    """The steps in pieces that fit in lines of `width` columns."""
    block: list[Step] = []
    used = 0
    for step in steps:
        if block and used + _width(step) > width:
            yield block
            block, used = [], 0
        block.append(step)
        used += _width(step) + 1
    if block:
        yield block


def _width(step: Step) -> int:
    """Columns of a terminal, of which a Chinese character takes two."""
    return max(cell_len(step.reference or ""), cell_len(step.hypothesis or ""), 1)


def _rows(block: Sequence[Step]) -> list[rich.text.Text]:
    """The lines REF, HYP and OPS, one column a step, stars where a side has no token."""
    rows = [rich.text.Text(label) for label in ("REF:", "HYP:", "OPS:")]
    for step in block:
        width = _width(step)
        mark = "" if step.operation == "equal" else step.operation[0].upper()
        for row, token in zip(rows, (step.reference, step.hypothesis, mark), strict=True):
            shown = "*" * width if token is None else token
            row.append(" ").append(shown + " " * (width - cell_len(shown)), STYLES[step.operation])
    for row in rows:
        row.rstrip()
    return rows


def as_json(score: Score) -> dict[str, Any]:
    """What `--output` holds; an infinite rate is null, for JSON has no other way to write it."""

    def edits(counts: ErrorCounts) -> dict[str, Any]:
        return {"rate": _finite(counts.rate), "errors": counts.errors, **counts._asdict()}

    return {
        "wer": edits(score.wer) | {"interval_95": [_finite(bound) for bound in score.wer_interval]},
        "cer": edits(score.cer),
        "sentences": {"rate": score.ser, "errors": score.wrong_sentences, "reference": len(score.utterances)},
        "missing": score.missing,
        "utterances": [
            {"id": utterance.id, "words": edits(utterance.words), "characters": edits(utterance.characters)}
            for utterance in score.utterances
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# Command line ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Word, character and sentence error rates of hypotheses against references.

    REF and HYP are each a Kaldi `text` file ("ID WORDS..." a line), a folder with one (a Kaldi data folder, or
    what `python -m jaxasr.decode --output` wrote), or JSON lines or a table: results with `id` (or `utt_id`,
    `key`) and `text`, or a manifest. Texts are compared as they are, case and punctuation counting, unless --cleaners
    says otherwise. An utterance without a hypothesis counts as deleted; an id without a reference is an error, since
    the files then do not belong together. The interval says how far WER may be off because the test set is small.

    python -m jaxasr.evaluate data/test exp/test --output=exp/test/score.json
    """

    ref: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="REF")]
    """What was said."""
    hyp: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="HYP")]
    """What was recognised."""
    output: str | None = None
    """A JSON file for all counts, in total and for every utterance."""
    worst: int = 10
    """How many of the utterances with the most errors to show aligned; 0 for none. S, D and I mark substituted,
    deleted and inserted words, or characters where the script has no spaces."""
    cleaners: tuple[str, ...] = ()
    """What is done to both sides first, in this order: lower, upper, punctuation, whitespace, nfc, nfkc,
    english_numbers; or none."""
    ignore: tuple[str, ...] = ()
    """Symbols such as <noise> [laughter], or one file with a symbol a line: left out of both sides."""
    without_spaces: bool = False
    """Leave spaces out of the character error rate, as FunASR and ESPnet do; jiwer counts them."""
    model: str | None = None
    """Workdir or model folder of the model that wrote HYP: references are cleaned, spelled and rid of symbols as they
    were in its validation, by this folder alone; hypotheses stay as it wrote them. In place of --cleaners, --ignore."""
    imports: Imports = ()


def evaluate(options: EvaluateOptions) -> Score:
    """What the command line does, without printing the score.

    Raises:
      ConfigError: options mean nothing, or do not go together.
    """
    if options.worst < 0:
        raise ConfigError(f"--worst={options.worst}: 0 or more was expected; change it.")
    config.import_modules(options.imports, "--import")
    cleaning = cleaning_of(options)
    references, hypotheses = read_texts(options.ref), read_texts(options.hyp)
    if options.model is None:
        hypotheses = {name: cleaning(text) for name, text in hypotheses.items()}
    found = score_cleaned(cleaning, references, hypotheses, spaces=not options.without_spaces)
    if options.output is not None:
        content = {"ref": options.ref, "hyp": options.hyp, "model": options.model}
        content |= {"cleaners": cleaning.names(), "ignore": cleaning.symbols}
        content |= as_json(found)
        _write(pathlib.Path(options.output), json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    return found


def cleaning_of(options: EvaluateOptions) -> Cleaning:
    """What is done to both sides before they are compared; to references alone where it is a model's.

    Raises:
      ConfigError: both the model and options say what is done.
    """
    if options.model is not None:
        if options.cleaners or options.ignore:
            raise ConfigError(
                f"--model={options.model} with --cleaners or --ignore: the model says what is done to texts; one of "
                "the two was expected; remove --model, or the others."
            )
        from jaxasr import checkpoint  # JAX, which nothing else here needs

        return checkpoint.load_task(checkpoint.model_folder(options.model)).cleaning
    return Cleaning.of(options.cleaners, read_symbols(options.ignore, "--ignore"))


def _write(path: pathlib.Path, content: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"--output={path}: {error.strerror}; a file to write was expected; choose another."
        ) from error


@exit_with_message
def main(argv: Sequence[str] | None = None) -> None:
    """The command line: `argv`, or else the program's own arguments."""
    options = options_of(EvaluateOptions, argv, "evaluate")
    found = evaluate(options)
    console = consoles.console()
    if said := str(cleaning_of(options)):
        console.print(f"texts: {said}", highlight=False, markup=False, soft_wrap=True)
    print_score(found, console, worst=options.worst)


if __name__ == "__main__":
    main(sys.argv[1:])
