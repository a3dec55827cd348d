"""Our side of a timing beside FunASR: a training step, or a search, on the arrays that its cases take, too.

The harness that runs both sides in turns is no part of this project: `work.py` gives the sizes (`D_SMALL`, `D_BASE`,
`TRAIN`) and arrays (`batch`), `duel.py` runs a case file of each side. With torch and FunASR under PEER, and HARNESS
the folder of those two:

  export GLIBC_TUNABLES=glibc.malloc.hugetlb=1 PYTHONPATH=$HARNESS:.
  python $HARNESS/duel.py --a benchmarks/funasr_steps.py --apy $PEER/venv/bin/python --n 10 \
      --cases 'train.*' 'enc_fwd.*' 'fbank.*' \
      --b benchmarks/beside_funasr.py --bpy .venv/bin/python --out benchmarks/results/beside_peers_2core.jsonl

and for the joint beam search, of 16 utterances at a time, with the weights that the peer's first run leaves,

  python $HARNESS/duel.py --apy $PEER/venv/bin/python --cases 'beam.funasr*' --n 7 \
      --b benchmarks/beside_funasr.py --bpy .venv/bin/python --out benchmarks/results/joint_beside_funasr_2core.jsonl

and for reading 600 FLAC files (`flac_set`), features and batching, by two threads or by two processes,

  python $HARNESS/duel.py --apy $PEER/venv/bin/python --n 9 --cases 'data.*_2workers' \
      --b benchmarks/beside_funasr.py --bpy .venv/bin/python --out benchmarks/results/pipeline_2core.jsonl
  python $HARNESS/duel.py --apy $PEER/venv/bin/python --n 9 --map data.espnet_2workers=data.processes \
      --b benchmarks/beside_funasr.py --bpy .venv/bin/python --out benchmarks/results/pipeline_2core.jsonl

GLIBC_TUNABLES is what `python -m jaxasr.train` sets for itself; both sides have it here. The CTC loss
(`--cases 'ctc_loss*'`) is run alike.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import work  # pyright: ignore[reportMissingImports]

from jaxasr.convert import convert_params, rules_of
from jaxasr.data.batch import AsrFeatureBatch
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.data.utterance import Utterance
from jaxasr.nn.ctc import ctc_loss
from jaxasr.nn.decoders import TransformerDecoder
from jaxasr.nn.encoders import ConformerEncoder, SanmEncoder
from jaxasr.nn.frontends import Frontend, GivenFeatures, StftFrontend, WavFrontend
from jaxasr.optim import Adam
from jaxasr.schedules import Constant
from jaxasr.search.choices import Search
from jaxasr.state import init_state, make_train_step
from jaxasr.tasks import AsrTask

Case = tuple[Callable[[], dict[str, Any]], dict[str, Any]]
"""What is timed, returning what the peer's must equal, and what is known of it."""

STEPS = 4
"""Steps to a timing, one after the other as in training: where a virtual machine gives free memory back to its host,
the first step after a pause pays for getting it again."""


def task_of(spec: dict[str, Any]) -> AsrTask:
    """SAN-M on stacked features, or a Conformer behind convolutions, with a Transformer decoder."""
    options = work.TRAIN
    dropout: dict[str, Any] = dict.fromkeys(("dropout", "attention_dropout"), options["dropout_rate"])
    encoder_sizes, decoder_sizes = (
        {
            "num_layers": part["num_blocks"],
            "d_model": spec["enc"]["output_size"],
            "num_heads": part["attention_heads"],
            "d_ff": part["linear_units"],
        }
        for part in (spec["enc"], spec["dec"])
    )
    if "cnn_module_kernel" in spec["enc"]:
        kernel_size = spec["enc"]["cnn_module_kernel"]
        encoder = ConformerEncoder(**encoder_sizes, kernel_size=kernel_size, subsampling="conv2d", **dropout)
    else:
        encoder = SanmEncoder(**encoder_sizes, kernel_size=spec["enc"]["kernel_size"], **dropout)
    return AsrTask(
        frontend=GivenFeatures(width=spec["idim"], lfr_m=1, lfr_n=1),
        preprocess=None,
        normalizer=None,
        specaug=None,
        encoder=encoder,
        decoder=TransformerDecoder(**decoder_sizes, **dropout),
        ctc_weight=options["ctc_weight"],
        label_smoothing=options["lsm_weight"],
        vocabulary=Vocabulary(("<blank>", "<s>", "</s>", *(f"t{i}" for i in range(spec["vocab"] - 4)), "<unk>")),
    )


def batch_of(spec: dict[str, Any]) -> tuple[AsrFeatureBatch, float]:
    """The peer's batch of features, and its seconds of sound."""
    rate = 100 / 6 if spec["idim"] == 560 else 100
    x, *others = work.batch(spec, rate)
    lengths, tokens, token_lengths = (jnp.asarray(y, jnp.int32) for y in others)
    return AsrFeatureBatch(jnp.asarray(x), lengths, tokens, token_lengths, jnp.ones(len(x))), float(
        lengths.sum()
    ) / rate


def train_step(spec: dict[str, Any]) -> Case:
    """One update: loss, gradient, clipping, Adam."""
    task, options = task_of(spec), work.TRAIN
    batch, seconds = batch_of(spec)
    optimizer = Adam(learning_rate=options["adam_lr"], clip_norm=options["clip"])
    state = jax.jit(functools.partial(init_state, task.model().init, optimizer))(batch, jax.random.key(0))
    step = jax.jit(make_train_step(task.loss_fn(), optimizer, Constant()), donate_argnums=0)

    def run() -> dict[str, float]:
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready(state)
        return {"loss": float(metrics["loss"].total / metrics["loss"].count)}

    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    return run, {"units": (seconds, "audio-s"), "params_M": parameters / 1e6, "inner": STEPS}


