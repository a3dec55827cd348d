"""Sharded copies of corpora."""

import pathlib
import sys

import pytest

from jaxasr.data import manifest, pack, packs
from jaxasr.data.audio import SoundSource
from jaxasr.data.pack import PackOptions
from jaxasr.errors import DataError
from tests.errors.files import kaldi, sound, write


def packed(shard_mib: int = 1, folder: str = "p") -> None:
    """A copy of the Kaldi folder `data`."""
    kaldi("data")
    sound("data/u.wav")
    pack.pack(PackOptions(("data", folder), shard_mib=shard_mib))


def twice() -> None:
    packed()
    packed()


def begun_otherwise() -> None:
    write(f"p/{pack.PLAN}", "{}")
    packed()


def forgetful_disk() -> None:
    packed()
    pack._verify(f"p/{packs.shard(0)}", [b""])


def without_array_record() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "array_record.python", None)
        packed()


def changed(name: str, content: bytes) -> None:
    packed()
    write(f"p/{name}", content)
    manifest.read("p")


def other_shard() -> None:
    packed()
    shard = pathlib.Path("p", packs.shard(0))
    content = bytearray(shard.read_bytes())
    content[content.index(b"RIFF") + 4] ^= 1
    shard.write_bytes(content)
    for utterance in manifest.read("p"):
        SoundSource(8000).read(utterance)


def other_record() -> None:
    packed()
    (error,) = packs.headers([f"p/{packs.shard(0)}:9"]).values()
    assert isinstance(error, DataError)
    raise error


def features() -> None:
    packed()
    manifest.read("p", kind="features")


CASES = {
    "a pack of nothing": lambda: pack.pack(PackOptions(("data",))),
    "shards of nothing": lambda: packed(0),
    "a pack into a full folder": twice,
    "a pack begun otherwise": begun_otherwise,
    "a pack of what is not there": lambda: pack.pack(PackOptions((kaldi("data"), "p"))),
    "a pack where nothing can be written": lambda: packed(folder="data/u.wav/p"),
    "a disk that forgets": forgetful_disk,
    "a pack without array_record": without_array_record,
    "a pack without its index": lambda: changed(packs.INDEX, b"x"),
    "a pack cut short": lambda: changed(packs.shard(0), b"x"),
    "a pack that was changed": other_shard,
    "a record beyond its shard": other_record,
    "a pack for features": features,
}
