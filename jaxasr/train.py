"""Training: `python -m jaxasr.train --task=asr --encoder=sanm`. `train` reads from top to bottom."""

import contextlib
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import rich.console

from jaxasr import config, corpora
from jaxasr.errors import CheckpointError, exit_with_message
from jaxasr.stopping import Budget, Stopped, StopSignals
from jaxasr.train_config import TrainConfig

UNKNOWN_TOTAL = 2**30
DEFAULT_EPOCHS = 40
DIGITS = "digits"


def train(cfg: TrainConfig, *, collate_fn: Callable[..., Any] | None = None) -> pathlib.Path:
    """Trains, keeps the best, averages them and scores the test sets; returns the workdir.

    The same configuration on the same workdir goes on where it stopped, to the same result. SIGTERM and
    Ctrl-C save and raise `Stopped`.

    Args:
      collate_fn: from examples and a `BucketShape` to a batch; None for the task's own.
    """
    # what --help does not need is imported here
    from jaxasr.checkpoint import claimed
    from jaxasr.compiled import use_persistent_cache
    from jaxasr.parallel import Devices, is_main_process, start_processes
    from jaxasr.prepare import prepare

    start_processes(cfg.coordinator, cfg.num_processes, cfg.process_id)
    cfg.check()
    use_persistent_cache()
    console = rich.console.Console(quiet=not is_main_process(), markup=False, emoji=False)
    with claimed(pathlib.Path(cfg.workdir)) as workdir, contextlib.ExitStack() as opened:
        devices = Devices.all()
        data = prepare(cfg, workdir, devices, console, collate_fn)
        loop(cfg, data, devices, workdir, console, opened)
    return workdir


def loop(
    cfg: TrainConfig,
    data: Any,
    devices: Any,
    workdir: pathlib.Path,
    console: rich.console.Console,
    opened: contextlib.ExitStack,
) -> None:
    """From the first step, or the last state saved, to the scores of the test sets; what it opens, `opened` closes."""
    from jaxasr.checkpoint import PARAMS_FILE, BestModels, Checkpoints, Progress, save_params
    from jaxasr.inputs import batches
    from jaxasr.logs import RunLog, StepLog
    from jaxasr.parallel import all_processes, any_process, from_main_process, is_main_process
    from jaxasr.state import abstract_state, compiled_train_steps, copy_of, state_creator, with_total
    from jaxasr.validate import Validator, finish

    def closing(part: Any) -> Any:
        return opened.enter_context(contextlib.closing(part))

    task, began = data.task, time.perf_counter()
    create = state_creator(task, cfg.optimizer, devices)
    abstract = abstract_state(create, devices)
    steps = closing(compiled_train_steps(task, cfg.optimizer, cfg.schedule, devices, cfg.parallel, abstract))
    validator = closing(Validator(cfg, data, devices))
    checkpoints = closing(Checkpoints(workdir / "checkpoints"))
    if (restored := checkpoints.restore(abstract, console.print)) is not None:
        state, progress = restored
        check_same_data(progress, data.train.fingerprint(), workdir)
        console.print(f"going on from step {int(state.step)} in epoch {progress.epoch}", highlight=False)
    else:
        steps.announce(data.train.shapes)  # they compile while the state is made
        state = create(jax.random.key(cfg.seed))
        progress = Progress(data_hash=data.train.fingerprint())
    step, end = int(state.step), total_steps(cfg, data.train)
    timed = cfg.minutes is not None and cfg.minutes == progress.minutes
    total = min(end, progress.minutes_steps) if timed else end
    state = with_total(state, total, devices)
    best = BestModels(workdir / "best", cfg.keep_best, progress.best)
    log = closing(RunLog(workdir, console, active=is_main_process()))
    step_log = StepLog(log, task.input_rate, cfg.log_steps, cfg.nonfinite_limit)
    budget = Budget(cfg.minutes, began, running=cfg.minutes is not None and not timed)
    alone = jax.process_count() == 1
    if step < total:
        steps.announce(data.train.shapes)
    validator.announce(abstract.params)

    def save() -> None:
        checkpoints.save(step, copy_of(state), progress)
        best.remove_others(progress.best)

    def validate(epochs: float) -> None:
        params, record = state.params, validator(state.params)
        progress.best = best.add(progress.best, record[cfg.best_metric], step, params)
        is_best = progress.best[0][1] == step
        if is_best and is_main_process():
            save_params(workdir / "model" / PARAMS_FILE, params)
        log.validation(record, step, epochs, "best so far" if is_best else "")
        progress.validation_due = False

    stop = opened.enter_context(StopSignals())
    if progress.validation_due or (step >= total and not progress.best):
        validate(progress.epoch)
    begin = progress.epoch, progress.batch
    for position, host, waited in batches(data.train, *begin, cfg.workers) if step < total else ():
        state, metrics = steps[host.planned.shape](state, devices.put(host.batch))
        step += 1
        progress.epoch, progress.batch = position.next()
        step_log.add(step, None if total == UNKNOWN_TOTAL else total, position.epochs, host, metrics, waited)
        measured = budget.running and budget.measured(all_processes(steps.ready()), state.step)
        if measured:
            left = budget.steps_left(validator.timed(state.params), cfg.valid_steps or position.batches)
            progress.minutes, progress.minutes_steps = cfg.minutes, step + from_main_process(left)
            total = min(end, progress.minutes_steps)
            state = with_total(state, total, devices)
            log.say(f"--minutes={cfg.minutes:g}: {total} steps at {budget.step_seconds:.2f} s a step")
            budget.running = False
        finished = step >= total
        due = finished or (step % cfg.valid_steps == 0 if cfg.valid_steps else position.ends_epoch)
        stopping = not finished and (
            stop.requested if alone else step % cfg.log_steps == 0 and any_process(stop.requested)
        )
        if due or stopping or measured:
            step_log.flush()
            progress.validation_due = due
            if due and not stopping:
                validate(position.epochs)
            save()
            budget.interrupted()
        if finished or stopping:
            break
    step_log.flush()
    checkpoints.wait()
    stop.listen_no_more()  # everything is saved: from here on a signal may end the program where it is
    if any_process(stop.requested):
        raise Stopped(stop.signal, step, workdir)
    finish(cfg, data, devices, validator, best, progress, workdir, log)


