"""The errors that jaxasr raises on purpose.

Each message reads ``Where: what came; what was expected; what to do.`` The command lines print it without a
traceback and exit with status 2.
"""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")


class JaxasrError(ValueError):
    """Something a user can put right; the message says how."""


class ConfigError(JaxasrError):
    """An option, a choice or a combination of them that means nothing."""


class DataError(JaxasrError):
    """A manifest, a sound file or a transcript that cannot be used."""


class TrainingError(JaxasrError):
    """A run that cannot go on, such as one whose gradients stay infinite."""


class NonFiniteError(TrainingError):
    """Too many steps in a row had no finite loss and gradient."""

    first_step = 0
    """The first of them."""
    rollbacks = 0
    """How often the run had gone back to an earlier state before."""


class CheckpointError(JaxasrError):
    """A model or a checkpoint that cannot be read, or does not belong to this run."""


NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""NUL, and half a surrogate pair, which JSON and YAML can spell and neither files nor their names can hold."""


_COMMANDS = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    r"""The text in one line, with escapes for what would command a terminal, or turn the direction of the writing.

    >>> harmless("a\x1b[2J")
    'a\\x1b[2J'
    """
    return _COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)


def show(value: object) -> str:
    """A value as an error message quotes it.

    >>> show("a" * 100)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa..."
    """
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def exit_with_message(fn: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """What `fn` returns; a JaxasrError becomes a line on stderr and exit status 2, Ctrl-C one and status 130."""
    try:
        return fn(*args, **kwargs)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except JaxasrError as error:
        print(f"error: {harmless(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None


@contextlib.contextmanager
def reader_may_go() -> Iterator[None]:
    """Within it what prints to a reader that has gone, as `| head` does, ends the program with status 141."""
    try:
        yield
        print(end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left would fail again at exit
        sys.exit(141)
