"""What is wrong with data, before it is trained on: `python -m jaxasr.data.check MANIFEST...`."""

import dataclasses
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Annotated, Any, Literal

import rich.console
import tyro

from jaxasr import config, consoles
from jaxasr.command_line import options_of
from jaxasr.commands import command
from jaxasr.data import manifest
from jaxasr.data.checks import advice, report
from jaxasr.data.checks.advice import frames_needed
from jaxasr.data.checks.fix import Copy, check_free, fix
from jaxasr.data.checks.hearing import Ears
from jaxasr.data.checks.part import Finding, Need, Part, Settings
from jaxasr.data.checks.reading import read
from jaxasr.data.checks.table import Check, Result, chosen, known, run
from jaxasr.data.tokenizer import CharTokenizer, Vocabulary, WordTokenizer
from jaxasr.errors import ConfigError, exit_with_message


@dataclasses.dataclass(frozen=True)
class CheckOptions:
    """What is wrong with data: files, ids, texts, sound, and how they go together (docs/data-check.md has every check).

    Each MANIFEST is a Kaldi folder or a .jsonl, .csv or .tsv file. Name what is trained on first and test sets last: of
    two manifests, the first is told what it shares with the other. Of every fault you see how often it was found, where
    first, and what to do.

    The exit status is 0 where nothing is above info, 3 with warnings (it loads, and most likely does harm), 4 with
    errors (jaxasr refuses it, or cannot use it), and 2 where an option is wrong. With --fix it is that of the copy.

    python -m jaxasr.data.check data/train data/test

    python -m jaxasr.data.check data/train --fix=clean

    python -m jaxasr.data.check big.jsonl --sound=no --findings=all.jsonl
    """

    manifest: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MANIFEST ...")]
    """Kaldi folders, manifests."""
    sound: Literal["no", "headers", "all"] = "all"
    """How much of the sound is read: all of it; headers, for lengths and rates; or none, for manifests alone."""
    model: str | None = None
    """Workdir of a run, or its model folder: its token list, frame rate and sample rate count."""
    tokens: str | None = None
    """A token list, as tokens.txt of a model, in place of a model."""
    tokenizer: Literal["char", "word"] = "char"
    """What texts are cut into for --tokens and --frame_ms; for others give a --model."""
    frame_ms: float | None = None
    """Milliseconds of sound in a frame of the encoder, such as 40, in place of a model: what CTC cannot align."""
    max_seconds: float = 40.0
    """What training will be given as --max_seconds."""
    ignore: tuple[str, ...] = ()
    """Checks not to run, by name; what they would find stays in a copy."""
    imports: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules with checks of your own."""
    findings: str | None = None
    """A file for every finding, a line of JSON each."""
    fix: str | None = None
    """A folder to make, for a clean copy of each manifest, which passes; sound is not copied. Line ends, order and the
    forms of characters are put right; lines with other errors and warnings are left out, and told one by one in
    left_out.jsonl there; changed.jsonl has the texts that were mended."""
    json: bool = False
    """Print JSON."""
    workers: int = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    """Threads that read sound."""


@dataclasses.dataclass(frozen=True)
class Checked:
    """What was found."""

    parts: Sequence[Part]
    results: Sequence[Result]
    ran: int
    lacking: dict[str, Need]
    """Checks that did not run, and what they lack."""

    @property
    def status(self) -> int:
        """What the command's exit status says of it: `report.exit_status`."""
        return report.exit_status(self.results)


def check(
    options: CheckOptions, console: rich.console.Console | None = None
) -> tuple[Checked, list[Copy], Checked | None]:
    """What is wrong with the manifests; with `fix` also the copies, and what is still wrong with these.

    Raises:
      ConfigError: an option means nothing.
      DataError: nothing is left for a copy.
    """
    _check_options(options)
    config.import_modules(options.imports, "--import")
    ignored, settings, ears = known(options.ignore), settings_of(options), Ears(options.workers)
    if options.findings is None:
        found = _checked(options.manifest, settings, ears, ignored, console, None)
    else:
        with _opened(options.findings) as file:
            found = _checked(options.manifest, settings, ears, ignored, console, _writer(file))
    if options.fix is None:
        return found, [], None
    copies = fix(found.parts, options.fix, ignored)
    for copy in copies:
        manifest.read(copy.path, kind="features" if copy.part.owner.endswith("feats.scp") else None)
    return found, copies, _checked([copy.path for copy in copies], settings, ears, ignored, console, None)


def _check_options(options: CheckOptions) -> None:
    if not options.manifest:
        raise ConfigError(
            "MANIFEST: none; at least one was expected; name a Kaldi folder or a .jsonl, .csv or .tsv file."
        )
    for name in ("workers", "frame_ms", "max_seconds"):
        if (value := getattr(options, name)) is not None and not value > 0:
            raise ConfigError(f"--{name}={value}: a positive number was expected; change it.")
    if options.model is not None and (options.tokens is not None or options.frame_ms is not None):
        raise ConfigError("--model: it tells tokens and frames; --tokens and --frame_ms go without it; leave one out.")
    if options.fix is not None:
        check_free(options.fix)


