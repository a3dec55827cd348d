"""What a task reads its utterances from: sound, features given instead of it, or text alone."""

import abc
import dataclasses
import io
import math
import os
import stat
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np

from jaxasr.data.utterance import Kind, Utterance, check_name
from jaxasr.errors import ConfigError, DataError

MAX_AUDIO_SECONDS = 600.0
"""Of sound that a stranger may have sent, where nothing else is asked for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself: frames (samples of each channel), frames a second, channels.

    Features do not say their rate, which is 0 here; their channels are the width of a frame.
    """

    frames: int
    rate: int
    channels: int


@dataclasses.dataclass(frozen=True)
class Source(abc.ABC):
    """Measures utterances."""

    kind: ClassVar[Kind]
    unit: ClassVar[Literal["seconds", "tokens"]] = "seconds"
    """What there are `rate` samples of."""
    of_corpora: ClassVar[tuple[str, int]] = ("hours", 3600)
    """What corpora are measured in, and how many units that is."""

    @property
    @abc.abstractmethod
    def rate(self) -> float:
        """Samples, or frames, a second."""

    @abc.abstractmethod
    def length(self, utterance: Utterance, header: Header, speed: float) -> int:
        """Samples, frames or tokens of the utterance.

        Raises:
          DataError: the utterance is no part of the file, or what the file holds does not suit the task.
          ConfigError: it is asked for at a speed that there is none at.
        """

    @abc.abstractmethod
    def stated_length(self, utterance: Utterance, speed: float) -> int:
        """At most so many `length` gives, by the seconds that the utterance's manifest states."""


@dataclasses.dataclass(frozen=True)
class TextSource(Source):
    """Text, which was read with its manifest and is counted in tokens; these have no length in seconds."""

    num_tokens: Callable[[str], int]
    kind: ClassVar[Kind] = "text"
    unit: ClassVar[Literal["seconds", "tokens"]] = "tokens"
    of_corpora: ClassVar[tuple[str, int]] = ("tokens", 1)

    @property
    def rate(self) -> float:
        return 1.0

    def length(self, utterance: Utterance, header: Header, speed: float) -> int:
        return self.num_tokens(utterance.text)

    def stated_length(self, utterance: Utterance, speed: float) -> int:
        return self.num_tokens(utterance.text)


@dataclasses.dataclass(frozen=True)
class FileSource(Source):
    """Reads utterances from files that manifests name; a value that travels to workers."""

    @property
    @abc.abstractmethod
    def width(self) -> int | None:
        """F of features; None for sound."""

    @abc.abstractmethod
    def file(self, path: str) -> str:
        """The file on disk that a path of a manifest is in."""

    @abc.abstractmethod
    def info(self, path: str) -> Header:
        """The header of what is at `path`.

        Raises:
          DataError: it cannot be read.
        """

    @abc.abstractmethod
    def check(self, path: str, header: Header) -> None:
        """Reads it to its end; raises DataError where it ends early, or holds what is no number."""

    @abc.abstractmethod
    def read(self, utterance: Utterance) -> np.ndarray:
        """The utterance at its speed: sound, float32 (S,) with int16's full scale at 1, or float32 features (T, F)."""

    @abc.abstractmethod
    def from_array(self, where: str, array: np.ndarray) -> np.ndarray:
        """What is in memory instead of a file, (S,) or (T, F), as `read` gives it; errors begin with `where`.

        Raises:
          DataError: it has another type, shape or range.
        """

    def seconds(self, header: Header) -> float:
        """How long what the header belongs to says that it is."""
        return header.frames / (header.rate or self.rate)

    @abc.abstractmethod
    def example(self, utterance_id: str, inputs: np.ndarray, tokens: np.ndarray) -> Any:
        """What the task's collate takes, of inputs as `read` gives them, (S,) or (T, F), and tokens (U,)."""


def status(path: str, where: str) -> os.stat_result:
    """The status of a file; errors begin with `where`.

    Raises:
      DataError: there is none, or it is no regular file.

    >>> from jaxasr.corpora import digits
    >>> status(str(digits() / "LICENSE"), "LICENSE").st_size
    815
    """
    check_name(path)
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise _no_file(where, error) from error
    # Opening a named pipe would wait for its writer.
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{where}: not a regular file; a file was expected; correct the path.")
    return found


def opened(path: str, where: str) -> io.FileIO:
    """A file, open for reading without a buffer; errors begin with `where`.

    >>> from jaxasr.corpora import digits
    >>> with opened(str(digits() / "test" / "text"), "text") as file:
    ...     print(file.read(11))
    b'george-0-00'
    """
    status(path, where)
    try:
        return open(path, "rb", buffering=0)
    except OSError as error:
        raise _no_file(where, error) from error


def _no_file(where: str, error: Exception) -> DataError:
    reason = error.strerror if isinstance(error, OSError) else error
    return DataError(
        f"{where}: {reason}; a file was expected; check the path (in a manifest a relative one "
        "starts at its folder) and its permissions."
    )


def check_max_seconds(value: float | None) -> None:
    """Raises ConfigError where no sound could be as long."""
    if value is not None and not value > 0.0:
        raise ConfigError(f"--max_audio_seconds={value}: more than 0 seconds, or none, was expected; change it.")


def check_seconds(where: str, seconds: float, most: float) -> None:
    """Raises DataError where that is more than may be decoded."""
    if seconds > most:
        raise DataError(
            f"{where}: {seconds:.1f} s of sound; at most {most:g} s were expected; cut it into pieces, or raise "
            "--max_audio_seconds if you trust where it comes from."
        )


def place(utterance: Utterance) -> str:
    """How errors name an utterance.

    >>> place(Utterance("zero", "test.flac", "ZERO"))
    'test.flac (utterance zero)'
    """
    return f"{utterance.audio} (utterance {utterance.id})"


def check_finite(where: str, values: np.ndarray, what: str) -> None:
    """Raises DataError where values of any shape hold infinity or NaN; `what` says what they are."""
    if not np.isfinite(values).all():
        raise DataError(
            f"{where}: infinite or NaN {what}; finite ones were expected; write the file again or remove the utterance."
        )


def segment(utterance: Utterance, frames: int, rate: float) -> tuple[int, int]:
    """The first frame of the utterance, and the number of its frames, in a file of so many.

    An end up to 0.1 s past the file's is clipped: manifests round their durations.

    Raises:
      DataError: it is not inside the file.

    >>> segment(Utterance("zero", "test.flac", "ZERO", start=0.5, seconds=1.0), frames=16000, rate=8000)
    (4000, 8000)
    """
    first = _frames(utterance.start, rate)
    end = frames
    if utterance.seconds is not None:
        end = _frames(utterance.start + utterance.seconds, rate)
    if 10 * (end - frames) > rate or (first >= frames and first > 0):
        stated = "the end" if utterance.seconds is None else f"{utterance.start + utterance.seconds:.3f} s"
        raise DataError(
            f"{place(utterance)}: from {utterance.start:.3f} s to {stated} of a file of {frames / rate:.3f} s; a "
            "stretch inside the file was expected; correct the manifest or replace a file cut short."
        )
    return first, min(end, frames) - first


def _frames(seconds: float, rate: float) -> int:
    # The limit keeps an absurd time from overflowing to infinity, which no int holds.
    return math.floor(min(seconds * rate, 2.0**62) + 0.5)


def of_files(source: Source) -> FileSource:
    """The source of a task that reads files, as one whose files can be looked at."""
    assert isinstance(source, FileSource)
    return source
