"""`jaxasr COMMAND ...`, the same as `python -m` with the command's module."""

import importlib
import sys
from collections.abc import Callable, Sequence

from jaxasr.errors import ConfigError, exit_with_message
from jaxasr.launch import with_huge_pages
from jaxasr.registry import did_you_mean

COMMANDS = {
    "train": "train a model, validate it and score test sets",
    "decode": "turn sound into text with a trained model",
    "align": "find where known text is in its sound",
    "evaluate": "score hypotheses against references",
    "plot": "show what a model makes of a sound: spectrogram, posteriors, attention",
    "report": "show a run in one file: curves, errors, sound, posteriors",
    "replay": "repeat a training step that had no finite loss and gradient",
    "info": "say what a model is",
    "check": "find what is wrong with data, before it is trained on",
    "pack": "copy corpora into a few large files that are read quickly",
    "ngram": "estimate an n-gram language model of text",
    "convert": "take over a model of FunASR or ESPnet, or give one back",
}
MODULES = {name: f"jaxasr.{name}" for name in COMMANDS} | {
    "check": "jaxasr.data.check",
    "pack": "jaxasr.data.pack",
    "convert": "jaxasr.convert.__main__",
}
USAGE = "\n".join([
    "usage: jaxasr COMMAND [options]",
    "",
    *(f"  {name:9} {what}" for name, what in COMMANDS.items()),
    "",
    "jaxasr COMMAND --help says more.",
    "jaxasr --version says what runs here: versions and devices.",
    "jaxasr --completion bash (or zsh) prints what the shell needs to complete commands and options.",
])  # fmt: skip


@exit_with_message
def main(argv: Sequence[str] | None = None) -> None:
    """The command line: `argv`, or else the program's own arguments."""
    argv = list(sys.argv[1:] if argv is None else argv)
    first = argv[0] if argv else "--help"
    if first in ("-h", "--help", "--version", "--completion"):
        print(_about(first, argv[1:]))
    else:
        if first == "train":
            with_huge_pages()
        main_of(known_command(first))(argv[1:])


def _about(option: str, words: list[str]) -> str:
    if option == "--version":
        from jaxasr.versions import about

        return "\n".join(about())
    if option == "--completion":
        from jaxasr.completion import script

        return script(" ".join(words), MODULES).rstrip("\n")
    return USAGE


def main_of(command: str) -> Callable[[Sequence[str]], None]:
    """What the command calls."""
    return importlib.import_module(MODULES[command]).main


def known_command(command: str) -> str:
    """The command itself, where it is one.

    Raises:
      ConfigError: it is none.

    >>> known_command("train")
    'train'
    """
    if command not in COMMANDS:
        raise ConfigError(
            f"jaxasr {command}: no such command; there are {', '.join(COMMANDS)}; choose one of them."
            f"{did_you_mean(command, COMMANDS)}"
        )
    return command


if __name__ == "__main__":
    main()
