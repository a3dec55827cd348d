"""Subtitles: words put together to lines that can be read while they are shown."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len

from jaxasr.hypothesis import Hypothesis, Word

COLUMNS = 42
"""Most of a line; a hanzi takes two. Two lines are shown at a time."""
LONGEST_SECONDS, SHORTEST_SECONDS = 7.0, 1.0
"""How long they are shown at most, and at least unless the next ones or the end of the sound come sooner."""
PAUSE_SECONDS = 0.8
"""Between two words, from which on they are not shown together."""


class Cue(NamedTuple):
    """What is shown at a time."""

    start: float
    """In seconds from the start of the utterance."""
    end: float
    lines: list[str]


_Spaced = tuple[str, Word]
"""What the text has before a word, a space or nothing, and the word."""


def cues(said: Hypothesis) -> list[Cue]:
    """The words of a hypothesis in their order, each in one cue; none overlaps the next.

    A word, or what no white space divides, that is longer than a line or lasts longer than cues do stands alone.

    >>> from jaxasr.hypothesis import Word
    >>> cues(Hypothesis("u1", "ONE", -1.0, [4], words=[Word("ONE", 0.25, 0.75, 0.9)], seconds=9.0))
    [Cue(start=0.25, end=1.25, lines=['ONE'])]
    """
    groups: list[list[_Spaced]] = []
    for spaced in _spaced(said):
        if groups and _goes_on(groups[-1], spaced):
            groups[-1].append(spaced)
        else:
            groups.append([spaced])
    starts = [group[0][1].start for group in groups]
    ends = [group[-1][1].end for group in groups]
    limits = [*starts, float("inf") if said.seconds is None else said.seconds][1:]
    return [
        Cue(start, max(end, min(start + SHORTEST_SECONDS, limit)), lines(group))
        for group, start, end, limit in zip(groups, starts, ends, limits, strict=True)
    ]


def _goes_on(group: Sequence[_Spaced], spaced: _Spaced) -> bool:
    first, last, word = group[0][1], group[-1][1], spaced[1]
    in_time = word.start - last.end < PAUSE_SECONDS and word.end - first.start <= LONGEST_SECONDS
    return in_time and all(cell_len(line) <= COLUMNS for line in lines([*group, spaced]))


def lines(group: Sequence[_Spaced]) -> list[str]:
    """The words in one line where they fit in it, else in two as even as can be."""
    whole = _joined(group)
    if cell_len(whole) <= COLUMNS or len(group) == 1:
        return [whole]
    halves = [[_joined(group[:place]), _joined(group[place:])] for place in range(1, len(group))]
    return min(halves, key=lambda pair: max(map(cell_len, pair)))


def _joined(group: Sequence[_Spaced]) -> str:
    return "".join(space + word.text for space, word in group).strip()


def _spaced(said: Hypothesis) -> list[_Spaced]:
    found, at = [], 0
    for word in said.words or ():
        place = said.text.find(word.text, at)
        found.append((" " if place != at else "", word))
        at = max(place, at) + len(word.text)
    return found


# --- files -------------------------------------------------------------------------------------------------------


def srt(said: Hypothesis) -> str:
    """SubRip.

    >>> from jaxasr.hypothesis import Word
    >>> said = Hypothesis("u1", "ONE", -1.0, [4], words=[Word("ONE", 0.25, 0.75, 0.9)], seconds=9.0)
    >>> print(srt(said).rstrip())
    1
    00:00:00,250 --> 00:00:01,250
    ONE
    """
    return "".join(
        f"{number}\n{clock(cue.start, ',')} --> {clock(cue.end, ',')}\n" + "\n".join(cue.lines) + "\n\n"
        for number, cue in enumerate(cues(said), 1)
    )


def vtt(said: Hypothesis) -> str:
    """WebVTT (https://www.w3.org/TR/webvtt1), in which & and < begin something else than text.

    >>> from jaxasr.hypothesis import Word
    >>> said = Hypothesis("u1", "ONE", -1.0, [4], words=[Word("ONE", 0.25, 0.75, 0.9)], seconds=9.0)
    >>> vtt(said).splitlines()
    ['WEBVTT', '', '00:00:00.250 --> 00:00:01.250', 'ONE', '']
    """
    return "WEBVTT\n\n" + "".join(
        f"{clock(cue.start, '.')} --> {clock(cue.end, '.')}\n" + "\n".join(map(_escaped, cue.lines)) + "\n\n"
        for cue in cues(said)
    )


def tsv(said: Hypothesis) -> str:
    """A table of start and end in milliseconds, and text.

    >>> from jaxasr.hypothesis import Word
    >>> said = Hypothesis("u1", "ONE", -1.0, [4], words=[Word("ONE", 0.25, 0.75, 0.9)], seconds=9.0)
    >>> tsv(said).split()
    ['start', 'end', 'text', '250', '1250', 'ONE']
    """
    rows = [(_ms(cue.start), _ms(cue.end), " ".join(cue.lines)) for cue in cues(said)]
    return "".join(f"{start}\t{end}\t{text}\n" for start, end, text in [("start", "end", "text"), *rows])


def _escaped(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def clock(seconds: float, point: str) -> str:
    """Hours, minutes, seconds and milliseconds.

    >>> clock(3661.5, ",")
    '01:01:01,500'
    """
    rest, ms = divmod(_ms(seconds), 1000)
    minutes, s = divmod(rest, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{s:02d}{point}{ms:03d}"


def _ms(seconds: float) -> int:
    return round(1000.0 * seconds)
