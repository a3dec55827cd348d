"""The network of Paraformer, which says all tokens at once (Gao et al., 2022, https://arxiv.org/abs/2206.08317)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxasr.nn.decoders import ParallelDecoder
from jaxasr.nn.glancing import glanced
from jaxasr.nn.network import SpeechNetwork, SpeechOutputs
from jaxasr.nn.predictors import Predictor
from jaxasr.typing import Array, Float, Int


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
        frames = out.encoded, out.lengths
        given = {"num_tokens": targets.shape[1], "token_lengths": target_lengths}
        predicted = self.predictor(*frames, **given, train=train)
        embeddings, first = predicted.embeddings, None
        if self.sampling_ratio > 0.0 and train:
            first = self._said_first(embeddings, target_lengths, frames)
            shown = glanced(self.make_rng("dropout"), first, targets, target_lengths, self.sampling_ratio)
            gold = self._table()[jnp.where(shown, targets, 0)].astype(embeddings.dtype)
            embeddings = jnp.where(shown[:, :, None], gold, embeddings)
        logits = self.decoder(embeddings, target_lengths, *frames, vocab_size=self.vocab_size, train=train)
        if self.is_initializing() and self.sampling_ratio > 0.0:
            self._table()  # comes to be where it is first asked for
        return out._replace(attention_logits=logits, first_logits=first, predicted=predicted)

    def _said_first(
        self, x: Float[Array, "B U D"], lengths: Int[Array, "B"], frames: tuple[Array, Array]
    ) -> Float[Array, "B U V"]:
        """What the decoder says before it is shown anything."""
        options = {"vocab_size": self.vocab_size, "train": True}
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
        frames = out.encoded, out.lengths
        predicted = self.predictor(*frames, num_tokens=self.predictor.room(out.encoded.shape[1]), train=train)
        counts = predicted.counts.astype(jnp.int32)
        logits = self.decoder(predicted.embeddings, counts, *frames, vocab_size=self.vocab_size, train=train)
        return out._replace(attention_logits=logits, predicted=predicted)

    def _table(self) -> Float[Array, "V D"]:
        """What each token is shown as."""
        return self.decoder.variables["params"]["output"]["kernel"].T if self.share_embedding else self.embed.embedding
