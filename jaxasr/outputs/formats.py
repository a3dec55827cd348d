"""What a hypothesis looks like in each format."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from jaxasr.errors import ConfigError
from jaxasr.hypothesis import Hypothesis
from jaxasr.outputs.subtitles import srt, tsv, vtt
from jaxasr.registry import did_you_mean


class Format(NamedTuple):
    """How hypotheses are written."""

    of: Callable[[Hypothesis], str]
    """What a file has of one."""
    name: str | None = None
    """The file that has all of them, one behind the other; None for a file each, `ID.FORMAT`."""
    times: Literal["unused", "used", "needed"] = "unused"
    """What times of words are to it."""


def kaldi_text(said: Hypothesis) -> str:
    """A line of Kaldi's `text`.

    >>> print(kaldi_text(Hypothesis("u1", "ONE TWO", -1.0, [4, 5])), end="")
    u1 ONE TWO
    """
    return f"{said.id} {said.text}".rstrip() + "\n"


def json_line(said: Hypothesis) -> str:
    """`as_json` in a line (JSON Lines).

    >>> print(json_line(Hypothesis("u1", "ONE TWO", -1.0, [4, 5])), end="")
    {"id": "u1", "text": "ONE TWO", "score": -1.0, "tokens": [4, 5]}
    """
    return json.dumps(as_json(said), ensure_ascii=False) + "\n"


def json_file(said: Hypothesis) -> str:
    """`as_json` as a file of its own.

    >>> print(json_file(Hypothesis("u1", "ONE", -1.0, [4])), end="")
    {
     "id": "u1",
     "text": "ONE",
     "score": -1.0,
     "tokens": [
      4
     ]
    }
    """
    return json.dumps(as_json(said), ensure_ascii=False, indent=1) + "\n"


def as_json(said: Hypothesis) -> dict[str, Any]:
    """What is there of it; seconds to the millisecond, confidences to four digits.

    >>> as_json(Hypothesis("u1", "ONE", -1.0, [4], confidences=[0.98765]))
    {'id': 'u1', 'text': 'ONE', 'score': -1.0, 'tokens': [4], 'confidences': [0.9877]}
    """
    row: dict[str, Any] = said._asdict() | {
        "score": said.score if math.isfinite(said.score) else None,
        "confidences": said.confidences and [round(p, 4) for p in said.confidences],
        "times": said.times and [(round(start, 3), round(end, 3)) for start, end in said.times],
        "words": said.words
        and [
            {"word": w.text, "start": round(w.start, 3), "end": round(w.end, 3), "confidence": round(w.confidence, 4)}
            for w in said.words
        ],
        "nbest": said.nbest and [alternative._asdict() for alternative in said.nbest],
        "seconds": said.seconds and round(said.seconds, 3),
        "silence": said.silence and round(said.silence, 4),
    }
    return {name: value for name, value in row.items() if value is not None}


def ctm(said: Hypothesis) -> str:
    """NIST's time-marked words, as Kaldi writes them: utterance, channel, start, duration, word, confidence.

    >>> from jaxasr.hypothesis import Word
    >>> said = Hypothesis("u1", "ONE", -1.0, [4], words=[Word("ONE", 0.25, 0.75, 0.9)])
    >>> print(ctm(said), end="")
    u1 1 0.250 0.500 ONE 0.9000
    """
    rows = [(round(w.start, 3), round(w.end, 3), w) for w in said.words or ()]
    return "".join(f"{said.id} 1 {start:.3f} {end - start:.3f} {w.text} {w.confidence:.4f}\n" for start, end, w in rows)


def textgrid(said: Hypothesis) -> str:
    """Praat's text file of the tiers `words` and `tokens`, in which what nothing is said in is an empty interval.

    >>> textgrid(Hypothesis("u1", "", 0.0, [], seconds=1.5)).splitlines()[3:5]
    ['xmin = 0', 'xmax = 1.5']
    """
    words = [(round(w.start, 6), round(w.end, 6), w.text) for w in said.words or ()]
    tokens = [
        (round(start, 6), round(end, 6), piece)
        for (start, end), piece in zip(said.times or (), said.pieces or (), strict=False)
    ]
    end = max([round(said.seconds or 0.0, 6), *(end for _, end, _ in tokens)])
    head = (
        f'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = {end!r}\ntiers? <exists>\nsize = 2\n'
    )
    return head + "item []:\n" + _tier(1, "words", words, end) + _tier(2, "tokens", tokens, end)


def _tier(number: int, name: str, said: Sequence[tuple[float, float, str]], end: float) -> str:
    intervals = list(_without_gaps(said, end))
    lines = [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
    lines += ["        xmin = 0", f"        xmax = {end!r}", f"        intervals: size = {len(intervals)}"]
    for place, (xmin, xmax, text) in enumerate(intervals, 1):
        quoted = text.replace('"', '""')
        lines += [f"        intervals [{place}]:", f"            xmin = {xmin!r}", f"            xmax = {xmax!r}"]
        lines += [f'            text = "{quoted}"']
    return "".join(f"{line}\n" for line in lines)


def _without_gaps(said: Sequence[tuple[float, float, str]], end: float) -> Iterable[tuple[float, float, str]]:
    at = 0.0
    for start, stop, text in said:
        if start > at:
            yield at, start, ""
        yield max(start, at), stop, text
        at = stop
    if end > at:
        yield at, end, ""


FORMATS = {
    "text": Format(kaldi_text, "text"),
    "jsonl": Format(json_line, "hyp.jsonl", "used"),
    "ctm": Format(ctm, "ctm", "needed"),
    "txt": Format(lambda said: f"{said.text}\n"),
    "json": Format(json_file, None, "used"),
    "srt": Format(srt, None, "needed"),
    "vtt": Format(vtt, None, "needed"),
    "tsv": Format(tsv, None, "needed"),
    "TextGrid": Format(textgrid, None, "needed"),
}
USUAL = ("text", "jsonl")
"""What decoding writes where nothing else is asked for."""


def check_formats(names: Sequence[str]) -> None:
    """Raises ConfigError where there is no such format, or none is named."""
    for name in names or ("",):
        if name not in FORMATS:
            raise ConfigError(
                f"--formats={name}: no such format; there are {', '.join(FORMATS)}; choose some of them."
                f"{did_you_mean(name, FORMATS)}"
            )


def use_times(names: Iterable[str]) -> bool:
    """Whether any of these formats has times, if there are some.

    >>> use_times(["text"])
    False
    """
    return any(FORMATS[name].times != "unused" for name in names)


def needing_times(names: Iterable[str]) -> list[str]:
    """Those of these formats that are nothing without times.

    >>> needing_times(["text", "json", "srt"])
    ['srt']
    """
    return [name for name in names if FORMATS[name].times == "needed"]
