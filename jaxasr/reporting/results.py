"""The sections of a report that say how well it went: curves, error rates, words, utterances."""

import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jaxasr.data.batch import AnyAsrExample
from jaxasr.data.manifest import Utterance
from jaxasr.data.textfile import few
from jaxasr.evaluate import aligned
from jaxasr.reporting import heat
from jaxasr.reporting.charts import Series, interval_bar, line_chart
from jaxasr.reporting.gather import Log, Record, Scored, is_number
from jaxasr.reporting.html import Html, el, head_of, percent, scrollable, table
from jaxasr.reporting.looks import Look, flac_uri
from jaxasr.reporting.words import WordErrors, by_word, confusions
from jaxasr.scoring import ErrorCounts, Score, Step, UtteranceScore, bootstrap_interval

MOST_WORDS = 20
LEAST_POSTERIOR, MOST_TOKENS = 0.1, 24
MOST_HEADS, LOW_ROW, WEIGHTS_HEIGHT = 16, 10.0, 34.0
MARKS = {"equal": "", "substitute": "S", "delete": "D", "insert": "I"}
SPELT = {"equal": "", "substitute": "substituted", "delete": "deleted", "insert": "inserted"}
NAMES = {
    "loss": "Loss",
    "perplexity": "Perplexity",
    "acc/token": "Token accuracy",
    "error/count": "Tokens counted too many or too few, an utterance",
    "learning_rate": "Learning rate",
    "grad_norm": "Gradient norm",
    "audio_seconds_per_second": "Audio seconds per second",
    "tokens_per_second": "Tokens per second",
    "infeasible": "Too few frames for CTC",
}
HIDDEN = {"skipped", "skipped_in_a_row", "time", "step", "epoch"}
SHARES = {"acc/token", "infeasible"}
"""Shown in percent."""


class Example(NamedTuple):
    """An utterance to be shown."""

    scored: Scored
    utterance: Utterance
    score: UtteranceScore
    read: AnyAsrExample | None
    """What the network reads of it."""
    fault: str = ""
    """Why that is nothing."""

    @property
    def sound(self) -> np.ndarray | None:
        """int16 (S,); None where it cannot be read, or the network reads something else."""
        return getattr(self.read, "audio", None)


# Curves ------------------------------------------------------------------------------------------------------


def curves(log: Log) -> list[Html]:
    """A chart of every number that training and validation wrote, those that belong together in one."""
    rates = [Series(name.upper(), points(log.valid, name, 100.0), dots=True) for name in ("wer", "cer")]
    charts = [_train_and_valid(log, "loss"), line_chart("Validation errors", rates, percent=True, floor=0.0)]
    numbers = dict.fromkeys(name for record in log.train for name, value in record.items() if is_number(value))
    parts = [name for name in numbers if name.startswith("loss/")]
    charts += [_train_and_valid(log, name) for name in parts]
    shares = [Series(n.removesuffix("_percent"), points(log.train, n)) for n in numbers if n.endswith("_percent")]
    rest = [n for n in numbers if n not in HIDDEN | {"loss"} and n not in parts and not n.endswith("_percent")]
    known = [n for n in NAMES if n in rest]
    for name in [*known, *sorted(set(rest) - set(known))]:
        if name != "infeasible" or any(record.get(name) for record in log.train):
            charts.append(_train_and_valid(log, name))
    charts.append(line_chart("Padding, and waiting for data", shares, percent=True, floor=0.0))
    return [chart for chart in charts if chart is not None]


def points(records: Iterable[Record], name: str, factor: float = 1.0) -> list[tuple[float, float]]:
    """(step, value) of the records that have a value of that name.

    >>> points([{"step": 1, "loss": 2.0}, {"step": 2}], "loss")
    [(1, 2.0)]
    """
    return [(r.get("step", 0), factor * r[name]) for r in records if is_number(r.get(name))]


def _train_and_valid(log: Log, name: str) -> Html | None:
    factor = 100.0 if name in SHARES else 1.0
    series = [Series("training", points(log.train, name, factor))]
    series.append(Series("validation", points(log.valid, name, factor), dots=True))
    title = NAMES.get(name) or (f"Loss, {name[5:]} part" if name.startswith("loss/") else name)
    series = series if series[1].points else [series[0]._replace(name="")]
    return line_chart(title, series, percent=name in SHARES, wide=name.startswith("loss") or name == "grad_norm")


