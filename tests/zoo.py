"""Sound files of every kind, and what looks like one: each is made in a folder and gives the path to ask for."""

import contextlib
import io
import os
import pathlib
import socket
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import soundfile

RATE = 8000
SOUND = np.random.default_rng(0).uniform(-0.5, 0.5, RATE // 4)
CONTAINERS = {"AIFF", "AU", "CAF", "FLAC", "MP3", "NIST", "OGG", "RF64", "VOC", "W64", "WAV", "WAVEX"}
FRAGILE = {"ADPCM", "G721", "G723", "GSM", "DWVW", "ALAC", "DPCM"}
CUTS = 50


class Animal(NamedTuple):
    """A file, and what is expected of it."""

    name: str
    make: Callable[[pathlib.Path], object]
    """Makes it at a path, or gives the path itself."""
    fault: str | None = None
    """What is said of it; None where it is heard, "*" for either."""


def zoo() -> list[Animal]:
    return [*_kinds(), *_shapes(), *_contents(), *_cut(), *_lies(), *_names(), *_no_files()]


def _kinds() -> Iterator[Animal]:
    """Every container, subtype and byte order that libsndfile writes; but SD2's, which would be two files."""
    for form in sorted({*soundfile.available_formats()} - {"RAW", "SD2"}):
        for subtype in soundfile.available_subtypes(form):
            plain = form in CONTAINERS and not any(name in subtype for name in FRAGILE)
            # a WAV file of MP3 frames is as rare as those of ADPCM
            plain = plain and not (form == "WAV" and subtype.startswith("MPEG"))
            for order in ("FILE", "LITTLE", "BIG"):
                with contextlib.suppress(soundfile.LibsndfileError, ValueError):  # some can only be read
                    soundfile.write(file := io.BytesIO(), SOUND, RATE, format=form, subtype=subtype, endian=order)
                    fault = None if plain else "was expected"
                    yield Animal(f"{form}-{subtype}-{order}", _bytes(file.getvalue()), fault)


def _written(sound: np.ndarray = SOUND, rate: int = RATE, **options: str) -> Callable[[pathlib.Path], None]:
    options = {"format": "WAV"} | options

    def make(path: pathlib.Path) -> None:
        soundfile.write(path, sound, rate, **options)

    return make


def _shapes() -> Iterator[Animal]:
    for rate in (8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000, 384_000):
        yield Animal(f"{rate} Hz", _written(rate=rate))
    for rate in (1, 999, 1_000_001, 2**31 - 1):
        yield Animal(f"{rate} Hz", _written(rate=rate), "samples a second; ")
    for channels in (2, 3, 4, 6, 8, 32, 300):
        yield Animal(f"{channels} channels", _written(np.tile(SOUND[:, None], channels)))
    yield Animal("1024 channels", _written(np.zeros((9, 1024))), "1024 channels of 8000 samples a second; ")
    for form in CONTAINERS:
        for frames in (0, 1):
            # an empty Ogg file of libsndfile has no sound in it, and so no length
            yield Animal(f"{form} of {frames}", _written(SOUND[:frames], format=form), "*")


def _contents() -> Iterator[Animal]:
    for name, value in (("NaN", np.nan), ("Inf", np.inf), ("-Inf", -np.inf)):
        sound = np.where(np.arange(len(SOUND)) == 99, value, SOUND)
        for subtype in ("FLOAT", "DOUBLE"):
            yield Animal(f"{name} in {subtype}", _written(sound, subtype=subtype), "infinite or NaN samples")
    yield Animal("beyond float32", _written(np.full(99, 1e300), subtype="DOUBLE"), "infinite or NaN samples")
    for name, sound in (("silent", 0 * SOUND), ("constant", 0 * SOUND + 0.9), ("clipped", np.sign(SOUND))):
        yield Animal(name, _written(sound))
    yield Animal("too loud", _written(1e6 * SOUND, subtype="FLOAT"))
    yield Animal("half an hour of silence", silence(1800))
    for name, content in (("empty", b""), ("text", b"hello"), ("zeros", bytes(999)), ("page", b"<html></html>")):
        yield Animal(name, _bytes(content), "begins like no known kind")
    yield Animal("ID3 and nothing", _bytes(b"ID3\4\0\0\0\0\0\0" * 99), "begins like no known kind")
    yield Animal("ID3 and FLAC", lambda path: path.write_bytes(b"ID3\4\0\0\0\0\0\3abc" + _content("FLAC", path)))


def silence(seconds: int) -> Callable[[pathlib.Path], None]:
    """Of 16 bits in a file that takes no room on a disk with holes."""

    def make(path: pathlib.Path) -> None:
        size = 2 * RATE * seconds
        head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", size + 36, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16,
                           b"data", size)  # fmt: skip
        path.write_bytes(head)
        os.truncate(path, len(head) + size)

    return make


def _bytes(content: bytes) -> Callable[[pathlib.Path], object]:
    return lambda path: path.write_bytes(content)


