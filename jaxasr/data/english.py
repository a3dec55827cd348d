"""English numbers, from digits to the words they are read as; how is a rule, for a text does not say what was said."""

import functools
import re
from typing import Any

from jaxasr.errors import ConfigError

UNITS = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
}
SHORT = {"k": "thousand", "m": "million", "bn": "billion"}
"""Read so beside a unit of money."""
NUMBER = re.compile(
    r"""(?P<minus>(?<![^\s(\[{<"'“”‘’„«,;:=])(?<!\w["'”’])[-\u2212](?=[$£€]?\s?\.?[0-9]))?
    (?:(?P<unit>[$£€])\s?(?P<negative>[-\u2212])?(?=\.?[0-9]))?
    (?:(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)|(?<![\w.])(?=\.[0-9]))
    (?P<decimals>(?:\.[0-9]+)*)
    (?:(?P<ordinal>(?a:st|nd|rd|th)\b)|(?P<plural>(?a:s)\b)|(?P<percent>\s?%)
      |(?:(?P<scale>\s(?a:hundred|thousand|million|billion|trillion)\b)
         |(?P<short>(?a:k|m|\s?bn))(?(unit)\b|(?=\s?[$£€](?!\.?[0-9])(?!(?<=\s[$£€])[-\u2212]\.?[0-9]))))?
       (?(unit)|(?:\s?(?P<behind>[$£€])(?!\.?[0-9])(?!(?<=\s[$£€])[-\u2212]\.?[0-9]))?))
    (?P<mark>[^\w\s.$£€](?=(?:[$£€]\s?)?[0-9]))?""",
    re.VERBOSE | re.IGNORECASE,
)
PARTED = re.compile(r"[\w.,:;!?%&*+=/]")
"""Characters that words are parted from by a space."""
LONGEST = 15
"""Digits of a number; of more, which are no amount, each is read by itself."""


def numbers_spelled(text: str) -> str:
    """The text with its numbers in ASCII digits as words, without commas, hyphens and `and`; the rest as it is.

    1,234 one thousand two hundred thirty four; 1999 nineteen ninety nine (1001 to 2999 as years, as Tacotron's
    cleaners have them); 3.14 three point one four; -5 minus five; 21st twenty first; 1990s nineteen nineties; 5% five
    percent; $12.50 twelve dollars fifty cents; 5€ five euros; $-5 minus five dollars; $3.5 million and $3.5m three
    point five million dollars; 007 zero zero seven. Any other mark between two numbers becomes a space.

    """
    return NUMBER.sub(_read, text)


def _read(found: re.Match[str]) -> str:
    text, (start, end) = found.string, found.span()
    minus, unit = found["minus"] or found["negative"], found["unit"] or found["behind"]
    words = [*(["minus"] if minus else []), *(_amount(found, unit) if unit else _number(found))]
    before = " " if PARTED.match(text[start - 1 : start]) else ""
    mark = found["mark"] or ""
    after = " " if not PARTED.match(mark) and (mark or re.match(r"\w", text[end : end + 1])) else ""
    return before + " ".join(words) + after


def _number(found: re.Match[str]) -> list[str]:
    whole, decimals = found["whole"] or "", found["decimals"]
    bare = not (decimals or found["minus"] or found["percent"] or found["scale"])
    if found["ordinal"] and bare and len(digits := whole.replace(",", "")) <= LONGEST:
        return _said(int(digits), ordinal=True)
    words = _year(whole) if bare and _is_year(whole) else _decimal(whole, decimals)
    if found["plural"] and bare:
        return [*words[:-1], re.sub("x$", "xe", re.sub("y$", "ie", words[-1])) + "s"]
    return [*words, *_scale(found), *_ending(found)]


def _scale(found: re.Match[str]) -> list[str]:
    return (found["scale"] or SHORT.get((found["short"] or "").strip().lower(), "")).split()


def _ending(found: re.Match[str]) -> list[str]:
    return ["percent"] if found["percent"] else (found["ordinal"] or found["plural"] or "").split()


def _amount(found: re.Match[str], unit: str) -> list[str]:
    one, many, hundredth, hundredths = UNITS[unit]
    whole, decimals = found["whole"] or "0", found["decimals"]
    scale, ending = _scale(found), _ending(found)
    if re.fullmatch(r"\.[0-9]{2}", decimals) and not scale:
        cents = int(decimals[1:])
        small = [*_cardinal(str(cents)), hundredth if cents == 1 else hundredths] if cents else []
        large = [*_cardinal(whole), one if whole == "1" else many] if whole.strip("0") or not cents else []
        return large + small + ending
    return [*_decimal(whole, decimals), *scale, one if whole == "1" and not (decimals or scale) else many, *ending]


def _decimal(whole: str, decimals: str) -> list[str]:
    words = _cardinal(whole) if whole else []
    for digits in decimals.split(".")[1:]:
        words += ["point", *_digits(digits)]
    return words


def _cardinal(digits: str) -> list[str]:
    digits = digits.replace(",", "")
    if len(digits) > LONGEST or digits[0] == "0":
        return _digits(digits)
    return _said(int(digits))


def _digits(digits: str) -> list[str]:
    return [word for digit in digits for word in _said(int(digit))]


def _is_year(digits: str) -> bool:
    return len(digits) == 4 and 1000 < int(digits) < 3000


def _year(digits: str) -> list[str]:
    """In twos, but `two thousand nine` and `nineteen hundred`."""
    if digits.startswith("200"):
        return _cardinal(digits)
    hundreds, rest = _cardinal(digits[:2]), digits[2:]
    if rest == "00":
        return [*hundreds, "hundred"]
    return [*hundreds, "oh", *_cardinal(rest[1])] if rest[0] == "0" else hundreds + _cardinal(rest)


def _said(number: int, *, ordinal: bool = False) -> list[str]:
    return _spelled(number, ordinal).split()


@functools.lru_cache(maxsize=4096)
def _spelled(number: int, ordinal: bool) -> str:
    spelled = engine().number_to_words(engine().ordinal(number) if ordinal else number, andword="")
    return spelled.replace(",", "").replace("-", " ")


@functools.cache
def engine() -> Any:
    """The package that knows the words.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        import inflect
    except ImportError:
        raise ConfigError(
            "english_numbers: the package inflect is not installed; it knows how numbers are said; pip install "
            "inflect, or leave this cleaner out."
        ) from None
    return inflect.engine()