def encoder_forward(spec: dict[str, Any]) -> Case:
    """Features to what the decoder sees, as in decoding."""
    encoder = task_of(spec).encoder
    batch, seconds = batch_of(spec)
    features = batch.features, batch.feature_lengths
    params = jax.jit(functools.partial(encoder.init, train=False))(jax.random.key(0), *features)
    forward = jax.jit(functools.partial(encoder.apply, train=False))

    def run() -> dict[str, Any]:
        return {"shape": jax.block_until_ready(forward(params, *features))[0].shape}

    return run, {"units": (seconds, "audio-s"), "inner": STEPS}


def log_mel(frontend: Frontend) -> Case:
    """Features of 16 sounds of 8 to 12 s."""
    sounds = work.wavs()
    lengths = np.array([len(sound) for sound in sounds], np.int32)
    padded = np.zeros((len(sounds), lengths.max()), np.float32)
    for row, sound in zip(padded, sounds, strict=True):
        row[: len(sound)] = sound
    batch = jax.device_put((padded, lengths))
    features = jax.jit(functools.partial(frontend, sample_rate=16_000))

    def run() -> dict[str, Any]:
        return {"frames": int(jax.block_until_ready(features(*batch))[1].sum())}

    return run, {"units": (float(lengths.sum()) / 16_000, "audio-s"), "inner": STEPS}


def ctc(num_symbols: int) -> Case:
    """The CTC loss of logits with its gradient."""
    batch = [jnp.asarray(x) for x in work.ctc_work(num_symbols)]
    both = jax.jit(jax.value_and_grad(lambda logits, *others: jnp.sum(ctc_loss(logits, *others))))

    def run() -> dict[str, Any]:
        loss, gradient = jax.block_until_ready(both(*batch))
        return {"loss": float(loss)} | ({"gnorm": float(jnp.linalg.norm(gradient))} if num_symbols == 500 else {})

    return run, {"units": (16, "utt")}


def joint_beam(spec: dict[str, Any], rows: int = 16) -> Case:
    """The peer's utterance of 10 s as many times over, encoder included; 40 tokens, beam 10."""
    task, frames = task_of(spec), 167
    with np.load(pathlib.Path(work.WORK) / "aed_small_params.npz") as arrays:
        params = jax.device_put(convert_params(dict(arrays), rules_of(task)))
    x = np.random.RandomState(9).randn(1, frames, spec["idim"]).astype(np.float32)
    lengths, none = np.full(rows, frames, np.int32), np.zeros(rows, np.int32)
    batch = AsrFeatureBatch(np.repeat(x, rows, axis=0), lengths, none[:, None] - 1, none, np.ones(rows, np.float32))
    decode, batch = jax.jit(task.decode_fn(Search("joint", maxlenratio=-40, minlenratio=-40))), jax.device_put(batch)

    def run() -> dict[str, Any]:
        found = jax.device_get(decode(params, batch))
        return {"score": float(found.scores[0]), "ids": found.tokens[0, :9].tolist()}

    return run, {"units": (rows, "utt")}


def reading(**way: int) -> tuple[Callable[[], dict[str, int]], dict[str, Any]]:
    """The peers' files, in batches of up to 120 s by length, to features (80, 7 stacked by 6)."""
    from benchmarks.pipeline import by_length, passes

    items = work.flac_set()
    inputs = by_length([Utterance(name, path, text) for name, path, _, text in items])
    run = functools.partial(passes, inputs, with_features=True, **way)
    return run, {"units": (len(items), "utt"), "audio_s": sum(samples for _, _, samples, _ in items) / 16_000}


KALDI = WavFrontend(lfr_m=1, lfr_n=1)

CASES = {
    "fbank.knf": functools.partial(log_mel, KALDI),
    "fbank.funasr088_wavfrontend": functools.partial(log_mel, KALDI),
    "fbank.funasr088_wavfrontend_lfr": functools.partial(log_mel, WavFrontend(lfr_m=7, lfr_n=6)),
    "fbank.espnet_defaultfrontend": functools.partial(log_mel, StftFrontend(hop_ms=10.0, window_ms=25.0)),
    "enc_fwd.sanm_small": functools.partial(encoder_forward, work.D_SMALL),
    "enc_fwd.sanm_base": functools.partial(encoder_forward, work.D_BASE),
    "enc_fwd.conformer_small": functools.partial(encoder_forward, work.D_CONF),
    "train.sanm_small": functools.partial(train_step, work.D_SMALL),
    "train.sanm_base": functools.partial(train_step, work.D_BASE),
    "train.conformer_small": functools.partial(train_step, work.D_CONF),
    "train.conformer_small_espnet": functools.partial(train_step, work.D_CONF),
    "ctc_loss.V500": functools.partial(ctc, 500),
    "ctc_loss.V5000": functools.partial(ctc, 5000),
    "data.torch_knf_2workers": functools.partial(reading, threads=2),
    "data.espnet_2workers": functools.partial(reading, threads=2),
    "data.lhotse_2workers": functools.partial(reading, threads=2),
    "data.funasr088_small_2workers": functools.partial(reading, threads=2),
    "data.processes": functools.partial(reading, workers=2),
    "beam.funasr088_batch": functools.partial(joint_beam, work.D_SMALL),
    "beam.funasr088_single": functools.partial(joint_beam, work.D_SMALL),
}
