"""The network of Paraformer, which says all tokens at once (Gao et al., 2022, https://arxiv.org/abs/2206.08317)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxasr.nn import cif
from jaxasr.nn.decoders import ParaformerSanmDecoder, ParallelDecoder
from jaxasr.nn.encoders import SanmChunkEncoder
from jaxasr.nn.encoders.chunks import Chunked
from jaxasr.nn.glancing import glanced
from jaxasr.nn.masking import zero_where_not
from jaxasr.nn.network import Places, SpeechNetwork, SpeechOutputs
from jaxasr.nn.predictors import Begun, Predicted, Predictor
from jaxasr.typing import Array, Float, Int, PyTree

SPEECH = 4
"""Encoded frames to a token, or more, in nearly all that is said."""


class Carried(NamedTuple):
    """What goes on from a chunk to the next, beside the encoder's `STREAM`."""

    number: Int[Array, ""]
    """Chunks until now."""
    begun: Begun
    frames: Float[Array, "B S D"]
    """Encoded frames of the chunks before that tokens look at."""
    tokens: PyTree
    """The decoder's cache of the tokens before."""


class ParaformerNetwork(SpeechNetwork, kw_only=True):
    """A predictor cuts the encoded frames into tokens, and a decoder says them all.

    While it learns, the decoder is shown some of the tokens that it has wrong at first (`nn.glancing`).
    """

    decoder: ParallelDecoder
    predictor: Predictor
    sampling_ratio: float = 0.0
    """Tokens shown for each one that is wrong."""
    share_embedding: bool = False
    """Show a token as its row of the decoder's output layer, not as one of a table of its own."""
    first_learns: bool = False
    """Let gradients flow through what is said at first."""
    decoder_look_back: tuple[int, ...] = ()
    """Chunks before its own that a token looks at, for each choice of the encoder's chunks or for all; empty for all
    frames. With it the predictor sees no further than a chunk either, so that chunks can be heard one by one."""

    def setup(self):
        super().setup()
        if self.sampling_ratio > 0.0 and not self.share_embedding:
            self.embed = nn.Embed(self.vocab_size, self.decoder.d_model)

    def __call__(
        self,
        features: Float[Array, "B T F"],
        lengths: Int[Array, "B"],
        targets: Int[Array, "B U"],
        target_lengths: Int[Array, "B"],
        *,
        train: bool,
    ) -> SpeechOutputs:
        """What is said of utterances whose tokens, an end among them where it is counted as one, are known."""
        out = self.encode(features, lengths, train=train)
        given = {"num_tokens": targets.shape[1], "token_lengths": target_lengths}
        predicted = self.predictor(out.encoded, out.lengths, **given, chunked=self._chunked(out), train=train)
        frames, seen = self._memory(out, predicted)
        embeddings, first = predicted.embeddings, None
        if self.sampling_ratio > 0.0 and train:
            first = self._said_first(embeddings, target_lengths, frames, seen)
            shown = glanced(self.make_rng("dropout"), first, targets, target_lengths, self.sampling_ratio)
            gold = self._table()[jnp.where(shown, targets, 0)].astype(embeddings.dtype)
            embeddings = jnp.where(shown[:, :, None], gold, embeddings)
        logits = self.decoder(embeddings, target_lengths, *frames, vocab_size=self.vocab_size, train=train, **seen)
        if self.is_initializing() and self.sampling_ratio > 0.0:
            self._table()  # comes to be where it is first asked for
        return out._replace(attention_logits=logits, first_logits=first, predicted=predicted)

    def _said_first(
        self, x: Float[Array, "B U D"], lengths: Int[Array, "B"], frames: tuple[Array, Array], seen: dict[str, Array]
    ) -> Float[Array, "B U V"]:
        """What the decoder says before it is shown anything."""
        options: dict[str, Any] = {"vocab_size": self.vocab_size, "train": True, **seen}
        if self.first_learns:
            return self.decoder(x, lengths, *frames, **options)
        # Stopped before the decoder, not behind it, the gradient leaves nothing of this pass to be kept.
        decoder, variables = self.decoder.unbind()
        x, frames, variables = jax.lax.stop_gradient((x, frames, variables))
        rngs = {"dropout": self.make_rng("dropout")}
        return decoder.apply(variables, x, lengths, *frames, rngs=rngs, **options)  # pyright: ignore[reportReturnType]

    def recognize(self, features: Float[Array, "B T F"], lengths: Int[Array, "B"], *, train: bool) -> SpeechOutputs:
        """What is said of utterances of which nothing is known; of `Predicted.counts` tokens each."""
        out = self.encode(features, lengths, train=train)
        room = self.predictor.room(out.encoded.shape[1])
        predicted = self.predictor(out.encoded, out.lengths, num_tokens=room, chunked=self._chunked(out), train=train)
        frames, seen = self._memory(out, predicted)
        counts = predicted.counts.astype(jnp.int32)

        def of_first(tokens: int) -> Callable[..., Float[Array, "B U V"]]:
            def say(decoder: ParallelDecoder) -> Float[Array, "B U V"]:
                x, by_token = predicted.embeddings[:, :tokens], {name: mask[:, :tokens] for name, mask in seen.items()}
                logits = decoder(x, counts, *frames, vocab_size=self.vocab_size, train=train, **by_token)
                return jnp.pad(logits, ((0, 0), (0, room - tokens), (0, 0)))

            return say

        few = -(-room // SPEECH)  # where that is enough, it costs a quarter of the time
        if self.is_mutable_collection("intermediates"):  # of which both sow the same shapes
            few = room
        logits = nn.cond(jnp.max(counts) <= few, of_first(few), of_first(room), self.decoder)
        return out._replace(attention_logits=logits, predicted=predicted)

    # --- chunk by chunk --------------------------------------------------------------------------------------

    def run_encoder(
        self, features: Float[Array, "B T F"], lengths: Int[Array, "B"], **options: Any
    ) -> tuple[Float[Array, "B T2 D"], Int[Array, "B"], Places | None]:
        if not self.decoder_look_back:
            return super().run_encoder(features, lengths, **options)
        assert isinstance(self.encoder, SanmChunkEncoder)
        frames, lengths, layout = self.encoder.at_places(features, lengths, **options)
        frames = zero_where_not(frames, layout.filled(lengths))
        return layout.folded(frames), lengths, Places(frames, layout)

    def _chunked(self, out: SpeechOutputs) -> Chunked | None:
        """Of what the predictor makes weights, where these are not the frames in their order."""
        return None if out.places is None else Chunked(out.places.frames, out.places.layout.folded)

    def _memory(self, out: SpeechOutputs, predicted: Predicted) -> tuple[tuple[Array, Array], dict[str, Array]]:
        """The frames that tokens look at, how many they are, and which of them each token sees, unless it is all."""
        if out.places is None:
            return (out.encoded, out.lengths), {}
        frames, layout = out.places
        look_back = self.decoder_look_back
        look_back = jnp.asarray(look_back)[layout.choice if len(look_back) > 1 else 0]
        ends = cif.ends(predicted.alphas, out.lengths, predicted.embeddings.shape[1])
        return (frames, _all_of(frames)), {"seen": layout.seen(ends, out.lengths, look_back)}

    def nothing_carried(self, rows: int, dtype: Any) -> Carried:
        """Before the first chunk."""
        assert isinstance(self.encoder, SanmChunkEncoder) and isinstance(self.decoder, ParaformerSanmDecoder)
        width = self.decoder.d_model
        before = jnp.zeros((rows, self._chunks_before() * self.encoder.chosen.stride, width), dtype)
        begun = Begun(jnp.zeros(rows, jnp.float32), jnp.zeros((rows, width), dtype))
        return Carried(jnp.zeros((), jnp.int32), begun, before, self.decoder.empty_cache(rows, dtype))

    def step(
        self, carried: Carried, features: Float[Array, "B C F"], left: Int[Array, "B"]
    ) -> tuple[Carried, Float[Array, "B U V"], Int[Array, "B"]]:
        """What goes on after one chunk, what is said of the tokens that end in it, and how many they are.

        The same as `recognize` says of them; see `SanmChunkEncoder.step`, in whose collection the encoder goes on.
        """
        assert isinstance(self.encoder, SanmChunkEncoder) and isinstance(self.decoder, ParaformerSanmDecoder)
        stride, back = self.encoder.chosen.stride, self._chunks_before()
        chunked, filled = self.encoder.step(features, carried.number, left)
        lengths, last = jnp.minimum(left, stride), left <= stride
        embeddings, counts, begun = self.predictor.step(lengths, chunked, carried.begun, last)
        exists = jnp.repeat(carried.number - back + jnp.arange(back) >= 0, stride)
        exists = jnp.broadcast_to(exists[None], (len(left), back * stride))
        memory = jnp.concatenate([carried.frames, chunked.frames], axis=1)
        seen = jnp.concatenate([exists, filled], axis=1)[:, None, :]
        options = {"vocab_size": self.vocab_size, "train": False, "seen": seen}
        logits, tokens = self.decoder.said(embeddings, counts, memory, _all_of(memory), carried.tokens, **options)
        frames = jnp.concatenate([carried.frames, chunked.come_out(chunked.frames)], axis=1)[:, stride:]
        return Carried(carried.number + 1, begun, frames, tokens), logits, counts

    def _chunks_before(self) -> int:
        """Those that a token looks at, outside of training."""
        assert isinstance(self.encoder, SanmChunkEncoder)
        return self.decoder_look_back[self.encoder.chunk_choice if len(self.decoder_look_back) > 1 else 0]

    def _table(self) -> Float[Array, "V D"]:
        """What each token is shown as."""
        return self.decoder.variables["params"]["output"]["kernel"].T if self.share_embedding else self.embed.embedding


def _all_of(x: Float[Array, "B T D"]) -> Int[Array, "B"]:
    return jnp.full(x.shape[0], x.shape[1], jnp.int32)
