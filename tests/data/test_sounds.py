import errno
import os
import pathlib
import shutil

import numpy as np
import pytest
import soundfile

from jaxasr.data import audio, sounds
from jaxasr.data.sounds import SoundFile
from jaxasr.errors import DataError


def write(path: pathlib.Path, samples=100, rate: int = 8000, **options) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(samples, int):
        samples = np.random.default_rng(0).uniform(-0.5, 0.5, samples)
    soundfile.write(path, samples, rate, **options)
    return path


def fault(path: str | pathlib.Path) -> str:
    with pytest.raises(DataError) as caught:
        sounds.find(str(path), 8000, "--preprocess.noise")
    message = str(caught.value)
    assert message.startswith(f"--preprocess.noise={path}: ")
    return message.removeprefix(f"--preprocess.noise={path}: ")


def names(path: str | pathlib.Path) -> list[str]:
    return [pathlib.Path(file.path).name for file in sounds.find(str(path), 8000, "--x")]


# Finding


def test_a_folder_is_searched_to_its_ground_in_a_fixed_order(tmp_path):
    for name in ("b.wav", "a/z.flac", "a/deep/er/c.WAV", "._b.wav", ".hidden/d.wav"):
        write(tmp_path / name)
    (tmp_path / "README.md").write_text("no sound")
    outside = write(tmp_path.parent / f"{tmp_path.name}_outside" / "e.wav")
    os.symlink(outside.parent, tmp_path / "linked")
    os.symlink(tmp_path, tmp_path / "a" / "back")
    assert names(tmp_path) == ["c.WAV", "z.flac", "b.wav", "e.wav"]
    shutil.rmtree(outside.parent)


def test_a_list_of_ids_and_paths_or_of_paths(tmp_path, monkeypatch):
    for name in ("b.wav", "sub/a.wav", "sub/with space.wav"):
        write(tmp_path / "lists" / name)
    (tmp_path / "lists" / "noise.scp").write_text(
        f"one b.wav\nsub/a.wav\n2 sub/with space.wav\nfour {tmp_path}/lists/b.wav\n"
    )
    monkeypatch.chdir(tmp_path)
    found = sounds.find("lists/noise.scp", 8000, "--x")
    assert [os.path.basename(file.path) for file in found] == ["b.wav", "a.wav", "with space.wav", "b.wav"]
    assert all((file.frames, file.rate) == (100, 8000) for file in found)
    monkeypatch.chdir(tmp_path / "lists")
    assert names("noise.scp") == [os.path.basename(file.path) for file in found]


def test_a_path_with_spaces_without_an_id(tmp_path):
    write(tmp_path / "my noise.wav")
    (tmp_path / "noise.scp").write_text("my noise.wav\nid my noise.wav\n")
    assert names(tmp_path / "noise.scp") == ["my noise.wav", "my noise.wav"]
    write(tmp_path / "noise.wav")
    with pytest.raises(DataError, match=r"noise.scp:1: .*/noise.wav behind an id, or .*/my noise.wav; there are both"):
        names(tmp_path / "noise.scp")


def test_one_file(tmp_path):
    assert names(write(tmp_path / "a.wav")) == ["a.wav"]


@pytest.mark.parametrize("suffix", audio.SUFFIXES)
def test_every_suffix_is_that_of_a_sound_file(tmp_path, suffix):
    formats = {"oga": "OGG", "opus": "OGG", "mp2": "MP3", "aif": "AIFF", "aifc": "AIFF", "snd": "AU", "sph": "NIST"}
    name = suffix[1:]
    options = {"format": formats.get(name, name.upper())} | ({"subtype": "OPUS"} if name == "opus" else {})
    assert names(write(tmp_path / f"a{suffix.upper()}", 1000, **options).parent) == [f"a{suffix.upper()}"]


def test_a_name_that_is_not_utf8(tmp_path):
    shutil.copy(write(tmp_path / "a.wav"), os.fsencode(tmp_path) + b"/caf\xe9.wav")
    assert r"/caf\udce9.wav: a name that is not UTF-8; UTF-8 was expected; rename" in fault(tmp_path)


def test_faults_of_folders_and_lists(tmp_path):
    assert fault(tmp_path / "gone").startswith("no such file or folder; a folder of sound files or a list")
    assert fault(tmp_path / "gone.wav").startswith(f"1 of 1 sound files cannot be used: {tmp_path}/gone.wav: No such")
    assert fault(tmp_path).startswith("no sound file; names that end in .wav .flac ")
    (tmp_path / "noise.scp").write_text("a sub/gone.wav\n")
    assert fault(tmp_path / "noise.scp").startswith(
        f"1 of 1 sound files cannot be used: {tmp_path}/noise.scp:1: {tmp_path}/sub/gone.wav: No such file"
    )
    (tmp_path / "noise.scp").write_text("a sox x.wav -t wav - |\n")
    with pytest.raises(DataError, match=r"noise.scp:1: 'sox x.wav -t wav - \|' is a shell command"):
        sounds.find(str(tmp_path / "noise.scp"), 8000, "--x")


