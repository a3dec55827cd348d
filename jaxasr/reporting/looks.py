"""What a trained network makes of a few utterances: CTC posteriors and where its decoder looks; and their sound."""

import base64
import dataclasses
import functools
import io
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import soundfile

from jaxasr.data import manifest
from jaxasr.data.batch import AnyAsrExample, BucketShape
from jaxasr.data.selection import id_hash
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.inputs import evaluation_inputs
from jaxasr.nn.batch_norm import variables_of
from jaxasr.nn.network import SpeechOutputs
from jaxasr.parallel import Devices
from jaxasr.prepare import read_manifests
from jaxasr.recognizer import Recognizer
from jaxasr.reporting.gather import Run, Scored
from jaxasr.scoring import score_cleaned
from jaxasr.search.alignment import ctc_align
from jaxasr.search.timestamps import spans_of_weights
from jaxasr.tasks import ParaformerTask, Task
from jaxasr.tasks.loss_parts import with_sos_eos
from jaxasr.tasks.speech import SpeechTask
from jaxasr.typing import Float, Params

MOST_DECODED = 200
"""Validation utterances that are decoded where there is no test set."""


class Look(NamedTuple):
    """One utterance in the network's eyes, without padding."""

    frame_seconds: float
    ctc: Float[np.ndarray, "T V"] | None
    """Probability of each token at each encoder frame; None without a CTC head."""
    aligned: list[tuple[int, float, float]]
    """The example's tokens on CTC's best path that says them, each with its first frame and the one behind its last;
    empty where there is none."""
    said: list[int]
    """The tokens that the decoder says, the end among them, or that it has read and the end."""
    attention: Float[np.ndarray, "H U T"] | None
    """Weights of the decoder's last layer over the frames, for each of these tokens; None without a decoder."""
    alphas: Float[np.ndarray, "T"] | None
    """What share of a token each frame is worth, where a predictor tells; the tail behind the last frame left out."""
    fired: list[tuple[int, float, float]]
    """The tokens said, with the frames that they are made of; empty without a predictor."""


class _Seen(NamedTuple):
    """The same of a batch."""

    lengths: Any
    ctc: Any
    aligned: Any
    said: Any
    said_lengths: Any
    attention: Any
    alphas: Any = None
    fired: Any = None


def look(task: SpeechTask, params: Params, examples: Sequence[AnyAsrExample]) -> list[Look]:
    """A look at each example, whose tokens a decoder that says them in turn has read; compiles for one shape."""
    shape = BucketShape(len(examples), max(len(e.inputs) for e in examples), max(1, *(len(e.tokens) for e in examples)))
    batch = task.collate_fn()(examples, shape)
    seen = jax.device_get(jax.jit(_seen, static_argnums=0)(task, params, batch))
    return [_look(task, seen, row, example) for row, example in enumerate(examples)]


def _look(task: SpeechTask, seen: _Seen, row: int, example: AnyAsrExample) -> Look:
    frames, count = seen.lengths[row], seen.said_lengths[row]

    def part(x: Any, *slices: slice) -> Any:
        return None if x is None else x[row][slices]

    return Look(
        task.frame_ms / 1000,
        part(seen.ctc, slice(frames)),
        _with_frames(example.tokens.tolist(), part(seen.aligned)),
        part(seen.said, slice(count)).tolist(),
        part(seen.attention, slice(None), slice(count), slice(frames)),
        part(seen.alphas, slice(frames)),
        _with_frames(part(seen.said, slice(count)).tolist(), part(seen.fired)),
    )


def _with_frames(tokens: Sequence[int], spans: Any) -> list[tuple[int, float, float]]:
    """Each token with its frames; none where these are not known."""
    if spans is None or not np.isfinite(spans[: len(tokens)]).all():
        return []
    return [(token, *span) for token, span in zip(tokens, spans.tolist(), strict=False)]


