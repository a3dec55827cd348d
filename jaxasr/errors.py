"""The errors that jaxasr raises on purpose.

Each message reads ``Where: what came; what was expected; what to do.`` The command lines print it without a
traceback and exit with status 2.
"""

import contextlib
import functools
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TextIO, TypeVar

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


class Printed:
    """stdout, which tells when it takes no more; after that nothing is to be printed."""

    def __init__(self, file: TextIO):
        self._file = file
        self.failed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        """As of any file, which says how much it took."""
        with self._told():
            return self._file.write(text)

    def flush(self) -> None:
        """As of any file."""
        with self._told():
            self._file.flush()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:  # the reader has gone, as `| head` does
            self.failed = True
            raise SystemExit(141) from None
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"stdout: {show(error.object[error.start])} is not in {error.encoding}; UTF-8 was expected; set "
                "PYTHONIOENCODING=utf-8."
            ) from error
        except OSError as error:
            self.failed = True
            raise ConfigError(
                f"stdout: {error.strerror}; room for what is printed was expected; make some, or print elsewhere."
            ) from error

    def drop_rest(self) -> None:
        """Lets what is left, which would fail again when the program ends, go nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with contextlib.suppress(io.UnsupportedOperation):  # no file of the system's, as in a notebook
            os.dup2(nowhere, self._file.fileno())
        os.close(nowhere)


def exit_with_message(fn: Callable[P, Result]) -> Callable[P, Result]:
    """`fn` as a program: a JaxasrError becomes a line on stderr and exit status 2, Ctrl-C one and status 130.

    Where stdout takes no more, that is such an error; where its reader has gone, the status is 141 and nothing is said.
    Neither hides another error that came before.
    """

    @functools.wraps(fn)
    def program(*args: P.args, **kwargs: P.kwargs) -> Result:
        now: Any = sys.stdout
        printed: Any = now if isinstance(now, Printed) else Printed(now or io.StringIO())  # None where it is closed
        try:
            with contextlib.redirect_stdout(printed):
                try:
                    return fn(*args, **kwargs)
                except (Exception, KeyboardInterrupt):
                    with contextlib.suppress(JaxasrError, SystemExit):
                        printed.flush()
                    raise
                finally:
                    if not printed.failed:
                        printed.flush()
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise SystemExit(130) from None
        except JaxasrError as error:
            print(f"error: {harmless(str(error))}", file=sys.stderr)
            raise SystemExit(2) from None
        finally:
            if printed.failed:
                printed.drop_rest()

    return program
