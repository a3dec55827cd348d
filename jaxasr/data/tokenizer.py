"""Transcripts to tokens, tokens to ids, and back."""

import abc
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal, Self

import numpy as np

from jaxasr.data import subwords
from jaxasr.data.cleaners import Cleaning, symbols_pattern
from jaxasr.errors import ConfigError, DataError, show
from jaxasr.registry import Registry, naming_files, resource

SPACE = "<space>"
_HALF = re.compile("[\ud800-\udfff]")
"""Half a surrogate pair, which JSON can spell and no file can hold."""
HANZI = "\u4e00-\u9fa5"
"""Of a regular expression, between brackets."""
SYMBOLS_FILE = "non_linguistic_symbols.txt"


@dataclasses.dataclass(frozen=True)
class Tokenizer(abc.ABC):
    """Cuts text into tokens that hold no white space, and puts it together again."""

    cleaning: Cleaning = resource(Cleaning())
    """What is done to a transcript before it is cut, and the symbols that are each one token."""

    @abc.abstractmethod
    def split(self, text: str) -> list[str]:
        """The tokens of a text that is cleaned already."""

    @abc.abstractmethod
    def join(self, tokens: Sequence[str]) -> str:
        """The text of tokens: of those of a text this text, with a space for white space."""

    def tokens(self, transcript: str) -> list[str]:
        """The tokens of a transcript, which is cleaned first."""
        return self.split(self.cleaning(transcript))

    @property
    def scored(self) -> Cleaning:
        """What is done to a text that hypotheses are compared with."""
        return self.cleaning

    def inventory(self, transcripts: Iterable[str]) -> list[str]:
        """What a token list for these transcripts must have, in its order: their tokens by code point."""
        return sorted({token for transcript in transcripts for token in self.tokens(transcript)})

    def bounds(self, tokens: Sequence[str]) -> tuple[list[bool], list[bool]]:
        """For each token of a list whether a word begins with it, or ends with it, whatever stands beside it."""
        return [True] * len(tokens), [True] * len(tokens)

    def check(self) -> None:
        """Raises ConfigError where the options mean nothing; reads no data."""
        return

    # what a tokenizer learns from text; most learn nothing

    @property
    def learns(self) -> bool:
        """Whether its tokens come from the training text, so that no list of others suits them."""
        return False

    def prepared(self, transcripts: Iterable[str]) -> Self:
        """This tokenizer with what it still lacks: read from its files, or learnt from the transcripts."""
        del transcripts
        return self

    def files(self) -> dict[str, bytes]:
        """What belongs to it in a model's folder beside the token list, by name."""
        symbols = "".join(f"{symbol}\n" for symbol in self.cleaning.symbols)
        return {SYMBOLS_FILE: symbols.encode()} if symbols else {}

    def load(self, folder: pathlib.Path) -> Self:
        """This tokenizer with what it had learnt, from the `files` in a model's folder."""
        del folder
        return self


TOKENIZERS = Registry("tokenizer", Tokenizer, ("split", "join"))


@TOKENIZERS.register("char")
@dataclasses.dataclass(frozen=True)
class CharTokenizer(Tokenizer):
    """Every character a token, and every run of white space one `<space>`."""

    def split(self, text: str) -> list[str]:
        found = re.findall(rf"{symbols_pattern(self.cleaning.symbols)}|\s+|\S", text)
        return [SPACE if part.isspace() else part for part in found]

    def bounds(self, tokens: Sequence[str]) -> tuple[list[bool], list[bool]]:
        alone = {SPACE, *self.cleaning.symbols}
        apart = [
            SPACE not in tokens or token in alone or re.fullmatch(f"[{HANZI}]", token) is not None for token in tokens
        ]
        return apart, apart

    def join(self, tokens: Sequence[str]) -> str:
        return "".join(" " if token == SPACE else token for token in tokens)


@TOKENIZERS.register("word")
@dataclasses.dataclass(frozen=True)
class WordTokenizer(Tokenizer):
    """Every word between white space a token."""

    def split(self, text: str) -> list[str]:
        return words(text, self.cleaning.symbols)

    def join(self, tokens: Sequence[str]) -> str:
        return " ".join(tokens)


def words(text: str, symbols: tuple[str, ...]) -> list[str]:
    """What stands between white space; each of the symbols is a word, wherever it stands.

    >>> words("one<noise>two", ("<noise>",))
    ['one', '<noise>', 'two']
    """
    symbol = symbols_pattern(symbols)
    return re.findall(rf"{symbol}|(?:(?!{symbol})\S)+", text)


