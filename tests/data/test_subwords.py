import dataclasses
import pickle
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxasr.data import subwords
from jaxasr.data.cleaners import Cleaning
from jaxasr.data.tokenizer import BpeTokenizer, Vocabulary
from jaxasr.errors import ConfigError, DataError

DIGITS = ["ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"]
TEXTS = [" ".join(DIGITS[number * factor % 10] for factor in (1, 2, 3)) for number in range(20)]
ALPHABET = "".join(sorted({*"".join(TEXTS)}))
SYMBOLS = ("<noise>", "[a,b]")
ALGORITHMS = ("unigram", "bpe")


def learnt(algorithm="unigram", size=24, symbols=SYMBOLS):
    return BpeTokenizer(size=size, algorithm=algorithm, cleaning=Cleaning((), symbols)).prepared(TEXTS)


TOKENIZER = {algorithm: learnt(algorithm) for algorithm in ALGORITHMS}
parts = st.one_of(st.text(ALPHABET + "\t\u3000"), st.sampled_from([*SYMBOLS, *DIGITS, " "]))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(st.lists(parts).map("".join))
@settings(deadline=None)
def test_join_undoes_split_but_for_white_space(algorithm, text):
    tokenizer = TOKENIZER[algorithm]
    tokens = tokenizer.split(text)
    assert tokenizer.join(tokens) == " ".join(text.split())
    vocabulary = Vocabulary.from_texts(TEXTS, tokenizer)
    assert vocabulary.unknown(tokens) == []
    assert vocabulary.decode(vocabulary.encode(tokens)) == tokens
    assert [t for t in tokens if t in SYMBOLS] == re.findall(r"<noise>|\[a,b\]", "".join(text.split()))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_texts_give_the_same_bytes(algorithm):
    assert learnt(algorithm).files() == TOKENIZER[algorithm].files()
    assert learnt(algorithm, size=20).files() != TOKENIZER[algorithm].files()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_size_counts_the_subwords(algorithm):
    tokenizer = TOKENIZER[algorithm]
    assert len(tokenizer.inventory([])) == 24 + len(SYMBOLS)
    assert len(Vocabulary.from_texts([], tokenizer)) == 24 + len(SYMBOLS) + 4
    assert Vocabulary.from_texts([], tokenizer).tokens[:4] == ("<blank>", "<s>", "</s>", "<noise>")
    assert {*ALPHABET.replace(" ", "▁")} <= {*tokenizer.inventory([])}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_error_says_which_sizes_there_can_be(algorithm):
    with pytest.raises(
        ConfigError, match=r"--tokenizer.size=500: the training text gives (\d+) sub-words at most"
    ) as e:
        learnt(algorithm, 500)
    largest = int(re.findall(r"gives (\d+)", str(e.value))[0])
    assert len(learnt(algorithm, largest).inventory([])) == largest + len(SYMBOLS)
    with pytest.raises(ConfigError, match="sub-words at most"):
        learnt(algorithm, largest + 1)

    with pytest.raises(ConfigError, match=r"--tokenizer.size=3: the training text has (\d+) characters") as e:
        learnt(algorithm, 3)
    smallest = int(re.findall(r"has (\d+)", str(e.value))[0])
    assert smallest == len(ALPHABET)
    assert len(learnt(algorithm, smallest).inventory([])) == smallest + len(SYMBOLS)


def test_no_text_to_learn_from():
    with pytest.raises(DataError, match="no text to learn sub-words from"):
        BpeTokenizer().prepared(["", " "])


def test_options_that_mean_nothing():
    for changes in ({"size": 0}, {"size": 1_000_001}, {"character_coverage": 0.979}, {"character_coverage": 1.1}):
        with pytest.raises(ConfigError, match=f"--tokenizer.{next(iter(changes))}="):
            dataclasses.replace(BpeTokenizer(), **changes).check()


