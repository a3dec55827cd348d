import dataclasses
import json
import os
import shutil
from typing import Any

import numpy as np
import pytest
import soundfile

from jaxasr.data import audio, manifest, pack, packs
from jaxasr.data.audio import SoundSource
from jaxasr.data.pack import PackOptions
from jaxasr.data.probe import headers
from jaxasr.data.selection import lengths
from jaxasr.errors import ConfigError, DataError

SOURCE = SoundSource(16_000)
KINDS = [
    ("wav", "PCM_16"), ("flac", "PCM_16"), ("wav", "PCM_24"), ("wav", "PCM_U8"), ("wav", "ULAW"), ("wav", "FLOAT"),
    ("mp3", None), ("ogg", None), ("wav", "PCM_32"), ("flac", "PCM_24"),
]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> str:
    """A file of every kind, whole and a part of it, at several rates and of one or two channels; two are damaged."""
    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    rows = []
    for number, (suffix, subtype) in enumerate(KINDS):
        sound = rng.uniform(-0.5, 0.5, (int(rng.integers(3000, 6000)), 1 + number % 2))
        soundfile.write(folder / f"{number}.{suffix}", sound, [8000, 16_000, 44_100][number % 3], subtype=subtype)
        rows.append({"id": f"whole{number}", "source": f"{number}.{suffix}", "text": f"all of {number}"})
        part = {"offset": 0.013, "duration": 0.03 + number / 7000, "speaker": "anna"}
        rows.append(rows[-1] | part | {"id": f"part{number}", "text": "ein Teil \u2028 ü"})
    (folder / "cut.flac").write_bytes((folder / "1.flac").read_bytes()[:3000])
    (folder / "no.wav").write_bytes(b"RIFF")
    rows += [{"id": name, "source": name, "text": "x"} for name in ("cut.flac", "no.wav")]
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "m.jsonl")


@pytest.fixture
def small_shards(monkeypatch):
    """Of a few utterances each."""
    monkeypatch.setattr(pack, "_MIB", 2**15)


def packed(corpus: str, folder) -> pack.Packed:
    return pack.pack(PackOptions((corpus, str(folder)), shard_mib=1, workers=2))


@pytest.mark.usefixtures("small_shards")
def test_a_pack_is_the_corpus_to_the_bit(corpus, tmp_path):
    done = packed(corpus, tmp_path / "p")
    assert (done.utterances, sorted(done.faults)) == (2 * len(KINDS), ["cut.flac", "no.wav"])
    assert 2 < done.shards < len(KINDS)
    kept = [u for u in manifest.read(corpus) if u.id not in done.faults]
    copies = manifest.read(tmp_path / "p")
    known, found = headers(kept, SOURCE), headers(copies, SOURCE, whole=True)
    for one, other in zip(kept, copies, strict=True):
        assert (one.id, one.text, one.speaker) == (other.id, other.text, other.speaker)
        for speed in (1.0, 0.9):
            plain, copy = (SOURCE.read(dataclasses.replace(u, speed=speed)) for u in (one, other))
            np.testing.assert_array_equal(plain, copy)
            for utterance, infos in ((one, known), (other, found)):
                assert lengths(utterance, infos, SOURCE, (speed,)) == (len(plain),)
    names = {packs.INDEX, pack.LEFT_OUT, *(packs.shard(number) for number in range(done.shards))}
    assert set(os.listdir(tmp_path / "p")) == names
    listed = (tmp_path / "p" / pack.LEFT_OUT).read_text()
    assert {json.loads(line)["id"] for line in listed.splitlines()} == set(done.faults)


@pytest.mark.usefixtures("small_shards")
def test_lengths_are_known_without_the_sound(corpus, tmp_path, monkeypatch):
    packed(corpus, tmp_path / "p")
    copies = manifest.read(tmp_path / "p")
    monkeypatch.setattr(packs, "sound", None)
    monkeypatch.setattr(audio, "info", None)
    assert len(headers(copies, SOURCE, whole=True)) == len(copies)