def settings_of(options: CheckOptions) -> Settings:
    """What the checks may know by the options."""
    plain = Settings(options.sound, max_seconds=options.max_seconds)
    if options.model is not None:
        return _of_model(plain, options.model)
    tokenizer = {"char": CharTokenizer, "word": WordTokenizer}[options.tokenizer]()
    if options.tokens is not None:
        vocabulary = Vocabulary.from_file(options.tokens)
        plain = dataclasses.replace(plain, unknown=lambda text: vocabulary.unknown(tokenizer.tokens(text)))
    if (frame_ms := options.frame_ms) is not None:
        plain = dataclasses.replace(
            plain,
            needed=lambda text: frames_needed(tokenizer.tokens(text)),
            frames=lambda seconds: int(1000 * seconds / frame_ms + 1e-6),
        )
    return plain


def _of_model(plain: Settings, model: str) -> Settings:
    from jaxasr import checkpoint  # JAX starts slowly, and nothing else here needs it

    task: Any = checkpoint.load_task(checkpoint.model_folder(model))
    return dataclasses.replace(
        plain,
        unknown=task.unknown,
        needed=task.frames_needed,
        frames=lambda seconds: int(task.frames(round(seconds * task.input_rate))),
        rate=task.sample_rate if task.source.kind == "sound" else None,
    )


def _checked(
    paths: Sequence[str],
    settings: Settings,
    ears: Ears,
    ignored: set[str],
    console: rich.console.Console | None,
    note: Callable[[Check, Finding], None] | None,
) -> Checked:
    parts = [read(path, settings, ears) for path in paths]
    if settings.sound != "no":
        spans = [(row.audio, row.start, row.seconds) for part in parts for row in part.of_sound()]
        ears.listen(spans, whole=settings.sound == "all", console=console)
    checks, lacking = chosen(parts, ignored)
    return Checked(parts, run(parts, checks, note), len(checks), lacking)


def _opened(path: str) -> IO[str]:
    try:
        return open(path, "w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"--findings={path}: {error.strerror}; a file to write was expected; give another."
        ) from error


def _writer(file: IO[str]) -> Callable[[Check, Finding], None]:
    def note(check: Check, finding: Finding) -> None:
        row = {"check": check.name, "severity": check.severity, **finding._asdict()}
        print(json.dumps(row, ensure_ascii=False), file=file)

    return note


@exit_with_message
def main(argv: Sequence[str] | None = None) -> None:
    """The command line: `argv`, or else the program's own arguments."""
    options = options_of(CheckOptions, argv, "data.check")
    errors = consoles.console(stderr=True)
    found, copies, again = check(options, errors if errors.is_terminal else None)
    if options.json:
        print(json.dumps(_as_json(found, copies, again), ensure_ascii=False, indent=1))
    else:
        _show(options, found, copies, again)
    sys.exit((again or found).status)


def _show(options: CheckOptions, found: Checked, copies: Sequence[Copy], again: Checked | None) -> None:
    console = consoles.console(markup=False, highlight=False, soft_wrap=True)
    report.show(console, found.parts, found.results, found.ran, found.lacking)
    report.show_copies(console, copies)
    if again is not None and again.status:
        report.show(console, again.parts, again.results, again.ran, again.lacking)
    print("\nNext:", next_command(options, again or found), sep="\n  ")


def next_command(options: CheckOptions, found: Checked) -> str:
    """What makes sense after a check, to be copied: a clean copy, decoding by the model given, or a training.

    Where all of a manifest is wrong, so that nothing is left for a copy, it is the same check of what was corrected. Of
    several manifests the last is the test set, and of three or more the one before it is for validation.
    """
    paths = [part.path for part in found.parts]
    wrong = any(result.check.severity == "error" for result in found.results)
    if wrong or (options.model is None and not any_left(found)):
        copy = ["--fix=clean"] * any_left(found)
        return command("data.check", [*paths, *copy, *_as_asked(options)], options.imports)
    if options.model is not None:
        return command("decode", [f"--model={options.model}", *paths], options.imports)
    first = max(1, len(paths) - 2)  # behind those to train on
    sets = {"--train": paths[:first], "--valid": paths[1:][-2:-1], "--test": paths[1:][-1:]}
    advised = advice.options(found.parts[:first], found.parts[first:])
    recipe = any(word.startswith("--config") for word in advised)  # which names sets of its own
    named = [(flag, *some) for flag, some in sets.items() if some or recipe]
    return command("train", [*itertools.chain(*named), *advised, "--workdir=exp/mine"])


def any_left(found: Checked) -> bool:
    """Whether a clean copy of each manifest may have a line: some have a text, and none is wrong in all of them."""
    rows = sum(len(part.rows) for part in found.parts)
    errors = (result.number for result in found.results if result.check.severity == "error")
    return all(any(row.text for row in part.rows) for part in found.parts) and all(number < rows for number in errors)


def _as_asked(options: CheckOptions) -> Iterator[str]:
    """What decides which faults are found, as flags, where it is not as usual."""
    for name in ("sound", "model", "tokens", "tokenizer", "frame_ms", "max_seconds", "ignore"):
        if (value := getattr(options, name)) != getattr(CheckOptions, name):
            yield from (f"--{name}", *map(str, value if isinstance(value, tuple) else (value,)))


def _as_json(found: Checked, copies: Sequence[Copy], again: Checked | None) -> dict[str, Any]:
    def told(checked: Checked) -> dict[str, Any]:
        return report.as_json(checked.parts, checked.results, checked.ran, checked.lacking, checked.status)

    if again is None:
        return told(found)
    rows = [{"path": c.path, "lines": c.lines, "left_out": len(c.left_out), "changed": len(c.changed)} for c in copies]
    return told(found) | {"copies": rows, "copy": told(again), "exit_status": again.status}


if __name__ == "__main__":
    main(sys.argv[1:])