def test_unknown_characters_are_named_and_shown():
    tokenizer = TOKENIZER["unigram"]
    vocabulary = Vocabulary.from_texts([], tokenizer)
    tokens = tokenizer.split("ONE 你好 x")
    assert vocabulary.unknown(tokens) == ["你好", "x"]
    assert vocabulary.encode(tokens).tolist().count(vocabulary.unk) == 2
    assert tokenizer.join(tokens) == "ONE 你好 x"
    assert tokenizer.join(vocabulary.decode(vocabulary.encode(tokens))) == "ONE <unk> <unk>"


def test_texts_with_the_mark_of_sentencepiece_are_learnt_from():
    tokenizer = BpeTokenizer(size=24).prepared([f"{text} ▅" for text in TEXTS])
    assert tokenizer.inventory([]) == BpeTokenizer(size=24).prepared(TEXTS).inventory([])
    assert Vocabulary.from_texts([], tokenizer).unknown(tokenizer.split("ONE ▅")) == ["▅"]


def test_coverage_leaves_out_rare_characters():
    texts = [*TEXTS * 10, "Q"]
    tokenizer = BpeTokenizer(size=24, character_coverage=0.999).prepared(texts)
    assert Vocabulary.from_texts(texts, tokenizer).unknown(tokenizer.split("Q ONE")) == ["Q"]
    assert "Q" in "".join(BpeTokenizer(size=24).prepared(texts).inventory([]))


def test_learnt_from_what_cleaners_leave():
    cleaning = Cleaning.of(("lower", "punctuation"), SYMBOLS)
    tokenizer = BpeTokenizer(size=24, cleaning=cleaning).prepared([f"{text}!" for text in TEXTS])
    assert not {*"".join(tokenizer.inventory([]))} & {*"ZERO!"}
    assert tokenizer.join(tokenizer.tokens("One, <noise> TWO!")) == "one <noise> two"


def test_a_model_of_ones_own(tmp_path):
    (tmp_path / "my.model").write_bytes(TOKENIZER["bpe"].files()["bpe.model"])
    mine = BpeTokenizer(model=str(tmp_path / "my.model"), cleaning=Cleaning((), ("<noise>",)))
    mine.check()
    assert mine.prepared([]).split("ONE TWO") == TOKENIZER["bpe"].split("ONE TWO")
    other = dataclasses.replace(mine, cleaning=Cleaning((), ("[laughter]",)))
    with pytest.raises(ConfigError, match=r"my.model: cuts '\[laughter\]' into pieces; .* user_defined_symbols"):
        other.prepared([])


def test_saved_learnt_earlier_and_loaded(tmp_path):
    tokenizer = TOKENIZER["unigram"]
    for name, content in tokenizer.files().items():
        (tmp_path / name).write_bytes(content)
    new = BpeTokenizer(size=24, cleaning=tokenizer.cleaning)
    assert new.load(tmp_path).files() == tokenizer.files()
    assert new.load(tmp_path).prepared(["other texts"]).files() == tokenizer.files()
    assert tokenizer.prepared(["other texts"]) is tokenizer
    with pytest.raises(ConfigError, match=r"no sub-words yet; .* call tokenizer\.prepared"):
        new.split("ONE")


@pytest.mark.parametrize("content", [None, b"", b"no model" * 9])
def test_what_is_no_model(tmp_path, content):
    path = tmp_path / "bpe.model"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"bpe.model: .*; a sentencepiece model was expected; "):
        BpeTokenizer(model=str(path)).check()


def test_it_travels_to_workers():
    tokenizer = TOKENIZER["unigram"]
    tokens = tokenizer.split("ONE TWO")
    sent = pickle.dumps(tokenizer)
    assert len(sent) < len(tokenizer.files()["bpe.model"]) + 1000
    subwords.processor.cache_clear()
    assert pickle.loads(sent).split("ONE TWO") == tokens


def test_long_transcripts_count(capfd):
    long = " ".join(TEXTS * 20)
    assert len(long) > 4192  # bytes, beyond which sentencepiece leaves a text out unless it is told otherwise
    tokenizer = BpeTokenizer(size=18).prepared([long])
    assert tokenizer.join(tokenizer.split(long)) == long
    assert capfd.readouterr() == ("", "")
