import re
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxasr.data import english
from jaxasr.data.cleaners import Cleaning
from jaxasr.data.english import numbers_spelled
from jaxasr.errors import ConfigError

BELOW_TWENTY = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen"""
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
VALUES = {word: value for value, word in enumerate(BELOW_TWENTY.split())} | {
    word: 10 * value for value, word in enumerate(TENS.split(), 2)
}
SCALES = {"thousand": 1_000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"}
ORDINALS |= {"twelve": "twelfth"} | {word: word[:-1] + "ieth" for word in TENS.split()}


def value_of(text: str) -> int:
    """The number that words say."""
    total = part = 0
    for word in text.split():
        if word in SCALES:
            total, part = total + part * SCALES[word], 0
        else:
            part = part * 100 if word == "hundred" else part + VALUES[word]
    return total + part


@given(st.integers(0, 10**15 - 1))
@settings(deadline=None)
def test_words_say_the_number(number):
    assert value_of(numbers_spelled(f"{number:,}")) == number
    assert numbers_spelled(f"-{number}") == f"minus {numbers_spelled(f'{number:,}')}"
    if not 1000 < number < 3000:
        assert numbers_spelled(str(number)) == numbers_spelled(f"{number:,}")


@given(st.integers(1001, 2999))
@settings(deadline=None)
def test_years_are_read_in_twos(number):
    said = numbers_spelled(str(number)).replace("oh ", "")
    hundreds, rest = divmod(number, 100)
    expected = number if hundreds == 20 and rest < 10 else hundreds * 100 if rest == 0 else hundreds + rest
    assert value_of(said) == expected


@given(st.integers(0, 10**15 - 1), st.sampled_from(["st", "nd", "rd", "th"]))
@settings(deadline=None)
def test_ordinals_are_the_number_but_for_their_last_word(number, ending):
    *words, last = numbers_spelled(f"{number:,}").split()
    assert numbers_spelled(f"{number}{ending}").split() == [*words, ORDINALS.get(last, last + "th")]


TEXTS = st.text(st.one_of(st.sampled_from("0123456789.,$%-:s "), st.characters(exclude_categories=["Cs"])))


@given(TEXTS)
@settings(deadline=None)
def test_no_digit_is_left_and_no_word_is_lost(text):
    said = numbers_spelled(text)
    assert not re.search("[0-9]", said)
    assert numbers_spelled(said) == said
    if not re.search("[0-9]", text):
        assert said == text
    words = iter(said.split())
    assert all(word in words for word in text.split() if not re.search("(?i)^[%$£€]|[0-9]|[$£€]$|^bn\\b", word))


NUMBERS = {
    "5": "five",
    "-5": "minus five",
    '"-5"': '"minus five"',
    "[-5]": "[minus five]",
    "(1,-5)": "(one, minus five)",
    "$-5": "minus five dollars",
    "-$5": "minus five dollars",
    "5€": "five euros",
    "-£2.01": "minus two pounds one penny",
    "$1.5bn": "one point five billion dollars",
    "5k€": "five thousand euros",
    "5%": "five percent",
    "3rd-5th": "third fifth",
    "US$5-$10": "US five dollars ten dollars",
    "mp3": "mp three",
}
WORDS = st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"], exclude_characters="0123456789%$£€"), min_size=1)
PIECES = st.one_of(st.sampled_from(list(NUMBERS)), st.text("abkmn-+~'\"(&", min_size=1), WORDS)


@example(["5", "$-5"])
@given(st.lists(PIECES.filter(lambda piece: not re.match("(?i)bn\\b", piece))))
@settings(deadline=None)
def test_what_is_no_number_stays(pieces):
    assert numbers_spelled(" ".join(pieces)) == " ".join(NUMBERS.get(piece, piece) for piece in pieces)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "It's 12, (3) or 1,234,567.",
            "It's twelve, (three) or one million two hundred thirty four thousand five hundred sixty seven.",
        ),
        (
            "1999 2000 2005 2010 1900 1066 1005",
            "nineteen ninety nine two thousand two thousand five twenty ten nineteen hundred ten sixty six ten oh five",
        ),
        (
            "1,999 1999.5 -1999",
            "one thousand nine hundred ninety nine one thousand nine hundred ninety nine point five "
            "minus one thousand nine hundred ninety nine",
        ),
        ("3.14 .5 10.05 1.2.3", "three point one four point five ten point zero five one point two point three"),
        (
            "1st 22ND 113th 1,000th 1999th",
            "first twenty second one hundred thirteenth one thousandth one thousand nine hundred ninety ninth",
        ),
        ("1990s 90s 1900s 6s 2s 0s", "nineteen nineties nineties nineteen hundreds sixes twos zeros"),
        ("5% 5.5 % 0%", "five percent five point five percent zero percent"),
        (
            "$1 $12.50 $0.01 $0.00 $.99 $12.5",
            "one dollar twelve dollars fifty cents one cent zero dollars ninety nine cents twelve point five dollars",
        ),
        (
            "-$3.5 million, £2.01 £5.10 €1,000 US$5",
            "minus three point five million dollars, two pounds one penny "
            "five pounds ten pence one thousand euros US five dollars",
        ),
        (
            "007 2.50 1234567890123456",
            "zero zero seven two point five zero "
            "one two three four five six seven eight nine zero one two three four five six",
        ),
        (
            "5km mp3 b2b 3:30 1/2 10-20 1+1 5'11 1,2,3",
            "five km mp three b two b three thirty one two ten twenty one one five eleven one two three",
        ),
        ("covid-19 -5 −5 wait...5 3.", "covid-nineteen minus five minus five wait... five three."),
        (
            "$-5 -€5 $ -5 5€ 5 £ -5€ 0.01€ 5£. US$-5",
            "minus five dollars minus five euros minus five dollars five euros five pounds minus five euros one cent "
            "five pounds. US minus five dollars",
        ),
        (
            "\"-5\" [-5] {-5} 'tis '-5' “-5” «-5» [1,-5]",
            "\"minus five\" [minus five] {minus five} 'tis 'minus five' “minus five” «minus five» [one, minus five]",
        ),
        ('"5"-10 (5)-10 --5 5--3', '"five"-ten (five)-ten --five five--three'),
        (
            "$1.5bn $5K £3m 5k€ 5 million € 5m 5k $5km $5 k-pop $2 bn",
            "one point five billion dollars five thousand dollars three million pounds five thousand euros "
            "five million euros five m five k five dollars km five dollars k-pop two billion dollars",
        ),
        (
            "5-3 3rd-5th $5-$10 5€-10€ 5%-10% 1990s-2000s 5–10 5 - 10",
            "five three third fifth five dollars ten dollars five euros ten euros five percent ten percent "
            "nineteen nineties two thousands five ten five - ten",
        ),
        ("5 $10 notes, 5$10", "five ten dollars notes, five ten dollars"),
        ("12,50€ +5 ~5 ¥5 5°", "twelve fifty euros + five ~five ¥five five°"),
        ("1.5s 1.5th $5s", "one point five s one point five th five dollars s"),
        ("１２ ٣ 十2", "１２ ٣ 十 two"),
        ("", ""),
    ],
)
def test_by_hand(text, expected):
    assert numbers_spelled(text) == expected


def test_among_cleaners():
    cleaning = Cleaning.of(("nfkc", "english_numbers", "upper", "punctuation"), ("<2>",))
    assert cleaning("Pay $１２.50 <2> by May 3rd!") == "PAY TWELVE DOLLARS FIFTY CENTS <2> BY MAY THIRD"
    assert cleaning.names()[1] == "english_numbers"


def test_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "inflect", None)
    english.engine.cache_clear()
    with pytest.raises(ConfigError, match=r"--cleaners: english_numbers: the package inflect is not installed; "):
        Cleaning.of(("english_numbers",))