@pytest.mark.usefixtures("small_shards")
def test_the_same_command_goes_on_where_it_stopped(corpus, tmp_path, monkeypatch):
    written, begun = [], pack._write_part

    def interrupted(folder, number, *args):
        if number == 2 and 2 not in written:
            written.append(number)
            raise KeyboardInterrupt
        written.append(number)
        return begun(folder, number, *args)

    monkeypatch.setattr(pack, "_write_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        packed(corpus, tmp_path / "p")
    assert not packs.is_pack(str(tmp_path / "p"))
    with pytest.raises(DataError, match="the beginning of a copy of other utterances"):
        pack.pack(PackOptions((corpus, str(tmp_path / "p")), shard_mib=5))
    done = packed(corpus, tmp_path / "p")
    assert written == [0, 1, 2, 2, *range(3, done.shards)]
    packed(corpus, tmp_path / "q")
    one, other = (manifest.read(tmp_path / name) for name in "pq")
    assert [dataclasses.replace(u, audio=u.audio.replace("/q/", "/p/")) for u in other] == one
    sounds = [packs.sound(u.audio, "") for u in one]
    assert sounds == [packs.sound(u.audio, "") for u in other]
    floats = [sound for sound in sounds if b"PEAK" in sound[:64]]  # libsndfile's chunk with the time of writing
    assert any(sound[sound.index(b"PEAK") + 12 :][:4] == bytes(4) for sound in floats)


def test_what_is_there_stays(corpus, tmp_path):
    (tmp_path / "note").write_text("mine")
    for folder in (tmp_path, tmp_path / "note"):
        with pytest.raises(DataError, match="there already"):
            packed(corpus, folder)
    assert os.listdir(tmp_path) == ["note"]


def test_what_stopped_behind_the_index_ends(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(pack.os, "remove", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        packed(corpus, tmp_path / "p")
    assert packs.is_pack(str(tmp_path / "p"))
    monkeypatch.undo()
    packed(corpus, tmp_path / "p")
    assert set(os.listdir(tmp_path / "p")) == {packs.INDEX, pack.LEFT_OUT, packs.shard(0)}


def test_nothing_is_begun_of_what_cannot_be_read(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"source": "none.wav", "text": "x"}\n')
    with pytest.raises(DataError, match=r"none of 1 utterances can be read.*none\.wav"):
        packed(str(tmp_path / "m.jsonl"), tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_a_full_disk_and_going_on(corpus, tmp_path):
    """The limit on a file's size is what a full disk is to a process."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**15, before[1]))
    try:
        with pytest.raises(DataError, match=r"p: cannot be written \(.*File too large"):
            packed(corpus, tmp_path / "p")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert packed(corpus, tmp_path / "p").utterances == 2 * len(KINDS)


@pytest.mark.parametrize("damage", [0, 10, 200, 1000, -1])
def test_a_damaged_index_is_seen(corpus, tmp_path, damage):
    packed(corpus, tmp_path / "p")
    index = tmp_path / "p" / packs.INDEX
    index.write_bytes(index.read_bytes()[:damage])
    with pytest.raises(DataError, match=r"index\.npz: cannot be read"):
        manifest.read(tmp_path / "p")


def test_an_index_that_is_none(corpus, tmp_path):
    packed(corpus, tmp_path / "p")
    index = tmp_path / "p" / packs.INDEX
    with np.load(index) as stored:
        whole = dict(stored)
    frames, ids = whole["frames"], whole["ids"].tobytes()
    for changes in (
        {"frames": np.int64(3)}, {"frames": frames[None]}, {"frames": frames * 1.0}, {"frames": frames[1:]},
        {"rates": frames * 0}, {"channels": -frames}, {"records": np.array([2**60])}, {"records": np.array([-1])},
        {"sizes": np.zeros(0, int)}, {"ids": np.frombuffer(ids + b"\0more", np.uint8)},
        {"ids": np.frombuffer(ids + b" b", np.uint8)}, {"texts": np.frombuffer(b"\xff", np.uint8)},
        {"speakers": np.array([{}], object)},
    ):  # fmt: skip
        columns: Any = whole | changes
        np.savez(index, **columns)
        with pytest.raises(DataError, match=r"index\.npz: cannot be read"):
            manifest.read(tmp_path / "p")


def test_a_damaged_shard_is_seen(corpus, tmp_path):
    packed(corpus, tmp_path / "p")
    shard = tmp_path / "p" / packs.shard(0)
    content = bytearray(shard.read_bytes())
    content[content.index(b"fLaC") + 4] ^= 1
    shutil.copytree(tmp_path / "p", tmp_path / "q")
    (tmp_path / "q" / packs.shard(0)).write_bytes(content)
    with pytest.raises(DataError, match=r"shard-00000\.array_record:\d+ \(utterance .*\): cannot be read"):
        [SOURCE.read(utterance) for utterance in manifest.read(tmp_path / "q")]
    shard.write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"shard-00000\.array_record: \d+ bytes; \d+, as index\.npz says"):
        manifest.read(tmp_path / "p")


def test_a_pack_of_a_pack_and_text_alone(corpus, tmp_path):
    packed(corpus, tmp_path / "p")
    again = pack.pack(PackOptions((str(tmp_path / "p"), str(tmp_path / "again"))))
    assert again.utterances == 2 * len(KINDS)
    texts = [u.text for u in manifest.read(tmp_path / "again", kind="text")]
    assert texts == [u.text for u in manifest.read(tmp_path / "p")]


def test_options(tmp_path):
    with pytest.raises(ConfigError, match="MANIFEST"):
        pack.pack(PackOptions(("one",)))
    with pytest.raises(ConfigError, match="--shard_mib=0"):
        pack.pack(PackOptions(("one", "two"), shard_mib=0))
