"""Our side of a timing beside FunASR: a training step, or a search, on the arrays that its cases take, too.

The harness that runs both sides in turns is no part of this project: `work.py` gives the sizes (`D_SMALL`, `D_BASE`,
`TRAIN`) and arrays (`batch`), `duel.py` runs a case file of each side. With torch and FunASR under PEER, and HARNESS
the folder of those two:

  export GLIBC_TUNABLES=glibc.malloc.hugetlb=1 PYTHONPATH=$HARNESS:.
  python $HARNESS/duel.py --a benchmarks/funasr_steps.py --apy $PEER/venv/bin/python --cases 'train.sanm_*' --n 10 \
      --b benchmarks/beside_funasr.py --bpy .venv/bin/python --out benchmarks/results/train_step_2core.jsonl

and for the joint beam search, of 16 utterances at a time, with the weights that the peer's first run leaves,

  python $HARNESS/duel.py --apy $PEER/venv/bin/python --cases 'beam.funasr*' --n 7 \
      --b benchmarks/beside_funasr.py --bpy .venv/bin/python --out benchmarks/results/joint_2core.jsonl

and for reading 600 FLAC files (`flac_set`), features and batching by two threads or processes, beside each peer,

  python $HARNESS/duel.py --apy $PEER/venv/bin/python --n 9 --map data.espnet_2workers=pipeline.threads \
      data.lhotse_2workers=pipeline.threads data.funasr088_small_2workers=pipeline.threads \
      data.espnet_2workers=pipeline.processes \
      --b benchmarks/beside_funasr.py --bpy .venv/bin/python --out benchmarks/results/pipeline_2core.jsonl

GLIBC_TUNABLES is what `python -m jaxasr.train` sets for itself; both sides have it here.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import work  # pyright: ignore[reportMissingImports]

from benchmarks.pipeline import by_length, passes
from jaxasr.convert import convert_params, rules_of
from jaxasr.data.batch import AsrFeatureBatch
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.data.utterance import Utterance
from jaxasr.nn.decoders import TransformerDecoder
from jaxasr.nn.encoders import SanmEncoder
from jaxasr.nn.frontends import GivenFeatures
from jaxasr.optim import Adam
from jaxasr.schedules import Constant
from jaxasr.search.choices import Search
from jaxasr.state import init_state, make_train_step
from jaxasr.tasks import AsrTask

STEPS = 4
"""Steps to a timing, one after the other as in training: where a virtual machine gives free memory back to its host,
the first step after a pause pays for getting it again."""


def sanm_task(spec: dict[str, Any]) -> AsrTask:
    """SAN-M with a Transformer decoder."""
    options = work.TRAIN
    dropout = dict.fromkeys(("dropout", "attention_dropout"), options["dropout_rate"])
    encoder, decoder = (
        {
            "num_layers": part["num_blocks"],
            "d_model": spec["enc"]["output_size"],
            "num_heads": part["attention_heads"],
            "d_ff": part["linear_units"],
        }
        for part in (spec["enc"], spec["dec"])
    )
    return AsrTask(
        frontend=GivenFeatures(width=spec["idim"], lfr_m=1, lfr_n=1),
        preprocess=None,
        normalizer=None,
        specaug=None,
        encoder=SanmEncoder(**encoder, kernel_size=spec["enc"]["kernel_size"], **dropout),
        decoder=TransformerDecoder(**decoder, **dropout),
        ctc_weight=options["ctc_weight"],
        label_smoothing=options["lsm_weight"],
        vocabulary=Vocabulary(("<blank>", "<s>", "</s>", *(f"t{i}" for i in range(spec["vocab"] - 4)), "<unk>")),
    )


def sanm_step(spec: dict[str, Any]) -> tuple[Callable[[], dict[str, float]], dict[str, Any]]:
    """One update: loss, gradient, clipping, Adam."""
    task, options = sanm_task(spec), work.TRAIN
    x, lengths, tokens, token_lengths = work.batch(spec, 100 / 6)
    batch = AsrFeatureBatch(
        jnp.asarray(x), *(jnp.asarray(y, jnp.int32) for y in (lengths, tokens, token_lengths)), jnp.ones(len(x))
    )
    optimizer = Adam(learning_rate=options["adam_lr"], clip_norm=options["clip"])
    state = jax.jit(functools.partial(init_state, task.model().init, optimizer))(batch, jax.random.key(0))
    step = jax.jit(make_train_step(task.loss_fn(), optimizer, Constant()), donate_argnums=0)

    def run() -> dict[str, float]:
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready(state)
        return {"loss": float(metrics["loss"].total / metrics["loss"].count)}

    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    sound = float(np.sum(lengths)) * 6 / 100, "audio-s"
    return run, {"units": sound, "params_M": parameters / 1e6, "inner": STEPS}


def joint_beam(spec: dict[str, Any], rows: int = 16) -> tuple[Callable[[], dict[str, Any]], dict[str, Any]]:
    """The peer's utterance of 10 s as many times over, encoder included; 40 tokens, beam 10."""
    task, frames = sanm_task(spec), 167
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
    items = work.flac_set()
    inputs = by_length([Utterance(name, path, text) for name, path, _, text in items])
    run = functools.partial(passes, inputs, with_features=True, **way)
    return run, {"units": (len(items), "utt"), "audio_s": sum(samples for _, _, samples, _ in items) / 16_000}


CASES = {
    "pipeline.threads": functools.partial(reading, threads=2),
    "pipeline.processes": functools.partial(reading, workers=2),
    "train.sanm_small": functools.partial(sanm_step, work.D_SMALL),
    "train.sanm_base": functools.partial(sanm_step, work.D_BASE),
    "beam.funasr088_batch": functools.partial(joint_beam, work.D_SMALL),
    "beam.funasr088_single": functools.partial(joint_beam, work.D_SMALL),
}
