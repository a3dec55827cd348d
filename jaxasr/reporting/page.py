"""The whole page: headline, sections, style and script in one file that needs no other."""

import base64
import hashlib
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

import jaxasr
from jaxasr import config
from jaxasr.commands import command
from jaxasr.logs import short
from jaxasr.reporting import results
from jaxasr.reporting.gather import Log, Record, Run, Scored, bucket_of
from jaxasr.reporting.html import Html, count, duration, el, join, percent, table
from jaxasr.tasks import TASKS

HERE = pathlib.Path(__file__).parent


class Section(NamedTuple):
    """A part of the page, under a heading that `id` links to; `about` says below it what is shown."""

    id: str
    title: str
    content: Any
    """None leaves the section out."""
    about: str = ""


class Content(NamedTuple):
    """What a report shows."""

    run: Run
    parameters: int | None
    """Numbers that were learnt; None where there is no model yet."""
    scored: Sequence[Scored]
    utterances: Sequence[Html]
    looks: Sequence[Html]
    notes: Sequence[str]
    """What could not be done, and why."""


def render(content: Content) -> str:
    """The file."""
    sections = [section for section in _sections(content) if section.content is not None]
    links = [el("a", section.title, href=f"#{section.id}") for section in sections]
    body = [_headline(content), el("nav", links, aria_label="Sections")]
    for section in sections:
        about = el("p", section.about, class_="about") if section.about else None
        title = el("h2", section.title, id=f"{section.id}-title")
        body.append(el("section", title, about, section.content, id=section.id, aria_labelledby=f"{section.id}-title"))
    return document(f"{content.run.workdir.resolve().name}: training report", body, _footer(content.run))


def document(title: str, body: Sequence[Html], footer: Html | None = None) -> str:
    """A page with the report's looks."""
    script = (HERE / "report.js").read_text(encoding="utf-8")
    whole = el("body", el("main", body), footer, el("script", Html(script)))
    return "<!doctype html>\n" + el("html", _head(title, script), whole, lang="en")


def _head(title: str, script: str) -> Html:
    """Nothing may be loaded from elsewhere, and no script may run but the one whose hash stands here."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        el("style", Html((HERE / "report.css").read_text(encoding="utf-8"))),
    )


def _footer(run: Run) -> Html:
    made = f"Made by jaxasr {jaxasr.__version__} on {_date(time.time())}. To make it again: "
    return el("footer", made, el("code", command("report", [str(run.workdir)], run.cfg.imports)))


# Headline ----------------------------------------------------------------------------------------------------


def _headline(content: Content) -> Html:
    run, log = content.run, content.run.log
    when = f", {_date(log.sessions[-1].ends)}" if log.sessions else ""
    line = f"Training report · task {TASKS.name_of(type(run.cfg.task))} · {run.status}{when}"
    notes = [el("p", note, class_="notice") for note in content.notes]
    kept = el("p", _sentence(str(log.kept.get("note", ""))), class_="kept") if log.kept else None
    return el(
        "header",
        el("p", line, class_="status"),
        el("h1", run.workdir.resolve().name),
        notes,
        el("div", [_tile(item) for item in content.scored], class_="tiles"),
        _facts(content),
        kept,
        class_="headline",
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "." if text else ""


def _tile(item: Scored) -> Html:
    rate = item.logged.get("wer") if item.score is None else item.score.wer.rate
    interval = None
    if item.score is not None:
        interval = el("p", results.between(*item.score.wer_interval), " (95 %)", class_="interval-text")
    label = el("p", f"WER, {item.name} by {item.search}", class_="label")
    return el("div", label, el("p", percent(rate), class_="big"), interval, class_="tile")


def _facts(content: Content) -> Html:
    run, log = content.run, content.run.log
    mapping = config.to_mapping(run.cfg)
    facts = [(name.capitalize(), _part(mapping[name])) for name in ("encoder", "decoder", "lm") if name in mapping]
    if content.parameters is not None:
        facts.append(("Parameters", count(content.parameters)))
    if (train := log.start.get("data", {}).get("train")) is not None:
        facts.append(("Training data", _as_logged(lambda: _size(train))))
    facts += [(f"{r['split'].capitalize()} set", short(r)) for r in log.measured]
    if log.train or log.valid:
        last = max(log.train[-1:] + log.valid[-1:], key=lambda r: r.get("step", 0))
        steps = f"{last.get('step', 0)} steps, {last.get('epoch', 0):.1f} epochs"
        facts.append(("Trained", f"{duration(log.seconds)}, {steps}"))
    if (machine := log.start.get("machine")) is not None:
        facts.append(("On", _as_logged(_devices, machine)))
    return el("dl", [el("div", el("dt", name), el("dd", value)) for name, value in facts], class_="facts")


def _as_logged(make: Callable[..., Any], *records: Any) -> Any:
    """What is made of records of the log, or a word where they lack something, as another version's may."""
    try:
        return make(*records)
    except (KeyError, TypeError, ValueError, AttributeError):
        return el("p", "Not as this version logs it.", class_="note")


