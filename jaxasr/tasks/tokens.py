"""What tasks have in common whose texts become tokens of a list, by a tokenizer that cleans them first."""

import abc
import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Literal, Self

from jaxasr.config import naming_files, resource, slot
from jaxasr.data import textfile
from jaxasr.data.cleaners import Cleaning, read_symbols
from jaxasr.data.lexicon import PhoneTokenizer, SegDictTokenizer  # noqa: F401 (registers them)
from jaxasr.data.manifest import Utterance
from jaxasr.data.tokenizer import SPACE, SYMBOLS_FILE, TOKENIZERS, CharTokenizer, Tokenizer, Vocabulary
from jaxasr.errors import ConfigError
from jaxasr.tasks import resources
from jaxasr.tasks.base import BatchT, ExampleT, Task
from jaxasr.typing import Params


@dataclasses.dataclass(frozen=True)
class TokensTask(Task[ExampleT, BatchT]):
    """Abstract."""

    cleaners: tuple[str, ...] = ()
    """What is done to transcripts first, in this order: lower, upper, punctuation, whitespace, nfc, nfkc,
    english_numbers; or none."""
    non_linguistic_symbols: tuple[str, ...] = naming_files(())
    """Such as <noise> [laughter], or one file with a symbol a line: each one token, no cleaner's concern, no error."""
    tokenizer: Tokenizer = slot(TOKENIZERS, CharTokenizer())
    """Transcript to tokens."""
    token_list: str | None = naming_files()
    """File with one token a line, in FunASR's order; None makes the list from the training text."""
    unknown_symbols: Literal["leave_out", "unk"] = "leave_out"
    """Training utterances with a symbol outside the token list: left out and counted, or read as <unk>."""
    symbols: tuple[str, ...] | None = resource()
    """Those of `non_linguistic_symbols`, each one token."""
    vocabulary: Vocabulary | None = resource()
    """The token list."""

    def prepared(self, utterances: Sequence[Utterance]) -> Self:
        texts = [u.text for u in utterances]
        tokenizer = self._tokenizer.prepared(texts)
        task = dataclasses.replace(self, tokenizer=tokenizer, symbols=tokenizer.cleaning.symbols)
        if task.vocabulary is not None:
            return task
        vocabulary = (
            Vocabulary.from_file(self.token_list) if self.token_list else Vocabulary.from_texts(texts, tokenizer)
        )
        return dataclasses.replace(task, vocabulary=vocabulary)

    def save_resources(self, folder: pathlib.Path) -> None:
        resources.save(folder, self._vocabulary, self._tokenizer)

    def load_resources(self, folder: pathlib.Path) -> Self:
        symbols = tuple(textfile.lines(folder / SYMBOLS_FILE)) if self.non_linguistic_symbols else ()
        vocabulary = Vocabulary.from_file(folder / resources.TOKENS_FILE)
        tokenizer = self.tokenizer.load(folder)
        return dataclasses.replace(self, tokenizer=tokenizer, symbols=symbols, vocabulary=vocabulary)

    def resources_hash(self) -> str:
        return resources.hash_of_texts(self._vocabulary, self._tokenizer)

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        """The tokenizer, told how to clean."""
        symbols = self.symbols
        if symbols is None:
            reserved = (*Vocabulary.FIRST, Vocabulary.LAST, SPACE)
            symbols = read_symbols(self.non_linguistic_symbols, "--non_linguistic_symbols", reserved)
        return dataclasses.replace(self.tokenizer, cleaning=Cleaning.of(self.cleaners, symbols))

    @property
    def cleaning(self) -> Cleaning:
        return self._tokenizer.scored

    @property
    def _vocabulary(self) -> Vocabulary:
        if self.vocabulary is None:
            raise ConfigError(
                f"{type(self).__name__}: no token list yet; a network's size depends on it; call "
                "task.with_resources(vocabulary=...) or task.prepared(utterances)."
            )
        return self.vocabulary

    def check(self) -> None:
        """Raises ConfigError where the tokenizer's options mean nothing, or a list of tokens not with it."""
        self._tokenizer.check()
        if self.token_list and self.tokenizer.learns:
            raise ConfigError(
                f"--token_list={self.token_list} with a tokenizer that learns its tokens: these are not on a list made "
                "before; one of the two was expected; remove --token_list, or give --tokenizer.model."
            )

    def parameter_shapes(self, num_tokens: int = 4) -> Params:
        return self._shapes if num_tokens == 4 else self._shapes_with(num_tokens)

    @functools.cached_property
    def _shapes(self) -> Params:
        return self._shapes_with(4)

    @abc.abstractmethod
    def _shapes_with(self, num_tokens: int) -> Params:
        """Those of the parameters with a toy vocabulary of this size."""

    def tokens(self, text: str) -> list[str]:
        """Those of a transcript, which is cleaned first."""
        return self._tokenizer.tokens(text)

    def num_tokens(self, text: str) -> int:
        return len(self.tokens(text))

    def unknown(self, text: str) -> list[str]:
        return self._vocabulary.unknown(self.tokens(text))

    def leaves_out_unknown(self) -> bool:
        return self.unknown_symbols == "leave_out"

    def text(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.join(self._vocabulary.decode(tokens)).strip()  # characters may be spaces at the ends


def toy_vocabulary(num_tokens: int) -> Vocabulary:
    """A token list of this size, by which a network's parts can refuse options before data is read.

    >>> toy_vocabulary(1).tokens
    ('<blank>', '<s>', '</s>', '<unk>')
    """
    return Vocabulary((*Vocabulary.FIRST, *map(str, range(4, num_tokens)), Vocabulary.LAST))
