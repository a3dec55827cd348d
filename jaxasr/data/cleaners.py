"""Transcripts made uniform: cleaners, and the non-linguistic symbols that these leave alone."""

import abc
import dataclasses
import functools
import itertools
import pathlib
import re
import unicodedata
from collections.abc import Callable, Sequence

from jaxasr.data import english, textfile
from jaxasr.errors import ConfigError
from jaxasr.registry import Registry


@dataclasses.dataclass(frozen=True)
class Cleaner(abc.ABC):
    """Text to text; what is clean already stays as it is."""

    @abc.abstractmethod
    def __call__(self, text: str) -> str: ...


CLEANERS = Registry("cleaner", Cleaner, ("__call__",))


@CLEANERS.register("none")
class NoCleaner(Cleaner):
    """The text as it is; stands alone."""

    def __call__(self, text: str) -> str:
        return text


@CLEANERS.register("lower")
class Lower(Cleaner):
    """Lower case by Unicode's rules of no language: a Turkish I becomes i, not ı."""

    def __call__(self, text: str) -> str:
        return text.lower()


@CLEANERS.register("upper")
class Upper(Cleaner):
    """Upper case by Unicode's rules of no language: ß becomes SS, a Turkish i becomes I, not İ."""

    def __call__(self, text: str) -> str:
        return text.upper()


class _Marks(dict[int, int | str | None]):
    """What `str.translate` puts for a character; filled as they come."""

    def __missing__(self, code: int) -> int | str | None:
        kind = unicodedata.category(chr(code))
        parts_words = kind == "Pd" or chr(code) in "/／\u2044\u2215\u2212…‥"
        self[code] = " " if parts_words else None if kind[0] in "PS" else code
        return self[code]


@CLEANERS.register("punctuation")
class Punctuation(Cleaner):
    """Without punctuation and symbols (Unicode's categories P and S), those of every script.

    Dashes, minus signs, slashes and dots in a row become a space, since they part words; runs of spaces become one. An
    apostrophe between two letters or digits stays and is written ': DON’T gives DON'T.
    """

    MARKS = _Marks()

    def __call__(self, text: str) -> str:
        pieces = re.split("['‘’＇]", re.sub(r"\.{2,}", " ", text))
        kept = [pieces[0].translate(self.MARKS)]
        for before, after in itertools.pairwise(pieces):
            inside_a_word = _in_word(before[-1:]) and _in_word(after[:1])
            kept.append("'" * inside_a_word + after.translate(self.MARKS))
        return re.sub(" +", " ", "".join(kept))


def _in_word(letter: str) -> bool:
    return letter != "" and unicodedata.category(letter)[0] in "LMN"  # letters, their accents, digits


@CLEANERS.register("whitespace")
class Whitespace(Cleaner):
    """Every run of white space, Unicode's too, one space."""

    def __call__(self, text: str) -> str:
        return re.sub(r"\s+", " ", text)


@CLEANERS.register("nfc")
class Nfc(Cleaner):
    """Unicode's canonical composition: an é of two code points becomes one."""

    def __call__(self, text: str) -> str:
        return unicodedata.normalize("NFC", text)


@CLEANERS.register("nfkc")
class Nfkc(Cleaner):
    """Unicode's compatibility composition: as nfc, and full-width letters, ligatures and the like become plain."""

    def __call__(self, text: str) -> str:
        return unicodedata.normalize("NFKC", text)


@CLEANERS.register("english_numbers")
@dataclasses.dataclass(frozen=True)
class EnglishNumbers(Cleaner):
    """Numbers in ASCII digits as English words, money, percentages and ordinals too; by the package inflect.

    Raises:
      ConfigError: when it is made, the package is not installed.
    """

    def __post_init__(self) -> None:
        english.engine()

    def __call__(self, text: str) -> str:
        return english.numbers_spelled(text)


