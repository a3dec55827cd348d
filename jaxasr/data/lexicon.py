"""Tokenizers that look words up: phones by a lexicon or by pinyin, and FunASR's seg_dict."""

import abc
import dataclasses
import functools
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from jaxasr.data import textfile
from jaxasr.data.cleaners import Cleaning, symbols_pattern
from jaxasr.data.tokenizer import HANZI, TOKENIZERS, Tokenizer, words
from jaxasr.errors import ConfigError, DataError
from jaxasr.registry import naming_files, resource

Lexicon = Mapping[str, tuple[str, ...]]


def parsed(lines: Sequence[str], source: str, *, first: bool) -> Lexicon:
    """A word and its tokens a line; of a word that is listed twice the `first` line counts, or the last.

    Raises:
      DataError: a word without tokens, with `source` and line.

    >>> parsed(["HELLO HH AH L OW", "HELLO HH EH L OW"], "lexicon.txt", first=True)
    {'HELLO': ('HH', 'AH', 'L', 'OW')}
    """
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, 1):
        word, *tokens = line.split()
        if not tokens:
            raise DataError(
                f"{source}:{number}: {textfile.show(word)} without tokens; a word and its tokens, parted by spaces, "
                "were expected; add them, or remove the line."
            )
        if not (first and word in found):
            found[word] = tuple(tokens)
    return found


@dataclasses.dataclass(frozen=True)
class LookupTokenizer(Tokenizer):
    """Words are looked up in a file. What it lacks stays as it is, so that it counts as an unknown symbol. Abstract."""

    FILE: ClassVar[str]
    """Name of the file in a model's folder."""
    FIRST: ClassVar[bool]
    """Whether the first of several lines for a word counts."""

    file: str | None = naming_files()
    """A word and its tokens a line: a lexicon, in which the first line for a word counts, or FunASR's seg_dict."""
    lines: tuple[str, ...] | None = resource()
    """Those of the file."""

    @property
    def looks_up(self) -> bool:
        """Whether it needs the file at all."""
        return True

    def check(self) -> None:
        if self.file is not None and self.lines is None:
            self._read(self.file)

    def _read(self, path: str) -> Self:
        lines = tuple(textfile.lines(path))
        parsed(lines, path, first=self.FIRST)
        return dataclasses.replace(self, lines=lines)

    def prepared(self, transcripts: Iterable[str]) -> Self:
        del transcripts
        return self if self.lines is not None or self.file is None else self._read(self.file)

    def inventory(self, transcripts: Iterable[str]) -> list[str]:
        """All tokens of the file, whether the transcripts have them or not, and the symbols; nothing else is known."""
        del transcripts
        return sorted({token for tokens in self.lexicon.values() for token in tokens} | {*self.cleaning.symbols})

    def files(self) -> dict[str, bytes]:
        listed = {} if self.lines is None else {self.FILE: "".join(f"{line}\n" for line in self.lines).encode()}
        return super().files() | listed

    def load(self, folder: pathlib.Path) -> Self:
        return self._read(str(folder / self.FILE)) if self.looks_up else self

    @property
    def scored(self) -> Cleaning:
        return dataclasses.replace(self.cleaning, respell=self.respelled)

    def respelled(self, text: str) -> str:
        """The text as its tokens are put together again."""
        return self.join(self.split(text))

    @functools.cached_property
    def lexicon(self) -> Lexicon:
        """The tokens of words.

        Raises:
          ConfigError: there is no lexicon yet.
        """
        if self.lines is None:
            raise ConfigError(
                f"{type(self).__name__}: no {self.FILE} yet; words are looked up in it; call "
                "tokenizer.prepared(transcripts)."
            )
        return parsed(self.lines, self.FILE, first=self.FIRST)

    def split(self, text: str) -> list[str]:
        symbols = self.cleaning.symbols
        found = (((word,) if word in symbols else self._looked_up(word)) for word in words(text, symbols))
        return [token for tokens in found for token in tokens]

    @abc.abstractmethod
    def _looked_up(self, word: str) -> Sequence[str]:
        """The tokens of a word; of one that the file lacks the word itself."""