# Error rates -------------------------------------------------------------------------------------------------


class Measure(NamedTuple):
    """An error rate with its interval."""

    name: str
    total: ErrorCounts
    interval: tuple[float, float]
    unit: str


def rates(scored: Sequence[Scored]) -> Html:
    """WER, CER and SER with intervals and counts, for every set and search."""
    headings = ["", "rate", "95 % interval", "", "errors", "sub.", "del.", "ins.", "of"]
    found = [(item, [] if item.score is None else _measures(item.score)) for item in scored]
    bounds = [measure.interval[1] for _, measures in found for measure in measures]
    most = max((bound for bound in bounds if math.isfinite(bound)), default=0.0)
    rows = []
    for item, measures in found:
        label = el("span", el("b", item.name), " by ", item.search, el("small", item.path, class_="path"))
        rows.append(el("tr", el("th", label, colspan=len(headings), scope="rowgroup")))
        rows += [_rate_row(measure, most) for measure in measures] or _logged(item, len(headings))
        if item.score is not None and item.score.missing:
            missing = item.score.missing
            text = f"{len(missing)} without a hypothesis, counted as deletions: {few(missing)}"
            rows.append(el("tr", el("td", text, colspan=len(headings), class_="note")))
    head = head_of(headings, range(len(headings)))
    return scrollable(el("table", head, el("tbody", rows), class_="rates"), "Table of error rates")


def _measures(score: Score) -> list[Measure]:
    sentences = [ErrorCounts(int(u.words.errors > 0), 0, 0, 1) for u in score.utterances]
    letters = bootstrap_interval([u.characters for u in score.utterances])
    total = ErrorCounts(score.wrong_sentences, 0, 0, len(sentences))
    return [
        Measure("WER", score.wer, score.wer_interval, "words"),
        Measure("CER", score.cer, letters, "characters"),
        Measure("SER", total, bootstrap_interval(sentences), "utterances"),
    ]


def _rate_row(measure: Measure, most: float) -> Html:
    total, (low, high) = measure.total, measure.interval
    edits = ["", "", ""] if measure.name == "SER" else [total.substitutions, total.deletions, total.insertions]
    bar = interval_bar(total.rate, (low, high), most) if math.isfinite(high) else ""
    numbers = [percent(total.rate), between(low, high)]
    cells = [el("th", measure.name, scope="row"), *(el("td", n, class_="number") for n in numbers), el("td", bar)]
    cells += [el("td", n, class_="number") for n in [total.errors, *edits]]
    cells.append(el("td", f"{total.reference} {measure.unit}", class_="number"))
    return el("tr", cells)


def between(low: float, high: float) -> str:
    """An interval of two shares, in percent.

    >>> between(0.01, 0.025)
    '1.00 – 2.50'
    """
    return f"{100 * low:.2f} – {100 * high:.2f}" if math.isfinite(high) else f"{100 * low:.2f} – ∞"


def _logged(item: Scored, columns: int) -> list[Html]:
    """What log.jsonl says of a set that cannot be scored again, and why it cannot."""
    rows = []
    for name in ("wer", "cer"):
        cells = [el("th", name.upper(), scope="row"), el("td", percent(item.logged.get(name)), class_="number")]
        rows.append(el("tr", cells, el("td", "as the run logged it", colspan=columns - 2)))
    return [*rows, el("tr", el("td", item.fault, colspan=columns, class_="note"))]


def by_usual_search(scored: Sequence[Scored]) -> list[Scored]:
    """Of every set that could be scored, the first search."""
    return list({item.name: item for item in reversed(scored) if item.score is not None}.values())[::-1]


# Words -------------------------------------------------------------------------------------------------------


