"""Files of torch.save: some that torch wrote (tests/parity/make_fixtures.py), others made by hand without it."""

import collections
import os
import pickle
import sys
import tracemalloc
import types
import zipfile
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.convert import torch_file
from jaxasr.errors import CheckpointError

from .parity.fixtures import HERE

SAVED = HERE / "more"


def read(path, say=lambda said: None):
    return torch_file.read(path, say)


def test_what_torch_wrote():
    found = read(SAVED / "torch_zip.pt")
    table = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = {
        "table": table,
        "column": table[:, 2],
        "turned": table.T[1:3],
        "half": table[0].astype(np.float16),
        "brain": table[1].astype(jnp.bfloat16),
        "double": table[2].astype(np.float64),
        "numbers": np.arange(3),
        "flags": np.array([True, False]),
        "scalar": np.array(3, np.int32),
        "nothing": np.zeros((0, 3), np.float32),
        "parameter": np.ones(2, np.float32),
        "linear": np.full((1, 2), 7.0, np.float32),
    }
    assert list(found) == list(expected)
    for name, x in expected.items():
        assert (found[name].dtype, found[name].shape) == (x.dtype, x.shape), name
        np.testing.assert_array_equal(found[name], x, err_msg=name)


def test_tensors_are_views_into_the_file():
    found = read(SAVED / "torch_zip.pt")
    assert np.shares_memory(found["table"], found["column"])
    base = found["table"]
    while base.base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found["table"][0] = 1.0


def test_a_state_dict_alone():
    found = read(SAVED / "torch_linear.pt")
    assert {name: x.tolist() for name, x in found.items()} == {"weight": [[7.0, 7.0]], "bias": [8.0]}


def test_the_old_format_is_explained():
    with pytest.raises(CheckpointError, match=r"before 1.6; a zip was expected; save it anew .*weights_only=True"):
        read(SAVED / "torch_old.pt")


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"\x80\x04\x95", r"before 1.6; .* weights_only=True\), NEW"),
        (b"storages".ljust(257, b"\0") + b"ustar", r"before 1.6; .* if you trust who made it: .* weights_only=False"),
        (b"\x80\x9f", "no zip"),
    ],
)
def test_other_old_formats(tmp_path, head, message):
    (tmp_path / "model.pt").write_bytes(head)
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path / "model.pt")


# --- made by hand ------------------------------------------------------------------------------------------------


class Tensor(NamedTuple):
    """Of a storage of float32 numbers."""

    numbers: list
    offset: int
    size: tuple
    stride: tuple


def fake(module, name):
    """A function that a pickle finds by this name."""
    made = types.FunctionType((lambda *_: None).__code__, {}, name)
    made.__module__, made.__qualname__ = module, name
    return made


REBUILD, FLOATS = fake("torch._utils", "_rebuild_tensor_v2"), fake("torch", "FloatStorage")


