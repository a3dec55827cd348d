"""Everything before the first step: manifests, token list, what can be used, feature statistics."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from typing import Any

import rich.console

from jaxasr import checkpoint, checksums, config, finetune, fit
from jaxasr.cmvn import estimate
from jaxasr.data import manifest
from jaxasr.data.manifest import Utterance
from jaxasr.data.probe import headers
from jaxasr.data.selection import lengths, split_valid, why_unreadable
from jaxasr.errors import CheckpointError, DataError
from jaxasr.inputs import Inputs, check_feasible, evaluation_inputs, training_inputs, write_left_out
from jaxasr.parallel import Devices, is_main_process
from jaxasr.tasks import Task
from jaxasr.train_config import RESUMABLE, TrainConfig

SHOWN_FAULTS = 3
FILES = "files.json"
"""What the files were, in the workdir, that the run's options name."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The task with its resources, and its data."""

    task: Task
    train: Inputs
    valid: Inputs
    tests: list[Inputs]


def prepare(
    cfg: TrainConfig, workdir: pathlib.Path, devices: Devices, console: rich.console.Console, collate: Any = None
) -> Prepared:
    """Reads the manifests, completes the task and writes its model folder (still without parameters).

    Args:
      cfg: as `resumed` gives it.

    Raises:
      DataError: a manifest is malformed, or too much of the training set cannot be used.
    """
    # first what may fail: reading takes long, and training longer
    devices.check_rows(cfg.rows_multiple, cfg.microbatches)
    memory = None if cfg.fit is None else fit.memory_of_device(cfg.fit)
    tests = [manifest.read(path, kind=cfg.task.source.kind) for path in cfg.test]
    train, valid = read_manifests(cfg, console)
    task = cfg.task.prepared(train)
    if said := str(task.cleaning):
        console.print(f"texts: {said}", highlight=False, soft_wrap=True)
    inputs = training_inputs(
        task,
        train,
        batch_seconds=cfg.batch_units,
        max_buckets=cfg.max_buckets,
        rows_multiple=cfg.rows_multiple,
        max_seconds=cfg.max_units,
        seed=cfg.seed,
        weights=cfg.train_weights,
        check_sound=cfg.check_sound,
        collate=collate,
    )
    report_selection(cfg, inputs, workdir, console)
    task = task.with_statistics(lambda features_of: estimate(features_of, plain(inputs, cfg), devices, console))
    inputs = dataclasses.replace(inputs, task=task)
    if memory is not None:
        say = functools.partial(console.print, highlight=False, soft_wrap=True)
        cfg, inputs = fit.fitted(cfg, inputs, devices, memory, say)
    if is_main_process() and not checkpoint.has_state(workdir):
        write_beginning(cfg, task, workdir)
    inputs.print_buckets(console, "Buckets (first epoch)")
    held_out = [held_out_inputs(cfg, task, utterances, collate) for utterances in (valid, *tests)]
    return Prepared(task, inputs, held_out[0], held_out[1:])


def report_selection(cfg: TrainConfig, inputs: Inputs, workdir: pathlib.Path, console: rich.console.Console) -> None:
    """Says what the run trains on, and what of the training set it leaves out and why.

    Raises:
      DataError: too many utterances have fewer frames than CTC needs.
    """
    task, selection = inputs.task, inputs.selection
    say = functools.partial(console.print, highlight=False, markup=False, soft_wrap=True)
    say(f"train: {selection.accounting()}; {amount(inputs.size, task.source.of_corpora[0])}")
    if sounds := task.sounds_drawn_from():
        say(f"--preprocess: {len(sounds)} sound files of noises and rooms")
    if cfg.train_weights:
        inputs.print_shares(console, cfg.train)
    for fault in list(selection.faults.values())[:SHOWN_FAULTS]:
        say(f"  unreadable: {fault}")
    write_left_out(selection, workdir, console)
    if task.frame_ms is not None:
        say(check_feasible(selection, task.frame_ms, cfg.max_infeasible))


def write_beginning(cfg: TrainConfig, task: Task, workdir: pathlib.Path) -> None:
    """What a workdir has before the first step: its options, the files that they name, the model's folder."""
    finetune.keep_options(cfg, workdir)
    checkpoint.save_model(workdir / "model", task, None, cfg.imports)
    checkpoint.write_atomically(workdir / "config.yaml", config.to_yaml(cfg).encode())
    checkpoint.write_atomically(workdir / FILES, json.dumps(hashes_of_files(cfg.task), indent=1).encode())


def amount(size: float, unit: str) -> str:
    """`1.50 h` or `12345 tokens`.

    >>> amount(90.0, "s")
    '90 s'
    """
    return f"{size:.2f} h" if unit == "hours" else f"{size:.0f} {unit}"


