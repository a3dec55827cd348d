import importlib.util
import pathlib

import numpy as np
import pytest
import soundfile

from jaxasr import corpora
from jaxasr.data import audio, manifest
from jaxasr.data.audio import SoundSource
from jaxasr.data.probe import probe
from jaxasr.data.source import segment

COUNTS = {"train": 960, "valid": 120, "test": 300}
WORDS = ["ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"]


def folder_bytes(folder: pathlib.Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_digits_is_small_and_says_its_licence():
    assert folder_bytes(corpora.digits()) < 6_000_000
    assert "CC BY-SA 4.0" in (corpora.digits() / "LICENSE").read_text()
    readme = (corpora.digits() / "README.md").read_text()
    assert all(f"| `{name}` | {count} |" in readme for name, count in COUNTS.items())


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_digits_cover_every_digit_and_speaker_evenly(name, count):
    utterances = manifest.read(corpora.digits() / name)
    cells = {(utterance.speaker, utterance.text) for utterance in utterances}
    assert len(utterances) == count
    assert len(cells) == 60
    for speaker, word in cells:
        same = [u for u in utterances if (u.speaker, u.text) == (speaker, word)]
        assert len(same) == count // 60
        assert all(u.id.startswith(f"{speaker}-{WORDS.index(word)}-") for u in same)


@pytest.mark.parametrize("name", COUNTS)
def test_digits_segments_fill_their_files(name):
    utterances = manifest.read(corpora.digits() / name)
    infos = probe({utterance.audio for utterance in utterances}, SoundSource(8000), progress=False)
    ends = dict.fromkeys(infos, 0)
    for utterance in utterances:
        info = infos[utterance.audio]
        assert (info.rate, info.channels) == (8000, 1)
        first, count = segment(utterance, info.frames, info.rate)
        assert first == ends[utterance.audio]
        ends[utterance.audio] += count
        assert utterance.start * 8000 == pytest.approx(first, abs=1e-6)
        assert audio.read(utterance, 8000).shape == (count,)
    assert ends == {path: info.frames for path, info in infos.items()}


def test_digits_sets_share_no_utterance():
    assert len(manifest.read_all(corpora.digits() / name for name in COUNTS)) == sum(COUNTS.values())


@pytest.fixture
def fsdd(tmp_path) -> pathlib.Path:
    """A folder as tools/build_digits.py takes it: one speaker, digits 0 and 1, recordings 0 to 13."""
    rng = np.random.default_rng(0)
    (tmp_path / "fsdd" / "audio").mkdir(parents=True)
    for name, recordings in (("test", range(5)), ("train", range(5, 14))):
        ids = [f"ann-{digit}-{recording:02d}" for digit in (0, 1) for recording in recordings]
        for id_ in ids:
            noise = rng.integers(-9000, 9000, rng.integers(100, 900), np.int16)
            soundfile.write(tmp_path / "fsdd" / "audio" / f"{id_}.flac", noise, 16000)
        folder = tmp_path / "fsdd" / name
        folder.mkdir()
        (folder / "wav.scp").write_text("".join(f"{id_} ../audio/{id_}.flac\n" for id_ in ids))
        (folder / "text").write_text("".join(f"{id_} {WORDS[int(id_[4])]}\n" for id_ in ids))
        (folder / "utt2spk").write_text("".join(f"{id_} ann\n" for id_ in ids))
    return tmp_path / "fsdd"


def load_tool():
    path = pathlib.Path(__file__).parents[1] / "tools" / "build_digits.py"
    spec = importlib.util.spec_from_file_location("build_digits", path)
    assert spec and spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def test_build_digits_keeps_every_sample_and_the_limit(tmp_path, fsdd):
    tool = load_tool()
    size = tool.build(fsdd, tmp_path / "all", 10**6)
    assert size == folder_bytes(tmp_path / "all")
    for name, count in {"train": 14, "valid": 4, "test": 10}.items():
        built = manifest.read(tmp_path / "all" / name)
        originals = {u.id: u for u in manifest.read(fsdd / ("test" if name == "test" else "train"))}
        assert len(built) == count
        for utterance in built:
            original = originals[utterance.id]
            wanted = audio.to_int16(audio.read(original, 8000))
            found = audio.to_int16(audio.read(utterance, 8000))
            np.testing.assert_array_equal(found, wanted)
    assert tool.build(fsdd, tmp_path / "all", size - 1) < size
    assert [u.id[-2:] for u in manifest.read(tmp_path / "all" / "train")] == ["05", "06", "07", "11", "12", "13"] * 2
    with pytest.raises(SystemExit, match="not even a few training recordings"):
        tool.build(fsdd, tmp_path / "none", 1)
    assert not (tmp_path / "none").exists()
