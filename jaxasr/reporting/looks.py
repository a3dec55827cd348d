"""What a trained network makes of a few utterances: CTC posteriors and where its decoder looks; and their sound."""

import base64
import dataclasses
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import soundfile

from jaxasr.data import manifest
from jaxasr.data.batch import AnyAsrExample, BucketShape
from jaxasr.data.selection import id_hash
from jaxasr.inputs import evaluation_inputs
from jaxasr.nn.batch_norm import variables_of
from jaxasr.parallel import Devices
from jaxasr.prepare import read_manifests
from jaxasr.recognizer import Recognizer
from jaxasr.reporting.gather import Run, Scored
from jaxasr.scoring import score_cleaned
from jaxasr.tasks import AsrTask, Task
from jaxasr.tasks.loss_parts import with_sos_eos
from jaxasr.typing import Float, Params

MOST_DECODED = 200
"""Validation utterances that are decoded where there is no test set."""


class Look(NamedTuple):
    """One utterance in the network's eyes, without padding."""

    frame_seconds: float
    ctc: Float[np.ndarray, "T V"] | None
    """Probability of each token at each encoder frame; None without a CTC head."""
    attention: Float[np.ndarray, "H U T"] | None
    """Weights of the decoder's last layer over the frames, for each token and eos; None without a decoder."""


def look(task: AsrTask, params: Params, examples: Sequence[AnyAsrExample]) -> list[Look]:
    """A look at each example, its decoder having read the example's tokens; compiles for one shape."""
    shape = BucketShape(len(examples), max(len(e.inputs) for e in examples), max(1, *(len(e.tokens) for e in examples)))
    batch = task.collate_fn()(examples, shape)
    ctc, lengths, attention = jax.device_get(jax.jit(_inspected, static_argnums=0)(task, params, batch))
    looks = []
    for row, example in enumerate(examples):
        frames, read = lengths[row], len(example.tokens) + 1
        weights = None if attention is None else attention[row, :, :read, :frames]
        looks.append(Look(task.frame_ms / 1000, None if ctc is None else ctc[row, :frames], weights))
    return looks


def _inspected(task: AsrTask, params: Params, batch: Any) -> tuple[Any, Any, Any]:
    """CTC probabilities (B, T, V), lengths (B,) and attention weights (B, H, U, T) of a batch."""
    features, lengths = task.features(batch)
    tokens_in, _, _ = with_sos_eos(batch.tokens, batch.token_lengths)
    inputs = features.astype(task.dtype), lengths, tokens_in
    outputs, sown = task.network().apply(variables_of(params), *inputs, train=False, mutable=["intermediates"])
    logits: Any = outputs.ctc_logits  # pyright: ignore[reportAttributeAccessIssue]
    probabilities = None if logits is None else jax.nn.softmax(logits.astype(jnp.float32))
    return probabilities, outputs.lengths, last_attention(sown)  # pyright: ignore[reportAttributeAccessIssue]


def last_attention(sown: Any) -> Any:
    """The weights (B, H, U, T) of the decoder's last attention to the encoder; None where it sows none."""
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
    """The int16 sound (S,), losslessly, as an address that a page can play."""
    file = io.BytesIO()
    soundfile.write(file, sound, rate, format="FLAC", subtype="PCM_16")
    return "data:audio/flac;base64," + base64.b64encode(file.getvalue()).decode()