class Pickler(pickle.Pickler):
    def __init__(self, file, storages, protocol):
        super().__init__(file, protocol=protocol)
        self.storages = storages

    def reducer_override(self, obj):
        if isinstance(obj, Tensor):
            storage = types.SimpleNamespace(numbers=obj.numbers)
            return REBUILD, (storage, obj.offset, obj.size, obj.stride, False, collections.OrderedDict())
        return NotImplemented

    def persistent_id(self, obj):
        if not isinstance(obj, types.SimpleNamespace):
            return None
        self.storages.append(obj.numbers)
        return ("storage", FLOATS, str(len(self.storages) - 1), "cpu", len(obj.numbers))


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A function from an object, or a pickle, to the file that torch would make of it."""
    for name, function in (("torch", FLOATS), ("torch._utils", REBUILD)):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**{function.__name__: function}))

    def save(content, *, compression=zipfile.ZIP_STORED, order="<", without=None, more=None, protocol=2):
        storages = []
        path = tmp_path / "made.pt"
        with zipfile.ZipFile(path, "w", compression) as archive:
            if not isinstance(content, bytes):
                with open(tmp_path / "pickle", "wb") as file:
                    Pickler(file, storages, protocol).dump(content)
                content = (tmp_path / "pickle").read_bytes()
            files = {"data.pkl": content, "byteorder": b"little" if order == "<" else b"big"}
            files |= {f"data/{i}": np.array(x, f"{order}f4").tobytes() for i, x in enumerate(storages)}
            for name, data in (files | (more or {})).items():
                if name != without:
                    archive.writestr(f"made/{name}", data)
        return path

    return save


WINDOW = Tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 1, (2, 2), (2, 1))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_any_zip_and_byte_order(saved, compression, order):
    found = read(saved({"x": WINDOW}, compression=compression, order=order))
    assert found["x"].tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_any_protocol(saved, protocol):
    plain = {"epoch": 3, "loss": [0.5, -1, 1 << 40, None, True, False], "names": ("a", ("b",), ()), "args": {1: {}}}
    found = read(saved({"x": WINDOW, "y": WINDOW, **plain}, protocol=protocol))
    assert [x.tolist() for x in found.values()] == 2 * [[[1.0, 2.0], [3.0, 4.0]]]


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_a_training_state(saved, wrapper):
    said = []
    path = saved({wrapper: {"x": WINDOW, "steps": 2}, "epoch": 3, "y": WINDOW})
    assert list(read(path, said.append)) == ["x"]
    assert said == [f"{path}: 1 tensors; left out: epoch, y, steps"]


def test_nothing_is_left_out(saved):
    said = []
    read(saved({"x": WINDOW}), said.append)
    assert said[0].endswith("made.pt: 1 tensors; left out: none")


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {}, "model": {"x": WINDOW}},
        {"state_dict": {"x": 1}, "model_state_dict": {"x": WINDOW}},
        {"model": {"epoch": 1}, "x": WINDOW},
    ],
)
def test_the_wrapper_that_has_tensors(saved, content):
    assert list(read(saved(content))) == ["x"]


def test_names_of_data_parallel(saved):
    assert list(read(saved({"module.a": WINDOW, "module.module.b": WINDOW}))) == ["a", "module.b"]
    assert list(read(saved({"module.a": WINDOW, "b": WINDOW}))) == ["module.a", "b"]


class Attack:
    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize(
    ("function", "symbol"),
    [(os.system, "system"), (eval, "eval"), (getattr, "getattr"), (np.dtype, "numpy.dtype")],
)
def test_an_attack_names_the_symbol_and_runs_nothing(saved, tmp_path, function, symbol):
    proof = tmp_path / "proof"
    path = saved({"x": WINDOW, "y": Attack(function, f"touch {proof}")})
    with pytest.raises(CheckpointError, match=rf"made.pt: it asks for \w*\.?{symbol}; .* save the parameters alone"):
        read(path)
    assert not proof.exists()


@pytest.mark.parametrize(
    "state",
    [b"}X\x01\x00\x00\x00aK\x01s", b"N}X\x08\x00\x00\x00__call__K\x01s\x86"],
    ids=["its dictionary", "an attribute"],
)
def test_what_a_file_may_ask_for_cannot_be_changed(saved, state):
    before = read(saved({"x": WINDOW}))
    with pytest.raises(CheckpointError, match="attributes for what is no dictionary; tensors and plain data"):
        read(saved(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + state + b"b."))
    np.testing.assert_array_equal(read(saved({"x": WINDOW}))["x"], before["x"])


FIVE = Tensor([0.0, 1.0, 2.0, 3.0, 4.0], 0, (5,), (1,))


@pytest.mark.parametrize(
    "tensor",
    [
        WINDOW._replace(offset=4),
        WINDOW._replace(stride=(4, 1)),
        WINDOW._replace(size=(1 << 40,), stride=(1,)),
        FIVE._replace(stride=(1 << 60,)),
        FIVE._replace(size=((1 << 46) + 1,), stride=(1 << 16,)),
        FIVE._replace(size=(1 << 32, 1 << 32), stride=(0, 0)),
        FIVE._replace(size=(6,), stride=(0,)),
        FIVE._replace(offset=5, size=(1,)),
        FIVE._replace(offset=5, size=(), stride=()),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(saved, tensor):
    with pytest.raises(CheckpointError, match=r"made\.pt: x has size .*; a tensor inside of them, each its own, was "):
        read(saved({"x": tensor}))


@pytest.mark.parametrize(
    "tensor",
    [
        WINDOW._replace(offset=-1),
        WINDOW._replace(stride=(-2, 1)),
        WINDOW._replace(stride=(1,)),
        WINDOW._replace(offset=1 << 63),
        FIVE._replace(size=(-1,)),
        FIVE._replace(size=(1.0,)),
        FIVE._replace(size=("1",)),
        FIVE._replace(size="x"),
        FIVE._replace(size=33 * (1,), stride=33 * (1,)),
    ],
)
def test_a_tensor_of_no_counts_is_refused(saved, tensor):
    with pytest.raises(CheckpointError, match="a call with other arguments than a tensor's; tensors and plain data"):
        read(saved({"x": tensor}))


@pytest.mark.parametrize("tensor", [FIVE._replace(size=(0,)), FIVE._replace(size=(3, 0), stride=(1 << 60, 1))])
def test_a_tensor_of_no_numbers(saved, tensor):
    assert read(saved({"x": tensor}))["x"].shape == tensor.size


# --- little that would become much ---------------------------------------------------------------------------------


def traced(function):
    """What a function returns, and how many bytes it had at once."""
    tracemalloc.start()
    try:
        return function(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_place_in_the_memo_takes_no_more_than_itself(saved):
    path = saved({"x": WINDOW})
    content = zipfile.ZipFile(path).read("made/data.pkl")
    path = saved(b"\x80\x02Nr\x00\x00\x10\x00" + content[2:], more={"data/0": np.arange(6.0, dtype="<f4").tobytes()})
    found, peak = traced(lambda: read(path))
    assert found["x"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert peak < 1 << 20


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize(("name", "most"), [("data.pkl", 1 << 14), ("byteorder", 16), ("data/0", 24)])
def test_a_file_of_the_zip_that_would_be_too_large(saved, monkeypatch, name, most, compression):
    monkeypatch.setattr(torch_file, "MOST_PICKLED", 1 << 14)
    path = saved({"x": WINDOW}, compression=compression, more={name: bytes(1 << 24)})

    def refused():
        with pytest.raises(CheckpointError, match=rf"made\.pt: .*at most {most}, stored or deflated, were expected"):
            read(path)

    if compression == zipfile.ZIP_DEFLATED:
        assert traced(refused)[1] < 1 << 20
    else:
        with pytest.raises(CheckpointError, match=r"by compression 12; .*, stored or deflated, were expected"):
            read(path)


def test_a_storage_of_other_length_than_its_tensors_say(saved):
    with pytest.raises(CheckpointError, match=r"made\.pt: data/0 has 4 numbers; 6 were expected; copy the file anew"):
        read(saved({"x": WINDOW}, more={"data/0": bytes(16)}))


@pytest.mark.parametrize(
    "key",
    [b")" + 60 * b"q\x00h\x00\x86", b")" + 100_000 * b"\x85", b"]", b"G" + bytes(8), b"J\xff\xff\xff\xff"],
    ids=["doubled tuples", "deep tuples", "a list", "a float", "a number below 0"],
)
def test_keys_that_are_no_names_are_never_hashed(saved, key):
    for content in (b"}" + key + b"Ns.", b"}(" + key + b"Nu."):
        with pytest.raises(CheckpointError, match=r"a dictionary that has a \w+ for a key; tensors and plain data"):
            read(saved(b"\x80\x02" + content))


DAMAGED = [
    b"}.", b"c__main__\nx\n.", b"(Nt.", b"\x85.", b"NQ.", b"h\x07.", b"N}b.", b"NNR.", b"I01\n.", b"]Na",
    b"K\x01K\x02e.", b"NN\x93.", b"X\xff\xff\xff\x7f.", b".",
]  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_pickle(saved, content):
    with pytest.raises(CheckpointError, match="expected"):
        read(saved(b"\x80\x02" + content))


@pytest.mark.parametrize("missing", ["data/0", "data.pkl"])
def test_a_zip_without_all_its_files(saved, missing):
    with pytest.raises(CheckpointError, match="expected"):
        read(saved({"x": WINDOW}, without=missing))


def test_a_file_cut_short(saved):
    path = saved({"x": WINDOW})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CheckpointError, match=r"no zip; a file of torch\.save was expected"):
        read(path)


@pytest.mark.parametrize("content", [{}, {"x": 1}, [WINDOW], "x"])
def test_no_tensors(saved, content):
    with pytest.raises(CheckpointError, match="no tensors; a dictionary of them was expected"):
        read(saved(content))


# --- written -----------------------------------------------------------------------------------------------------

WRITTEN = {
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "every other": np.arange(5, dtype=np.float32)[::2],
    "count": np.zeros((), np.int64),
    "nothing": np.zeros((0, 3), np.float32),
    "half": np.ones(3, np.float16),
    "brain": np.ones(3, jnp.bfloat16),
    "flag": np.array([True]),
    "größer": np.arange(70_000),
}


def test_what_is_written_is_read(tmp_path):
    torch_file.write(tmp_path / "new.pt", WRITTEN)
    found = read(tmp_path / "new.pt")
    assert list(found) == list(WRITTEN)
    for name, x in WRITTEN.items():
        assert (found[name].dtype, found[name].shape) == (x.dtype, x.shape), name
        np.testing.assert_array_equal(found[name], x, err_msg=name)
        assert found[name].size == 0 or found[name].ctypes.data % 64 == 0, name


def test_the_same_bytes_are_written(tmp_path):
    for name in ("a.pt", "b.pt"):
        torch_file.write(tmp_path / name, WRITTEN)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
    assert zipfile.ZipFile(tmp_path / "a.pt").testzip() is None


def test_a_tensor_too_large_for_an_old_zip(tmp_path, monkeypatch):
    """With lengths of 64 bits, as beyond two gigabytes."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1 << 17)
    torch_file.write(tmp_path / "new.pt", WRITTEN)
    found = read(tmp_path / "new.pt")
    np.testing.assert_array_equal(found["größer"], WRITTEN["größer"])
    assert found["größer"].ctypes.data % 64 == 0


def test_torch_reads_what_is_written(tmp_path):
    torch = pytest.importorskip("torch")
    torch_file.write(tmp_path / "new.pt", WRITTEN)
    for mapped in (False, True):
        found = torch.load(tmp_path / "new.pt", weights_only=True, mmap=mapped)
        assert list(found) == list(WRITTEN)
        for name, x in WRITTEN.items():
            np.testing.assert_array_equal(found[name].float().numpy(), np.float32(x), err_msg=name)
