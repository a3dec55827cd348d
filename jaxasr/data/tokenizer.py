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
from typing import ClassVar

import numpy as np

from jaxasr.errors import ConfigError, DataError
from jaxasr.registry import Registry

SPACE = "<space>"


@dataclasses.dataclass(frozen=True)
class Tokenizer(abc.ABC):
    """Cuts text into tokens that hold no white space, and puts it together again."""

    @abc.abstractmethod
    def split(self, text: str) -> list[str]: ...

    @abc.abstractmethod
    def join(self, tokens: Sequence[str]) -> str: ...


TOKENIZERS = Registry("tokenizer", Tokenizer, ("split", "join"))


@TOKENIZERS.register("char")
@dataclasses.dataclass(frozen=True)
class CharTokenizer(Tokenizer):
    """Every character a token, and every run of white space one `<space>`."""

    def split(self, text: str) -> list[str]:
        return [SPACE if part.isspace() else part for part in re.findall(r"\s+|\S", text)]

    def join(self, tokens: Sequence[str]) -> str:
        return "".join(" " if token == SPACE else token for token in tokens)


@TOKENIZERS.register("word")
@dataclasses.dataclass(frozen=True)
class WordTokenizer(Tokenizer):
    """Every word between white space a token."""

    def split(self, text: str) -> list[str]:
        return text.split()

    def join(self, tokens: Sequence[str]) -> str:
        return " ".join(tokens)


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Tokens by id in FunASR's order: `<blank>`, `<s>`, `</s>`, the rest, and `<unk>` last."""

    tokens: Sequence[str]

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
        """The distinct tokens of the texts by code point, with the special ones around them."""
        found = {token for text in texts for token in tokenizer.split(text)}
        return cls((*cls.FIRST, *sorted(found - {*cls.FIRST, cls.LAST}), cls.LAST))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> "Vocabulary":
        """The tokens of a file: one a line (`tokens.txt`), or a JSON list (`tokens.json`)."""
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
        """int32 ids; an unknown token, and a special one spelled out, has the id of `<unk>`."""
        return np.asarray([self._ids.get(token, self.unk) for token in tokens], np.int32)

    def unknown(self, tokens: Iterable[str]) -> list[str]:
        """The distinct tokens that `encode` knows no id for, in the order they came."""
        return [token for token in dict.fromkeys(tokens) if token not in self._ids]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The tokens of the ids, without `<blank>`, `<s>` and `</s>`."""
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
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path}:{error.lineno}: not JSON ({error.msg}); a JSON list of strings was expected; correct it, or "
            "rename a file of one token a line to .txt."
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
        if token.split() != [token]:
            raise ConfigError(
                f"{where(index)}: {token!r}; a token without white space was expected, and no id beside it; "
                "correct the list."
            )
        if token in seen:
            raise ConfigError(
                f"{where(index)}: {token!r} is already {unit} {seen[token] + base}; tokens are listed once; remove one."
            )
        seen[token] = index
    wanted = dict(enumerate(Vocabulary.FIRST)) | {max(len(tokens) - 1, 3): Vocabulary.LAST}
    for index, token in wanted.items():
        came = tokens[index] if index < len(tokens) else "the end"
        if came != token:
            raise ConfigError(
                f"{where(index)}: {came!r}; {token!r} was expected, since <blank>, <s>, </s> come first and <unk> "
                "last; put the list in this order."
            )
