"""Sentencepiece models as bytes: trained, read and used (Kudo and Richardson, 2018, https://doi.org/10.18653/v1/D18-2012)."""

import functools
import io
import os
import pathlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from jaxasr.errors import ConfigError, DataError, show

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

NO_LIMIT = 2**30  # bytes of a transcript; sentencepiece would leave out those beyond 4192


def train(
    texts: Iterable[str], *, size: int, algorithm: str, character_coverage: float, symbols: tuple[str, ...]
) -> bytes:
    """The model of `size` sub-words beside `<unk>` and the symbols; the same texts give the same bytes.

    Raises:
      ConfigError: the texts cannot have as many sub-words, or not as few.
      DataError: there is no text.

    >>> pieces(train(["ten ten", "net"], size=5, algorithm="bpe", character_coverage=1.0, symbols=()))
    ['en', 'e', 'n', 't', '▁']
    """
    from sentencepiece import SentencePieceTrainer

    # It leaves out what holds its mark ▅, without a word; the other symbols can be learnt, and ▅ is then unknown.
    lines = [line for text in texts if (line := " ".join(text.replace("▅", " ").split()))]
    if not lines:
        raise DataError("--tokenizer=bpe: no text to learn sub-words from; transcripts were expected; give --train.")
    model, special = io.BytesIO(), 1 + len(symbols)
    try:
        SentencePieceTrainer.train(  # pyright: ignore[reportAttributeAccessIssue]
            sentence_iterator=iter(lines),
            model_writer=model,
            vocab_size=size + special,
            model_type=algorithm,
            character_coverage=character_coverage,
            user_defined_symbols=list(symbols),
            normalization_rule_name="identity",  # cleaners are for that
            bos_id=-1,
            eos_id=-1,
            max_sentence_length=NO_LIMIT,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, ValueError) as error:
        raise _unfit(size, str(error), special) from error
    return model.getvalue()


def _unfit(size: int, fault: str, special: int) -> ConfigError:
    """What is wrong with the size, from sentencepiece's message on one that counts `special` pieces more."""
    if largest := re.search(r"too high .* <= (\d+)", fault):
        return ConfigError(
            f"--tokenizer.size={size}: the training text gives {int(largest[1]) - special} sub-words at most; take "
            "that or fewer."
        )
    if smallest := re.search(r"required_chars\. \d+ vs (\d+)", fault):
        return ConfigError(
            f"--tokenizer.size={size}: the training text has {int(smallest[1]) - special} characters, each of them a "
            "sub-word; take at least as many, or a smaller --tokenizer.character_coverage."
        )
    return ConfigError(
        f"--tokenizer.size={size}: sentencepiece: {' '.join(fault.split())}; a size that suits the training text was "
        "expected; change it."
    )


def read(path: str | os.PathLike[str]) -> bytes:
    """The model in a file.

    Raises:
      ConfigError: there is none.
    """
    try:
        model = pathlib.Path(path).read_bytes()
        if not model:
            raise RuntimeError("an empty file")
        sp = processor(model)
        if odd := [piece for piece in map(sp.id_to_piece, range(sp.vocab_size())) if piece.split() != [piece]]:
            raise RuntimeError(f"white space in {show(odd[0])}")
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        fault = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise ConfigError(f"{path}: {fault}; a sentencepiece model was expected; check the path.") from error
    return model


@functools.lru_cache(maxsize=4)
def processor(model: bytes) -> "SentencePieceProcessor":
    """The model ready for use; kept, so that what travels to workers need not hold it.

    >>> model = train(["ten ten", "net"], size=5, algorithm="bpe", character_coverage=1.0, symbols=())
    >>> processor(model).vocab_size()
    6
    """
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_proto=model)  # pyright: ignore[reportCallIssue]


def pieces(model: bytes) -> list[str]:
    """What the model cuts texts into, in its order, without its control symbols and `<unk>`.

    >>> pieces(train(["ten ten", "net"], size=5, algorithm="bpe", character_coverage=1.0, symbols=("<noise>",)))
    ['<noise>', 'en', 'e', 'n', 't', '▁']
    """
    sp = processor(model)
    special = (sp.is_control, sp.is_unknown, sp.is_unused)
    return [sp.id_to_piece(i) for i in range(sp.vocab_size()) if not any(is_special(i) for is_special in special)]


def split(model: bytes, text: str) -> list[str]:
    """Pieces of the text; characters that the model has no piece for stand as they are, runs of them together.

    >>> model = train(["ten ten", "net"], size=5, algorithm="bpe", character_coverage=1.0, symbols=())
    >>> split(model, "ten net")
    ['▁', 't', 'en', '▁', 'n', 'e', 't']
    """
    return processor(model).encode(" ".join(text.split()), out_type=str)


def join(model: bytes, tokens: Iterable[str]) -> str:
    """The text of pieces; what is no piece of the model stands as it is, `<unk>` too.

    >>> model = train(["ten ten", "net"], size=5, algorithm="bpe", character_coverage=1.0, symbols=())
    >>> join(model, ["▁te", "n", "▁", "<unk>"])
    '▁ten <unk>'
    """
    sp = processor(model)
    unknown = sp.id_to_piece(sp.unk_id())
    shown = sp.decode([UNKNOWN if token == unknown else token for token in tokens])
    return shown.replace(UNKNOWN, unknown)


UNKNOWN = "\ufdd0"
"""A code point that Unicode keeps for internal use: no piece, so sentencepiece leaves it alone."""
