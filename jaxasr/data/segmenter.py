"""Sound of any length, block by block, to segments that a network can hear: cut at silences, by energy.

What is decided about a second of sound depends on the sound around it alone, never on how the blocks come.
"""

import collections
import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from jaxasr.data.source import Source
from jaxasr.errors import ConfigError

FRAME_SECONDS, FRAMES = 0.01, 100
"""Length of a frame whose loudness is measured, and how many are judged at once."""
AROUND = 10
"""Seconds before and behind that tell how loud silence is."""
QUIETEST_PERCENT = 10
"""Of those frames, how many are taken to be without speech."""
FLOOR_DB = (-70.0, -40.0)
"""Between what silence is looked for, in dB of full scale: in doubt the louder sound is listened to."""
LEAST_SILENCE = 0.02
"""Seconds: two frames."""
LEAST_SPEECH, PAUSE = 10, 20
"""Frames: loud ones that make a segment, and silent ones that a cut needs to need no overlap."""


class Segment(NamedTuple):
    """A stretch of sound to listen to."""

    start: int
    """In samples from the beginning of the sound."""
    audio: np.ndarray
    """float32 (S,)."""
    cut: int | None = None
    """Where it takes over from the segment before, which ends behind that, in samples from the beginning of the sound;
    None where they do not overlap."""

    @property
    def end(self) -> int:
        """The sample behind its last one."""
        return self.start + len(self.audio)


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """How long sound is cut."""

    max_segment: float = 30.0
    """Seconds of sound that are listened to at once; longer files are cut, at silences where there are any. inf cuts
    none."""
    min_silence: float = 0.5
    """Seconds of silence that end a segment; half of it stays on either side."""
    silence_db: float = 10.0
    """Sound is silence up to so many dB above the quietest tenth of the 20 s around."""
    overlap: float = 2.0
    """Seconds that both segments have where a cut has to go through speech."""

    def check(self) -> None:
        """Raises ConfigError where these cannot be."""
        lengths = self.max_segment >= 1.0 and LEAST_SILENCE <= self.min_silence < math.inf
        if not (lengths and 0.0 <= 4.0 * self.overlap <= self.max_segment and 0.0 < self.silence_db < math.inf):
            raise ConfigError(
                f"--max_segment={self.max_segment} --min_silence={self.min_silence} --overlap={self.overlap} "
                f"--silence_db={self.silence_db}: at least 1 s, at least {LEAST_SILENCE} s, at most a quarter of a "
                "segment, and a number of dB above 0 were expected; change them."
            )

    def cuts(self, samples: int, source: Source) -> bool:
        """Whether sound of so many samples is too long to be listened to at once; features never are."""
        return source.kind == "sound" and samples > self.max_segment * source.rate

    def longest(self, rate: float) -> int:
        """Samples of the longest segment.

        >>> Segmenter(max_segment=30.0).longest(16000)
        480000
        """
        return round(self.max_segment / FRAME_SECONDS) * _hop(rate)

    def segments(self, blocks: Iterable[np.ndarray], rate: float) -> Iterator[Segment]:
        """The segments of sound that comes in blocks (S,) of any lengths; remembers little more than one segment."""
        cutter = _Cutter(self, _hop(rate))
        for audio, levels, floor in _judged(blocks, _hop(rate)):
            yield from cutter.more(audio, levels, floor + self.silence_db)
        yield from cutter.rest()


def _hop(rate: float) -> int:
    return max(round(FRAME_SECONDS * rate), 1)


# --- loudness ------------------------------------------------------------------------------------------------


def _judged(blocks: Iterable[np.ndarray], hop: int) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """Samples of FRAMES frames, their levels, and the level of silence around them."""
    waiting: collections.deque[tuple[np.ndarray, np.ndarray]] = collections.deque()
    around: collections.deque[np.ndarray] = collections.deque(maxlen=2 * AROUND + 1)

    def first() -> tuple[np.ndarray, np.ndarray, float]:
        floor = float(np.percentile(np.concatenate(around), QUIETEST_PERCENT))
        return *waiting.popleft(), min(max(floor, FLOOR_DB[0]), FLOOR_DB[1])

    for audio in _even(blocks, hop * FRAMES):
        levels = loudness(audio, hop)
        waiting.append((audio, levels))
        around.append(levels)
        if len(waiting) > AROUND:
            yield first()
    while waiting:
        yield first()


