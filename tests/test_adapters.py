"""LoRA: a few numbers learn, and what is saved is a plain model."""

import contextlib
import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxasr
from jaxasr import checkpoint
from jaxasr.adapters import Lora
from jaxasr.averages import Ema
from jaxasr.checkpoint import flatten
from jaxasr.errors import ConfigError
from jaxasr.nn.encoders import ENCODERS
from jaxasr.nn.layers import Dense
from jaxasr.optim import AdamW
from jaxasr.parallel import Devices
from jaxasr.paths import leaves
from jaxasr.schedules import Constant
from jaxasr.state import init_state, model_maker, model_of
from jaxasr.states import Checkpoints, Progress
from jaxasr.train import train
from jaxasr.train_config import TrainConfig
from jaxasr.trainable import ADAPTER, Trainable

from . import tiny as corpus
from .test_contract import ALONE, Case, jit, random_like, task_case, tiny
from .test_freeze import run_steps
from .test_optim import NETWORK

LORA = Lora(rank=3, alpha=12.0, targets=("ff", "output"))


def test_every_layer_of_a_stack_has_its_own():
    own = LORA.init(jax.random.key(0), NETWORK)
    assert {path: a.shape for path, a in leaves(own)} == {
        "encoder/blocks/ff/a": (3, 6, 3),
        "encoder/blocks/ff/b": (3, 3, 9),
        "decoder/output/a": (6, 3),
        "decoder/output/b": (3, 7),
    }
    a = np.asarray(own["encoder"]["blocks"]["ff"]["a"])
    assert 0.9 * 6**-0.5 < np.max(np.abs(a)) < 6**-0.5 and len(np.unique(a)) == a.size
    jax.tree.map(np.testing.assert_array_equal, LORA.merged(NETWORK, own), NETWORK)

    own = random_like(own)
    merged = flatten(LORA.merged(NETWORK, own))
    for path, was in leaves(NETWORK):
        a, b = (dict(leaves(own)).get(path.replace("kernel", name)) for name in ("a", "b"))
        expected = was if a is None or "kernel" not in path else was + 4.0 * (a.astype(float) @ b)
        np.testing.assert_allclose(merged[path], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["transformer", "sanm"])  # the latter's queries, keys and values are one kernel
def test_merged_it_says_what_it_says_beside_the_kernels(name):
    encoder = tiny(ENCODERS[name], num_layers=1)
    x, lengths = np.random.default_rng(0).normal(size=(2, 21, 20)).astype(np.float32), np.array([21, 13])
    params = random_like(jax.eval_shape(lambda: encoder.init(jax.random.key(0), x, lengths, train=False)))["params"]
    lora = Lora(rank=4, alpha=6.0)
    own = random_like(lora.init(jax.random.key(0), params))
    changed = set()

    def beside(call, args, kwargs, context):
        y, path = call(*args, **kwargs), "/".join(context.module.path)
        if isinstance(context.module, Dense) and f"{path}/a" in flatten(own):
            changed.add(path)
            a, b = (flatten(own)[f"{path}/{part}"] for part in ("a", "b"))
            y = y + 1.5 * (args[0] @ a.reshape(a.shape[-2:])) @ b.reshape(b.shape[-2:])
        return y

    def encoded(params):
        return jit(lambda p: encoder.apply({"params": p}, x, lengths, train=False)[0])(params)

    with nn.intercept_methods(beside):
        expected = encoded(params)
    assert 2 * len(changed) == len(jax.tree.leaves(own)) > 2
    np.testing.assert_allclose(encoded(lora.merged(params, own)), expected, rtol=1e-5, atol=1e-5)
    assert np.max(np.abs(encoded(params) - expected)) > 0.1


@pytest.mark.parametrize(
    ("mode", "accumulate", "dtype"),
    [("jit", 1, "float32"), pytest.param("pmap", 2, "bfloat16", marks=pytest.mark.slow)],
)
def test_only_the_adapter_learns(tmp_path_factory, mode, accumulate, dtype):
    asr = task_case("asr", tmp_path_factory.getbasetemp())
    encoder = tiny(ENCODERS["sanm"], num_layers=1)
    case = Case(dataclasses.replace(asr.task, encoder=encoder, dtype=dtype, **ALONE), asr.examples)
    cfg = TrainConfig(
        task=case.task,
        optimizer=AdamW(learning_rate=0.02, weight_decay=0.1),
        schedule=Constant(),
        average=Ema(0.9),
        adapter=Lora(rank=2, train=("ctc/bias",)),
        parallel=mode,
        accumulate=accumulate,
    )
    (params, _, model, opt_state), state, losses = run_steps(cfg, case, 20)
    jax.tree.map(np.testing.assert_array_equal, model, case.params)  # step 0 is the given model
    assert losses[-1] < losses[0]
    after = flatten(state.params)
    moved = {path for path, was in leaves(params) if not np.array_equal(after[path], was)}
    places = {f"{ADAPTER}/encoder/first/attention/{name}" for name in ("qkv/a", "qkv/b", "out/a", "out/b")}
    assert moved == places | {"ctc/bias"}
    sizes = [np.size(after[path]) for path in moved]
    assert sum(np.size(x) for x in jax.tree.leaves(opt_state)) == 2 * sum(sizes) + 1  # Adam's two means, one count

    averaged = {path for path, _ in leaves(state.average.params)}
    assert averaged == moved
    kept = flatten(model_maker(cfg, Devices.all())(state))
    assert kept.keys() == flatten(case.params).keys()
    changed = {path for path, was in leaves(case.params) if not np.array_equal(kept[path], was)}
    assert changed == {"ctc/bias", "encoder/first/attention/qkv/kernel", "encoder/first/attention/out/kernel"}


