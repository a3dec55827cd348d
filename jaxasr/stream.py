"""Text while the sound still comes: bytes of 16-bit PCM in, tokens out, all that is remembered an explicit value."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

import jax
import numpy as np
import rich.console
import rich.live
import rich.text

from jaxasr.data.audio import SoundSource, to_int16
from jaxasr.data.utterance import Utterance
from jaxasr.errors import ConfigError
from jaxasr.tasks.base import Task
from jaxasr.tasks.paraformer import ParaformerTask
from jaxasr.tasks.paraformer_stream import UNKNOWN, Heard, Streaming
from jaxasr.typing import Int16, Params

BLOCK_SECONDS = 0.1
"""Of a file that plays, at once."""


class Stream(NamedTuple):
    """Where one stream stands: a value, of which any number live side by side."""

    samples: Int16[np.ndarray, "S"]
    """Those from the beginning of the chunk that comes next on."""
    odd: bytes
    """The first half of a sample whose second has not come."""
    heard: Heard
    tokens: tuple[int, ...] = ()
    """Said until now; none of them changes any more."""
    score: float = 0.0
    """Their log-probability in nats."""


@dataclasses.dataclass(frozen=True)
class Listener:
    """A model that hears any number of streams, each by its `Stream`; one compiled program for all chunks."""

    task: Task
    params: Params
    streaming: Streaming
    start: Stream
    """Of every stream, before its first byte."""
    _step: Callable[..., Any]

    @classmethod
    def of(cls, task: Task, params: Params) -> "Listener":
        """Raises ConfigError where the model cannot be heard chunk by chunk."""
        if not isinstance(task, ParaformerTask):
            raise ConfigError(
                f"--stream: this model is of the task {type(task).__name__}; one of the task paraformer, trained with "
                "--encoder=sanm_chunk and --decoder_look_back, was expected; decode it without --stream."
            )
        streaming = task.streaming()
        framing, heard = streaming.framing, jax.device_get(streaming.nothing_heard(params))
        step = jax.jit(streaming.step)
        silence = np.zeros(framing.samples, np.int16), np.int32(0)
        compiled = step.lower(params, heard, *silence).compile()
        jax.block_until_ready(compiled(params, heard, *silence))  # the first call takes longer than the others
        return cls(task, params, streaming, Stream(np.zeros(framing.lead, np.int16), b"", heard), compiled)

    def hear(self, stream: Stream, pcm: bytes = b"", *, ended: bool = False) -> Stream:
        """The stream after more bytes, of samples of 16 bits, little-endian, at the task's rate.

        Args:
          ended: no more will come. The last tokens come out; half a sample does not count.
        """
        framing, pcm = self.streaming.framing, stream.odd + pcm
        whole = len(pcm) // 2 * 2
        new = np.frombuffer(pcm[:whole], "<i2").astype(np.int16)
        stream = stream._replace(samples=np.concatenate([stream.samples, new]), odd=pcm[whole:])
        while len(stream.samples) >= framing.needed:
            stream = self._heard_chunk(stream, UNKNOWN)
        while ended and (left := framing.frames_left(len(stream.samples))) > 0:
            stream = self._heard_chunk(stream, left)
        return stream

    def _heard_chunk(self, stream: Stream, frames_left: int) -> Stream:
        framing = self.streaming.framing
        samples = np.zeros(framing.samples, np.int16)
        there = stream.samples[: framing.samples]
        samples[: len(there)] = there
        heard, found = self._step(self.params, stream.heard, samples, np.int32(frames_left))
        tokens, lengths, scores = jax.device_get((found.tokens, found.lengths, found.scores))
        said = (*stream.tokens, *map(int, tokens[0, : lengths[0]]))
        return Stream(stream.samples[framing.hop :], stream.odd, heard, said, stream.score + float(scores[0]))

    def text(self, stream: Stream) -> str:
        """What has been said until now."""
        return self.task.text(stream.tokens)


# --- command line ------------------------------------------------------------------------------------------------


class Times(NamedTuple):
    """How long a stream took, in seconds."""

    sound: float
    """That was heard."""
    first: float | None
    """Of sound until the first token was said, None where none was."""
    chunks: list[float]
    """Computing what was said of each part of the sound that ended a chunk, or several."""

    def __str__(self) -> str:
        if not self.chunks:
            return f"{self.sound:.2f} s of sound, not one chunk"
        first = "nothing was said" if self.first is None else f"the first token came after {self.first:.2f} s of sound"
        return (
            f"{self.sound:.2f} s of sound; {first}; {len(self.chunks)} times chunks were computed, in "
            f"{1000 * statistics.median(self.chunks):.0f} ms (median) to {1000 * max(self.chunks):.0f} ms; real-time "
            f"factor {sum(self.chunks) / self.sound:.3f}"
        )


def listen(listener: Listener, parts: Iterable[bytes], show: Callable[[str], None]) -> tuple[Stream, Times]:
    """The stream at its end; `show` is told the text so far whenever it grows."""
    stream, size, first, chunks = listener.start, 0, None, []
    rate = 2 * listener.task.sample_rate
    for part, ended in _with_end(parts):
        began, before, size = time.perf_counter(), stream, size + len(part)
        stream = listener.hear(stream, part, ended=ended)
        if stream.heard is not before.heard:
            chunks.append(time.perf_counter() - began)
        if stream.tokens != before.tokens:
            first = size / rate if first is None else first
            show(listener.text(stream))
    return stream, Times(size / rate, first, chunks)


def _with_end(parts: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    for part in parts:
        yield part, False
    yield b"", True


def played(listener: Listener, utterance: Utterance, pace: float) -> Iterator[bytes]:
    """An utterance's sound as it plays, `pace` times as fast as it was spoken; with 0 as fast as it is taken."""
    source = listener.task.source
    assert isinstance(source, SoundSource)
    block, played = max(int(BLOCK_SECONDS * listener.task.sample_rate), 1), 0
    began = time.perf_counter()
    for sound in source.blocks(utterance):
        for start in range(0, len(sound), block):
            part = sound[start : start + block]
            played += len(part)
            if pace > 0.0:
                seconds = played / listener.task.sample_rate
                time.sleep(max(began + seconds / pace - time.perf_counter(), 0.0))
            yield to_int16(part).astype("<i2").tobytes()


def arriving(file: BinaryIO) -> Iterator[bytes]:
    """What comes in a file, as soon as it comes; its end is Ctrl-C too."""
    read: Callable[[int], bytes] = getattr(file, "read1", file.read)
    with contextlib.suppress(KeyboardInterrupt):
        while part := read(1 << 16):
            yield part


def shown(
    listener: Listener, sounds: Iterable[tuple[str, Iterable[bytes]]], console: rich.console.Console | None
) -> Iterator[tuple[str, Stream]]:
    """Each sound's id and its stream at the end; on `console` the text as it grows, then how long it took."""
    for name, parts in sounds:
        if console is None:
            yield name, listen(listener, parts, lambda text: None)[0]
            continue
        with rich.live.Live(console=console, transient=True, auto_refresh=False) as live:
            stream, times = listen(listener, parts, lambda text: live.update(rich.text.Text(text), refresh=True))
        console.print(f"{name}: {times}", style="dim", highlight=False, markup=False)
        yield name, stream