@TOKENIZERS.register("phn")
@dataclasses.dataclass(frozen=True)
class PhoneTokenizer(LookupTokenizer):
    """Phones of words, by a lexicon or by pinyin; FunASR's and ESPnet's token type `phn`.

    What is recognised are phones, and references are read as phones: error rates are those of phones.
    """

    FILE = "lexicon.txt"
    FIRST = True

    g2p: Literal["lexicon", "pypinyin_g2p", "pypinyin_g2p_phone"] = "lexicon"
    """A lexicon; or Chinese syllables with their tone, or their initials and finals, by the package pypinyin."""

    def check(self) -> None:
        if self.looks_up != (self.file is not None or self.lines is not None):
            raise ConfigError(
                f"--tokenizer.g2p={self.g2p} with --tokenizer.file={self.file}: a file for g2p=lexicon, and for no "
                "other, was expected; give --tokenizer.file=LEXICON, or another g2p."
            )
        if not self.looks_up:
            _pypinyin()
        super().check()

    @property
    def looks_up(self) -> bool:
        return self.g2p == "lexicon"

    def inventory(self, transcripts: Iterable[str]) -> list[str]:
        return super().inventory(transcripts) if self.looks_up else Tokenizer.inventory(self, transcripts)

    def _looked_up(self, word: str) -> Sequence[str]:
        return self.lexicon.get(word, (word,))

    def split(self, text: str) -> list[str]:
        if self.looks_up:
            return super().split(text)
        parts = re.split(f"({symbols_pattern(self.cleaning.symbols)})", text)
        halves = self.g2p == "pypinyin_g2p_phone"
        read = (_pinyin(part, halves) if number % 2 == 0 else [part] for number, part in enumerate(parts))
        return [phone for phones in read for phone in phones]

    def join(self, tokens: Sequence[str]) -> str:
        return " ".join(tokens)


def _pypinyin() -> Any:
    try:
        import pypinyin
    except ImportError:
        raise ConfigError(
            "--tokenizer.g2p: the package pypinyin is not installed; it knows how hanzi are read; "
            "pip install pypinyin, or give a lexicon."
        ) from None
    return pypinyin


def _pinyin(text: str, initials_and_finals: bool) -> list[str]:
    """Syllables with the number of their tone behind them; what is no hanzi stays, without white space."""
    pypinyin = _pypinyin()

    def said(style: Any) -> list[str]:
        return [syllable for (syllable,) in pypinyin.pinyin(text, style=style)]

    if not initials_and_finals:
        return [part for syllable in said(pypinyin.Style.TONE3) for part in syllable.split()]
    halves = zip(said(pypinyin.Style.INITIALS), said(pypinyin.Style.FINALS_TONE3), strict=True)
    both = ((initial,) if initial == final else (initial, final) for initial, final in halves)  # no hanzi: the same
    return [part for parts in both for half in parts for part in half.split()]


@TOKENIZERS.register("seg_dict")
@dataclasses.dataclass(frozen=True)
class SegDictTokenizer(LookupTokenizer):
    """Words by FunASR's seg_dict: hanzi as they are, other words as pieces, all but the last of which end in @@.

    Words are looked up in lower case; of one that is not there but is all hanzi and digits each character is.
    """

    FILE = "seg_dict"
    FIRST = False

    def check(self) -> None:
        if self.file is None and self.lines is None:
            raise ConfigError(
                "--tokenizer=seg_dict: no file; the seg_dict of a FunASR model was expected; give --tokenizer.file."
            )
        super().check()

    def _looked_up(self, word: str) -> Sequence[str]:
        lower = word.lower()
        if lower in self.lexicon:
            return self.lexicon[lower]
        if re.fullmatch(f"[{HANZI}0-9]+", lower):
            return [token for char in lower for token in self.lexicon.get(char, (char,))]
        return [lower]

    def bounds(self, tokens: Sequence[str]) -> tuple[list[bool], list[bool]]:
        return [False] * len(tokens), [not token.endswith("@@") for token in tokens]

    def join(self, tokens: Sequence[str]) -> str:
        """Pieces glued together; a space before and after what is no hanzi."""
        text, glued = "", True
        for token in tokens:
            hanzi = re.fullmatch(f"[{HANZI}]", token) is not None
            apart = not glued and not (hanzi and re.search(f"[{HANZI}]$", text))
            text += " " * apart + token.removesuffix("@@")
            glued = token.endswith("@@")
        return text