def test_a_state_with_an_adapter_comes_back_whole(tmp_path):
    trainable = Trainable(adapter=LORA)
    create = jax.jit(lambda: init_state(lambda *_: NETWORK, AdamW(), None, jax.random.key(0), Ema(), trainable))
    state, devices = jax.device_put(create(), Devices.first().replicated), Devices.first()
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(1, state, Progress())
        checkpoints.wait()
        restored, _ = checkpoints.restore(devices.abstract(state), print)
    found, expected = (jax.tree_util.tree_leaves_with_path(s._replace(key=None)) for s in (restored, state))
    assert [path for path, _ in found] == [path for path, _ in expected]
    for (path, a), (_, b) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=str(path))
    jax.tree.map(np.testing.assert_array_equal, model_of(restored, trainable), NETWORK)


def test_a_run_leaves_a_plain_model(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Devices, "all", lambda *_: Devices.first())
    task = dataclasses.replace(corpus.TASK, **ALONE)
    cfg = corpus.config(tmp_path, task=task, adapter=Lora(rank=2, train=("ctc",)), test=())
    train(cfg)
    workdir = pathlib.Path(cfg.workdir)
    jaxasr.load(workdir)  # refuses other shapes than its options give
    assert "parameters (frozen: all but the adapter, ctc)" in capsys.readouterr().out
    first, last = (flatten(checkpoint.load_params(path)) for path in sorted((workdir / "best").glob("*")))
    final = flatten(checkpoint.load_params(workdir / "model" / checkpoint.PARAMS_FILE))
    targets = {f"encoder/{at}/attention/{name}/kernel" for at in ("first", "blocks") for name in ("qkv", "out")}
    learnt = targets | {"ctc/kernel", "ctc/bias"}
    assert {path for path in first if not np.array_equal(first[path], last[path])} == learnt
    for path in first.keys() - learnt:  # in the average of the best too
        np.testing.assert_array_equal(final[path], first[path])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 0}, r"--adapter: rank=0, alpha=16.0; a rank of 1 or more and a positive alpha were expected"),
        ({"alpha": 0.0}, r"--adapter: rank=8, alpha=0.0;"),
        ({"alpha": np.inf}, r"--adapter: rank=8, alpha=inf;"),
        ({"targets": ("ff", "fff")}, "--adapter.targets: 'fff' matches no parameter; .* Did you mean 'ff'"),
        (
            {"targets": ("memory",)},
            "--adapter.targets: memory: no dense kernel of this network is meant; such as ctc/",
        ),
        ({"targets": ("ff", "norm")}, "--adapter.targets: norm: no dense kernel of this network is meant;"),
        ({"targets": ()}, "--adapter.targets: none: no dense kernel"),
        ({}, r"--adapter.targets: \*attention/\[qkv\] \*attention/qkv \*attention/out: no dense kernel"),
        (
            {"targets": ("ff",), "rank": 6},
            r"--adapter.rank=6: encoder/blocks/ff/kernel has .*; a rank below 6",
        ),
        ({"targets": ("ff",), "rank": 2, "train": ("decodr",)}, "--adapter.train: 'decodr' matches no parameter;"),
    ],
)
def test_adapters_that_mean_nothing(options, said):
    def check(trainable):
        trainable.check()
        trainable.check_params(NETWORK)

    with pytest.raises(ConfigError, match=said):
        check(Trainable(adapter=Lora(**options)))


def test_sides_of_the_vocabulary_are_waited_for():
    """Before data is read they have the length of a toy's."""
    lora = Lora(rank=6, targets=("output",))
    toy = {"output": {"kernel": jnp.zeros((16, 4))}}
    lora.check_params(toy, sizes_known=False)
    with pytest.raises(ConfigError, match="a rank below 4 was expected"):
        lora.check_params(toy, sizes_known=True)
    with pytest.raises(ConfigError, match="a rank below 16 was expected"):
        Lora(rank=16, targets=("output",)).check_params(toy, sizes_known=False)


def test_an_adapter_freezes_by_itself():
    with pytest.raises(ConfigError, match="--freeze encoder with --adapter: all but the adapter stays as it is"):
        Trainable(("encoder",), LORA).check()
    with pytest.raises(ConfigError, match="--adapter: the network has a part `adapter`"):
        Trainable(adapter=LORA).check_params({**NETWORK, ADAPTER: {}})
