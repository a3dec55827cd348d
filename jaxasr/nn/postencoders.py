"""What stands between the encoder and the decoder."""

import abc

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxasr.errors import ConfigError
from jaxasr.nn.activations import Activation
from jaxasr.nn.attention import check_stack
from jaxasr.nn.dropout import Dropout
from jaxasr.nn.encoders.attention_block import AttentionBlock
from jaxasr.nn.encoders.stack import run_blocks
from jaxasr.nn.layers import Dense, LayerNorm
from jaxasr.nn.masking import zero_padding
from jaxasr.nn.options import check_unread
from jaxasr.registry import Registry
from jaxasr.typing import Array, Float, Int, LengthsT


class PostEncoder(nn.Module):
    """Encoded frames in, frames for CTC head and decoder out."""

    @abc.abstractmethod
    def output_width(self, width: int) -> int:
        """The width of the frames that come out, of those going in."""
        raise NotImplementedError

    @abc.abstractmethod
    def output_lengths(self, lengths: LengthsT) -> LengthsT:
        """How many frames come out for so many going in; works on an int and on an array."""
        raise NotImplementedError

    @abc.abstractmethod
    def __call__(
        self, x: Float[Array, "B T D"], lengths: Int[Array, "B"], *, train: bool
    ) -> tuple[Float[Array, "B T2 D2"], Int[Array, "B"]]:
        """What stands in the padding of `x` reaches no real frame."""
        raise NotImplementedError


POSTENCODERS: Registry[PostEncoder] = Registry(
    "postencoder", PostEncoder, ("__call__", "output_width", "output_lengths")
)


@POSTENCODERS.register("length_adaptor")
class LengthAdaptor(PostEncoder):
    """Convolutions of two frames each that halve the frame rate; ESPnet's `length_adaptor` (Li et al., 2021).

    https://aclanthology.org/2021.acl-long.68
    """

    num_layers: int = 1
    """Convolutions; each halves the frame rate."""
    d_model: int | None = None
    """Width of the frames: a dense layer and a norm come first; None keeps the encoder's."""
    dropout: float = 0.1
    """Dropout probability behind that norm."""

    def output_width(self, width: int) -> int:
        return self.d_model or width

    def output_lengths(self, lengths: LengthsT) -> LengthsT:
        return lengths // 2**self.num_layers

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], lengths: Int[Array, "B"], *, train: bool
    ) -> tuple[Float[Array, "B T2 D2"], Int[Array, "B"]]:
        if self.num_layers < 0 or (self.d_model is not None and self.d_model < 1):
            raise ConfigError(
                f"--postencoder: num_layers={self.num_layers}, d_model={self.d_model}; layers from 0 and a width of 1 "
                "or more, or none, were expected; change them."
            )
        if self.d_model is None:
            check_unread("postencoder", self, "d_model", "dropout")
        x = zero_padding(x, lengths)
        if self.d_model is not None:
            x = LayerNorm(epsilon=1e-5, name="input_norm")(Dense(self.d_model, name="input")(x))
            x = Dropout(self.dropout)(x, train=train)
        for layer in range(self.num_layers):
            if x.shape[1] % 2:
                x = jnp.pad(x, ((0, 0), (0, 1), (0, 0)))
            pairs = x.reshape(x.shape[0], -1, 2 * x.shape[2])
            x = jax.nn.relu(Dense(x.shape[2], name=f"conv{layer}")(pairs))
        return x, self.output_lengths(lengths)


@POSTENCODERS.register("transformer")
class TransformerPostEncoder(PostEncoder):
    """Blocks as BERT has them (Devlin et al., 2019), without positions; FunASR's `hugging_face_transformers`.

    https://arxiv.org/abs/1810.04805. A dense layer brings frames to the width of the blocks, which may start from a
    model of Hugging Face: then their sizes, and what no tensor says, are to be that model's.
    """

    weights: str | None = None
    """File or folder with the model.safetensors that the blocks start from; of a BERT-like model."""
    weights_map: tuple[str, ...] = ()
    """Parts of its tensors' names that BERT has others for, THEIRS=BERTS, such as transformer.layer=encoder.layer."""

    num_layers: int = 2
    """Number of blocks."""
    d_model: int = 256
    """Width of a frame between blocks, and of those that come out."""
    num_heads: int = 4
    """Attention heads; must divide d_model."""
    d_ff: int = 1024
    """Width inside the feed-forward networks."""
    dropout: float = 0.1
    """Dropout probability of what each part of a block adds."""
    attention_dropout: float = 0.1
    """Dropout probability of attention weights."""
    activation: Activation = "gelu"
    """Between the layers of the feed-forward networks."""
    norm_first: bool = False
    """Normalise what goes into each part of a block and what comes out of the last, not each part's sum."""
    norm_epsilon: float = 1e-12
    """What norms add to the variance."""

    def output_width(self, width: int) -> int:
        return self.d_model

    def output_lengths(self, lengths: LengthsT) -> LengthsT:
        return lengths

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], lengths: Int[Array, "B"], *, train: bool
    ) -> tuple[Float[Array, "B T2 D2"], Int[Array, "B"]]:
        check_stack(self, "--postencoder")
        if self.weights is None:
            check_unread("postencoder", self, "weights", "weights_map")
        if self.norm_epsilon <= 0.0:
            raise ConfigError(
                f"--postencoder.norm_epsilon={self.norm_epsilon}: a number above 0 was expected; such as 1e-12."
            )
        x = Dense(self.d_model, name="input")(zero_padding(x, lengths))
        block = AttentionBlock(
            self.num_heads,
            self.d_ff,
            self.dropout,
            self.attention_dropout,
            positions="absolute",
            norm_first=self.norm_first,
            concat_after=False,
            activation=self.activation,
            ff_dropout=0.0,
            norm_epsilon=self.norm_epsilon,
            name="blocks",
        )
        layers = range(1, self.num_layers + 1)
        x, _ = run_blocks(block, x, lengths, train, layers=layers, remat=False, taps=None, norm=lambda y: y)
        return LayerNorm(epsilon=self.norm_epsilon, name="norm")(x) if self.norm_first else x, lengths
