"""What a run has left on disk, read for its report; loads no JAX arrays."""

import dataclasses
import fcntl
import json
import math
import pathlib
from typing import Any

from jaxasr import checkpoint, config
from jaxasr.data import manifest
from jaxasr.data.cleaners import Cleaning
from jaxasr.data.manifest import Utterance
from jaxasr.errors import ConfigError, JaxasrError
from jaxasr.evaluate import read_results
from jaxasr.scoring import Score, score_cleaned
from jaxasr.train_config import TrainConfig

Record = dict[str, Any]


@dataclasses.dataclass
class Session:
    """One start of the run to its end."""

    start: Record
    """The record that the session began with; empty in a log that has none."""
    begins: float
    """When it began, in seconds since 1970."""
    ends: float
    """When its last step or validation was written."""
    last_step: int = 0

    @property
    def seconds(self) -> float:
        """From its beginning to its end; a clock that was set back meanwhile takes nothing from the others."""
        return max(self.ends - self.begins, 0.0)


@dataclasses.dataclass
class Log:
    """log.jsonl, without the steps that a session had to do again."""

    train: list[Record] = dataclasses.field(default_factory=list)
    valid: list[Record] = dataclasses.field(default_factory=list)
    tests: dict[tuple[str, str], Record] = dataclasses.field(default_factory=dict)
    """(test set, search) to its last score."""
    sessions: list[Session] = dataclasses.field(default_factory=list)
    skipped: list[Record] = dataclasses.field(default_factory=list)
    kept: Record | None = None
    """Which model the run ended with; None where it has not ended since its last step."""
    memory: dict[tuple[Any, ...], Record] = dataclasses.field(default_factory=dict)
    """What a step takes on each device, by rows, seconds and tokens of its bucket, as last told."""
    damaged: list[int] = dataclasses.field(default_factory=list)
    """Numbers of lines that are no records, as a power cut leaves them."""

    @property
    def measured(self) -> list[Record]:
        """Of every test set its metrics, of a task that decodes nothing."""
        return [record for record in self.tests.values() if record.get("search") is None]

    @property
    def start(self) -> Record:
        """The newest record of a session's start; empty where there is none."""
        return next((s.start for s in reversed(self.sessions) if s.start), {})

    @property
    def seconds(self) -> float:
        """Time from every session's start to its last step or validation, added up."""
        return sum(session.seconds for session in self.sessions)

    def add(self, record: Record) -> None:
        """Takes a line of the log into account; steps that are done again replace those before."""
        split, step, time = record.get("split"), record.get("step", 0), record.get("time", 0.0)
        if split == "session":
            self.sessions.append(Session(record, time, time, step))
        elif split in ("train", "valid", "skipped"):
            if not self.sessions:
                self.sessions.append(Session({}, time, time))
            self.sessions[-1].ends, self.sessions[-1].last_step = time, step
            rows: list[Record] = getattr(self, split)
            while rows and rows[-1].get("step", 0) >= step:  # done again by a session that went on from before it
                rows.pop()
            rows.append(record)
            self.kept = None
        elif split == "memory":
            self.memory[bucket_of(record)] = record
        elif str(split).startswith("test"):
            self.tests[str(split), str(record.get("search"))] = record
        elif split == "kept":  # before the scores of the model that is kept
            self.kept = record
            self.tests.clear()


def bucket_of(record: Record) -> tuple[Any, ...]:
    """What tells the bucket of a record from others.

    >>> bucket_of({"split": "memory", "rows": 8, "seconds": 2.0, "tokens": 12})
    (8, 2.0, 12)
    """
    return record.get("rows"), record.get("seconds"), record.get("tokens")


@dataclasses.dataclass(frozen=True)
class Scored:
    """Utterances as one search recognised them."""

    name: str
    path: str
    search: str
    score: Score | None
    fault: str = ""
    """Why there is no score; `logged` then has what the run itself found."""
    logged: Record = dataclasses.field(default_factory=dict)
    utterances: dict[str, Utterance] = dataclasses.field(default_factory=dict)
    tokens: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    """Ids of each hypothesis's tokens, as far as they are known."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A workdir as far as it can be read without decoding anything."""

    workdir: pathlib.Path
    cfg: TrainConfig
    log: Log
    tests: list[Scored]
    running: bool
    """Whether a process is at work on it."""

    @property
    def status(self) -> str:
        """finished, running, interrupted or not started."""
        if self.log.kept is not None:
            return "finished"
        return "running" if self.running else "interrupted" if self.log.sessions else "not started"

    def located(self, path: str) -> str:
        """A path of the configuration: as it is, or else from the folder that the run was started in."""
        started_in = pathlib.Path(self.log.start.get("folder", "."))
        return path if pathlib.Path(path).exists() else str(there) if (there := started_in / path).exists() else path


