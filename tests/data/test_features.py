import io
import os
import pathlib
import pickle
import sys

import kaldiio
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxasr.data.audio import SoundSource
from jaxasr.data.features import FeatureSource
from jaxasr.data.probe import probe
from jaxasr.data.source import Header
from jaxasr.data.utterance import Utterance
from jaxasr.errors import ConfigError, DataError

WIDTH = 5
SOURCE = FeatureSource(WIDTH, 10.0)
COMPRESSIONS = {"CM": 2, "CM2": 3, "CM3": 5}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def frames(count: int = 30, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, WIDTH)).astype(dtype)


def save(path: pathlib.Path, array: np.ndarray) -> Utterance:
    np.save(path, array)
    return Utterance("u", str(path), "")


def ark(folder: pathlib.Path, arrays: dict[str, np.ndarray], **options: int) -> dict[str, Utterance]:
    """An archive and its feats.scp, as utterances."""
    kaldiio.save_ark(str(folder / "x.ark"), arrays, scp=str(folder / "feats.scp"), **options)
    lines = (folder / "feats.scp").read_text().splitlines()
    return {line.split()[0]: Utterance(*line.split(), text="") for line in lines}


def fault(call, *arguments: object) -> str:
    with pytest.raises(DataError) as caught:
        call(*arguments)
    assert str(caught.value).count("; ") >= 2
    return str(caught.value)


# What is read


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy_files(tmp_path, dtype, order):
    array = np.asarray(frames().astype(dtype), order=order)
    utterance = save(tmp_path / "a.npy", array)
    assert SOURCE.info(utterance.audio) == Header(30, 0, WIDTH)
    assert SOURCE.length(utterance, SOURCE.info(utterance.audio), 1.0) == 30
    found = SOURCE.read(utterance)
    assert (found.dtype, found.flags.writeable, type(found)) == (np.float32, True, np.ndarray)
    np.testing.assert_array_equal(found, array.astype(np.float32))
    np.testing.assert_array_equal(SOURCE.from_array("here", array), found)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_archives(tmp_path, dtype):
    arrays = {"a": frames(30, dtype), "b": frames(1, dtype), "c": frames(17, dtype)}
    for name, utterance in ark(tmp_path, arrays).items():
        assert utterance.audio.startswith(str(tmp_path / "x.ark:"))
        assert SOURCE.info(utterance.audio) == Header(len(arrays[name]), 0, WIDTH)
        found = SOURCE.read(utterance)
        assert (found.dtype, found.flags.writeable) == (np.float32, True)
        np.testing.assert_array_equal(found, arrays[name].astype(np.float32))
        SOURCE.check(utterance.audio, SOURCE.info(utterance.audio))


@pytest.mark.parametrize("method", COMPRESSIONS)
def test_compressed_archives(tmp_path, method):
    arrays = {"a": frames(30), "b": frames(9)}
    for name, utterance in ark(tmp_path, arrays, compression_method=COMPRESSIONS[method]).items():
        assert f" \0B{method} ".encode() in (tmp_path / "x.ark").read_bytes()
        assert SOURCE.info(utterance.audio) == Header(len(arrays[name]), 0, WIDTH)
        np.testing.assert_allclose(SOURCE.read(utterance), arrays[name], atol=0.05)


def test_a_stretch_by_time(tmp_path):
    array = frames(100)
    utterance = save(tmp_path / "a.npy", array)
    cut = Utterance("u", utterance.audio, "", start=0.25, seconds=0.5)
    assert SOURCE.length(cut, SOURCE.info(cut.audio), 1.0) == 50
    np.testing.assert_array_equal(SOURCE.read(cut), array[25:75])
    rounded = Utterance("u", utterance.audio, "", seconds=1.02)  # of sound, whose last window was not whole
    np.testing.assert_array_equal(SOURCE.read(rounded), array)
    outside = Utterance("u", utterance.audio, "", start=0.5, seconds=1.0)
    message = "a.npy (utterance u): from 0.500 s to 1.500 s of a file of 1.000 s; "
    assert message in fault(SOURCE.read, outside)
    assert message in fault(SOURCE.length, outside, Header(100, 0, WIDTH), 1.0)
    assert FeatureSource(WIDTH, 12.5).rate == 80.0