def _part(section: Any) -> str:
    """`sanm, 4 layers of 144` from an encoder's or a decoder's options."""
    if not isinstance(section, dict):
        return str(section or "none")
    layers, width = section.get("num_layers"), section.get("d_model")
    said = f", {layers} layer{'s' if layers != 1 else ''}" if layers else ""
    return f"{section['type']}{said}" + (f" of {width}" if said and width else "")


def _devices(machine: Record) -> str:
    devices = machine["devices"]
    kind = machine["cpu"] if devices["platform"] == "cpu" else devices["kind"]
    number = f"{devices['count']} × " if devices["count"] > 1 else ""
    return number + kind


# Sections ----------------------------------------------------------------------------------------------------


def _sections(content: Content) -> list[Section]:
    log, start = content.run.log, content.run.log.start
    curves = results.curves(log)
    primary = results.by_usual_search(content.scored)
    searched = ", ".join(dict.fromkeys(f"{s.name} by {s.search}" for s in primary))
    data, packages = start.get("data", {}), start.get("versions", {})
    buckets = _as_logged(_buckets, start["buckets"], log.memory) if "buckets" in start else None
    return [
        Section("curves", "Curves", el("div", curves, class_="charts") if curves else None, "By training step."),
        Section("errors", "Error rates", results.rates(content.scored) if content.scored else None, INTERVALS),
        Section("words", "Words", results.words(primary), f"Counted over {searched}." if searched else ""),
        Section("worst", "Worst utterances", list(content.utterances) or None, f"Of {searched}, most errors first."),
        Section("looks", "A closer look", list(content.looks) or None, LOOKS),
        Section("data", "Data", _as_logged(_data, data, start.get("corpora", ())) if data else None),
        Section("buckets", "Buckets", buckets, BUCKETS),
        Section("configuration", "Configuration", _configuration(content.run)),
        Section("machine", "Machine and versions", _as_logged(_machine, log, packages)),
    ]


INTERVALS = (
    "The intervals say how far a rate may be off because the set is small (bootstrap over utterances). "
    "Two models whose intervals overlap may differ by chance."
)
LOOKS = (
    "The best, the median and the worst utterance. Each row of the posteriors is a token, each column an encoder "
    "frame; the stronger the colour, the more probable. Each row of the attention is a token that the decoder is "
    "about to say, and where it looks for it; the tokens are those recognised. A line follows the sound."
)
BUCKETS = (
    "The shapes of batches, as they are filled in the first epoch; each is compiled once. The memory is what a step "
    "takes on each device by the plan of its buffers; the last line has the most."
)


def _size(train: Record) -> str:
    size = f"{train['hours']:.2f} h" if "hours" in train else f"{train['tokens']:.0f} tokens"
    return f"{size}, {train['utterances']} utterances"


