"""What sound files are by their first bytes, before any decoder sees them.

libsndfile chooses a decoder by what a file says of itself. Those of rare codecs, such as ADPCM, are little tested, and
that of IMA ADPCM in WAV files has overflowed twice (CVE-2022-33065, CVE-2026-37555): while the file is opened, so that
asking libsndfile for the codec is too late.
"""

import io
import os
import re
from typing import Literal, NamedTuple

from jaxasr.errors import DataError

ALLOW_FRAGILE = "JAXASR_ALLOW_FRAGILE_SOUND"
"""Set to 1 in the environment it lets every decoder of libsndfile see files."""

Order = Literal["little", "big"]

_SHORT, _HEAD = 512, 1 << 16
"""Bytes in which a header has to say what the codec is; more of those that are lists of chunks."""
_MOST_TAGS = 16


class Kind(NamedTuple):
    """A container and what it holds."""

    container: str
    codec: str

    def __str__(self) -> str:
        return f"{self.container} with codec {self.codec}"


_WAV_CODECS = {1: "PCM", 3: "float", 6: "A-law", 7: "mu-law"}
_PLAIN = {
    "WAV": {*_WAV_CODECS.values()},
    "W64": {*_WAV_CODECS.values()},
    "AIFF": {
        "NONE", "none", "raw ", "twos", "sowt", "in24", "42n1", "in32", "23ni", "fl32", "FL32", "fl64", "FL64", "alaw",
        "ALAW", "ulaw", "ULAW",
    },
    "AU": {*map(str, [*range(1, 8), 27])},
    "CAF": {"lpcm", "alaw", "ulaw"},
    "Ogg": {"Vorbis", "Opus", "FLAC"},
    "FLAC": {""},
    "MP3": {""},
    "NIST": {""},
    "VOC": {""},
}  # fmt: skip
_WITH_CHUNKS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM")
_MARKS = {b"fLaC": "FLAC", b"NIST_1A\n": "NIST", b"Creative Voice File\x1a": "VOC"}
_OGG_CODECS = {b"\x01vorbis": "Vorbis", b"OpusHead": "Opus", b"\x7fFLAC": "FLAC"}


def check(where: str, file: io.BytesIO | io.FileIO) -> None:
    """Raises DataError where a file's decoder is not one of the much tested; leaves the file at its beginning."""
    if os.environ.get(ALLOW_FRAGILE) == "1":
        return
    found = _kinds(_head(file))
    file.seek(0)
    bad = next((str(kind) for kind in found if kind.codec not in _PLAIN[kind.container]), None)
    if bad or not found:
        raise DataError(
            f"{where}: {bad or 'begins like no known kind of sound file'}; WAV, AIFF, AU, CAF, W64, NIST or VOC with "
            "PCM, floats, A-law or mu-law, FLAC, Ogg or MP3 was expected; convert it, remove it from the manifest, or "
            f"set {ALLOW_FRAGILE}=1 if you trust it."
        )


def _head(file: io.BytesIO | io.FileIO) -> bytes:
    """The first bytes behind ID3 tags, which may stand before anything."""
    start, head = 0, file.read(_SHORT)
    for _ in range(_MOST_TAGS):
        if head[:3] != b"ID3" or len(head) < 10:
            break
        a, b, c, d = (byte & 0x7F for byte in head[6:10])
        start += 10 + (a << 21 | b << 14 | c << 7 | d)
        file.seek(start)
        head = file.read(_SHORT)
    return head + file.read(_HEAD) if head[:4] in _WITH_CHUNKS else head


def _kinds(head: bytes) -> list[Kind]:
    """What the file can be; of a header with several chunks that say it, all that they say."""
    magic = head[:4]
    if magic in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        order = "big" if magic == b"RIFX" else "little"
        return [Kind("WAV", _wav_codec(form[8:], order)) for form in _chunks(head, b"fmt ", 12, 4, order)]
    if magic == b"riff":
        return [Kind("W64", _wav_codec(form[24:], "little")) for form in _chunks(head, b"fmt \xf3", 40, 16, "little")]
    if magic == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return [Kind("AIFF", _aiff_codec(common)) for common in _chunks(head, b"COMM", 12, 4, "big")]
    if magic in (b".snd", b"dns."):
        return [Kind("AU", str(int.from_bytes(head[12:16], "big" if magic == b".snd" else "little")))]
    if magic == b"caff" and head[8:12] == b"desc":
        return [Kind("CAF", head[28:32].decode("latin-1"))]
    if magic == b"OggS" and len(head) > 26:
        packet = head[27 + head[26] :]
        return [Kind("Ogg", next((name for mark, name in _OGG_CODECS.items() if packet.startswith(mark)), "unknown"))]
    plain = _without_choice(head)
    return [Kind(plain, "")] if plain else []


def _without_choice(head: bytes) -> str:
    """The container, where it holds one codec."""
    found = (name for mark, name in _MARKS.items() if head.startswith(mark))
    synchronised = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06
    return next(found, "MP3" if synchronised else "")


def _chunks(head: bytes, mark: bytes, first: int, name: int, order: Order) -> list[bytes]:
    """The first chunk of this mark in the list that begins at `first`, and what only looks like one in front of it.

    That counts since readers find their way through a broken list by rules of their own.
    """
    at, bytes_of_size = first, max(name // 2, 4)
    while head[at : at + len(mark)] != mark:
        size = int.from_bytes(head[at + name : at + name + bytes_of_size], order)
        # Sony's W64 counts the name and the size, and fills chunks up to 8 bytes.
        at += (max(size, 24) + 7) // 8 * 8 if name == 16 else 8 + size + size % 2
        if at >= len(head):
            return []
    return [head[found.start() :] for found in re.finditer(re.escape(mark), head[: at + len(mark)])]


def _wav_codec(form: bytes, order: Order) -> str:
    tag = int.from_bytes(form[:2], order)
    if tag == 0xFFFE:  # extensible: the codec is the first number of a GUID
        tag = int.from_bytes(form[24:28], order)
    return _WAV_CODECS.get(tag, f"0x{tag:04x}")


def _aiff_codec(common: bytes) -> str:
    """AIFF's chunk has none; AIFC's says it behind what both have."""
    return "NONE" if int.from_bytes(common[4:8], "big") <= 18 else common[26:30].decode("latin-1")