@TOKENIZERS.register("bpe")
@dataclasses.dataclass(frozen=True)
class BpeTokenizer(Tokenizer):
    """Sub-words by sentencepiece, in which ▁ stands for a space; FunASR's and ESPnet's token type `bpe`."""

    model: str | None = naming_files()
    """A sentencepiece model; None learns one from the training text."""
    size: int = 500
    """Sub-words to learn; <blank>, <s>, </s>, <unk> and non-linguistic symbols come on top."""
    algorithm: Literal["unigram", "bpe"] = "unigram"
    """How they are learnt: by a unigram model or by merging pairs; ESPnet's bpemode."""
    character_coverage: float = 1.0
    """Share of the training text whose characters become sub-words; the rarest beyond it are unknown."""
    content: bytes | None = resource()
    """Sentencepiece's model file."""

    def check(self) -> None:
        if not 0 < self.size <= 1_000_000:
            raise ConfigError(f"--tokenizer.size={self.size}: 1 to 1000000 was expected; change it.")
        if not 0.98 <= self.character_coverage <= 1.0:
            raise ConfigError(
                f"--tokenizer.character_coverage={self.character_coverage}: a share from 0.98, which is "
                "sentencepiece's least, to 1 was expected; change it."
            )
        if self.model is not None and self.content is None:
            subwords.read(self.model)

    @property
    def learns(self) -> bool:
        return self.model is None

    def prepared(self, transcripts: Iterable[str]) -> Self:
        if self.content is not None:
            return self
        if self.model is not None:
            return self._of(self.model)
        learnt = subwords.train(
            map(self.cleaning, transcripts),
            size=self.size,
            algorithm=self.algorithm,
            character_coverage=self.character_coverage,
            symbols=self.cleaning.symbols,
        )
        return dataclasses.replace(self, content=learnt)

    def files(self) -> dict[str, bytes]:
        return super().files() | {"bpe.model": self._model}

    def load(self, folder: pathlib.Path) -> Self:
        return dataclasses.replace(self, content=subwords.read(folder / "bpe.model"))

    def _of(self, model: str) -> Self:
        """This tokenizer with a model that others made, which must know the symbols."""
        tokenizer = dataclasses.replace(self, content=subwords.read(model))
        known = set(tokenizer.inventory(()))
        for symbol in self.cleaning.symbols:
            if symbol not in known or symbol not in tokenizer.split(symbol):
                raise ConfigError(
                    f"--tokenizer.model={model}: cuts {symbol!r} into pieces; a model that keeps every one of the "
                    "non-linguistic symbols whole was expected; make it with them as user_defined_symbols."
                )
        return tokenizer

    @property
    def _model(self) -> bytes:
        if self.content is None:
            raise ConfigError(
                "BpeTokenizer: no sub-words yet; they come from a model or from text; call "
                "tokenizer.prepared(transcripts)."
            )
        return self.content

    def inventory(self, transcripts: Iterable[str]) -> list[str]:
        """Every sub-word, in the model's order, whether the transcripts have it or not."""
        del transcripts
        return subwords.pieces(self._model)

    def split(self, text: str) -> list[str]:
        return subwords.split(self._model, text)

    def bounds(self, tokens: Sequence[str]) -> tuple[list[bool], list[bool]]:
        alone = self.cleaning.symbols
        return [token in alone or token.startswith("▁") for token in tokens], [token in alone for token in tokens]

    def join(self, tokens: Sequence[str]) -> str:
        return subwords.join(self._model, tokens)


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Tokens by id in FunASR's order: `<blank>`, `<s>`, `</s>`, the rest, and `<unk>` last."""

    tokens: Sequence[str]
    """By their ids."""

    BLANK: ClassVar[int] = 0
    SOS: ClassVar[int] = 1
    EOS: ClassVar[int] = 2
    FIRST: ClassVar[tuple[str, ...]] = ("<blank>", "<s>", "</s>")
    LAST: ClassVar[str] = "<unk>"

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(self.tokens))
        _check(self.tokens, "vocabulary", "position", 0)

    @classmethod
    def from_texts(cls, texts: Iterable[str], tokenizer: Tokenizer) -> "Vocabulary":
        """What the tokenizer needs for the texts, with the special tokens around it."""
        special = {*cls.FIRST, cls.LAST}
        needed = (token for token in tokenizer.inventory(texts) if token not in special)
        return cls((*cls.FIRST, *needed, cls.LAST))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> "Vocabulary":
        """The tokens of a file: one a line (`tokens.txt`), or a JSON list (`tokens.json`).

        Raises:
          ConfigError: the file cannot be read, or is no list of tokens.
        """
        path = pathlib.Path(path)
        try:
            content = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; a list of tokens was expected; check the path.") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: {error}; UTF-8 was expected; convert the file with iconv.") from error
        if path.suffix == ".json":
            tokens = _json_list(path, content)
            _check(tokens, str(path), "item", 1)
        else:
            tokens = content.removesuffix("\n").split("\n")
            _check(tokens, str(path), "line", 1)
        return cls(tokens)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes what `from_file` reads: a JSON list where the name ends in .json, else one token a line."""
        path = pathlib.Path(path)
        listed = (
            json.dumps(self.tokens, ensure_ascii=False, indent=0) if path.suffix == ".json" else "\n".join(self.tokens)
        )
        path.write_text(listed + "\n", encoding="utf-8", newline="\n")

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def unk(self) -> int:
        """The id of `<unk>`."""
        return len(self.tokens) - 1

    @functools.cached_property
    def hash(self) -> str:
        """The SHA-256 of the tokens joined by newlines, in hexadecimal."""
        return hashlib.sha256("\n".join(self.tokens).encode()).hexdigest()

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        # A transcript that spells out "<blank>" or "</s>" must not put these ids among the labels.
        return {token: id_ for id_, token in enumerate(self.tokens) if id_ > self.EOS}

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """int32 ids (U,); an unknown token, and a special one spelled out, has the id of `<unk>`.

        >>> Vocabulary(["<blank>", "<s>", "</s>", "a", "b", "<unk>"]).encode(["b", "x"]).tolist()
        [4, 5]
        """
        ids, unk = self._ids, self.unk
        return np.asarray([ids.get(token, unk) for token in tokens], np.int32)

    def unknown(self, tokens: Iterable[str]) -> list[str]:
        """The distinct tokens that `encode` knows no id for, in the order they came.

        >>> Vocabulary(("<blank>", "<s>", "</s>", "a", "<unk>")).unknown(["a", "b", "b"])
        ['b']
        """
        return [token for token in dict.fromkeys(tokens) if token not in self._ids]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The tokens of the ids, without `<blank>`, `<s>` and `</s>`.

        Raises:
          DataError: there is no token of an id.

        >>> Vocabulary(["<blank>", "<s>", "</s>", "a", "b", "<unk>"]).decode([0, 3, 5])
        ['a', '<unk>']
        """
        listed = [int(id_) for id_ in ids]
        for position, id_ in enumerate(listed):
            if not 0 <= id_ < len(self):
                raise DataError(
                    f"vocabulary: id {id_} at position {position}; 0 to {len(self) - 1} was expected; cut the "
                    "padding off, or use the vocabulary of the model."
                )
        return [self.tokens[id_] for id_ in listed if id_ > self.EOS]


