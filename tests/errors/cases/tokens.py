"""Cleaners, symbols, sub-words and token lists."""

import sys
from collections.abc import Sequence

import pytest

from jaxasr.data import subwords
from jaxasr.data.cleaners import Cleaning, read_symbols
from jaxasr.data.english import engine
from jaxasr.data.lexicon import PhoneTokenizer, SegDictTokenizer
from jaxasr.data.tokenizer import BpeTokenizer, Vocabulary
from tests.errors.files import write

LIST = "<blank>\n<s>\n</s>\na\n<unk>\n"


def read(content: str | bytes, name: str = "tokens.txt") -> None:
    Vocabulary.from_file(write(name, content))


def learn(*texts: str, size: int = 9) -> bytes:
    return subwords.train(texts, size=size, algorithm="unigram", character_coverage=1.0, symbols=())


def symbols(*values: str, reserved: Sequence[str] = ()) -> None:
    read_symbols(values, "--ignore", reserved)


def model_without_the_symbol() -> None:
    cleaning = Cleaning(symbols=("<noise>",))
    BpeTokenizer(cleaning=cleaning, model=write("bpe.model", learn("one two three", size=8))).prepared([])


def pinyin_without_its_package() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pypinyin", None)
        PhoneTokenizer(g2p="pypinyin_g2p").check()


def numbers_without_their_package() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "inflect", None)
        engine.cache_clear()
        engine()


CASES = {
    "none among cleaners": lambda: Cleaning.of(["none", "lower"]),
    "an unknown cleaner": lambda: Cleaning.of(["lowr"]),
    "numbers without their package": numbers_without_their_package,
    "a file of symbols that is not there": lambda: symbols("nowhere.txt"),
    "a symbol that begins with a letter": lambda: symbols("<noise>", "uh"),
    "a symbol that is a token already": lambda: symbols("<unk>", reserved=("<unk>",)),
    "no sub-words at all": lambda: BpeTokenizer(size=0).check(),
    "a coverage above 1": lambda: BpeTokenizer(character_coverage=2.0).check(),
    "sub-words from no text": lambda: learn(),
    "more sub-words than there are": lambda: learn("one two three", size=900),
    "fewer sub-words than characters": lambda: learn("one two three", size=2),
    "sub-words of a text without letters": lambda: learn("▁"),
    "a sentencepiece model that is none": lambda: BpeTokenizer(model=write("bpe.model", "")).check(),
    "a sentencepiece model without the symbol": model_without_the_symbol,
    "no sub-words yet": lambda: BpeTokenizer().split("a"),
    "phones without a lexicon": lambda: PhoneTokenizer().check(),
    "pinyin without its package": pinyin_without_its_package,
    "a seg_dict without a file": lambda: SegDictTokenizer().check(),
    "a word without phones": lambda: PhoneTokenizer(file=write("lexicon.txt", "HELLO\n")).check(),
    "a lexicon that was not read yet": lambda: PhoneTokenizer(file="lexicon.txt").split("HELLO"),
    "no file": lambda: Vocabulary.from_file("nowhere.txt"),
    "Latin-1": lambda: read("é".encode("latin-1")),
    "a token and its id": lambda: read(LIST.replace("a", "a 3")),
    "a token twice": lambda: read(LIST.replace("a", "a\na")),
    "no <unk>": lambda: read(LIST.replace("<unk>\n", "")),
    "no JSON": lambda: read(LIST, "tokens.json"),
    "a JSON object": lambda: read("{}", "tokens.json"),
    "an id beyond the list": lambda: Vocabulary(LIST.split()).decode([5]),
}
