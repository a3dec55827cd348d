"""A state divided between devices: where its arrays stand, that it learns the same, and that it is kept and found."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxasr import parallel
from jaxasr.adapters import Lora
from jaxasr.averages import Ema
from jaxasr.data.audio import SoundSource
from jaxasr.data.batch import BucketShape
from jaxasr.data.bucketing import PlannedBatch
from jaxasr.data.pipeline import HostBatch
from jaxasr.errors import ConfigError
from jaxasr.fsdp import Fsdp
from jaxasr.nn.dropout import keep_mask
from jaxasr.optim import AdamW, Sgd
from jaxasr.parallel import Devices
from jaxasr.schedules import Constant
from jaxasr.state import TrainState, copy_of, init_state, model_maker, model_of, train_steps
from jaxasr.states import Checkpoints, Progress
from jaxasr.tasks.base import Mean, Task, denominator
from jaxasr.train_config import TrainConfig

from .test_contract import ALONE, BATCH_NORM, NARROW, asr_with, assert_trees_close, task_case


@pytest.mark.parametrize(
    ("path", "shape", "spec"),
    [
        ("params/ctc/kernel", (512, 600), P(None, "fsdp")),  # the largest
        ("params/ctc/kernel", (512, 601), P("fsdp")),  # the largest that 4 divides
        ("params/ctc/kernel", (511, 601), P()),
        ("params/ctc/bias", (600,), P()),  # small
        ("params/encoder/blocks/ff/kernel", (512, 400, 40), P()),  # small in each layer
        ("params/encoder/blocks/ff/kernel", (512, 400, 256), P(None, "fsdp")),  # not the layers
        ("opt_state/0/mu/encoder/blocks/ff/kernel", (512, 400, 256), P(None, "fsdp")),  # as its parameter
        ("params/embed/table", (4, 512, 600), P()),  # by a rule
        ("average/params/decoder/q/kernel", (4, 512, 600), P("fsdp")),
        ("params/decoder/q/kernel", (6, 512, 600), P(None, None, "fsdp")),  # where the rule does not fit: as others
        ("params/decoder/k/kernel", (400, 512, 4), P(None, None, "fsdp")),
        ("step", (), P()),
    ],
)
def test_where_an_array_is_divided(path, shape, spec):
    fsdp = Fsdp(4, rules=("embed=none", "decoder/q=0", "decoder/k/kernel=-1"))
    fsdp.check()
    assert fsdp.spec(path, shape) == spec
    assert dataclasses.replace(fsdp, devices=1).spec(path, shape) == P()


def test_devices_stand_in_the_order_of_their_processes():
    """Each process reads rows that stand side by side."""

    @dataclasses.dataclass(frozen=True)
    class Device:
        process_index: int
        id: int

    shuffled = [Device(p, i) for p, i in ((1, 2), (0, 3), (1, 0), (0, 1))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "Mesh", lambda devices, axes, axis_types: devices)
        found = parallel._mesh(shuffled, 2)  # pyright: ignore[reportArgumentType]
    assert [[(d.process_index, d.id) for d in row] for row in found] == [[(0, 1), (0, 3)], [(1, 0), (1, 2)]]


def placed_like(devices, tree):
    return jax.tree.map(lambda x, place: x.sharding.is_equivalent_to(place, x.ndim), tree, devices.places(tree))


def kept(tree):
    """Bytes on one device."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


@dataclasses.dataclass(frozen=True)
class Toy:
    """A scan over layers and a head, of which compiling takes half a second."""

    input_rate: float = 1.0
    values = Task.values
    source = SoundSource(1)

    def batch_spec(self, shape):
        return jax.ShapeDtypeStruct((shape.rows, 16), jnp.float32)

    def loss_fn(self):
        def loss_fn(params, batch, key, counts=None):
            keep = 1.0 if key is None else keep_mask(key, batch.shape, 0.2).astype(jnp.float32)
            layer = lambda x, kernel: (jnp.tanh(x @ kernel), None)  # noqa: E731
            x, _ = jax.lax.scan(layer, batch * keep, params["encoder"]["blocks"]["ff"]["kernel"])
            total = jnp.sum(jnp.square(x @ params["ctc"]["kernel"] + params["ctc"]["bias"][None]))
            count = jnp.float32(len(batch))
            return total / denominator("loss", count, counts), {"loss": Mean(total, count)}

        return loss_fn


def toy(rows=8):
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32) / 4  # noqa: E731
    params = {
        "encoder": {"blocks": {"ff": {"kernel": draw(3, 16, 16)}}},
        "ctc": {"kernel": draw(16, 32), "bias": draw(32)},
    }
    shape = BucketShape(rows, 1, 1)
    return Toy(), params, HostBatch(PlannedBatch(shape, np.arange(rows)), [], draw(rows, 16))


def after_two_steps(cfg, params, host):
    """The devices, the state after two updates, and the losses."""
    devices = Devices.all(cfg.fsdp)

    def create(params, key):
        return init_state(lambda *_: params, cfg.optimizer, None, key, cfg.average, cfg.trainable)

    places = devices.places(jax.eval_shape(create, params, jax.random.key(7)))
    state = jax.jit(create, out_shardings=places)(params, jax.random.key(7))
    steps = train_steps(cfg, cfg.task, devices, devices.abstract(state))
    losses = []
    for _ in range(2):
        state, metrics = steps(state, [host] * cfg.accumulate)
        losses.append(float(metrics["loss"].value))
    steps.close()
    return devices, state, losses


