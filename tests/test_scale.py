"""What the benchmarks count in compiled programs, and the figures of docs/scale.md."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks.hlo import parsed
from jaxasr.nn.frontends.framing import few_rows_at_a_time, power_spectrum
from jaxasr.parallel import Devices

DOCS = pathlib.Path(__file__).parent.parent / "docs"


def test_loops_count_as_often_as_they_run():
    """Of what each device computes and sends: products in a loop, with a sum over the devices behind each."""
    devices = Devices.all()
    kernels = NamedSharding(devices.mesh, P(None, "data"))

    def run(x, w):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

    spec = jax.ShapeDtypeStruct((4, 32), jnp.float32), jax.ShapeDtypeStruct((5, 32, 32), jnp.float32)
    jitted = jax.jit(run, in_shardings=(devices.replicated, kernels), out_shardings=devices.replicated)
    optimised = {"xla_backend_optimization_level": 3}  # without, XLA does not say how often a loop runs
    program = parsed(jitted.lower(*spec).compile(optimised).as_text())
    assert program.flops() == 5 * 2 * 4 * 32 * 32 / 8
    assert program.collectives()["all-reduce"] == (5, 5 * 4 * 32 * 4)


def test_a_convolution_is_counted():
    image, kernel = jnp.zeros((2, 9, 9, 3)), jnp.zeros((3, 3, 3, 8))
    layout = ("NHWC", "HWIO", "NHWC")
    run = jax.jit(lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 1), "VALID", dimension_numbers=layout))
    assert parsed(run.lower(image, kernel).compile().as_text()).flops() == 2 * (2 * 7 * 7 * 8) * 3 * 3 * 3


def test_each_device_transforms_its_own_rows():
    devices = Devices.all()
    sound = np.random.default_rng(0).normal(size=(8, 96)).astype(np.float32)

    def spectra(sound):
        return few_rows_at_a_time(lambda rows: power_spectrum(rows.reshape(len(rows), 3, 32)), sound)

    compiled = devices.compiled_for(spectra, [devices.by_row], devices.by_row).lower(sound).compile()
    assert parsed(compiled.as_text()).collectives() == {}
    np.testing.assert_allclose(compiled(devices.put(sound)), jax.jit(spectra)(sound), rtol=1e-5, atol=1e-5)


def test_the_figures_are_those_of_the_assumptions():
    spec = importlib.util.spec_from_file_location("scale", DOCS / "scale.py")
    assert spec and spec.loader
    scale = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scale)
    page = scale.PAGE.read_text(encoding="utf-8")
    assert scale.written(page) == page, "run `python docs/scale.py`"