def read(workdir: pathlib.Path) -> Run:
    """The run in a workdir, finished or not.

    Raises:
      ConfigError: the folder is not one of a run.
    """
    file = workdir / "config.yaml"
    if not file.is_file() or "train" not in (mapping := config.read_yaml(file)):
        raise ConfigError(
            f"{workdir}: no run there; the workdir of one, with its config.yaml, was expected; give the folder that "
            "--workdir named. `python -m jaxasr.info` tells of a model alone."
        )
    config.check_imported(mapping, str(file))
    cfg = config.from_mapping(TrainConfig, mapping, where=str(file))
    run = Run(workdir, cfg, read_log(workdir / "log.jsonl"), [], is_running(workdir))
    decoded = [(key, record) for key, record in ordered(cfg, run.log) if record.get("search") is not None]
    return dataclasses.replace(run, tests=[scored(run, *key, record) for key, record in decoded])


def read_log(path: pathlib.Path) -> Log:
    """The records of a log; the last line may be half written, and a run that has not begun has no log."""
    log = Log()
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    for number, line in enumerate(lines, 1):
        if (record := _record(line)) is not None:
            log.add(record)
        elif number < len(lines):
            log.damaged.append(number)
    return log


def _record(line: str) -> Record | None:
    """The record that is a line, empty where that is blank; None where it is none."""
    try:
        record = json.loads(line) if line.strip() else {}
    except (ValueError, RecursionError):
        return None
    whole = isinstance(record, dict) and all(is_number(record.get(name, 0)) for name in ("step", "time", "epoch"))
    return record if whole else None


def is_number(value: object) -> bool:
    """Whether a value of the log is a finite number.

    >>> is_number(float("nan"))
    False
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def cleaning(run: Run) -> Cleaning:
    """What is done to transcripts, by the model's folder, which has all that it takes, or else by the options."""
    folder = run.workdir / "model"
    task = checkpoint.load_task(folder) if (folder / "config.yaml").exists() else run.cfg.task
    return task.cleaning


def is_running(workdir: pathlib.Path) -> bool:
    """Whether a process holds the workdir's lock."""
    try:
        with (workdir / ".lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock, or a file system without them
        return False
    return False


def ordered(cfg: TrainConfig, log: Log) -> list[tuple[tuple[str, str], Record]]:
    """The scores by test set, and in each the usual search first."""
    searches = [*([cfg.search] if cfg.search else []), *cfg.task.searches()]

    def rank(item: tuple[tuple[str, str], Record]) -> tuple[str, int]:
        (name, search), _ = item
        return f"{name:>12}", searches.index(search) if search in searches else len(searches)

    return sorted(log.tests.items(), key=rank)


def scored(run: Run, name: str, search: str, record: Record) -> Scored:
    """A test set's hypotheses against its references, as far as both can be found."""
    path = record.get("path", "")
    try:
        utterances = {u.id: u for u in manifest.read(run.located(path), kind=run.cfg.task.source.kind)}
        results = read_results(run.workdir / name / search / "hyp.jsonl")
        references = {name: u.text for name, u in utterances.items()}
        found = score_cleaned(cleaning(run), references, {name: text for name, (text, _) in results.items()})
    except JaxasrError as error:
        gone = not pathlib.Path(run.located(path)).exists()
        hint = " (run the report in the folder that the run was started in, so that relative paths hold)" * gone
        return Scored(name, path, search, None, f"{error}{hint}", record)
    tokens = {name: row["tokens"] for name, (_, row) in results.items() if _are_ids(row.get("tokens"))}
    return Scored(name, path, search, found, "", record, utterances, tokens)


def _are_ids(tokens: object) -> bool:
    return isinstance(tokens, list) and all(type(token) is int for token in tokens)
