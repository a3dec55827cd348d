"""`jaxasr COMMAND ...`, the same as `python -m jaxasr.COMMAND ...`."""

import importlib
import sys
from collections.abc import Sequence

from jaxasr.registry import did_you_mean

COMMANDS = {
    "train": "train a model, validate it and score test sets",
    "decode": "turn sound into text with a trained model",
    "evaluate": "score hypotheses against references",
    "report": "show a run in one file: curves, errors, sound, posteriors",
    "info": "say what a model is",
}


def main(argv: Sequence[str] | None = None) -> None:
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        lines = [f"  {name:9} {what}" for name, what in COMMANDS.items()]
        print("\n".join(["usage: jaxasr COMMAND [options]", "", *lines, "", "jaxasr COMMAND --help says more."]))
        return
    if argv[0] not in COMMANDS:
        known = ", ".join(COMMANDS)
        print(f"error: jaxasr {argv[0]}: no such command; there are {known}.{did_you_mean(argv[0], COMMANDS)}")
        sys.exit(2)
    importlib.import_module(f"jaxasr.{argv[0]}").main(argv[1:])


if __name__ == "__main__":
    main()
