import dataclasses

import pytest

from jaxasr.data.cleaners import Cleaning
from jaxasr.data.lexicon import PhoneTokenizer, SegDictTokenizer
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.errors import ConfigError, DataError
from jaxasr.scoring import score_cleaned

LEXICON = """HELLO HH AH0 L OW1
WORLD W ER1 L D
HELLO HH EH0 L OW1
"""
SEG_DICT = """今 今
天 天
ten ten
hello hel@@ lo
world wor@@ ld
hello he@@ llo
2 2
"""


def written(tmp_path, content, tokenizer, **options):
    path = tmp_path / "words.txt"
    path.write_text(content, encoding="utf-8")
    made = tokenizer(file=str(path), **options)
    made.check()
    return made.prepared([])


def test_phones_of_words(tmp_path):
    tokenizer = written(tmp_path, LEXICON, PhoneTokenizer)
    assert tokenizer.tokens("HELLO  WORLD") == [
        "HH",
        "AH0",
        "L",
        "OW1",
        "W",
        "ER1",
        "L",
        "D",
    ]  # the first of two pronunciations
    assert tokenizer.tokens("HELLO THERE") == ["HH", "AH0", "L", "OW1", "THERE"]
    vocabulary = Vocabulary.from_texts(["HELLO THERE"], tokenizer)  # the file's phones, no word that it lacks
    assert vocabulary.tokens[3:-1] == ("AH0", "D", "ER1", "HH", "L", "OW1", "W")
    assert vocabulary.unknown(tokenizer.tokens("HELLO THERE")) == ["THERE"]


def test_symbols_are_no_words(tmp_path):
    tokenizer = written(tmp_path, LEXICON, PhoneTokenizer)
    tokenizer = dataclasses.replace(tokenizer, cleaning=Cleaning.of(("upper",), ("<noise>",)))
    assert tokenizer.tokens("hello<noise> world") == ["HH", "AH0", "L", "OW1", "<noise>", "W", "ER1", "L", "D"]


@pytest.mark.parametrize("tokenizer", [PhoneTokenizer, SegDictTokenizer])
def test_a_symbol_stays_itself_though_the_file_has_it(tmp_path, tokenizer):
    made = written(tmp_path, "<noise> NSN\na a\n", tokenizer)
    made = dataclasses.replace(made, cleaning=Cleaning.of((), ("<noise>",)))
    assert made.tokens("a <noise>") == ["a", "<noise>"]
    assert made.scored.without_symbols(made.scored("a <noise>")) == "a"


def test_errors_are_counted_in_phones(tmp_path):
    tokenizer = written(tmp_path, LEXICON, PhoneTokenizer)
    hypothesis = tokenizer.join(["HH", "AH0", "L", "OW1", "W", "ER1", "D"])
    found = score_cleaned(tokenizer.scored, {"u": "HELLO WORLD"}, {"u": hypothesis})
    assert found.wer.rate == 1 / 8
    assert "read as the tokenizer spells them" in str(tokenizer.scored)


def test_a_lexicon_travels_with_the_model(tmp_path):
    tokenizer = written(tmp_path, LEXICON, PhoneTokenizer)
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in tokenizer.files().items():
        (folder / name).write_bytes(content)
    (tmp_path / "words.txt").unlink()
    loaded = PhoneTokenizer(file=str(tmp_path / "words.txt")).load(folder)
    loaded.check()
    assert loaded.prepared([]).tokens("WORLD") == ["W", "ER1", "L", "D"]
    (folder / "lexicon.txt").unlink()
    with pytest.raises(DataError, match=r"model/lexicon\.txt: No such file or directory"):
        PhoneTokenizer(file=str(tmp_path / "words.txt")).load(folder)


def test_words_of_a_seg_dict(tmp_path):
    """As FunASR's seg_tokenize, which puts <unk> where here the symbol itself stands, unknown to the token list."""
    tokenizer = written(tmp_path, SEG_DICT, SegDictTokenizer)
    assert tokenizer.tokens("今天 Hello 2天 World") == ["今", "天", "he@@", "llo", "2", "天", "wor@@", "ld"]
    assert tokenizer.tokens("今日 new") == ["今", "日", "new"]
    assert tokenizer.tokens("今天hello 今天，\tＴＥＮ") == ["今天hello", "今天，", "ｔｅｎ"]  # one <unk> each
    assert tokenizer.tokens(" \n") == []
    vocabulary = Vocabulary(("<blank>", "<s>", "</s>", "今", "天", "<unk>"))
    assert vocabulary.encode(tokenizer.tokens("今日 new")).tolist() == [3, 5, 5]


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("今 天 he@@ llo wor@@ ld 天", "今天 hello world 天"),
        ("he@@ llo 今 天", "hello 今天"),
        ("he@@", "he"),
        ("", ""),
    ],
)
def test_pieces_are_glued(tmp_path, tokens, text):
    assert written(tmp_path, SEG_DICT, SegDictTokenizer).join(tokens.split()) == text


def test_pinyin():
    pytest.importorskip("pypinyin")
    tokenizer = PhoneTokenizer(g2p="pypinyin_g2p")
    tokenizer.check()
    assert tokenizer.tokens("今天 ok 天气") == ["jin1", "tian1", "ok", "tian1", "qi4"]
    halves = PhoneTokenizer(g2p="pypinyin_g2p_phone", cleaning=Cleaning.of((), ("<noise>",)))
    assert halves.tokens("今<noise>安 ok") == ["j", "in1", "<noise>", "an1", "ok"]


def test_pinyin_without_its_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pypinyin", None)
    with pytest.raises(ConfigError, match=r"pypinyin is not installed; .*pip install pypinyin"):
        PhoneTokenizer(g2p="pypinyin_g2p").check()


def test_faults(tmp_path):
    with pytest.raises(ConfigError, match="a file for g2p=lexicon, and for no other, was expected"):
        PhoneTokenizer().check()
    with pytest.raises(ConfigError, match="seg_dict: no file; the seg_dict of a FunASR model was expected"):
        SegDictTokenizer().check()
    with pytest.raises(DataError, match=r"words\.txt:2: 'WORLD' without tokens"):
        written(tmp_path, "HELLO HH\nWORLD\n", PhoneTokenizer)
    with pytest.raises(ConfigError, match=r"PhoneTokenizer: no lexicon\.txt yet"):
        PhoneTokenizer(file="x").tokens("HELLO")
