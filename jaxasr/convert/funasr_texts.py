"""What FunASR's models make of texts: token lists and tokenizers, read from their folders and written into them."""

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxasr.convert.foreign import file_inside
from jaxasr.convert.options import fixed, idle, read_options, section
from jaxasr.data import subwords
from jaxasr.data.lexicon import SegDictTokenizer
from jaxasr.data.tokenizer import BpeTokenizer, CharTokenizer, Tokenizer, Vocabulary, WordTokenizer
from jaxasr.errors import CheckpointError, ConfigError

TOKEN_LISTS = ("tokens.json", "tokens.txt")
SEG_DICT, BPE_MODEL = "seg_dict", "bpe.model"
TOKENIZERS = {"chartokenizer": "char", "sentencepiecestokenizer": "bpe"}
"""1.x's, and what 0.x calls them."""

_FILES = tuple(idle(key) for key in ("token_list", "bpemodel", "seg_dict_file"))
_TRANSCRIPTS = (idle("cleaner", None), idle("non_linguistic_symbols", None))
OPTIONS_0X = (
    *_FILES,
    *_TRANSCRIPTS,
    *map(idle, ("token_type", "split_with_space", "g2p", "use_preprocessor", "max_spk_num")),
    fixed("speech_volume_normalize", None),
)
"""Which stand beside all others."""
OPTIONS_1X = (
    *_FILES,
    *_TRANSCRIPTS,
    *map(idle, ("seg_dict", "split_with_space")),
    fixed("unk_symbol", "<unk>"),
    fixed("space_symbol", "<space>"),
    idle("remove_non_linguistic_symbols", False),
)
TEXT_KEYS = {key for option in OPTIONS_0X for key in option.theirs} | {"tokenizer", "tokenizer_conf"}


class Texts(NamedTuple):
    """What a folder says of texts."""

    vocabulary: Vocabulary
    tokenizer: Tokenizer

    def given_to(self, task: Any) -> Any:
        """The task with this tokenizer and this token list."""
        return dataclasses.replace(task, tokenizer=self.tokenizer).with_resources(vocabulary=self.vocabulary)


# --- reading -----------------------------------------------------------------------------------------------------


def read_texts(folder: pathlib.Path, theirs: Mapping[str, Any], where: str, left_out: list[str]) -> Texts:
    """The token list and the tokenizer of a folder, of both kinds.

    Raises:
      CheckpointError: a file is missing.
      ConfigError: the tokenizer is none of ours, or the token list is in another order.
    """
    is_new = "tokenizer" in theirs
    conf = section(theirs, "tokenizer", where) if is_new else {k: v for k, v in theirs.items() if k in TEXT_KEYS}
    read_options(OPTIONS_1X if is_new else OPTIONS_0X, conf, f"{where}tokenizer_conf." if is_new else where, left_out)
    vocabulary = _vocabulary(folder, conf.get("token_list"))
    kind = _kind(theirs, where)
    if kind == "bpe":
        file = _needed(folder, conf.get("bpemodel"), BPE_MODEL)
        return Texts(vocabulary, BpeTokenizer(content=subwords.read(file)))
    splits = bool(conf.get("split_with_space", not is_new))
    listed = conf.get("seg_dict") or conf.get("seg_dict_file")
    # 1.x looks words up wherever there is a list of them, 0.x where it parts words alone
    if kind != "word" and (is_new or splits) and (listed or _named(folder, None, SEG_DICT)):
        seg_dict = SegDictTokenizer(file=str(_needed(folder, listed, SEG_DICT))).prepared(())
        return Texts(vocabulary, dataclasses.replace(seg_dict, file=None))
    by_space = splits and (not is_new or _has_words(vocabulary))
    return Texts(vocabulary, WordTokenizer() if kind == "word" or by_space else CharTokenizer())


def _kind(theirs: Mapping[str, Any], where: str) -> str:
    """char, bpe or word; of words that 0.x parts at spaces, whatever it calls them, char."""
    if "tokenizer" in theirs:
        name = str(theirs["tokenizer"])
        if name.lower() in TOKENIZERS:
            return TOKENIZERS[name.lower()]
        raise ConfigError(
            f"{where}tokenizer: {name!r}; CharTokenizer or SentencepiecesTokenizer was expected, which are those that "
            "jaxasr has; such a model cannot be converted."
        )
    kind, spaces, g2p = theirs.get("token_type", "char"), theirs.get("split_with_space", True), theirs.get("g2p")
    if spaces:
        return "char"
    if kind not in ("char", "bpe", "word", "phn") or (kind == "phn" and g2p not in (None, "none")):
        raise ConfigError(
            f"{where}token_type: {kind!r} with g2p {g2p!r}; char, bpe, word, or phn without g2p was expected; such a "
            "model cannot be converted."
        )
    return "word" if kind == "phn" else kind


def _has_words(vocabulary: Vocabulary) -> bool:
    """Whether tokens have several characters: 1.x, without a seg_dict, takes each character for one."""
    return any(len(token) > 1 and not re.fullmatch("<.*>", token) for token in vocabulary.tokens)


def _vocabulary(folder: pathlib.Path, given: Any) -> Vocabulary:
    if isinstance(given, list):
        return Vocabulary([str(token) for token in given])
    for name in TOKEN_LISTS:
        if (file := _named(folder, given, name)) is not None:
            return Vocabulary.from_file(file)
    raise CheckpointError(
        f"{folder}: no token list; one in config.yaml, or {' or '.join(TOKEN_LISTS)}, was expected; copy it beside "
        "the model."
    )


def _named(folder: pathlib.Path, given: Any, usual: str) -> pathlib.Path | None:
    """The file of the folder that a configuration names; else the one of the usual name."""
    for name in (given, usual):
        if isinstance(name, str) and (file := found_file(folder, name)) is not None:
            return file
    return None


def _needed(folder: pathlib.Path, given: Any, usual: str) -> pathlib.Path:
    file = _named(folder, given, usual)
    if file is None:
        raise CheckpointError(
            f"{folder}: no {given or usual}, which cuts texts into tokens; it was expected beside the model; copy it "
            "there."
        )
    return file


def found_file(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """A file that a configuration names: the one of its name, or its path, in the folder; none elsewhere."""
    return file_inside(folder, pathlib.PurePath(name).name) or file_inside(folder, name)


# --- writing -----------------------------------------------------------------------------------------------------


def write_texts(folder: pathlib.Path, texts: Texts) -> dict[str, Any]:
    """Writes 1.x's files of a token list and a tokenizer; returns what its config.yaml has of them.

    Raises:
      ConfigError: the tokenizer is none of theirs.
    """
    tokens = json.dumps(list(texts.vocabulary.tokens), ensure_ascii=False)
    (folder / "tokens.json").write_text(tokens + "\n", encoding="utf-8")
    for name, content in texts.tokenizer.files().items():
        (folder / name).write_bytes(content)
    match texts.tokenizer:
        case BpeTokenizer():
            return {"tokenizer": "SentencepiecesTokenizer", "tokenizer_conf": {"unk_symbol": "<unk>"}}
        case CharTokenizer() | WordTokenizer() | SegDictTokenizer():
            by_space = not isinstance(texts.tokenizer, CharTokenizer)
            conf = {"unk_symbol": "<unk>", "split_with_space": by_space}
            return {"tokenizer": "CharTokenizer", "tokenizer_conf": conf}
    raise ConfigError(
        f"--tokenizer={type(texts.tokenizer).__name__}: FunASR 1.x has none like it; CharTokenizer, WordTokenizer, "
        "SegDictTokenizer or BpeTokenizer was expected; such a model cannot be converted."
    )
