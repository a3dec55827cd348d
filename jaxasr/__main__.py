"""`jaxasr COMMAND ...`, the same as `python -m jaxasr.COMMAND ...`."""

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
    "ngram": "estimate an n-gram language model of text",
    "convert": "take over a model of FunASR or ESPnet, or give one back",
}


def main(argv: Sequence[str] | None = None) -> None:
    """The command line: `argv`, or else the program's own arguments."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        lines = [f"  {name:9} {what}" for name, what in COMMANDS.items()]
        print("\n".join(["usage: jaxasr COMMAND [options]", "", *lines, "", "jaxasr COMMAND --help says more."]))
        return
    if argv[0] == "train":
        with_huge_pages()
    main_of(exit_with_message(known_command, argv[0]))(argv[1:])


def main_of(command: str) -> Callable[[Sequence[str]], None]:
    """What `python -m jaxasr.COMMAND` calls."""
    module = importlib.import_module(f"jaxasr.{command}")
    if hasattr(module, "__path__"):  # a package
        module = importlib.import_module(f"jaxasr.{command}.__main__")
    return module.main


def known_command(command: str) -> str:
    """The command itself, where it is one.

    Raises:
      ConfigError: it is none.
    """
    if command not in COMMANDS:
        raise ConfigError(
            f"jaxasr {command}: no such command; there are {', '.join(COMMANDS)}; choose one of them."
            f"{did_you_mean(command, COMMANDS)}"
        )
    return command


if __name__ == "__main__":
    main()