def test_faults_of_files_show_before_they_are_drawn(tmp_path):
    write(tmp_path / "good.wav")
    bad = tmp_path / "zbad.wav"
    write(bad, 0)
    assert fault(tmp_path).startswith(f"1 of 2 sound files cannot be used: {bad}: 0 samples; some sound was expected")
    write(bad, 1, 48_000)  # a sixth of a sample
    assert "1 samples; some sound was expected" in fault(tmp_path)
    write(bad, np.array([0.1, np.nan]), subtype="FLOAT")
    assert f"{bad}: infinite or NaN samples" in fault(tmp_path)
    bad.write_text("RIFF, no sound")
    assert f"{bad}: begins like no" in fault(tmp_path)
    bad.unlink()
    assert names(tmp_path) == ["good.wav"]


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    write(tmp_path / "a.wav")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def closed(folder):
        if str(folder).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", closed)
    assert fault(tmp_path).startswith(
        f"{tmp_path}/closed: Permission denied; a folder that can be read was expected; check its permissions."
    )


# Stretches


@pytest.mark.parametrize("rate", [4000, 8000, 11_025, 48_000])
def test_of_a_longer_file_a_stretch_is_read_and_no_more(tmp_path, monkeypatch, rate):
    """The file is a ramp, so that a sample tells where it stands."""
    frames, samples = 2 * rate, 3000
    path = write(tmp_path / "ramp.wav", np.arange(frames) / frames, rate, subtype="FLOAT")
    reads = []
    excerpt = audio.excerpt
    monkeypatch.setattr(audio, "excerpt", lambda *args: reads.append(args[2:]) or excerpt(*args))
    file, starts = SoundFile(str(path), frames, rate), []
    for seed in range(300):
        found = sounds.crop(file, samples, 8000, np.random.default_rng(seed))
        first, count = reads[-1]
        assert (found.shape, found.dtype, count) == ((samples,), np.float32, -(-samples * rate // 8000))
        inside = slice(200, -200)  # the resampler's filter takes the file to be 0 outside of the stretch
        expected = (first + np.arange(samples) * rate / 8000) / frames
        np.testing.assert_allclose(found[inside], expected[inside], atol=3e-3)
        starts.append(first / (frames - count))
    assert (min(starts) < 0.02, max(starts) > 0.98) == (True, True)
    assert max(starts) <= 1.0


def test_a_file_of_just_the_length_is_read_whole(tmp_path):
    path = write(tmp_path / "a.wav", 300)
    whole = audio.excerpt(str(path), 8000, 0, 300)
    for seed in range(5):
        found = sounds.crop(SoundFile(str(path), 300, 8000), 300, 8000, np.random.default_rng(seed))
        np.testing.assert_array_equal(found, whole)


def test_a_shorter_file_is_gone_through_again(tmp_path):
    path = write(tmp_path / "short.wav", np.arange(1, 8) / 10, subtype="FLOAT")
    starts = set()
    for seed in range(60):
        found = sounds.crop(SoundFile(str(path), 7, 8000), 40, 8000, np.random.default_rng(seed))
        place = np.round(10 * found).astype(int) - 1
        np.testing.assert_array_equal(np.diff(place) % 7, 1)
        starts.add(int(place[0]))
    assert starts == set(range(7))


@pytest.mark.parametrize("samples", [0, 1, 99, 1000])
def test_any_rate_gives_the_samples_asked_for(tmp_path, samples):
    for rate in (8000, 11_025, 44_100):
        path = write(tmp_path / f"{rate}.wav", 300, rate)
        found = sounds.crop(SoundFile(str(path), 300, rate), samples, 16_000, np.random.default_rng(0))
        assert (found.shape, found.dtype) == ((samples,), np.float32)


# Rooms


def test_a_response_is_resampled_and_its_first_channel_taken(tmp_path):
    room = np.zeros((4800, 2))
    room[480, 0], room[960, 1] = 0.9, 0.9
    path = write(tmp_path / "room.wav", room, 48_000)
    taps = sounds.response(SoundFile(str(path), 4800, 48_000), 16_000)
    assert (taps.shape, taps.dtype) == ((1600,), np.float32)
    assert np.argmax(np.abs(taps)) == 160
    assert np.max(np.abs(taps[300:])) < 1e-3
    assert sounds.response(SoundFile(str(path), 4800, 48_000), 16_000) is taps
    with pytest.raises(ValueError, match="read-only"):
        taps[0] = 1.0


def test_a_response_of_zeros_is_a_fault_with_its_name(tmp_path):
    path = write(tmp_path / "room.wav", np.zeros(10))
    with pytest.raises(DataError, match=r"room.wav: all zeros; the impulse response of a room was expected; remove"):
        sounds.response(SoundFile(str(path), 10, 8000), 8000)
