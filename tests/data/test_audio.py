import logging
import math
import os
import pathlib
import sqlite3

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxasr.data import audio
from jaxasr.data.audio import SoundSource
from jaxasr.data.manifest import Utterance
from jaxasr.data.probe import probe
from jaxasr.data.source import Header, segment
from jaxasr.errors import ConfigError, DataError

RATE = 8000
SOUND = SoundSource(RATE)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "jaxasr" / "sound.sqlite"


def noise(frames: int = 4000, channels: int = 1) -> np.ndarray:
    samples = np.random.default_rng(0).integers(-32768, 32768, (frames, channels), np.int16)
    return samples[:, 0] if channels == 1 else samples


def save(path: pathlib.Path, samples: np.ndarray, **options: str) -> Utterance:
    soundfile.write(path, samples, RATE, **options)
    return Utterance("u", str(path), "")


def read(utterance: Utterance, rate: int = RATE, **options: float) -> np.ndarray:
    return audio.read(utterance, rate, **options)


def fault(call, *arguments: object, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        call(*arguments, **options)
    assert str(caught.value).count("; ") >= 2
    return str(caught.value)


# Headers


def test_info(tmp_path):
    save(tmp_path / "a.flac", noise(123, 2))
    assert audio.info(tmp_path / "a.flac") == Header(123, RATE, 2)
    save(tmp_path / "empty.wav", noise(0))
    assert audio.info(tmp_path / "empty.wav") == Header(0, RATE, 1)


def test_info_faults(tmp_path):
    (tmp_path / "junk.wav").write_bytes(b"hello")
    (tmp_path / "empty.flac").touch()
    (tmp_path / "header.flac").write_bytes(b"fLaC")
    (tmp_path / "headerless.raw").write_bytes(b"1234")
    os.mkfifo(tmp_path / "pipe.wav")
    for name, came in {
        "no.wav": "No such file or directory; ",
        "": "not a regular file; ",
        "pipe.wav": "not a regular file; ",
        "junk.wav": "begins like no known kind of sound file; ",
        "empty.flac": "begins like no known kind of sound file; ",
        "header.flac": "cannot be decoded (Error opening ",
        "headerless.raw": "begins like no known kind of sound file; ",
    }.items():
        assert fault(audio.info, tmp_path / name).startswith(f"{tmp_path / name}: {came}")


def claim_frames(path: pathlib.Path, frames: int) -> None:
    """Changes the length that a FLAC file's header states."""
    raw = bytearray(path.read_bytes())
    raw[22:26] = frames.to_bytes(4, "big")
    path.write_bytes(raw)


def test_header_without_a_length(tmp_path):
    save(tmp_path / "a.flac", noise())
    claim_frames(tmp_path / "a.flac", 0)
    assert "the header leaves the length open" in fault(audio.info, tmp_path / "a.flac")


def test_probe(tmp_path, cache):
    names = [str(tmp_path / name) for name in ("a.wav", "b.wav", "no.wav")]
    save(pathlib.Path(names[0]), noise(10))
    save(pathlib.Path(names[1]), noise(20))
    for _ in range(2):
        found = probe([*names, names[0]], SOUND)
        assert list(found) == names
        assert [found[name] for name in names[:2]] == [Header(10, RATE, 1), Header(20, RATE, 1)]
        assert isinstance(found[names[2]], DataError)
        assert names[2] in str(found[names[2]])
    assert probe([], SOUND) == {}
    assert cache.exists()


def test_probe_reads_a_header_again_only_when_the_file_changed(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    save(path, noise(10))
    monkeypatch.chdir(tmp_path)
    read_headers = []
    info = audio.info
    monkeypatch.setattr(audio, "info", lambda path: read_headers.append(path) or info(path))
    probe(["a.wav"], SOUND)
    assert probe([path], SOUND)[str(path)] == Header(10, RATE, 1)
    assert read_headers == ["a.wav"]
    save(path, noise(20))
    assert probe([path], SOUND)[str(path)] == Header(20, RATE, 1)
    os.utime(path, ns=(0, 0))
    probe([path], SOUND)
    assert len(read_headers) == 3


def test_probe_reads_sound_to_its_end_where_asked(tmp_path):
    samples = np.zeros(100000, np.float32)
    samples[-1] = np.nan
    save(tmp_path / "good.wav", noise(40000))
    save(tmp_path / "nan.wav", samples, subtype="FLOAT")
    for name in ("short.flac", "short.mp3"):
        save(tmp_path / name, noise(40000))
        raw = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(raw[: len(raw) // 2])
    paths = [str(tmp_path / name) for name in ("good.wav", "nan.wav", "short.flac", "short.mp3")]
    headers = probe(paths, SOUND)
    assert all(isinstance(found, Header) for found in headers.values())
    for _ in range(2):  # the second time the good one comes from the cache, the others are read again
        good, nan, flac, mp3 = probe(paths, SOUND, whole=True).values()
        assert good == headers[paths[0]]
        assert "nan.wav: infinite or NaN samples; " in str(nan)
        assert "short.flac: cannot be decoded (" in str(flac)
        assert "short.mp3: ends " in str(mp3)
    assert isinstance(probe(paths, SOUND)[paths[1]], Header)


def test_probe_without_a_terminal_is_silent(tmp_path, capfd):
    save(tmp_path / "a.wav", noise(10))
    probe([tmp_path / "a.wav"], SOUND)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("harm", ["folder is a file", "no database", "other table", "locked for writing"])
def test_probe_does_without_a_broken_cache(tmp_path, cache, caplog, monkeypatch, harm):
    path = str(tmp_path / "a.wav")
    save(pathlib.Path(path), noise(10))
    cache.parent.parent.mkdir()
    if harm == "folder is a file":
        cache.parent.touch()
    else:
        cache.parent.mkdir()
    if harm == "no database":
        cache.write_bytes(b"no database" * 100)
    if harm == "other table":
        database = sqlite3.connect(cache)
        database.execute("CREATE TABLE sound (path TEXT)")
        database.close()
    if harm == "locked for writing":
        probe([], SOUND)
        connect = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", lambda path: connect(f"file:{path}?mode=ro", uri=True))
    with caplog.at_level(logging.WARNING):
        assert probe([path], SOUND) == {path: Header(10, RATE, 1)}
    assert "The cache of headers is not used: " in caplog.text


# Arithmetic


@given(st.integers(0, 10**7), st.integers(1, 200_000), st.integers(1, 200_000), st.integers(1, 300))
@settings(deadline=None)
def test_resampled_length_is_exact(frames, from_rate, to_rate, percent):
    length = audio.resampled_length(frames, from_rate, to_rate, percent / 100)
    exact_times_2 = 2 * frames * to_rate * 100
    assert (2 * length - 1) * from_rate * percent <= exact_times_2 < (2 * length + 1) * from_rate * percent


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan, math.inf])
def test_speed_faults(speed):
    with pytest.raises(ConfigError, match=r"speed: .*; a factor above 0 .* was expected; "):
        audio.resampled_length(1, RATE, RATE, speed)


@given(st.integers(0, 10**8), st.integers(1, 10**7), st.sampled_from([8000, 11025, 16000, 44100, 48000]))
@settings(deadline=None)
def test_segment_finds_its_frames_again(first, count, rate):
    start, end = first / rate, (first + count) / rate
    utterance = Utterance("u", "a.wav", "", start=start, seconds=end - start)
    assert segment(utterance, first + count, rate) == (first, count)
    whole = Utterance("u", "a.wav", "", start=start)
    assert segment(whole, first + count, rate) == (first, count)


def test_segment_past_the_end():
    assert segment(Utterance("u", "a.wav", "", start=0.5, seconds=0.6), RATE, RATE) == (4000, 4000)
    assert segment(Utterance("u", "a.wav", ""), 0, RATE) == (0, 0)
    for start, seconds, shown in [
        (0.5, 0.601, "from 0.500 s to 1.101 s of a file of 1.000 s; "),
        (1.0, 0.05, "from 1.000 s to 1.050 s of a file of 1.000 s; "),
        (2.0, None, "from 2.000 s to the end of a file of 1.000 s; "),
        (1e308, 1e308, "of a file of 1.000 s; "),
    ]:
        message = fault(segment, Utterance("u", "a.wav", "", start=start, seconds=seconds), RATE, RATE)
        assert message.startswith("a.wav (utterance u): ")
        assert shown in message


# Sound


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_16_bits_pass_unchanged(tmp_path, name):
    samples = noise()
    samples[:2] = -32768, 32767
    utterance = save(tmp_path / name, samples)
    sound = read(utterance)
    assert (sound.dtype, sound.min() >= -1.0) == (np.float32, True)
    np.testing.assert_array_equal(audio.to_int16(sound), samples)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
def test_only_the_segment_is_read(tmp_path, name):
    whole = save(tmp_path / name, noise())
    part = Utterance("u", whole.audio, "", start=1000 / RATE, seconds=500 / RATE)
    np.testing.assert_allclose(read(part), read(whole)[1000:1500], atol=1e-6)


def test_channels(tmp_path):
    samples = noise(100, 2)
    utterance = save(tmp_path / "a.wav", samples)
    np.testing.assert_allclose(read(utterance), samples.mean(axis=1) / 32768, atol=1e-7)
    for channel in (0, 1):
        np.testing.assert_array_equal(audio.to_int16(read(utterance, channel=channel)), samples[:, channel])
    for channel in (-1, 2):
        message = fault(read, utterance, channel=channel)
        assert f"a.wav (utterance u): channel {channel} of a file of 2; 0 to 1 was expected; " in message


@given(st.integers(0, 3000), st.sampled_from([4000, 8000, 11025, 16000, 44100]), st.sampled_from([0.9, 1.0, 1.1]))
@settings(max_examples=60, deadline=None)
def test_resampled_read_has_the_stated_length(tmp_path_factory, frames, rate, speed):
    utterance = save(tmp_path_factory.getbasetemp() / "resampled.wav", noise(frames))
    sound = read(utterance, rate, speed=speed)
    length = audio.resampled_length(frames, RATE, rate, speed)
    assert (sound.shape, sound.dtype) == ((length,), np.float32)
    # No more than the odd sample is padded or cut.
    assert abs(len(soxr.resample(np.zeros(frames, np.float32), RATE * speed, rate)) - length) <= 1


def test_speed_moves_the_pitch(tmp_path):
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / RATE)
    utterance = save(tmp_path / "a.wav", 0.5 * tone, subtype="FLOAT")
    sound = read(utterance, 16000, speed=1.25)
    assert len(sound) == 12800
    wanted = 0.5 * np.sin(2 * np.pi * 1250 * np.arange(12800) / 16000)
    np.testing.assert_allclose(sound[500:-500], wanted[500:-500], atol=2e-3)


def test_zero_frames(tmp_path):
    utterance = save(tmp_path / "a.wav", noise(0))
    assert read(utterance, 16000).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_samples(tmp_path, bad):
    samples = np.zeros(100, np.float32)
    samples[50] = bad
    utterance = save(tmp_path / "a.wav", samples, subtype="FLOAT")
    assert "a.wav (utterance u): infinite or NaN samples; " in fault(read, utterance)
    assert read(Utterance("v", utterance.audio, "", seconds=50 / RATE)).shape == (50,)


def test_file_cut_short(tmp_path):
    utterance = save(tmp_path / "a.mp3", noise(40000))
    raw = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(raw[: len(raw) // 2])
    message = fault(read, utterance)
    assert "a.mp3 (utterance u): ends " in message
    assert " frames early; 40000 frames, as its header says, were expected; " in message


def test_flac_cut_short_or_claiming_too_much(tmp_path):
    utterance = save(tmp_path / "a.flac", noise(40000))
    raw = (tmp_path / "a.flac").read_bytes()
    for length in range(100, len(raw) - 1, len(raw) // 20):
        (tmp_path / "a.flac").write_bytes(raw[:length])
        assert "a.flac" in fault(read, utterance)
    (tmp_path / "a.flac").write_bytes(raw)
    claim_frames(tmp_path / "a.flac", 50000)
    assert "a.flac (utterance u): cannot be decoded (" in fault(read, utterance)


def test_file_that_is_gone(tmp_path):
    utterance = save(tmp_path / "a.wav", noise(100))
    pathlib.Path(utterance.audio).unlink()
    assert "a.wav (utterance u): No such file or directory; " in fault(read, utterance)


def test_to_int16_rounds_halves_to_even_and_clips():
    values = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 32767.4, 32768, 99999, -32768, -99999]) / 32768
    rounded = audio.to_int16(values.astype(np.float32))
    assert rounded.dtype == np.int16
    assert rounded.tolist() == [0, 2, 2, 0, -2, 32767, 32767, 32767, -32768, -32768]


@given(st.integers(-32768, 32767))
@settings(deadline=None)
def test_to_int16_undoes_the_division(sample):
    assert audio.to_int16(np.array([sample / 32768], np.float32))[0] == sample