def words(scored: Sequence[Scored]) -> Html | None:
    """The words most often wrong, and what is taken for what, over all sets by their usual search."""
    utterances = [u for item in scored if item.score is not None for u in item.score.utterances]
    found = by_word(utterances)
    wrong = [entry for entry in found if entry.wrong]
    if not wrong:
        return None
    rows = [_word_row(entry) for entry in wrong[:MOST_WORDS]]
    headings = ["word", "said", "wrong", "sub.", "del.", "ins.", "missed", "recognised instead"]
    first = el("div", el("h3", "Most often wrong"), table(headings, rows, text=(0, 7)), class_="words")
    pairs = confusions(found)[:MOST_WORDS]
    cells = [[_word(said), _word(heard), times] for said, heard, times in pairs]
    second = el("div", el("h3", "Taken for one another"), table(["said", "recognised", "times"], cells, text=(0, 1)))
    shown = f"{len(wrong)} of {len(found)} words have an error"
    shown += f"; the {MOST_WORDS} with the most are shown." if len(wrong) > MOST_WORDS else "."
    return el("div", el("p", shown), el("div", first, second if pairs else None, class_="columns"))


def _word_row(entry: WordErrors) -> list[object]:
    instead = [
        el("span", _word(other), f" ×{times}" if times > 1 else "", class_="instead")
        for other, times in entry.heard_as.most_common(4)
    ]
    share = percent((entry.substituted + entry.deleted) / entry.count, 0) if entry.count else "–"
    edits = [number or "" for number in (entry.substituted, entry.deleted, entry.inserted)]
    return [_word(entry.word), entry.count, entry.wrong, *edits, share, el("span", instead)]


def _word(word: str) -> Html:
    return el("bdi", word, class_="word")


# Utterances --------------------------------------------------------------------------------------------------


def utterance(example: Example, rate: int, *, room: int) -> tuple[Html, int]:
    """The utterance with its alignment and sound, and how many of the `room` bytes the sound took."""
    steps, unit = aligned(example.score)
    errors, total = sum(s.operation != "equal" for s in steps), sum(s.reference is not None for s in steps)
    said = f"{_number(errors, 'errors')} in {_number(total, unit)}"
    found = "no hypothesis" if example.score.hypothesis is None else said
    head = el("header", el("h3", el("bdi", example.utterance.id)), el("p", example.scored.name, " · ", found))
    sound, size = _sound(example, rate, room=room)
    place = el("p", _place(example.utterance), class_="path")
    return el("article", head, alignment(steps), el("div", sound, place, class_="source"), class_="utterance"), size


def _number(number: int, things: str) -> str:
    return f"{number} {things.removesuffix('s') if number == 1 else things}"


def _sound(example: Example, rate: int, *, room: int) -> tuple[Html, int]:
    if example.sound is None:
        return el("p", example.fault or "No sound: the model reads features.", class_="note"), 0
    audio, size = player(example.utterance.id, example.sound, rate)
    if size > room:
        return el("p", f"{size / 1e6:.1f} MB of sound are left out to keep this file small.", class_="note"), 0
    return audio, size


def player(name: str, sound: np.ndarray, rate: int) -> tuple[Html, int]:
    """What plays int16 sound (S,), and how many bytes of it are in it.

    >>> html, size = player("test-1", np.zeros(800, np.int16), 8000)
    >>> html.endswith(' aria-label="test-1, 0.10 seconds"></audio>')
    True
    """
    uri = flac_uri(sound, rate)
    label = f"{name}, {len(sound) / rate:.2f} seconds"
    return el("audio", src=uri, controls=True, preload="metadata", aria_label=label), len(uri)


def _place(utterance: Utterance) -> str:
    path = pathlib.Path(utterance.audio)
    shown = path.relative_to(pathlib.Path.cwd()) if path.is_relative_to(pathlib.Path.cwd()) else path
    if not utterance.start and utterance.seconds is None:
        return str(shown)
    end = "the end" if utterance.seconds is None else f"{utterance.start + utterance.seconds:.2f} s"
    return f"{shown}, from {utterance.start:.2f} s to {end}"


