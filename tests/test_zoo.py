"""What strangers' sound does: a text or one error of ours that names file and reason, in little time and memory."""

import collections
import contextlib
import io
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
import pytest
import soundfile

import jaxasr
from jaxasr import corpora
from jaxasr.data import audio, manifest
from jaxasr.data.audio import SoundSource
from jaxasr.data.containers import ALLOW_FRAGILE
from jaxasr.data.probe import headers
from jaxasr.decode import read_inputs
from jaxasr.errors import ConfigError, DataError
from jaxasr.long import samples_of
from jaxasr.nn.normalize import Cmvn
from jaxasr.speech_to_text import SpeechToText

from . import tiny
from .errors import catalogue
from .zoo import RATE, SOUND, silence, zoo

LONGEST_WAIT = 5.0
SECTION = catalogue.PAGE.read_text("utf-8").split("\n## Sound files\n")[1].split("\n## ")[0]
MESSAGES = [message for entry in catalogue.entries(SECTION) for message in entry.messages]


@pytest.fixture(scope="module")
def speech() -> SpeechToText:
    """One that never learnt anything, and has heard a sound and a long one."""
    task = tiny.CTC_TASK.prepared(manifest.read(corpora.digits() / "train"))
    task = task.with_resources(cmvn=Cmvn(np.full(80, -9.0, np.float32), np.full(80, 0.4, np.float32)))
    params = jax.jit(task.model().init)(jax.random.key(1), task.batch_spec(jaxasr.BucketShape(1, 8000, 1)))
    speech = SpeechToText(task, jax.device_get(params))
    speech.transcribe([np.zeros(5), np.zeros(40 * RATE)])
    return speech


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_each_gives_a_text_or_one_error_that_names_it(speech, tmp_path, every):
    heard = collections.Counter()
    for number, animal in enumerate(zoo()[::every]):
        path = tmp_path / f"{number}.wav"
        name = animal.make(path)
        name = name if isinstance(name, str) else str(path)
        began = time.perf_counter()
        try:
            said = speech.transcribe(name)
            heard["text"] += 1
            assert isinstance(said, str) and animal.fault in (None, "*"), animal.name
        except DataError as error:
            message = str(error)
            heard["error"] += 1
            shown = name.encode(errors="backslashreplace").decode()
            assert message.startswith(shown) and message.count("; ") >= 2, f"{animal.name}: {message}"
            assert animal.fault == "*" or (animal.fault and animal.fault in message), f"{animal.name}: {message}"
            assert any(catalogue.matches(message, listed) for listed in MESSAGES), f"{animal.name}: {message}"
        assert time.perf_counter() - began < LONGEST_WAIT, animal.name
        if path.is_file():
            path.unlink()
    print(dict(heard))
    assert heard["text"] > 300 // every and heard["error"] > 300 // every


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="memory of long silence: no Linux")
def test_ten_hours_of_silence(speech, tmp_path):
    silence(36_000)(tmp_path / "a.wav")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak is the memory of now
    before, began = memory("VmRSS"), time.perf_counter()
    assert speech.transcribe(tmp_path / "a.wav") == ""
    more = memory("VmHWM") - before
    print(f"{time.perf_counter() - began:.1f} s, {more:.0f} MB more")
    assert more < 50


def memory(field: str) -> float:
    """MB that this process has, or at most had."""
    [line] = [line for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) / 1024


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".wav", "a\0b", "a\0b.wav", "\udce9", "a.wav/b", "."])
def test_inputs_that_are_none(tmp_path, name):
    with pytest.raises(DataError, match=r"; .*; "):
        samples_of(read_inputs([os.path.join(tmp_path, name)], "sound"), SoundSource(RATE))


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Without the rights of root, which may read anything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_files_that_may_not_be_read():
    with tempfile.TemporaryDirectory() as name:  # not tmp_path, whose folders are closed to others
        folder = pathlib.Path(name)
        soundfile.write(folder / "a.wav", SOUND, RATE)
        (folder / "inside").mkdir()
        (folder / "inside" / "b.wav").write_bytes((folder / "a.wav").read_bytes())
        folder.chmod(0o755)
        for closed in (folder / "a.wav", folder / "inside"):
            closed.chmod(0)
        with nobody():
            for path in (folder / "a.wav", folder / "inside" / "b.wav"):
                with pytest.raises(DataError, match=r"\.wav: Permission denied; a file was expected"):
                    audio.info(path)
        (folder / "inside").chmod(0o755)


def test_fragile_decoders_where_they_are_allowed(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", SOUND, RATE, subtype="IMA_ADPCM")
    with pytest.raises(DataError, match=f"WAV with codec 0x0011; .* set {ALLOW_FRAGILE}=1 if you trust it"):
        audio.info(tmp_path / "a.wav")
    monkeypatch.setenv(ALLOW_FRAGILE, "1")
    assert audio.info(tmp_path / "a.wav").frames >= len(SOUND)


# Bombs -------------------------------------------------------------------------------------------------------


def quiet(seconds: int, rate: int = RATE, channels: int = 1, **options: str) -> bytes:
    file, options = io.BytesIO(), {"format": "FLAC"} | options
    with soundfile.SoundFile(file, "w", rate, channels, **options) as out:
        block = np.zeros((rate, channels), np.int16)
        for _ in range(seconds):
            out.write(block)
    return file.getvalue()


def changed(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new) :]


