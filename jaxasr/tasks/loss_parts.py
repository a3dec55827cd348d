"""Parts of losses, as sums and counts over a batch's real rows, which add up over devices and batches."""

from collections.abc import Sequence

import jax.numpy as jnp

from jaxasr.data.batch import AnyAsrBatch
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.nn.batch_norm import STATS
from jaxasr.nn.ctc import ctc_feasible, ctc_loss
from jaxasr.nn.losses import consistency_loss, count_loss, label_smoothing_loss, token_accuracy
from jaxasr.nn.masking import length_mask
from jaxasr.nn.network import SpeechOutputs
from jaxasr.nn.rows import repeat_rows
from jaxasr.tasks.base import Mean, Metrics
from jaxasr.typing import Array, Float, Int


def encoder_parts(
    outputs: SpeechOutputs, batch: AnyAsrBatch, *, interctc_layers: Sequence[int], paired: bool
) -> Metrics:
    """The CTC losses, `loss/ctc` and the like, and what else is said without a decoder.

    Args:
      paired: rows 2b and 2b + 1 are views of one utterance, of which `loss/cr` says how much they differ.
    """
    found: Metrics = {}
    if outputs.ctc_logits is not None:
        found["loss/ctc"], found["infeasible"] = ctc_part(outputs.ctc_logits, outputs.lengths, batch)
        if paired:
            found["loss/cr"] = consistency_part(outputs.ctc_logits, outputs.lengths, batch)
    for layer, logits in zip(interctc_layers, outputs.intermediate_logits, strict=True):
        found[f"loss/ctc_layer{layer}"], _ = ctc_part(logits, outputs.lengths, batch)
    if outputs.moments is not None:
        found[STATS] = Mean(*outputs.moments)
    return found


def ctc_part(logits: Float[Array, "B T V"], lengths: Int[Array, "B"], batch: AnyAsrBatch) -> tuple[Mean, Mean]:
    """CTC loss over the rows that have an alignment, and how many have none."""
    feasible = ctc_feasible(lengths, batch.tokens, batch.token_lengths)
    loss = ctc_loss(logits, lengths, batch.tokens, batch.token_lengths, blank_id=Vocabulary.BLANK)
    weights = batch.weights * feasible
    rows = jnp.sum(batch.weights)
    return Mean(jnp.sum(loss * weights), jnp.sum(weights)), Mean(rows - jnp.sum(weights), rows)


def text_part(
    logits: Float[Array, "B U V"],
    targets: Int[Array, "B U"],
    lengths: Int[Array, "B"],
    weights: Float[Array, "B"],
    *,
    label_smoothing: float,
    by_token: bool,
) -> Mean:
    """Label-smoothed loss of what a decoder says.

    Args:
      by_token: the loss is a mean over tokens, eos among them, not over rows.

    >>> from jax import jit
    >>> x, y, one = jnp.array([[[0.0, 0.0]]]), jnp.array([[1]]), jnp.array([1])
    >>> round(jit(lambda x: text_part(x, y, one, one, label_smoothing=0.0, by_token=True))(x).value.item(), 3)
    0.693
    """
    loss = label_smoothing_loss(logits, targets, lengths, label_smoothing)
    return Mean(jnp.sum(loss * weights), _units(lengths, weights, by_token))


def accuracy_part(
    logits: Float[Array, "B U V"], targets: Int[Array, "B U"], lengths: Int[Array, "B"], weights: Float[Array, "B"]
) -> Mean:
    """The share of tokens that a decoder has right.

    >>> from jax import jit
    >>> logits, targets = jnp.array([[[1.0, 0.0], [0.0, 1.0]]]), jnp.array([[0, 0]])
    >>> jit(accuracy_part)(logits, targets, jnp.array([2]), jnp.array([1.0])).value.item()
    0.5
    """
    correct, count = token_accuracy(logits, targets, lengths)
    return Mean(jnp.sum(correct * weights), jnp.sum(count * weights))


def count_parts(
    counts: Float[Array, "B"], lengths: Int[Array, "B"], weights: Float[Array, "B"], *, by_token: bool
) -> tuple[Mean, Mean]:
    """The loss of a predictor's numbers of tokens, and by how many tokens it is off in a row.

    Args:
      by_token: the loss is a mean over tokens, not over rows.

    >>> parts = count_parts(jnp.array([2.5]), jnp.array([4]), jnp.array([1.0]), by_token=True)
    >>> [part.value.item() for part in parts]
    [0.375, 1.5]
    """
    off = jnp.sum(count_loss(counts, lengths) * weights)
    return Mean(off, _units(lengths, weights, by_token)), Mean(off, jnp.sum(weights))


def _units(lengths: Int[Array, "B"], weights: Float[Array, "B"], by_token: bool) -> Float[Array, ""]:
    return jnp.sum(lengths * weights) if by_token else jnp.sum(weights)


def consistency_part(logits: Float[Array, "B T V"], lengths: Int[Array, "B"], batch: AnyAsrBatch) -> Mean:
    """How much the two views of an utterance differ in what they say; `batch` as `views_of` makes it."""
    loss, weights = consistency_loss(logits, lengths[::2]), batch.weights[::2] + batch.weights[1::2]
    return Mean(jnp.sum(loss * weights), jnp.sum(weights))


def views_of(batch: AnyAsrBatch, views: int) -> AnyAsrBatch:
    """What belongs to the views of a batch's utterances but the inputs: a row each, which share its weight."""
    tokens, lengths, weights = (repeat_rows(x, views) for x in (batch.tokens, batch.token_lengths, batch.weights))
    return batch._replace(tokens=tokens, token_lengths=lengths, weights=weights / views)


def with_sos_eos(
    tokens: Int[Array, "B U"], lengths: Int[Array, "B"]
) -> tuple[Int[Array, "B U2"], Int[Array, "B U2"], Int[Array, "B"]]:
    """What the decoder reads (sos, tokens, then eos), what it should say (tokens, eos, then -1), and lengths + 1.

    >>> from jax import jit
    >>> [x.tolist() for x in jit(with_sos_eos)(jnp.array([[7, 8]]), jnp.array([2]))]
    [[[1, 7, 8]], [[7, 8, 2]], [3]]
    """
    real = length_mask(lengths, tokens.shape[1])
    read = jnp.pad(jnp.where(real, tokens, Vocabulary.EOS), ((0, 0), (1, 0)), constant_values=Vocabulary.SOS)
    said = jnp.pad(jnp.where(real, tokens, -1), ((0, 0), (0, 1)), constant_values=-1)
    said = jnp.where(jnp.arange(said.shape[1])[None, :] == lengths[:, None], Vocabulary.EOS, said)
    return read, said, lengths + 1