def _seen(task: SpeechTask, params: Params, batch: Any) -> _Seen:
    features, lengths = task.features(batch)
    inputs: Any = features.astype(task.dtype), lengths
    apply = functools.partial(task.network().apply, variables_of(params), train=False, mutable=["intermediates"])
    _, targets, read = with_sos_eos(batch.tokens, batch.token_lengths)
    at_once = isinstance(task, ParaformerTask)
    outputs, sown = apply(*inputs, method="recognize") if at_once else apply(*inputs, *task.texts(batch))
    outputs, attention = cast(SpeechOutputs, outputs), last_attention(sown)
    if outputs.places is not None and attention is not None:
        attention = attention[..., outputs.places.layout.back]
    ctc = aligned = None
    if outputs.ctc_logits is not None:
        ctc = jax.nn.softmax(outputs.ctc_logits.astype(jnp.float32))
        text = batch.tokens, batch.token_lengths
        aligned = ctc_align(outputs.ctc_logits, outputs.lengths, *text, blank_id=Vocabulary.BLANK).spans
    if not at_once:
        return _Seen(outputs.lengths, ctc, aligned, targets, read, attention)
    assert outputs.attention_logits is not None and outputs.predicted is not None
    said, predicted = jnp.argmax(outputs.attention_logits, axis=-1), outputs.predicted
    fired = spans_of_weights(predicted.alphas, outputs.lengths, said.shape[1])
    counts = predicted.counts.astype(jnp.int32)
    return _Seen(outputs.lengths, ctc, aligned, said, counts, attention, predicted.alphas, fired)


def last_attention(sown: Any) -> Any:
    """The weights (B, H, U, T) of the decoder's last attention to the encoder; None where it sows none.

    >>> weights = jnp.array([[[[0.25, 0.75]]]])
    >>> last_attention({"intermediates": {"decoder": {"memory_attention": (weights,)}}}).tolist()
    [[[[0.25, 0.75]]]]
    """
    leaves = jax.tree_util.tree_leaves_with_path(sown.get("intermediates", {}).get("decoder", {}))
    found = [leaf for path, leaf in leaves if "memory_attention" in jax.tree_util.keystr(path)]
    if not found:
        return None
    weights = found[-1][-1] if found[-1].ndim == 5 else found[-1]  # (L, B, H, U, T) where layers are scanned
    return weights.astype(jnp.float32)


def decode_validation(run: Run, task: Task, params: Params) -> Scored:
    """At most MOST_DECODED of the validation utterances, recognised by the model as it is now."""
    cfg = run.cfg
    paths = {name: tuple(map(run.located, getattr(cfg, name))) for name in ("train", "valid")}
    if cfg.valid:
        utterances = manifest.read_all(paths["valid"], kind=task.source.kind)
    else:
        _, utterances = read_manifests(dataclasses.replace(cfg, **paths), rich.console.Console(quiet=True))
    chosen = sorted(utterances, key=lambda u: id_hash(u.id))[:MOST_DECODED]
    search, devices = cfg.search or task.usual_search(), Devices.first()
    recognizer = Recognizer(task, search, devices)
    inputs = evaluation_inputs(task, chosen, batch_seconds=200.0, max_buckets=2)
    hypotheses, _ = recognizer(jax.device_put(params, devices.replicated), inputs)
    references = {u.id: u.text for u in chosen}
    found = score_cleaned(task.cleaning, references, {h.id: h.text for h in hypotheses})
    path = ", ".join(cfg.valid) or "held out of the training set"
    path += f" ({len(chosen)} of {len(utterances)} utterances)" * (len(chosen) < len(utterances))
    by_id = {u.id: u for u in chosen}
    return Scored("valid", path, search, found, utterances=by_id, tokens={h.id: h.tokens for h in hypotheses})


def flac_uri(sound: np.ndarray, rate: int) -> str:
    """The int16 sound (S,), losslessly, as an address that a page can play.

    >>> flac_uri(np.zeros(800, np.int16), 8000)[:28]
    'data:audio/flac;base64,ZkxhQ'
    """
    file = io.BytesIO()
    soundfile.write(file, sound, rate, format="FLAC", subtype="PCM_16")
    return "data:audio/flac;base64," + base64.b64encode(file.getvalue()).decode()