def test_a_source_is_a_value():
    for source in (SOURCE, SoundSource(8000, 1)):
        copy = pickle.loads(pickle.dumps(source))
        assert (copy, hash(copy)) == (source, hash(source))


# Headers of many


def test_probe(tmp_path):
    arrays = {"a": frames(30), "b": frames(7)}
    paths = [u.audio for u in ark(tmp_path, arrays).values()] + [save(tmp_path / "c.npy", frames(9)).audio]
    paths += [str(tmp_path / "gone.npy"), str(tmp_path / "gone.ark:3"), str(tmp_path / "a.wav")]
    for whole in (False, True, False):
        found = probe(paths, SOURCE, whole=whole)
        assert [found[path] for path in paths[:3]] == [Header(n, 0, WIDTH) for n in (30, 7, 9)]
        assert [path in str(found[path]) for path in paths[3:]] == [True] * 3
    assert "--frontend=features reads .npy files" in str(found[paths[-1]])


def test_probe_misses_kaldiio_although_the_header_is_known(tmp_path, monkeypatch):
    path = ark(tmp_path, {"u": frames(3)})["u"].audio
    probe([path], SOURCE, whole=True)
    monkeypatch.setitem(sys.modules, "kaldiio", None)
    with pytest.raises(ConfigError, match=r"x.ark:\d+: Kaldi's archives are read by kaldiio"):
        probe([path], SOURCE, whole=True)


def test_probe_sees_that_an_archive_changed(tmp_path):
    first, second = (u.audio for u in ark(tmp_path, {"a": frames(30), "b": frames(7)}).values())
    probe([first, second], SOURCE)
    ark(tmp_path, {"a": frames(29), "b": frames(70)})
    found = probe([first, second], SOURCE)
    assert found[first] == Header(29, 0, WIDTH)
    assert "no binary matrix begins there; " in str(found[second])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("form", ["npy", "ark"])
def test_values_that_are_no_numbers(tmp_path, bad, form):
    array = frames(9000)
    array[8999, 2] = bad
    utterance = save(tmp_path / "a.npy", array) if form == "npy" else ark(tmp_path, {"u": array})["u"]
    path = utterance.audio
    assert probe([path], SOURCE)[path] == Header(9000, 0, WIDTH)
    assert f"{path}: infinite or NaN values; " in str(probe([path], SOURCE, whole=True)[path])
    assert f"{path} (utterance u): infinite or NaN values; " in fault(SOURCE.read, utterance)
    assert SOURCE.read(Utterance("v", path, "", seconds=89.99)).shape == (8999, WIDTH)


def test_a_double_beyond_float32_is_infinite(tmp_path):
    utterance = save(tmp_path / "a.npy", np.full((3, WIDTH), 1e300))
    assert "infinite or NaN values; " in fault(SOURCE.read, utterance)


# Faults


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(7, np.float32), "an array of shape (7,) and type float32; floats (T, F), "),
        (np.float32(1), "an array of shape () and type float32; "),
        (np.zeros((2, 3, WIDTH), np.float32), "an array of shape (2, 3, 5) and type float32; "),
        (np.zeros((2, WIDTH), np.int16), "an array of shape (2, 5) and type int16; "),
        (np.zeros((2, WIDTH), np.complex64), "an array of shape (2, 5) and type complex64; "),
        (np.zeros((0, WIDTH), np.float32), "0 frames of 5 features; "),
        (np.zeros((2, 0), np.float32), "2 frames of 0 features; "),
    ],
)
def test_arrays_that_are_no_frames(tmp_path, array, message):
    utterance = save(tmp_path / "a.npy", array)
    assert fault(SOURCE.info, utterance.audio).startswith(f"{utterance.audio}: {message}")
    assert fault(SOURCE.read, utterance).startswith(f"{utterance.audio} (utterance u): {message}")
    assert fault(SOURCE.from_array, "here", array).startswith(f"here: {message}")


def test_another_width(tmp_path):
    utterance = save(tmp_path / "a.npy", frames())
    other = FeatureSource(80, 10.0)
    for call in (lambda: other.read(utterance), lambda: other.length(utterance, SOURCE.info(utterance.audio), 1.0)):
        message = fault(call)
        assert message.startswith(f"{utterance.audio} (utterance u): frames of 5 features; 80, as --frontend.width ")
        assert "give --frontend.width=5, " in message
    assert fault(other.from_array, "here", frames()).startswith("here: frames of 5 features; ")
    with pytest.raises(ConfigError, match=r"speed 1.1; 1 was expected of features; give --preprocess=none"):
        SOURCE.length(utterance, SOURCE.info(utterance.audio), 1.1)


