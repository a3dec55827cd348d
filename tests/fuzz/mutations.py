"""Files that were valid, and are so no more: bytes flipped, lines cut, fields swapped, numbers that are none, ..."""

import gzip
import re
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

LARGEST = 100_000
"""Bytes that repeating makes of a file at most."""
_FIELD = re.compile(rb"[^\s,:=\"\[\]{}|]+")

Draw = Callable[[st.SearchStrategy], object]
_Mutation = Callable[..., bytes]

ODD = (
    *(b"", b"\0", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\xef\xbb\xbf", b"\x1f\x8b"),
    *(b"\r", b"\n", b"\n\n", b" ", b"\t", b"\x0b", b"\x0c", b"\x1c", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe3\x80\x80"),
    *(b"\xe2\x80\x8b", b"\xe2\x80\xae", b"\xf0\x9f\x98\x80", b"e\xcc\x81", b"\xcc\x81", b"\xd9\xa1", b"\xc2\xb2"),
    *(b"nan", b"NaN", b"inf", b"-Infinity", b"-1", b"-0.0", b"0", b"1e999", b"1e300", b"1e-320", b"1_0", b"0x10"),
    *(b"9" * 400, b"9" * 5000, b"9" * 20_000 + b"x", b"." * 9, b"1.2.3", b"9223372036854775808"),
    *(b"true", b"null", b"~", b"''", b'""', b"'", b'"', b"\\", b"|", b"a |", b",", b":", b"#", b"/"),
    *(b"../../x", b"/dev/zero", b"~/x", b"https://example.org/a.wav", b"a.npy", b"a.ark:" + b"9" * 5000, b"a" * 5000),
    *(b"<blank>", b"<unk>", b"<s>", b"18446744073709551616"),
    *(b"[" * 3000, b'{"a":' * 3000, b"{" * 3000, b"- " * 3000, b"(" * 3000),
)  # fmt: skip


def mutated(files: dict[str, bytes], words: Sequence[bytes] = ()) -> st.SearchStrategy[dict[str, bytes]]:
    """The files with one to three faults; of several files one may be missing.

    Args:
      words: what stands in such files, to be written where it does not belong.
    """
    return _mutated(files, (*ODD, *words))


@st.composite
def _mutated(draw: Draw, files: dict[str, bytes], words: Sequence[bytes]) -> dict[str, bytes]:
    changed = dict(files)
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(changed)))
        changed[name] = draw(st.sampled_from(_MUTATIONS))(draw, changed[name], words)
        if len(changed) > 1 and draw(st.integers(0, 50)) == 0:
            del changed[name]
    return changed


def _place(draw: Draw, content: bytes) -> int:
    return draw(st.integers(0, len(content)))


def _span(draw: Draw, content: bytes) -> tuple[int, int]:
    first = _place(draw, content)
    return first, min(len(content), first + draw(st.sampled_from((1, 2, 5, 20, 300))))


def _flipped(draw: Draw, content: bytes, words: Sequence[bytes]) -> bytes:
    out = bytearray(content)
    for _ in range(draw(st.integers(1, 4)) if out else 0):
        out[draw(st.integers(0, len(out) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(out)


def _overwritten(draw: Draw, content: bytes, words: Sequence[bytes]) -> bytes:
    first, last = _span(draw, content)
    return content[:first] + draw(st.binary(max_size=8)) + content[last:]


def _cut_short(draw: Draw, content: bytes, words: Sequence[bytes]) -> bytes:
    return content[: _place(draw, content)]


def _with_a_word(draw: Draw, content: bytes, words: Sequence[bytes]) -> bytes:
    at = _place(draw, content)
    return content[:at] + draw(st.sampled_from(words)) + content[at:]


def _field_for_a_word(draw: Draw, content: bytes, words: Sequence[bytes]) -> bytes:
    if not (fields := [*_FIELD.finditer(content)]):
        return content
    field = draw(st.sampled_from(fields))
    return content[: field.start()] + draw(st.sampled_from(words)) + content[field.end() :]


def _fields_swapped(draw: Draw, content: bytes, words: Sequence[bytes]) -> bytes:
    if len(fields := [*_FIELD.finditer(content)]) < 2:
        return content
    first, second = sorted(draw(st.integers(0, len(fields) - 1)) for _ in range(2))
    a, b = fields[first].span(), fields[second].span()
    if a == b:
        return content
    return content[: a[0]] + content[slice(*b)] + content[a[1] : b[0]] + content[slice(*a)] + content[b[1] :]


def _lines_moved(draw: Draw, content: bytes, words: Sequence[bytes]) -> bytes:
    lines = content.splitlines(keepends=True)
    for _ in range(draw(st.integers(1, 3)) if lines else 0):
        line = lines.pop(draw(st.integers(0, len(lines) - 1)))
        copies = draw(st.integers(0, 2))
        at = draw(st.integers(0, len(lines)))
        lines[at:at] = [line] * copies
        if not lines:
            break
    return b"".join(lines)


def _newlines(draw: Draw, content: bytes, words: Sequence[bytes]) -> bytes:
    pieces = content.split(b"\n")
    ends = [draw(st.sampled_from((b"\n", b"\r\n", b"\r", b"\n\n", b" ", b"\xc2\x85")) if i < 8 else st.just(b"\n"))
            for i in range(len(pieces) - 1)]  # fmt: skip
    return b"".join(piece + end for piece, end in zip(pieces, [*ends, b""], strict=True))


def _repeated(draw: Draw, content: bytes, words: Sequence[bytes]) -> bytes:
    first, last = _span(draw, content)
    times = min(draw(st.sampled_from((2, 10, 1000, 100_000))), LARGEST // max(last - first, 1))
    return content[:first] + content[first:last] * times + content[last:]


def _encoded(draw: Draw, content: bytes, words: Sequence[bytes]) -> bytes:
    name = draw(st.sampled_from(("utf-16", "utf-8-sig", "utf-32", "utf-7", "gzip")))
    return gzip.compress(content, 1, mtime=0) if name == "gzip" else content.decode("latin-1").encode(name)


_MUTATIONS: tuple[_Mutation, ...] = (
    *(_flipped, _overwritten, _cut_short, _with_a_word, _with_a_word, _field_for_a_word, _field_for_a_word),
    *(_fields_swapped, _lines_moved, _newlines, _repeated, _encoded),
)