def _content(form: str, path: pathlib.Path) -> bytes:
    _written(format=form)(path)
    return path.read_bytes()


def _cut() -> Iterator[Animal]:
    for form in ("WAV", "FLAC", "OGG", "MP3", "AIFF"):
        for part in range(CUTS):
            yield Animal(f"{form} cut at {part} of {CUTS}", _shortened(form, part / CUTS), "*")
    for form in CONTAINERS:
        yield Animal(f"head of {form}", _shortened(form, 0.01), "*")


def _shortened(form: str, share: float) -> Callable[[pathlib.Path], None]:
    def make(path: pathlib.Path) -> None:
        content = _content(form, path)
        path.write_bytes(content[: int(share * len(content))])

    return make


def _lies() -> Iterator[Animal]:
    """Wrong lengths, and other fields of headers that are not true."""
    for size in (0, 1, 100, 10**6, 2**31, 2**32 - 1):
        for place, name in ((4, "RIFF"), (16, "fmt"), (40, "data")):
            yield Animal(f"{name} of {size}", _changed("WAV", place, struct.pack("<I", size)), "*")
    for name, place in (("no channels", 22), ("no rate", 24), ("no block", 32), ("no bits", 34)):
        yield Animal(name, _changed("WAV", place, bytes(2)), "*")
    yield Animal("65535 channels", _changed("WAV", 22, b"\xff\xff"), "; ")
    yield Animal("FLAC of any length", _changed("FLAC", 22, bytes(4)), "leaves the length open")
    yield Animal("FLAC of 100 days", _changed("FLAC", 21, b"\x0f\xff\xff\xff\xff"), "; ")
    yield Animal("FLAC too long", _changed("FLAC", 22, struct.pack(">I", 9999)), "; ")
    yield Animal("FLAC too short", _changed("FLAC", 22, struct.pack(">I", 9)))
    yield Animal("AU of 4 GiB", _changed("AU", 8, struct.pack(">I", 2**32 - 2)), "*")
    # What readers find differs where a list of chunks is broken, so that what they might find counts.
    adpcm = b"JUNK" + struct.pack("<I4sIH", 26, b"fmt ", 16, 0x11) + bytes(16)
    yield Animal("ADPCM in the dark", _changed("WAV", 12, adpcm, inserted=True), "WAV with codec 0x0011")


def _changed(form: str, place: int, new: bytes, *, inserted: bool = False) -> Callable[[pathlib.Path], None]:
    def make(path: pathlib.Path) -> None:
        content = _content(form, path)
        path.write_bytes(content[:place] + new + content[place if inserted else place + len(new) :])

    return make


def _names() -> Iterator[Animal]:
    for name in (
        "with space.wav", "two\nlines.wav", "tab\t.wav", "\x1b[31mred.wav", "ünïcødé.wav", "日本語.wav", "😀.wav",
        "e\u0301.wav", "\u202egpj.wav", "-dash.wav", "--flag=1.wav", "%s%n.wav", "$(id).wav", "`id`.wav", "a;b|c&d.wav",
        "'quote'.wav", '"quote".wav', "back\\slash.wav", "a:1.wav", "CON.wav", ".hidden.wav", "dot..wav", "[1]*?.wav",
        "x" * 250 + ".wav", "no suffix", "wrong.mp3", "raw.flac",
    ):  # fmt: skip
        yield Animal(f"named {name!r}", _named(name))
    for name, fault in (
        ("caf\udce9.wav", "not UTF-8"), ("nul\0.wav", "null"), ("x" * 300 + ".wav", "too long"), ("", "regular file"),
        ("x/" * 3000 + "a.wav", "too long"), ("nowhere.wav", "No such file"), ("a.wav/b.wav", "No such file"),
        ("headerless.raw", "begins like no known kind"),
    ):  # fmt: skip
        yield Animal(f"named {name[:20]!r}", _named(name, make=name.endswith("raw")), fault)


def _named(name: str, make: bool = True) -> Callable[[pathlib.Path], str]:
    def made(path: pathlib.Path) -> str:
        path.mkdir()
        if make:
            soundfile.write(path / "a.wav", SOUND, RATE)
            (path / "a.wav").rename(path / name)
        if name.endswith("raw"):
            (path / name).write_bytes(bytes(100))
        return os.path.join(path, name)

    return made


def _no_files() -> Iterator[Animal]:
    yield Animal("FIFO", os.mkfifo, "not a regular file")
    yield Animal("folder", pathlib.Path.mkdir, "not a regular file")
    yield Animal("loop", lambda path: path.symlink_to(path), "symbolic links")
    yield Animal("dangling", lambda path: path.symlink_to("nowhere"), "No such file")
    yield Animal("socket", _listen, "not a regular file")
    for device in ("/dev/zero", "/dev/null"):
        yield Animal(device, lambda path, to=device: path.symlink_to(to), "not a regular file")


def _listen(path: pathlib.Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)
