"""Transcripts, character by character."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from jaxasr.data.checks.part import Finding, Part, Row
from jaxasr.data.checks.table import info, warning
from jaxasr.data.textfile import few, show

CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]+")
# ZWNJ and ZWJ are letters' own behind those of Arabic, Indic and Mongolian scripts
ZERO_WIDTH = re.compile("[\u00ad\u180e\u200b\u2060-\u2064\ufeff]|(?<![\u0600-\u18af])[\u200c\u200d]")
DIRECTION = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# UTF-8 that was read as Latin-1 or Windows-1252
MOJIBAKE = re.compile("[\u00c2\u00c3][\u0080-\u00bf]|\u00e2\u20ac[\u0080-\u00bf\u2018-\u2122\u0153]|\u00ef\u00bb\u00bf")
ENTITY = re.compile(
    r"&(?:[a-z]{2,6}|#\d{2,5}|#x[0-9a-f]{2,5});|</?(?:b|i|u|br|p|font|div|span)\b[^<>]*>", re.IGNORECASE
)
SPECIAL = re.compile(r"<blank>|<s>|</s>|<eps>|#0")
MIXED = re.compile("[A-Za-z][\u0370-\u03ff\u0400-\u04ff]|[\u0370-\u03ff\u0400-\u04ff][A-Za-z]")
RARE_AMONG = 1000


def mended(text: str) -> str:
    r"""The text in NFC, without control characters, characters of no width and direction marks.

    >>> mended("a\u200bb  c\td")
    'ab c d'
    """
    if text.isascii() and text.isprintable():
        return text
    plain = DIRECTION.sub("", ZERO_WIDTH.sub("", CONTROL.sub(" ", text)))
    plain = plain if plain == text else " ".join(plain.split())
    return unicodedata.normalize("NFC", plain)


def named(symbol: str) -> str:
    r"""A character as a finding shows it.

    >>> named("\u00ad")
    'U+00AD SOFT HYPHEN'
    """
    return f"U+{ord(symbol):04X} {unicodedata.name(symbol, '')}".strip()


def matching(part: Part, pattern: re.Pattern[str]) -> Iterator[tuple[Row, str]]:
    """The utterances whose text has what is looked for, and the first of it."""
    return ((row, found[0]) for row in part.rows if (found := pattern.search(row.text)))


def with_any(part: Part, symbols: Iterable[str]) -> Iterator[Finding]:
    """Findings of the texts that have one of the characters."""
    if chosen := "".join(map(re.escape, symbols)):
        for row, found in matching(part, re.compile(f"[{chosen}]")):
            yield part.at_text(row, named(found))


def where(part: Part, wanted: Callable[[str], object]) -> list[str]:
    """The characters of the texts that are `wanted`."""
    return [symbol for symbol in part.symbols if wanted(symbol)]


@warning("empty-text", "no transcript", fix="write what is said, or remove the utterance")
def empty_text(part: Part) -> Iterator[Finding]:
    return (part.at_text(row, "no text") for row in part.rows if not row.text)


@warning("control-character", "a control character in a text, such as a tab", fix="remove it", written=True)
def control(part: Part) -> Iterator[Finding]:
    return with_any(part, where(part, CONTROL.match))


@warning("zero-width", "a character without width, such as a soft hyphen", fix="remove it", written=True)
def zero_width(part: Part) -> Iterator[Finding]:
    if where(part, ZERO_WIDTH.match):
        for row, found in matching(part, ZERO_WIDTH):
            yield part.at_text(row, named(found))


@warning("direction-mark", "a mark of the writing's direction", fix="remove it", written=True)
def direction(part: Part) -> Iterator[Finding]:
    return with_any(part, where(part, DIRECTION.match))


def _decomposed(part: Part) -> list[Row]:
    if all(symbol.isascii() for symbol in part.symbols):
        return []
    return [r for r in part.rows if not (r.text.isascii() or unicodedata.is_normalized("NFC", r.text))]


@warning("nfc-and-nfd", "a text not in NFC, beside others in NFC", fix="write all texts in NFC", written=True)
def nfc_and_nfd(part: Part) -> Iterator[Finding]:
    odd = _decomposed(part)
    if odd and where(part, lambda symbol: unicodedata.decomposition(symbol)[:1] not in ("", "<")):
        yield from (part.at_text(row, _first_decomposed(row.text)) for row in odd)


@info("not-nfc", "a text not in NFC, as no other is", fix="write all texts in NFC, which most others are in")
def not_nfc(part: Part) -> Iterator[Finding]:
    odd = _decomposed(part)
    if odd and not where(part, lambda symbol: unicodedata.decomposition(symbol)[:1] not in ("", "<")):
        yield from (part.at_text(row, _first_decomposed(row.text)) for row in odd)


def _first_decomposed(text: str) -> str:
    words = (word for word in text.split() if not unicodedata.is_normalized("NFC", word))
    return ascii(next(words, ""))[:60]


@warning("replacement-character", "U+FFFD, which stands for what could not be read", fix="take the text's source anew")
def replacement(part: Part) -> Iterator[Finding]:
    return with_any(part, where(part, "\ufffd".__eq__))


@warning("mojibake", "UTF-8 that was read as another encoding", fix="take the text's source anew")
def mojibake(part: Part) -> Iterator[Finding]:
    if where(part, "\u00c2\u00c3\u00e2\u00ef".__contains__):
        yield from (part.at_text(row, show(found)) for row, found in matching(part, MOJIBAKE))


@warning("no-character", "a character that Unicode gives no meaning", fix="find out what it stands for")
def no_character(part: Part) -> Iterator[Finding]:
    return with_any(part, where(part, lambda symbol: unicodedata.category(symbol) in ("Cn", "Co", "Cs")))


@warning("special-token", "<blank>, <s>, </s>, <eps> or #0 spelled out", fix="remove it, or spell it otherwise")
def special(part: Part) -> Iterator[Finding]:
    if "<" in part.symbols or "#" in part.symbols:
        yield from (part.at_text(row, show(found)) for row, found in matching(part, SPECIAL))


@warning("unknown-symbols", "what the token list lacks", fix="choose --cleaners, or correct the text", needs="tokens")
def unknown_symbols(part: Part) -> Iterator[Finding]:
    assert part.settings.unknown
    for row in part.rows:
        if row.text and (symbols := part.settings.unknown(row.text)):
            yield part.at_text(row, few(symbols))


@info("markup", "HTML in a text", fix="replace it by what it stands for")
def markup(part: Part) -> Iterator[Finding]:
    if "&" in part.symbols or "<" in part.symbols:
        yield from (part.at_text(row, show(found)) for row, found in matching(part, ENTITY))


@info("odd-space", "white space in a text other than single spaces", fix="--cleaners whitespace")
def odd_space(part: Part) -> Iterator[Finding]:
    yield from with_any(part, where(part, lambda s: s.isspace() and s != " " and not CONTROL.match(s)))
    yield from (part.at_text(row, "two spaces") for row in part.rows if "  " in row.text)


@info("mixed-scripts", "a word with letters of two scripts that look alike", fix="write it in one script")
def mixed_scripts(part: Part) -> Iterator[Finding]:
    if where(part, lambda symbol: "\u0370" <= symbol <= "\u04ff"):
        yield from (part.at_text(row, show(found)) for row, found in matching(part, MIXED))


@info("wide-forms", "letters or digits in wide or compatible forms", fix="--cleaners nfkc")
def wide_forms(part: Part) -> Iterator[Finding]:
    return with_any(part, where(part, lambda s: s.isalnum() and unicodedata.decomposition(s)[:5] in ("<wide", "<comp")))


@info("rare-symbol", f"a character that stands once in {RARE_AMONG} texts or more", fix="check for a slip")
def rare_symbol(part: Part) -> Iterator[Finding]:
    if len(part.rows) >= RARE_AMONG:
        yield from with_any(part, [symbol for symbol, count in part.symbols.items() if count == 1])


@info("case", "a text in capitals alone where nearly all are not, or not where nearly all are", fix="--cleaners lower")
def case(part: Part) -> Iterator[Finding]:
    capitals = [row.text.isupper() for row in part.rows]
    share = sum(capitals) / max(len(capitals), 1)
    if 0 < share < 0.1 or 0.9 < share < 1:
        odd = (row for row, upper in zip(part.rows, capitals, strict=True) if upper == (share < 0.5) and row.text)
        yield from (part.at_text(row, show(row.text)) for row in odd)