BOMBS = {
    "hours of FLAC": lambda: quiet(2 * 3600),
    "an hour of mu-law": lambda: quiet(3600, format="AU", subtype="ULAW"),
    "FLAC of 100 days": lambda: changed(quiet(1), 21, b"\x0f\xff\xff\xff\xff"),
    "FLAC of 11 minutes, it says": lambda: changed(quiet(1), 22, struct.pack(">I", 660 * RATE)),
    "FLAC without a length": lambda: changed(quiet(1), 22, bytes(4)),
    "1024 channels": lambda: quiet(1, RATE, 1024, format="WAV"),
    "65535 channels": lambda: changed(quiet(1, format="WAV"), 22, b"\xff\xff"),
    "2 GHz": lambda: changed(quiet(1, format="WAV"), 24, struct.pack("<I", 2**31 - 1)),
    "1 Hz": lambda: changed(quiet(60, format="WAV"), 24, struct.pack("<I", 1)),
    "8 channels of 655 kHz": lambda: quiet(2, 655_350, 8),
    "1000 Hz for an hour": lambda: quiet(3600, 1000),
}
SLOW_BOMBS = {
    "11 minutes of Opus": lambda: quiet(660, format="OGG", subtype="OPUS"),
    "two hours of Vorbis": lambda: quiet(7200, format="OGG", subtype="VORBIS"),
    "half an hour of MP3": lambda: quiet(1800, format="MP3"),
}
DEFUSED = """
import resource, sys, time
from jaxasr.data.audio import SoundSource
from jaxasr.data.source import MAX_AUDIO_SECONDS
from jaxasr.errors import DataError

def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before = memory()
for path in sys.argv[1:]:
    began = time.perf_counter()
    with open(path, "rb") as file:
        content = file.read()
    try:
        SoundSource(16000).from_bytes(path, content, MAX_AUDIO_SECONDS)
        print("heard", path)
    except DataError as error:
        print(f"{time.perf_counter() - began:.3f} {memory() - before:.1f} {error}")
"""


def defuse(folder: pathlib.Path, bombs: dict[str, Callable[[], bytes]]) -> None:
    """Each is refused within 2 s and 300 MB, in a process of its own."""
    for name, make in bombs.items():
        (folder / name).write_bytes(make())
    done = subprocess.run(
        [sys.executable, "-c", DEFUSED, *(str(folder / name) for name in bombs)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    print(done.stdout)
    assert len(lines) == len(bombs)
    for name, line in zip(bombs, lines, strict=True):
        took, more, error = line.split(" ", 2)
        assert error.startswith(f"{folder / name}: "), line
        assert float(took) < 2.0 and float(more) < 300.0, line


def test_bombs_are_refused(tmp_path):
    defuse(tmp_path, BOMBS)


@pytest.mark.slow
def test_bombs_that_take_long_to_make_are_refused(tmp_path):
    defuse(tmp_path, SLOW_BOMBS)


def test_limits_by_path(speech, tmp_path):
    """None for files, 600 s for bytes, and what is asked for."""
    silence(601)(tmp_path / "a.wav")
    content = (tmp_path / "a.wav").read_bytes()
    assert speech.transcribe(tmp_path / "a.wav") == ""
    with pytest.raises(DataError, match=r"^transcribe: 601.0 s of sound; at most 600 s were expected"):
        speech.transcribe(content)
    assert speech.transcribe(content, max_audio_seconds=601.0) == ""
    with pytest.raises(DataError, match=r"a.wav .utterance 0.: 601.0 s of sound; at most 600.9 s"):
        speech.transcribe(tmp_path / "a.wav", max_audio_seconds=600.9)
    for value in (0.0, float("nan")):
        with pytest.raises(ConfigError, match="--max_audio_seconds="):
            speech.transcribe(content, max_audio_seconds=value)


def test_training_reads_no_file_to_its_end_that_is_too_long_for_it(tmp_path, monkeypatch):
    """Unless a manifest names a part of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    read = []
    monkeypatch.setattr(SoundSource, "check", lambda self, path, header: read.append(pathlib.Path(path).stem))
    utterances = []
    for name, length, seconds in (("short", 1, None), ("long", 9, None), ("cut", 9, 1.0)):
        silence(length)(tmp_path / f"{name}.wav")
        utterances.append(manifest.Utterance(name, str(tmp_path / f"{name}.wav"), "", seconds=seconds))
    headers(utterances, SoundSource(RATE), whole=True, max_seconds=5.0)
    assert sorted(read) == ["cut", "short"]