def _json_list(path: pathlib.Path, content: str) -> list[str]:
    try:
        tokens = json.loads(content)
    except (ValueError, RecursionError) as error:  # ValueError is also what a number of thousands of digits raises
        where, said = (
            (f"{path}:{error.lineno}", error.msg) if isinstance(error, json.JSONDecodeError) else (path, error)
        )
        raise ConfigError(
            f"{where}: not JSON ({said}); a JSON list of strings was expected; correct it, or rename a file of one "
            "token a line to .txt."
        ) from error
    if not (isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)):
        raise ConfigError(f"{path}: not a list of strings; a JSON list of tokens was expected; correct it.")
    return tokens


def _check(tokens: Sequence[str], source: str, unit: str, base: int) -> None:
    """Raises ConfigError where the tokens are not a vocabulary, counting `unit`s of `source` from `base`."""

    def where(index: int) -> str:
        return f"{source}:{index + base}" if unit == "line" else f"{source}: {unit} {index + base}"

    seen: dict[str, int] = {}
    for index, token in enumerate(tokens):
        if token.split() != [token] or _HALF.search(token):
            raise ConfigError(
                f"{where(index)}: {show(token)}; a token without white space was expected, and no id beside it; "
                "correct the list."
            )
        if token in seen:
            raise ConfigError(
                f"{where(index)}: {show(token)} is already {unit} {seen[token] + base}; tokens are listed once; remove "
                "one."
            )
        seen[token] = index
    wanted = dict(enumerate(Vocabulary.FIRST)) | {max(len(tokens) - 1, 3): Vocabulary.LAST}
    for index, token in wanted.items():
        came = tokens[index] if index < len(tokens) else "the end"
        if came != token:
            raise ConfigError(
                f"{where(index)}: {show(came)}; {token!r} was expected, since <blank>, <s>, </s> come first and <unk> "
                "last; put the list in this order."
            )