def _even(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same samples in blocks of one size; the last may be shorter."""
    left = np.zeros(0, np.float32)
    for block in blocks:
        left = np.concatenate([left, block])
        whole = len(left) // size * size
        yield from left[:whole].reshape(-1, size)
        left = left[whole:]
    if len(left):
        yield left


def loudness(audio: np.ndarray, hop: int) -> np.ndarray:
    """The power of each frame, (T,) of sound (S,), in dB of full scale; at least -100.

    It is that of `hop` samples without their mean, and of the two frames on either side.

    >>> loudness(0.1 * np.tile([1.0, -1.0], 8), 4).round(1).tolist()
    [-20.0, -20.0, -20.0, -20.0]
    """
    whole = np.pad(audio, (0, -len(audio) % hop), mode="edge").reshape(-1, hop)
    power = np.pad(whole.var(axis=1), 2, mode="edge")
    return 10.0 * np.log10(np.convolve(power, np.full(5, 0.2, np.float32), "valid") + 1e-10)


# --- cuts ----------------------------------------------------------------------------------------------------


class _Cutter:
    """What of the sound is not given out yet, and from which frame on."""

    def __init__(self, choices: Segmenter, hop: int):
        self._hop = hop
        self._longest, self._silence = (
            round(seconds / FRAME_SECONDS) for seconds in (choices.max_segment, choices.min_silence)
        )
        self._pad, self._half = self._silence // 2, round(choices.overlap / FRAME_SECONDS / 2)
        self._start = 0
        self._cut: int | None = None
        self._audio = np.zeros(0, np.float32)
        self._levels = np.zeros(0, np.float32)
        self._loud = np.zeros(0, bool)

    def more(self, audio: np.ndarray, levels: np.ndarray, threshold: float) -> Iterator[Segment]:
        """The segments that are known once so much more sound is."""
        self._audio = np.concatenate([self._audio, audio])
        self._levels = np.concatenate([self._levels, levels])
        self._loud = np.concatenate([self._loud, levels > threshold])
        return self._known(ended=False)

    def rest(self) -> Iterator[Segment]:
        """The segments that are left when no more sound comes."""
        return self._known(ended=True)

    def _known(self, *, ended: bool) -> Iterator[Segment]:
        while len(loud := np.flatnonzero(self._loud)):
            gaps = np.flatnonzero(np.diff(loud) > self._silence)
            last = int(loud[gaps[0]] if len(gaps) else loud[-1])
            over = ended or len(gaps) > 0 or len(self._loud) - 1 - last >= self._silence
            begin = 0 if self._cut is not None else max(int(loud[0]) - self._pad, 0)
            end = min(last + 1 + self._pad, len(self._loud))
            if (end if over else len(self._loud)) - begin > self._longest:
                yield self._first_part(begin)
            elif not over:
                return self._forget(begin)
            elif self._cut is not None or np.sum(loud <= last) >= LEAST_SPEECH:
                yield self._taken(begin, end, end)
            else:
                self._forget(end)
        self._forget(len(self._loud) - self._pad)
        self._cut = None

    def _first_part(self, begin: int) -> Segment:
        """Of speech that is too long, as much as the quietest place in the second half of what may be leaves."""
        low, high = begin + self._longest // 2, begin + self._longest - self._half
        silent = ~self._loud[low:high]
        edges = np.flatnonzero(np.diff(np.pad(silent, 1).astype(np.int8)))
        pauses = edges[1::2] - edges[::2]
        if len(pauses) and pauses.max() >= PAUSE:
            middle = low + int(edges[::2][pauses.argmax()] + pauses.max() // 2)
            return self._taken(begin, middle, middle)
        quietest = low + int(self._levels[low:high].argmin())
        return self._taken(begin, quietest + self._half, quietest - self._half, cut=quietest)

    def _taken(self, begin: int, end: int, then: int, cut: int | None = None) -> Segment:
        """The segment of these frames; what comes next begins at `then`."""
        hop, start = self._hop, self._start
        segment = Segment((start + begin) * hop, self._audio[begin * hop : end * hop], self._cut)
        self._forget(then)
        self._cut = None if cut is None else (start + cut) * hop
        return segment

    def _forget(self, frames: int) -> None:
        frames = max(frames, 0)
        self._start += frames
        self._audio = self._audio[frames * self._hop :]
        self._levels, self._loud = self._levels[frames:], self._loud[frames:]