def alignment(steps: Sequence[Step]) -> Html:
    """A column for each step: what was said, what was recognised, and a letter for the kind of error."""
    if not steps:
        return el("p", "Nothing was said and nothing recognised.", class_="note")
    columns = [
        el(
            "span",
            el("span", el("bdi", step.reference or "∗"), class_="said"),
            el("span", el("bdi", step.hypothesis or "∗"), class_="heard"),
            el("abbr", MARKS[step.operation], title=SPELT[step.operation]) if MARKS[step.operation] else None,
            class_=f"step {step.operation}",
        )
        for step in steps
    ]
    labels = el("span", el("span", "said"), el("span", "recognised"), class_="step labels")
    return el("div", labels, columns, class_="alignment", role="group", aria_label="Said, and recognised, word by word")


# Looks -------------------------------------------------------------------------------------------------------


def look(name: str, sound: np.ndarray | None, found: Look, vocabulary: Sequence[str], rate: int) -> Html:
    """What a network makes of int16 `sound` (S,), if it is that: over one axis of time, and each head by itself."""
    seconds = len(() if sound is None else sound) / rate
    panels = [] if sound is None else [heat.spectrogram(sound, rate)]
    if found.ctc is not None:
        panels.append(_posteriors(found.ctc, found.aligned, found.frame_seconds, vocabulary))
    if found.alphas is not None:
        panels.append(_token_weights(found, vocabulary))
    label = f"{name}: " + ", ".join(panel.title for panel in panels)
    if found.attention is None:
        return heat.stack(panels, seconds, label)
    rows, heads = [vocabulary[i] for i in found.said], len(found.attention)
    title = "Attention of the decoder's last layer" + (f", mean of {heads} heads" if heads > 1 else "")
    panels.append(_weights(title, found.attention.mean(axis=0), found.frame_seconds, rows))
    whole = heat.stack(panels, seconds, f"{label}, attention")
    if not 1 < heads <= MOST_HEADS:
        return whole
    low = [
        _weights(f"Head {number}", weights, found.frame_seconds, rows)._replace(height=LOW_ROW * len(rows))
        for number, weights in enumerate(found.attention, 1)
    ]
    return el("div", whole, el("details", el("summary", "Each head by itself"), heat.stack(low, seconds, name)))


def _token_weights(found: Look, vocabulary: Sequence[str]) -> heat.Panel:
    """The weight of each frame, and the tokens that they make."""
    assert found.alphas is not None
    most, step = float(found.alphas.max(initial=0.0)), found.frame_seconds
    boxes = [heat.Box(start * step, end * step, 0.0, 1.0, vocabulary[token]) for token, start, end in found.fired]
    title = f"Weights of the predictor (at most {most:.2f}), a token wherever they add up to 1"
    values = found.alphas[None] / max(most, 1e-9)
    return heat.Panel(title, values, step * len(found.alphas), height=WEIGHTS_HEIGHT, boxes=boxes)


def _weights(title: str, weights: np.ndarray, frame_seconds: float, rows: Sequence[str]) -> heat.Panel:
    """Attention weights (U, T), the largest in full colour."""
    most = float(weights.max())
    values = weights / max(most, 1e-9)
    return heat.Panel(f"{title} (at most {most:.2f})", values, frame_seconds * weights.shape[1], rows)


def _posteriors(
    ctc: np.ndarray, aligned: Sequence[tuple[int, float, float]], frame_seconds: float, vocabulary: Sequence[str]
) -> heat.Panel:
    """The tokens that come up anywhere, blank first and then in the order of their peaks; the text is boxed."""
    peaks = ctc.max(axis=0)
    likely = [i for i in np.argsort(-peaks, kind="stable")[: MOST_TOKENS + 1] if peaks[i] >= LEAST_POSTERIOR and i]
    ids = [0, *map(int, sorted(likely, key=lambda i: int(ctc[:, i].argmax())))]
    shares = {token: (row / len(ids), (row + 1) / len(ids)) for row, token in enumerate(ids)}
    boxes = [
        heat.Box(start * frame_seconds, end * frame_seconds, *shares[token])
        for token, start, end in aligned
        if token in shares
    ]
    title = f"CTC posteriors of tokens that reach {LEAST_POSTERIOR:g}" + (
        ", boxed where the text says them" * bool(boxes)
    )
    return heat.Panel(title, ctc[:, ids].T, frame_seconds * len(ctc), [vocabulary[i] for i in ids], boxes=boxes)