def read_manifests(cfg: TrainConfig, console: rich.console.Console) -> tuple[list[Utterance], list[Utterance]]:
    """Training and validation utterances; says where the latter come from when no manifest does.

    Raises:
      DataError: no utterance can be read.
    """
    source = cfg.task.source
    train = manifest.read_all(cfg.train, kind=source.kind)
    if cfg.valid:
        return train, manifest.read_all(cfg.valid, kind=source.kind)
    longest = cfg.max_units * max(cfg.task.training_speeds())
    infos = headers(train, source, whole=cfg.check_sound, trust=not cfg.check_sound, max_seconds=longest)
    faults = [why_unreadable(u, infos, source) for u in train]
    if all(faults):
        raise DataError(
            f"--train: none of {len(train)} utterances can be read; at least two were expected; correct the data. "
            f"{faults[0]}"
        )
    readable = [u for u, why in zip(train, faults, strict=True) if not why]
    most = cfg.max_units * source.rate
    short = [u for u in readable if lengths(u, infos, source, (1.0,))[0] <= most]
    usable, valid, how = split_valid(short if len(short) > 1 else readable)
    share = 100 * len(valid) / (len(usable) + len(valid))
    console.print(f"no --valid: {len(valid)} training utterances ({share:.1f} %, {how}) are held out", highlight=False)
    held_out = {u.id for u in valid}
    return [u for u in train if u.id not in held_out], valid  # the unreadable and the long ones are still to be counted


def plain(inputs: Inputs, cfg: TrainConfig) -> Inputs:
    """The training utterances once each, as they are, for statistics."""
    return held_out_inputs(cfg, inputs.task, inputs.selection.utterances, inputs.collate)


def held_out_inputs(cfg: TrainConfig, task: Task, utterances: list[Utterance], collate: Any) -> Inputs:
    """Every utterance, for validation and test."""
    inputs = evaluation_inputs(
        task,
        utterances,
        batch_seconds=max(cfg.batch_units, 200.0),
        max_buckets=min(cfg.max_buckets, 4),
        rows_multiple=cfg.rows_multiple,
        check_sound=cfg.check_sound,
    )
    return dataclasses.replace(inputs, collate=collate)


# --- going on with a run -----------------------------------------------------------------------------------------


def resumed(cfg: TrainConfig) -> TrainConfig:
    """`cfg` with what an earlier session saved of its task's resources, whose files may be gone; or the --init model's.

    Raises:
      CheckpointError: the workdir holds another run, or a file that the options name is another one now.
    """
    workdir = pathlib.Path(cfg.workdir)
    if not checkpoint.has_state(workdir):
        return finetune.with_model(cfg)
    cfg = check_same_run(cfg, workdir)
    check_same_files(cfg.task, workdir)
    return dataclasses.replace(cfg, task=checkpoint.with_resources(cfg.task, workdir / "model"))


def check_same_run(cfg: TrainConfig, workdir: pathlib.Path) -> TrainConfig:
    """`cfg`, with the batches that `--fit` found when the run began.

    Raises:
      CheckpointError: the run in the workdir was started with options that decide another result.
    """
    file = workdir / "config.yaml"
    earlier = config.from_mapping(TrainConfig, checkpoint.read_options(workdir), where=str(file)).rooted()
    if cfg.fit is not None:
        found = {"batch_seconds": earlier.batch_seconds, "batch_tokens": earlier.batch_tokens}
        cfg = dataclasses.replace(cfg, fit=None, **found)
    old, new = config.to_mapping(earlier), config.to_mapping(cfg)
    differing = [n for n in old.keys() | new.keys() if n not in RESUMABLE and old.get(n) != new.get(n)]
    if differing:
        name = sorted(differing)[0]
        raise CheckpointError(
            f"{file}: {name} was {json.dumps(old.get(name))} and is now {json.dumps(new.get(name))}"
            f"{f' (and {len(differing) - 1} more options differ)' if len(differing) > 1 else ''}; a run goes on "
            "with the options it was started with; give those, or another --workdir."
        )
    return cfg


def fingerprint_of_options(workdir: pathlib.Path) -> str:
    """A hash of the options in a workdir that decide the run's result."""
    deciding = {name: value for name, value in checkpoint.read_options(workdir).items() if name not in RESUMABLE}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True, default=str).encode()).hexdigest()


def hashes_of_files(task: Task) -> dict[str, str]:
    """The SHA-256, by path, of every file that the task's options name, such as a lexicon."""
    return {path: checksums.of_file(path) for path in config.named_files(task) if os.path.isfile(path)}


def check_same_files(task: Task, workdir: pathlib.Path) -> None:
    """Raises CheckpointError where a file that the task's options name is not as it was; it may be gone."""
    known = _known_hashes(workdir / FILES)
    for path, found in hashes_of_files(task).items():
        if known.get(path, found) != found:
            raise CheckpointError(
                f"{path}: not the file that the run in {workdir} was started with; a run goes on with what it was "
                "started with; put the file back, or give another --workdir."
            )


def _known_hashes(file: pathlib.Path) -> dict[str, str]:
    if not file.exists():
        return {}
    known = None
    with contextlib.suppress(ValueError):
        known = json.loads(file.read_bytes())
    if not isinstance(known, dict):
        raise CheckpointError(
            f"{file}: damaged; the SHA-256 of files by their paths in JSON, as the run wrote it, was expected; put it "
            "back, or remove it where these files are as they were."
        )
    return known
