"""The task `paraformer` while it listens: a chunk of sound in, the tokens that end in it out, one state going on."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxasr.data.tokenizer import Vocabulary
from jaxasr.errors import ConfigError
from jaxasr.nn.batch_norm import variables_of
from jaxasr.nn.encoders import SanmChunkEncoder
from jaxasr.nn.encoders.chunks import Chunks
from jaxasr.nn.encoders.stack import STREAM
from jaxasr.nn.frontends import WavFrontend
from jaxasr.nn.frontends.framing import INT16_SCALE, as_float
from jaxasr.nn.frontends.stacking import stack_stretch
from jaxasr.nn.normalize import UtteranceMvn
from jaxasr.nn.paraformer import Carried
from jaxasr.search.greedy import parallel_greedy
from jaxasr.search.hypotheses import Hypotheses
from jaxasr.typing import Array, Float, Int, Int16, Params, PyTree

if TYPE_CHECKING:
    from jaxasr.tasks.paraformer import ParaformerTask

LEFT_OUT = (Vocabulary.BLANK, Vocabulary.SOS, Vocabulary.EOS)
"""What is said and not written."""
UNKNOWN = 1 << 24
"""Frames left of a sound whose end has not come."""


class Heard(NamedTuple):
    """All that goes on from one chunk of a stream to the next."""

    layers: PyTree
    """Keys and values of the encoder's layers."""
    carried: Carried


class Framing(NamedTuple):
    """How chunks lie in the sound, in samples but the last."""

    samples: int
    """Of a chunk, with all that its frames need."""
    needed: int
    """From the beginning of a chunk, until it is known that there is another behind it; at least `samples`."""
    hop: int
    """From chunk to chunk."""
    lead: int
    """From the beginning of the first chunk to that of the sound; there are zeros, which are not read."""
    window: int
    """Of a frame before frames are stacked."""
    frame_hop: int
    """From one such frame to the next."""
    lead_frames: int
    """Such frames of a chunk before those that belong to the first stacked frame that comes out."""

    def frames_left(self, samples: int) -> int:
        """Frames, not yet stacked, from the first of a chunk's that comes out to the sound's end.

        Args:
          samples: from the chunk's beginning to the sound's end.
        """
        return (samples - self.window) // self.frame_hop + 1 - self.lead_frames


@dataclasses.dataclass(frozen=True)
class Streaming:
    """A task that is decoded chunk by chunk, as pure functions of one stream; `jax.vmap` takes many of them.

    What is said is what the search `parallel_greedy` says of the whole sound, up to rounding.
    """

    task: "ParaformerTask"
    framing: Framing

    def nothing_heard(self, params: Params) -> Heard:
        """The state before the first chunk; of the parameters only shapes matter."""
        task = self.task
        carried = task.network().nothing_carried(1, task.dtype)

        def run(params: Params) -> PyTree:
            samples = jnp.zeros(self.framing.samples, jnp.int16)
            return self.step(params, Heard({}, carried), samples, jnp.zeros((), jnp.int32))[0].layers

        layers = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(run, params))
        return Heard(layers, carried)

    def step(
        self, params: Params, heard: Heard, samples: Int16[Array, "S"], frames_left: Int[Array, ""]
    ) -> tuple[Heard, Hypotheses]:
        """The state after one chunk, and the tokens that end in it, as a hypothesis of one row.

        Args:
          samples: `framing.samples` of them, whatever stands behind the sound's end.
          frames_left: `Framing.frames_left`, or `UNKNOWN` where another chunk follows this one.
        """
        features = self._features(heard.carried.number, samples[None], frames_left[None])
        left = -(-frames_left[None] // (_frontend(self.task).lfr_n or 1))
        variables = {**variables_of(params), **({STREAM: heard.layers} if heard.layers else {})}
        said: Any = self.task.network().apply(
            variables, heard.carried, features.astype(self.task.dtype), left, method="step", mutable=[STREAM]
        )
        (carried, logits, counts), kept = said
        return Heard(kept.get(STREAM, {}), carried), parallel_greedy(logits, counts, left_out=LEFT_OUT)

    def _features(
        self, number: Int[Array, ""], samples: Int16[Array, "B S"], frames_left: Int[Array, "B"]
    ) -> Float[Array, "B C F"]:
        """Those of one chunk's frames, in the form that the whole sound has them."""
        task, frontend = self.task, _frontend(self.task)
        lengths = jnp.full(len(samples), samples.shape[1], jnp.int32)
        frames = frontend.log_mel(as_float(samples, lengths) * INT16_SCALE, lengths, task.sample_rate)
        m, n = frontend.lfr_m or 1, frontend.lfr_n or 1
        begin = self.framing.lead_frames - number * _chunks(task).stride * n
        end = frames_left + self.framing.lead_frames - 1
        x = stack_stretch(frames, jnp.broadcast_to(begin, lengths.shape), end, m, n)
        if task.normalizer is not None:
            x = task.normalizer(x, jnp.full(len(x), x.shape[1], jnp.int32), task.cmvn)
        return x


def streaming(task: "ParaformerTask") -> Streaming:
    """How the task is decoded while it listens.

    Raises:
      ConfigError: it cannot be.
    """
    if faults := list(_faults(task)):
        raise ConfigError(
            f"--stream: this model has {', '.join(faults)}; one that says a text while it listens was expected; train "
            "one with --task=paraformer --encoder=sanm_chunk --decoder_look_back=1, features of whole windows of sound "
            "and statistics of the training set."
        )
    frontend = _frontend(task)
    window, hop = frontend.window_and_hop(task.sample_rate)
    size, stride, pad_left, _ = _chunks(task)
    m, n = frontend.lfr_m or 1, frontend.lfr_n or 1
    before = pad_left * n + (m - 1) // 2
    frames = (size - 1) * n + m
    frames_needed = max(frames, before + stride * n + 1)
    return Streaming(
        task,
        Framing(
            samples=(frames - 1) * hop + window,
            needed=(frames_needed - 1) * hop + window,
            hop=stride * n * hop,
            lead=before * hop,
            window=window,
            frame_hop=hop,
            lead_frames=before,
        ),
    )


def _chunks(task: "ParaformerTask") -> Chunks:
    assert isinstance(task.encoder, SanmChunkEncoder)
    return task.encoder.chosen


def _frontend(task: "ParaformerTask") -> WavFrontend:
    assert isinstance(task.frontend, WavFrontend)
    return task.frontend.for_encoder(1)


def _faults(task: "ParaformerTask") -> Iterator[str]:
    if not task.decoder_look_back:
        yield "no decoder_look_back"
    if not (isinstance(task.frontend, WavFrontend) and task.frontend.snip_edges):
        yield "features that need the end of the sound, or none of sound"
    if isinstance(task.normalizer, UtteranceMvn):
        yield "statistics of each utterance"
    if task.preencoder is not None:
        yield "a preencoder"
    if task.interctc_conditioning:
        yield "conditioning on intermediate CTC"
