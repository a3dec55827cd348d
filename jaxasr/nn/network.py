"""Networks of speech recognition: what all have up to the encoder's end, and that of joint CTC and attention."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import linen as nn

from jaxasr.nn.batch_norm import Moments
from jaxasr.nn.decoders import Cache, Decoder
from jaxasr.nn.encoders import Encoder, Taps
from jaxasr.nn.encoders.chunks import ChunkLayout
from jaxasr.nn.layers import Dense, Head
from jaxasr.nn.postencoders import PostEncoder
from jaxasr.nn.predictors import Predicted
from jaxasr.nn.preencoders import PreEncoder
from jaxasr.typing import Array, Float, Int


class Places(NamedTuple):
    """Encoded frames where they stand in chunks."""

    frames: Float[Array, "B W D"]
    layout: ChunkLayout


class SpeechOutputs(NamedTuple):
    """What the network says of a batch; a part that the task does not have is None."""

    encoded: Float[Array, "B T D"]
    lengths: Int[Array, "B"]
    ctc_logits: Float[Array, "B T V"] | None
    attention_logits: Float[Array, "B U V"] | None = None
    """What the decoder says of each token; one that says them in turn, after the ones before it, eos at the end."""
    intermediate_logits: tuple[Float[Array, "B T V"], ...] = ()
    """What the CTC head says after each of the encoder's `interctc_layers`."""
    first_logits: Float[Array, "B U V"] | None = None
    """What a decoder of all tokens at once said before it was shown some of them."""
    predicted: Predicted | None = None
    """How many tokens there are, and where."""
    moments: Moments | None = None
    """What the running statistics of batch norms are to learn from the batch; while training alone."""
    places: Places | None = None
    """The encoded frames in their chunks, those looked ahead at among them, for a network that asks for it."""


class SpeechNetwork(nn.Module):
    """Encoder and CTC head over features; with what may stand before and behind the encoder.

    What the decoder does, each network says itself.

    The CTC head may look at the encoder's frames on their way too (intermediate CTC, Lee and Watanabe, 2021,
    https://arxiv.org/abs/2102.03216); with `conditioning` what it then says goes on beside them (self-conditioned CTC,
    Nozaki and Komatsu, 2021, https://arxiv.org/abs/2104.02724, equation 9).
    """

    encoder: Encoder
    decoder: Any
    """Each network's own kind."""
    vocab_size: int
    has_ctc: bool
    interctc_layers: tuple[int, ...] = ()
    conditioning: bool = False
    preencoder: PreEncoder | None = None
    postencoder: PostEncoder | None = None

    def setup(self):
        if self.has_ctc:
            self.ctc = Head(self.vocab_size)
        if self.conditioning:
            self.condition = Dense(self.encoder.output_width)

    def encode(self, features: Float[Array, "B T F"], lengths: Int[Array, "B"], *, train: bool) -> SpeechOutputs:
        """What the network says without its decoder."""
        said: list[Array] = []

        def show(x: Array, come_out: Callable[[Array], Array]) -> Array | None:
            if not self.conditioning:
                said.append(self.ctc(come_out(x)))
                return None
            logits = self.ctc(x)
            said.append(come_out(logits))
            return self.condition(jax.nn.softmax(logits).astype(x.dtype))

        taps = {"taps": Taps(self.interctc_layers, show)} if self.interctc_layers else {}
        if self.preencoder is not None:
            features = self.preencoder(features, lengths, train=train)
        encoded, lengths, places = self.run_encoder(features, lengths, train=train, **taps)
        if self.is_initializing():
            self.encoder.check_promises(features.shape[1], encoded)
        if self.postencoder is not None:
            encoded, lengths = self.postencoder(encoded, lengths, train=train)
        ctc_logits = self.ctc(encoded) if self.has_ctc else None
        return SpeechOutputs(encoded, lengths, ctc_logits, None, tuple(said), places=places)

    def run_encoder(
        self, features: Float[Array, "B T F"], lengths: Int[Array, "B"], **options: Any
    ) -> tuple[Float[Array, "B T2 D"], Int[Array, "B"], Places | None]:
        """Encoded frames, how many of each row are real, and what `SpeechOutputs.places` has."""
        return *self.encoder(features, lengths, **options), None


class AsrNetwork(SpeechNetwork):
    """With an attention decoder, which says a token after the other, or none."""

    decoder: Decoder | None

    def __call__(
        self,
        features: Float[Array, "B T F"],
        lengths: Int[Array, "B"],
        tokens_in: Int[Array, "B U"],
        *,
        train: bool,
    ) -> SpeechOutputs:
        out = self.encode(features, lengths, train=train)
        if self.decoder is None:
            return out
        logits, _ = self.decoder(tokens_in, out.encoded, out.lengths, vocab_size=self.vocab_size, train=train)
        return out._replace(attention_logits=logits)

    def next_logits(
        self,
        tokens: Int[Array, "B U"],
        encoded: Float[Array, "B T D"],
        lengths: Int[Array, "B"],
        cache: Cache,
        position: Any,
    ) -> tuple[Float[Array, "B U V"], Cache]:
        """Scores of the token after each of `tokens`, the first of which stands at `position`."""
        assert self.decoder is not None
        options = {"vocab_size": self.vocab_size, "train": False, "cache": cache, "position": position}
        return self.decoder(tokens, encoded, lengths, **options)