def check_meshes(cfg, params, host, widths):
    """All learn the same, divide what they keep, and make the same model of it, whole on every device."""
    _, expected, losses = after_two_steps(cfg, params, host)
    for width in widths:
        divided = dataclasses.replace(cfg, fsdp=Fsdp(width, min_size=128))
        devices, state, found = after_two_steps(divided, params, host)
        np.testing.assert_allclose(found, losses, rtol=1e-5)
        for name in ("params", "opt_state", "average", "stats"):
            assert_trees_close(getattr(state, name), getattr(expected, name))
        assert all(jax.tree.leaves(placed_like(devices, state)))
        assert kept(state.params) < kept(expected.params) * (0.25 + 0.75 / width)
        assert kept(state) < kept(expected) * (0.4 + 0.6 / width)
        model = model_maker(divided, devices)(state)
        assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(model))
        assert_trees_close(model, model_of(expected, cfg.trainable))


SETTINGS = {"optimizer": Sgd(learning_rate=0.1), "schedule": Constant(), "average": Ema()}
ADAPTER = {"adapter": Lora(rank=2, targets=("ff",), train=("ctc",)), "accumulate": 2}


@pytest.mark.parametrize(
    ("changes", "widths"), [({"freeze": ("ctc/bias",)}, (2, 8)), (ADAPTER, (4,))], ids=["freeze", "adapter"]
)
def test_all_meshes_learn_the_same(changes, widths):
    """With momentum, an average, and parts that stay, which are divided as the others."""
    task, params, host = toy()
    check_meshes(TrainConfig(task=task, **SETTINGS, **changes), params, host, widths)


def test_batches_in_parts_learn_the_same():
    """With the noise of the whole batch, and the state divided or not."""
    task, params, host = toy(16)
    cfg = TrainConfig(task=task, **SETTINGS)
    _, expected, losses = after_two_steps(cfg, params, host)
    for width in (1, 4):
        in_parts = dataclasses.replace(cfg, fsdp=Fsdp(width, min_size=128), microbatches=2)
        _, state, found = after_two_steps(in_parts, params, host)
        np.testing.assert_allclose(found, losses, rtol=1e-5)
        assert_trees_close(state.params, expected.params)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"freeze": ("encoder/blocks/conv", "ctc/bias")}, {"accumulate": 2}])
def test_a_conformer_learns_the_same_on_all_meshes(tmp_path, changes):
    """With dropout and running statistics."""
    asr = task_case("asr", tmp_path)
    case = dataclasses.replace(asr_with(asr.task, encoder=BATCH_NORM, **ALONE), examples=asr.examples)
    host = HostBatch(PlannedBatch(NARROW, np.arange(0)), [], case.batch(case.examples))
    check_meshes(TrainConfig(task=case.task, **SETTINGS, **changes), case.params, host, (2, 8))


def test_a_state_goes_from_mesh_to_mesh(tmp_path):
    """What some devices share, others find to the last bit, however many they are."""
    rng = np.random.default_rng(0)
    params = {"ctc": {"kernel": rng.normal(size=(16, 24)).astype(np.float32), "bias": np.ones(24, np.float32)}}
    optimizer = AdamW()
    zero = np.int32(3)
    opt_state = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), optimizer.build().init(params))
    host = TrainState(zero, zero, zero, zero, jax.random.key(5), params, opt_state)

    def on(count, width):
        devices = Devices(parallel._mesh(jax.devices()[:count], width), Fsdp(width, min_size=64))
        return devices, jax.device_put(host, devices.places(host))

    _, state = on(8, 4)
    assert kept(state.params) == 4 * (16 * 24 // 4 + 24)
    copied = copy_of(state)
    assert kept(copied) == kept(state)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, copied, Progress(epoch=2))
    checkpoints.wait()
    for count, width in ((1, 1), (2, 2), (4, 1), (8, 8), (8, 2)):
        devices, like = on(count, width)
        found, progress = checkpoints.restore(devices.placed(like), print)
        assert progress.epoch == 2
        assert all(jax.tree.leaves(placed_like(devices, found)))
        assert jax.tree.structure(found) == jax.tree.structure(host)
        for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(host), strict=True):
            if jax.dtypes.issubdtype(ours.dtype, jax.dtypes.prng_key):
                ours, theirs = jax.random.key_data(ours), jax.random.key_data(theirs)
            np.testing.assert_array_equal(ours, theirs)
    checkpoints.close()


def test_what_each_device_keeps_is_told():
    params = {"ctc": {"kernel": np.zeros((1000, 500), np.float32)}}
    for fsdp, said in ((None, ""), (Fsdp(4), "mesh: data 2 x fsdp 4; of the state's 2.0 MB each device keeps 0.5")):
        devices = Devices.all(fsdp)
        assert devices.summary(devices.placed(params)) == said


def test_a_rule_for_a_side_of_unknown_length_waits_for_it():
    fsdp, params = Fsdp(4, rules=("ctc=1",)), {"ctc": {"kernel": np.zeros((8, 5), np.float32)}}
    fsdp.check_params(params, sizes_known=False)
    with pytest.raises(ConfigError, match=r"ctc/kernel has the shape \(8, 5\), of which 1 was to be divided by 4"):
        fsdp.check_params(params)