def total_steps(cfg: TrainConfig, inputs: Any) -> int:
    """Steps of the run by --steps and --epochs, the first of which counts; without both, no end."""
    ends = [UNKNOWN_TOTAL] if cfg.steps is None else [cfg.steps]
    epochs = cfg.epochs
    if epochs is None and cfg.steps is None and cfg.minutes is None:
        epochs = DEFAULT_EPOCHS
    if epochs is not None:
        ends.append(sum(inputs.num_batches(epoch) for epoch in range(epochs)))
    return min(ends)


def check_same_data(progress: Any, fingerprint: str, workdir: pathlib.Path) -> None:
    if progress.data_hash != fingerprint:
        raise CheckpointError(
            f"{workdir}: the training utterances or their lengths are not those that the run was started with; a run "
            "goes on with the same data (--check_sound as before, every file readable as before); restore it, or use "
            "another --workdir."
        )


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; without --train it trains on the bundled digits by the recipe `digits`."""
    argv = sys.argv[1:] if argv is None else list(argv)
    description = "Trains a model, averages its best validations and scores the test sets."

    def run() -> None:
        cfg = config.parse(TrainConfig, argv, prog="python -m jaxasr.train", description=description, fallback=DIGITS)
        if cfg is not None:
            train(with_bundled_digits(cfg))

    try:
        exit_with_message(run)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.exit_status)


def with_bundled_digits(cfg: TrainConfig) -> TrainConfig:
    """`cfg` with the bundled digits where it names no training data, said out loud."""
    import dataclasses

    if cfg.train:
        return cfg
    folder = corpora.digits()  # its recipe is main's fallback
    print(f"no --train: training on the bundled spoken digits ({folder}), by default with a recipe for them (configs/)")
    return dataclasses.replace(
        cfg, train=(str(folder / "train"),), valid=(str(folder / "valid"),), test=(str(folder / "test"),)
    )


if __name__ == "__main__":
    main()
