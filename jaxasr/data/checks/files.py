"""Text files as bytes and lines."""

from collections.abc import Iterator

from jaxasr.data.checks.part import Finding, Part
from jaxasr.data.checks.table import error, info, met, warning

met("not-a-manifest", "a path that is no manifest", fix="name a Kaldi folder, or a .jsonl, .json, .csv or .tsv file")


@error("unreadable-file", "a text file that cannot be read", fix="check the path, its permissions and its packing")
def unreadable(part: Part) -> Iterator[Finding]:
    for file in part.files:
        if file.fault:
            yield Finding(file.path, 0, "", file.fault)


@error("empty-file", "a text file without lines", fix="check what wrote the file")
def empty(part: Part) -> Iterator[Finding]:
    for file in part.files:
        if not (file.fault or file.lines):
            yield Finding(file.path, 0, "", "no lines")


@error("not-utf8", "a line with bytes that are not UTF-8", fix="convert the file with iconv")
def not_utf8(part: Part) -> Iterator[Finding]:
    for file in part.files:
        yield from (Finding(file.path, line, "", f"byte {byte}") for line, byte in file.not_utf8.items())


@error("nul", "a line with a NUL character", fix="remove it, or write the file again: it may be damaged")
def nul(part: Part) -> Iterator[Finding]:
    for file in part.files:
        yield from (Finding(file.path, line, "", "U+0000") for line in file.nul)


@error("blank-line", "a blank line before the end of a file", fix="remove it", written=True)
def blank_line(part: Part) -> Iterator[Finding]:
    for file in part.files:
        yield from (Finding(file.path, line, "", "a blank line") for line in file.blank)


@warning("huge-line", "a line of more than a million characters", fix="check whether line feeds were lost")
def huge_line(part: Part) -> Iterator[Finding]:
    for file in part.files:
        yield from (Finding(file.path, line, "", "a line of a million characters") for line in file.huge)


@warning("bom", "a byte order mark before the first line", fix="write UTF-8 without one", written=True)
def bom(part: Part) -> Iterator[Finding]:
    for file in part.files:
        if file.bom:
            yield Finding(file.path, 1, "", "U+FEFF")


@warning("crlf", "lines that end as Windows ends them", fix="convert the file with dos2unix", written=True)
def crlf(part: Part) -> Iterator[Finding]:
    for file in part.files if part.form != "csv" else ():  # lines of CSV end so (RFC 4180), as Python's csv writes them
        yield from (Finding(file.path, line, "", "a carriage return") for line in file.crlf)


@info("no-final-newline", "a last line without a line feed", fix="check whether the file was cut short")
def no_final_newline(part: Part) -> Iterator[Finding]:
    for file in part.files:
        if not file.ended:
            yield Finding(file.path, file.lines, "", "no line feed")