def _data(data: Record, corpora: Sequence[Record]) -> Html:
    train = data["train"]
    unit, digits = ("hours", 3) if "hours" in train else ("tokens", 0)
    speeds = ", ".join(f"{speed:g}" for speed in train["speeds"])
    rows = [["training", train["utterances"], f"{train[unit]:.{digits}f}"]]
    rows.append(["validation", data["valid"]["utterances"], f"{data['valid'][unit]:.{digits}f}"])
    for number, test in enumerate(data["tests"]):
        name = "test" if len(data["tests"]) == 1 else f"test{number}"
        rows.append([name, test["utterances"], f"{test[unit]:.{digits}f}"])
    about = f"Speed factors {speeds}. One encoder frame stands for {train['frame_ms']:g} ms." if digits else ""
    mixed = [[c["path"], c["utterances"], f"{c[unit]:.{digits}f}", c["in_epoch"]] for c in corpora]
    parts = [table(["set", "utterances", unit], rows)]
    if len(mixed) > 1:
        parts += [el("h3", "Training corpora"), table(["", "utterances", unit, "in an epoch"], mixed)]
    return el("div", parts, el("p", about, class_="after") if about else None, _left_out(train))


def _left_out(train: Record) -> Html:
    """Why training utterances are not used."""
    if not train["left_out"]:
        return el("p", f"All {train['total']} training utterances are used; none is left out.")
    rows = []
    for reason, found in train["left_out"].items():
        more = ", …" if found["count"] > len(found["ids"]) else ""
        rows.append([reason, ", ".join(found["ids"]) + more, found["count"]])
    parts = [el("h3", f"Left out of the {train['total']} training utterances")]
    parts.append(table(["reason", "utterances", "number"], rows, text=(0, 1)))
    parts += [el("p", fault, class_="note") for fault in train["faults"].values()]
    return join(parts)


def _buckets(buckets: Sequence[Record], memory: Mapping[tuple[Any, ...], Record]) -> Html:
    def row(label: Any, uses: Sequence[Record]) -> list[Any]:
        samples, room = sum(u["samples"] for u in uses), max(sum(u["room"] for u in uses), 1)
        batches, utterances = sum(u["batches"] for u in uses), sum(u["utterances"] for u in uses)
        taken = max((memory[key]["total"] for u in uses if (key := bucket_of(u)) in memory), default=None)
        shown = "" if taken is None else f"{taken / 2**30:.3f}"
        return [*label, batches, utterances, f"{100 * (1 - samples / room):.1f} %", shown]

    rows = [row([u["rows"], f"{u['seconds']:.2f}", u["tokens"]], [u]) for u in buckets]
    rows.append(row(["all", "", ""], buckets))
    columns = ["rows", "seconds", "tokens", "batches", "utterances", "padding", "GiB a device"]
    return table(columns, rows, text=(), class_="totalled")


def _configuration(run: Run) -> Html:
    different = config.changed(run.cfg)
    text = yaml.safe_dump(different, sort_keys=False, allow_unicode=True)
    whole = el("details", el("summary", "All options (config.yaml)"), el("pre", config.to_yaml(run.cfg), tabindex=0))
    start = run.log.start
    command = [el("h3", "Command"), el("pre", start["command"], class_="command")] if "command" in start else []
    command.append(el("p", f"Seed {run.cfg.seed}.", class_="after"))
    return el("div", command, el("h3", "Options that differ from the defaults"), el("pre", text, tabindex=0), whole)


def _machine(log: Log, packages: Record) -> Html | None:
    machine = log.start.get("machine")
    if machine is None:
        return None
    facts = [
        ("processor", machine["cpu"]),
        ("cores in use", machine["cores"]),
        ("memory", f"{machine['memory_gib']:.1f} GiB"),
        ("devices", "{count} × {kind} ({platform})".format(**machine["devices"])),
        ("processes", machine["processes"]),
        ("system", machine["system"]),
    ]
    first = table(["machine", ""], [list(fact) for fact in facts], text=(0, 1))
    second = table(["package", "version"], [list(item) for item in packages.items()], text=(0, 1))
    return el("div", el("div", first, second, class_="columns"), _session_table(log))


def _session_table(log: Log) -> Html:
    """One row for every start of the run."""
    rows = []
    for session in log.sessions:
        first = session.start.get("step", 0)
        machine = session.start.get("machine")
        where = _devices(machine) if machine else "–"
        took = duration(session.seconds)
        rows.append([_date(session.begins), where, f"{first} – {session.last_step}", took])
    return el("div", el("h3", "Sessions"), table(["started", "on", "steps", "time"], rows, text=(0, 1)))


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
