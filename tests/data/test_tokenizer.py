import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxasr.data.tokenizer import TOKENIZERS, CharTokenizer, Vocabulary, WordTokenizer
from jaxasr.errors import ConfigError, DataError

SPECIAL = ["<blank>", "<s>", "</s>", "<unk>"]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def listed(*tokens: str) -> list[str]:
    return [*SPECIAL[:3], *tokens, SPECIAL[3]]


def test_registry():
    assert list(TOKENIZERS) == ["bpe", "char", "phn", "seg_dict", "word"]
    assert TOKENIZERS["char"] is CharTokenizer


def test_char_and_word():
    assert CharTokenizer().split("ab \t 你") == ["a", "b", "<space>", "你"]
    assert CharTokenizer().join(["a", "<space>", "b"]) == "a b"
    assert WordTokenizer().split(" ab \t 你") == ["ab", "你"]
    assert WordTokenizer().join(["ab", "你"]) == "ab 你"


@given(TEXTS)
@settings(deadline=None)
def test_join_undoes_split_but_for_white_space(text):
    assert CharTokenizer().join(CharTokenizer().split(text)) == re.sub(r"\s+", " ", text)
    assert WordTokenizer().join(WordTokenizer().split(text)) == re.sub(r"\s+", " ", text).strip()


@given(st.lists(TEXTS), st.sampled_from(["char", "word"]))
@settings(deadline=None)
def test_encode_then_decode(texts, name):
    tokenizer = TOKENIZERS[name]()
    vocabulary = Vocabulary.from_texts(texts, tokenizer)
    for text in texts:
        tokens = tokenizer.split(text)
        ids = vocabulary.encode(tokens)
        assert ids.dtype == np.int32
        assert ids.shape == (len(tokens),)
        if not set(SPECIAL) & set(tokens):
            assert vocabulary.unknown(tokens) == []
            assert vocabulary.decode(ids) == tokens


@given(st.lists(TEXTS), st.sampled_from(["tokens.txt", "tokens.json"]))
@settings(deadline=None)
def test_save_then_read(tmp_path_factory, texts, name):
    path = tmp_path_factory.getbasetemp() / name
    vocabulary = Vocabulary.from_texts(texts, CharTokenizer())
    vocabulary.save(path)
    assert Vocabulary.from_file(path) == vocabulary
    assert Vocabulary.from_file(path).hash == vocabulary.hash


def test_vocabulary_from_texts():
    vocabulary = Vocabulary.from_texts(["b <unk>", "</s> a你"], WordTokenizer())
    assert vocabulary.tokens == tuple(listed("a你", "b"))
    assert (len(vocabulary), vocabulary.unk) == (6, 5)
    assert hash(vocabulary) == hash(Vocabulary(listed("a你", "b")))


def test_vocabulary_hash():
    # printf '<blank>\n<s>\n</s>\na\n<unk>' | sha256sum
    assert Vocabulary(listed("a")).hash == "3cc450f3b5173331881afc23a8686e8cb725c8fb69356fd3930ee1c219ef3373"
    assert Vocabulary(listed("b")).hash != Vocabulary(listed("a")).hash


def test_unknown_and_special_tokens_become_unk():
    vocabulary = Vocabulary(listed("a"))
    tokens = ["a", "x", "<blank>", "</s>", "x", "<unk>"]
    assert vocabulary.encode(tokens).tolist() == [3, 4, 4, 4, 4, 4]
    assert vocabulary.unknown(tokens) == ["x", "<blank>", "</s>"]
    assert vocabulary.encode([]).dtype == np.int32


def test_decode_drops_special_ids_and_refuses_foreign_ones():
    vocabulary = Vocabulary(listed("a"))
    assert vocabulary.decode(np.array([1, 3, 0, 4, 2])) == ["a", "<unk>"]
    for id_ in (-1, 5):
        with pytest.raises(DataError, match=f"vocabulary: id {id_} at position 1; 0 to 4 was expected; "):
            vocabulary.decode([3, id_])


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (listed("a", ""), "vocabulary: position 4: ''; a token without white space"),
        (listed("a b"), "vocabulary: position 3: 'a b'; a token without white space"),
        (listed("a", "b", "a"), "vocabulary: position 5: 'a' is already position 3; "),
        (["<s>", "<blank>", "</s>", "<unk>"], "vocabulary: position 0: '<s>'; '<blank>' was expected"),
        (["<blank>", "<s>", "<unk>"], "vocabulary: position 2: '<unk>'; '</s>' was expected"),
        ([*SPECIAL, "a"], "vocabulary: position 4: 'a'; '<unk>' was expected"),
        (SPECIAL[:3], "vocabulary: position 3: 'the end'; '<unk>' was expected"),
        ([], "vocabulary: position 0: 'the end'; '<blank>' was expected"),
    ],
)
def test_vocabulary_faults(tokens, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Vocabulary(tokens)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", "\n".join(listed("a", "", "b")), "t.txt:5: ''; "),
        ("t.txt", "<blank> 0\n<s> 1\n", "t.txt:1: '<blank> 0'; a token without white space was expected, and no id"),
        ("t.txt", "\n".join(listed("a", "a")), "t.txt:5: 'a' is already line 4; "),
        ("t.txt", "", "t.txt:1: ''; "),
        ("t.json", json.dumps(listed("a", "a")), "t.json: item 5: 'a' is already item 4; "),
        ("t.json", "<blank>\n", "t.json:1: not JSON ("),
        ("t.json", '["<blank>",\n1,]', "t.json:2: not JSON ("),
        ("t.json", '{"a": 0}', "t.json: not a list of strings; "),
        ("t.json", "[0]", "t.json: not a list of strings; "),
    ],
)
def test_vocabulary_file_faults(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path}/{message}")):
        Vocabulary.from_file(tmp_path / name)


def test_vocabulary_file_missing_or_not_utf8(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.txt: No such file or directory; "):
        Vocabulary.from_file(tmp_path / "no.txt")
    (tmp_path / "t.txt").write_bytes(b"<blank>\n\xff")
    with pytest.raises(ConfigError, match=r"t\.txt: 'utf-8' codec .*; UTF-8 was expected; "):
        Vocabulary.from_file(tmp_path / "t.txt")


def test_vocabulary_file_of_other_systems(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(listed("你")).encode())
    assert Vocabulary.from_file(tmp_path / "t.txt").tokens == tuple(listed("你"))
