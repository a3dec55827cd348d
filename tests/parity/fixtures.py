"""FunASR's numbers, and how ours are compared with them."""

import dataclasses
import functools
import json
import pathlib

import jax
import numpy as np

HERE = pathlib.Path(__file__).parent
FIXTURES = json.loads((HERE / "manifest.json").read_text())["fixtures"]

DEVIATIONS: dict[str, tuple[float, float]] = {}
"""By file, the largest difference seen, and the largest number that it was seen beside."""


@dataclasses.dataclass(frozen=True)
class Close:
    """Asserts that two arrays are equal to a file's tolerance, and notes by how much they are not."""

    name: str
    rtol: float = 1e-4
    atol: float = 5e-5

    def __call__(self, found, expected, err_msg=""):
        found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        np.testing.assert_allclose(found, expected, rtol=self.rtol, atol=self.atol, err_msg=err_msg)
        finite = np.isfinite(expected)
        here = (
            np.max(np.abs(found - expected), where=finite, initial=0.0),
            np.max(np.abs(expected), where=finite, initial=0.0),
        )
        DEVIATIONS[self.name] = max(here, DEVIATIONS.get(self.name, (0.0, 0.0)))


def close_of(name):
    """The assertion at the tolerance of a file; features of sound have that of the frontend's own."""
    of = "a_wav_frontend" if name == "release_features" else name
    return Close(name, **FIXTURES[of]["tolerance"]) if of in FIXTURES else Close(name)


def arrays_of(file):
    """The arrays of a file by kind (in, param, out, grad)."""
    kinds = {"in": {}, "param": {}, "out": {}, "grad": {}}
    with np.load(file) as arrays:
        for key in arrays:
            kind, _, rest = key.partition("/")
            if kind in kinds:
                kinds[kind][rest] = arrays[key]
    return kinds


@functools.cache
def fixture(name):
    """The arrays of a file of the manifest, and an assertion at its tolerance."""
    return arrays_of(HERE / FIXTURES[name]["file"]), close_of(name)


@functools.cache
def more(name):
    """The same of a file that make_fixtures.py made."""
    return arrays_of(HERE / "more" / f"{name}.npz"), close_of(name)


def assert_rows_close(assert_close, found, expected, lengths):
    """Equal on every row's own frames."""
    found = np.asarray(found)
    assert found.shape[0] == len(lengths)
    for row, (length, frames) in enumerate(zip(lengths, expected, strict=True)):
        assert_close(found[row, :length], frames[:length], err_msg=f"row {row}")


def assert_trees_close(assert_close, found, expected):
    found, expected = (dict(jax.tree_util.tree_flatten_with_path(tree)[0]) for tree in (found, expected))
    assert found.keys() == expected.keys()
    for path in expected:
        assert found[path].shape == expected[path].shape
        assert_close(found[path], expected[path], err_msg=jax.tree_util.keystr(path))


def shapes_of(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def shapes_at_init(module, *args, **kwargs):
    init = functools.partial(module.init, train=False, **kwargs)
    return shapes_of(jax.eval_shape(init, jax.random.key(0), *args)["params"])