class Bad:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def test_pickles_are_never_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.array([Bad()], object), allow_pickle=True)
    pickled = pickle.dumps(Bad())
    pathlib.Path("b.npy").write_bytes(pickled)
    pathlib.Path("c.ark").write_bytes(b"u PKL" + pickled)
    for path in ("a.npy", "b.npy", "c.ark:2"):
        assert fault(SOURCE.read, Utterance("u", path, "")).startswith(f"{path} (utterance u): ")
    assert not pathlib.Path("unpickled").exists()


def test_bad_offsets(tmp_path):
    path = tmp_path / "x.ark"
    offset = int(ark(tmp_path, {"u": frames()})["u"].audio.rpartition(":")[2])
    for wrong in (0, offset - 1, offset + 1, 10**6, 10**30):
        assert f"{path}:{wrong} (utterance u): " in fault(SOURCE.read, Utterance("u", f"{path}:{wrong}", ""))
    np.save(tmp_path / "y.npy", frames())
    (tmp_path / "y.npy").rename(tmp_path / "y.ark")
    assert "no binary matrix begins there; " in fault(SOURCE.info, str(tmp_path / "y.ark:0"))
    (tmp_path / "t.ark").write_text("u  [\n  1 2 3 4 5 ]\n")
    assert "no binary matrix begins there; " in fault(SOURCE.info, str(tmp_path / "t.ark:2"))


@pytest.mark.parametrize("form", ["npy", "FM", "DM", *COMPRESSIONS])
def test_files_cut_short(tmp_path, form):
    if form == "npy":
        utterance = save(tmp_path / "x.npy", frames(4))
    else:
        options = {"compression_method": COMPRESSIONS[form]} if form in COMPRESSIONS else {}
        utterance = ark(tmp_path, {"u": frames(4, "float64" if form == "DM" else "float32")}, **options)["u"]
    file = tmp_path / f"x.{form if form == 'npy' else 'ark'}"
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert fault(SOURCE.info, utterance.audio).startswith(utterance.audio)
    file.write_bytes(whole + b"more")
    SOURCE.read(utterance)


def test_files_that_cannot_be_opened(tmp_path):
    (tmp_path / "folder.npy").mkdir()
    assert "folder.npy (utterance u): not a regular file; " in fault(
        SOURCE.read, Utterance("u", str(tmp_path / "folder.npy"), "")
    )
    assert "No such file or directory; " in fault(SOURCE.info, str(tmp_path / "no.ark:0"))


@given(st.binary(max_size=60), st.integers(0, 150), st.binary(min_size=1, max_size=6), st.sampled_from(["npy", "ark"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
def test_whatever_a_file_holds_only_a_data_error_comes_out(tmp_path, junk, place, patch, form):
    buffer = io.BytesIO()
    np.save(buffer, frames(3))
    whole = buffer.getvalue()
    if form == "ark":
        kaldiio.save_ark(str(tmp_path / "good.ark"), {"u": frames(3)})
        whole = (tmp_path / "good.ark").read_bytes()[2:]
    place %= len(whole)
    path = str(tmp_path / ("a.npy" if form == "npy" else "a.ark:0"))
    for content in (junk, whole[:place] + patch + whole[place + len(patch) :]):
        (tmp_path / f"a.{form}").write_bytes(content)
        for call in (lambda: SOURCE.info(path), lambda: SOURCE.read(Utterance("u", path, ""))):
            try:
                call()
            except DataError:
                assert fault(call).startswith(path)


def test_archives_without_kaldiio(tmp_path, monkeypatch):
    path = ark(tmp_path, {"u": frames()})["u"].audio
    monkeypatch.setitem(sys.modules, "kaldiio", None)
    for call in (lambda: probe([path], SOURCE), lambda: SOURCE.read(Utterance("u", path, ""))):
        with pytest.raises(ConfigError, match="which is not installed; pip install kaldiio"):
            call()
    assert SOURCE.read(save(tmp_path / "a.npy", frames())).shape == (30, WIDTH)