@dataclasses.dataclass(frozen=True)
class Cleaning:
    """Cleaners one after the other; non-linguistic symbols stay as they are."""

    cleaners: tuple[Cleaner, ...] = ()
    symbols: tuple[str, ...] = ()
    respell: Callable[[str], str] | None = None
    """What is done last to texts that hypotheses are compared with, where tokens spell in their own way."""

    @classmethod
    def of(cls, names: Sequence[str], symbols: tuple[str, ...] = ()) -> "Cleaning":
        """The cleaners of these names.

        Raises:
          ConfigError: an unknown name, with the nearest known one, or `none` among others.
        """
        if "none" in names and len(names) > 1:
            raise ConfigError(f"--cleaners={' '.join(names)}: none stands alone; leave it out, or the others.")
        try:
            return cls(tuple(CLEANERS[name]() for name in names if name != "none"), symbols)
        except ConfigError as error:
            raise ConfigError(f"--cleaners: {error}") from None

    def __call__(self, text: str) -> str:
        """The clean text, without white space at its ends; without any cleaner the text itself."""
        text = self._cleaned(text) if self.cleaners else text
        return text if self.respell is None else self.respell(text)

    def _cleaned(self, text: str) -> str:
        pieces = re.split(f"({symbols_pattern(self.symbols)})", text)
        pieces[::2] = (self._clean(piece) for piece in pieces[::2])  # between them stand the symbols
        return "".join(pieces).strip()

    def _clean(self, piece: str) -> str:
        return functools.reduce(lambda text, cleaner: cleaner(text), self.cleaners, piece)

    def without_symbols(self, text: str) -> str:
        """The text as errors are counted in it: neither symbols nor the white space that they had for themselves."""
        if not self.symbols:
            return text
        # not begun within white space, of which much would be gone through from each of its places
        gone = rf"(?<!\s)\s*(?:{symbols_pattern(self.symbols)}\s*)+"
        return re.sub(gone, lambda found: " " if any(map(str.isspace, found[0])) else "", text).strip()

    def names(self) -> list[str]:
        """The cleaners' names, in their order."""
        return [CLEANERS.name_of(type(cleaner)) for cleaner in self.cleaners]

    def __str__(self) -> str:
        """`cleaned by lower, nfc; errors counted without '<noise>'`; empty where nothing is done."""
        cleaned = [f"cleaned by {', '.join(self.names())}"] if self.cleaners else []
        cleaned += ["read as the tokenizer spells them"] if self.respell is not None else []
        without = [f"errors counted without {textfile.few(self.symbols)}"] if self.symbols else []
        return "; ".join(cleaned + without)


# --- non-linguistic symbols --------------------------------------------------------------------------------------


def read_symbols(values: Sequence[str], where: str, reserved: Sequence[str] = ()) -> tuple[str, ...]:
    """The symbols that the option `where` gives: themselves, or a single file with one a line.

    Raises:
      ConfigError: what is neither, or is one of the `reserved` words.
      DataError: the file cannot be read.

    >>> read_symbols(["<noise>", "[laughter]"], "--non_linguistic_symbols")
    ('<noise>', '[laughter]')
    """
    places = {f"{where}: {textfile.show(value)}": value for value in values}
    if len(values) == 1 and not _is_symbol(path := values[0]):
        if not pathlib.Path(path).is_file():
            raise ConfigError(f"{where}={path}: no such file, and no symbol; {EXPECTED}; correct it.")
        places = {
            f"{path}:{number}: {textfile.show(line)}": line for number, line in enumerate(textfile.lines(path), 1)
        }
    for place, value in places.items():
        if value in reserved:
            raise ConfigError(f"{place}: a token with a meaning of its own; {EXPECTED}; take another name.")
        if not _is_symbol(value):
            raise ConfigError(f"{place}: not a symbol; {EXPECTED}; correct it.")
    return tuple(dict.fromkeys(places.values()))


EXPECTED = (
    "symbols that begin with a mark, such as <noise> or [laughter], and hold no white space, or one file with a symbol "
    "a line were expected"
)


def _is_symbol(value: str) -> bool:
    """Whether it cannot be a part of a word, in which it would be found too, nor the path of a file."""
    return value.split() == [value] and not value[0].isalnum() and value[0] not in "./"


@functools.lru_cache
def symbols_pattern(symbols: tuple[str, ...]) -> str:
    """A regular expression for any of the symbols, the longest first; for none of them it matches nothing.

    >>> symbols_pattern(("<noise>",))
    '(?:<noise>)'
    """
    longest_first = sorted(symbols, key=len, reverse=True)
    return f"(?:{'|'.join(map(re.escape, longest_first))})" if symbols else "(?!)"
