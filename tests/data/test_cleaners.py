import re
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxasr.data.cleaners import CLEANERS, Cleaner, Cleaning, read_symbols
from jaxasr.errors import ConfigError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
SYMBOLS = ("<noise>", "[a]", "[a]b", "%uh")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("none", " A b ", " A b "),
        ("lower", "STRASSE ẞ I İ ΑΣ", "strasse ß i i̇ ας"),
        ("upper", "straße i ı ŉ", "STRASSE I I ʼN"),
        (
            "punctuation",
            "DON’T - stop, the 'rock'n'roll' (e-mail/phone) — ok",
            "DON'T stop the rock'n'roll e mail phone ok",
        ),
        ("punctuation", "今天，天气「很」好！約翰·史密斯", "今天天气很好約翰史密斯"),
        ("punctuation", "¿$5 + 3% = a_b? … ¡no!", "5 3 ab no"),
        ("punctuation", "Que\u0301'a ''a a'' 's", "Que\u0301'a a a s"),
        (
            "punctuation",
            "1\u20442 cup, 10−5, km\u2215h wait…what wait...what 3.5",
            "1 2 cup 10 5 km h wait what wait what 35",
        ),
        ("punctuation", "don‘t don＇t ‘a’", "don't don't a"),
        ("whitespace", "a\t\u3000b \n c", "a b c"),
        ("nfc", "e\u0301 ﬁ Ａ", "é ﬁ Ａ"),
        ("nfkc", "e\u0301 ﬁ Ａ", "é fi A"),
    ],
)
def test_cleaners_by_hand(name, text, expected):
    assert CLEANERS[name]()(text) == expected


@given(TEXTS)
@settings(deadline=None)
def test_no_punctuation_is_left_but_apostrophes_in_words(text):
    left = CLEANERS["punctuation"]()(text)
    assert {c for c in left if unicodedata.category(c)[0] in "PS"} <= {"'"}
    assert not re.search(r"(^|\s)'|'(\s|$)|''|  ", left)
    kept = [c for c in text if unicodedata.category(c)[0] not in "PS" and c != " "]
    assert [c for c in left if c not in " '"] == kept


def test_order_is_kept():
    assert Cleaning.of(("upper", "nfkc"))("ﬁ") == "FI"
    assert Cleaning.of(("nfkc", "punctuation"))("½ cup… ok") == "1 2 cup ok"
    assert Cleaning.of(("lower", "upper"))("a") == "A"
    assert Cleaning.of(("upper", "lower"))("A") == "a"


def test_without_cleaners_a_text_stays_and_with_them_its_ends_are_bare():
    assert Cleaning()(" a\t") == Cleaning.of(("none",))(" a\t") == " a\t"
    assert Cleaning.of(("punctuation",))(" - a -") == "a"
    assert Cleaning.of(("punctuation",))("...") == ""
    assert str(Cleaning.of(("none",))) == ""


def test_unknown_names():
    with pytest.raises(ConfigError, match=r"--cleaners: cleaner 'lowr': not known; .* Did you mean 'lower'\?"):
        Cleaning.of(("nfc", "lowr"))
    with pytest.raises(ConfigError, match="--cleaners=none lower: none stands alone"):
        Cleaning.of(("none", "lower"))


class Shout(Cleaner):
    def __call__(self, text):
        return text + "!"


def test_a_cleaner_of_ones_own():
    assert Cleaning((Shout(), CLEANERS["upper"]()))("a") == "A!"


# --- symbols -----------------------------------------------------------------------------------------------------

every_name = st.lists(st.sampled_from([name for name in CLEANERS if name != "none"]), max_size=3).map(tuple)
pieces = st.lists(st.one_of(TEXTS, st.sampled_from([*SYMBOLS, " ", "a"])), max_size=8)


@given(pieces, every_name)
@settings(deadline=None)
def test_no_cleaner_changes_a_symbol(parts, names):
    text = "".join(parts)
    found = re.findall(r"<noise>|\[a\]b?|%uh", text)
    clean = Cleaning.of(names, SYMBOLS)(text)
    kept = iter(re.findall(r"<noise>|\[a\]b?|%uh", clean))
    assert all(symbol in kept for symbol in found)  # in their order; others may be new, as lower makes of <Noise>


def test_symbols_among_words():
    cleaning = Cleaning.of(("lower", "punctuation", "whitespace"), ("<NOISE>", "[a]"))
    assert cleaning(" Hello,  <NOISE> , [a]World <noise>.") == "hello <NOISE> [a]world noise"
    assert str(cleaning) == "cleaned by lower, punctuation, whitespace; errors counted without '<NOISE>', '[a]'"


def test_symbols_are_left_out_with_the_spaces_they_had():
    left = Cleaning((), SYMBOLS).without_symbols
    assert left("<noise> a <noise> [a]b b [a]") == "a b"
    assert left("今天<noise>好") == "今天好"
    assert left("今天 <noise>好") == "今天 好"
    assert left("a  b") == "a  b"
    assert left("<noise>") == ""
    assert Cleaning().without_symbols(" <noise>") == " <noise>"
    began = time.thread_time()
    assert left("a" + " " * 100_000 + "b") == "a" + " " * 100_000 + "b"
    assert time.thread_time() - began < 1.0


@given(st.lists(st.one_of(st.text("ab你", min_size=1), st.sampled_from(SYMBOLS))))
@settings(deadline=None)
def test_leaving_symbols_out_leaves_the_words(words):
    found = Cleaning((), SYMBOLS).without_symbols(" ".join(words))
    assert found == " ".join(word for word in words if word not in SYMBOLS)


def test_symbols_of_a_file(tmp_path):
    file = tmp_path / "nlsyms.txt"
    file.write_text("<noise>\n[laughter]\n<noise>\n")
    assert read_symbols((str(file),), "--x") == ("<noise>", "[laughter]")
    assert read_symbols(("[laughter]", "<noise>"), "--x") == ("[laughter]", "<noise>")
    assert read_symbols((), "--x") == ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("absent.txt",), "--x=absent.txt: no such file, and no symbol; symbols that begin with a mark"),
        (("uh", "um"), "--x: 'uh': not a symbol; symbols that begin with a mark"),
        (("<a b>", "<c>"), "--x: '<a b>': not a symbol; "),
        (("", "<c>"), "--x: '': not a symbol; "),
        (("<unk>",), "--x: '<unk>': a token with a meaning of its own; "),
    ],
)
def test_what_is_no_symbol(values, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_symbols(values, "--x", reserved=("<unk>",))


def test_what_is_no_symbol_in_a_file(tmp_path):
    (tmp_path / "nlsyms").write_text("<noise>\nuh\n")
    with pytest.raises(ConfigError, match=r"nlsyms:2: 'uh': not a symbol; symbols that begin with a mark"):
        read_symbols((str(tmp_path / "nlsyms"),), "--x")
