"""The loop of training; `loop` reads from top to bottom."""

import contextlib
import functools
import pathlib
import time
from collections.abc import Callable, Generator, Iterable
from typing import Any, NamedTuple

import jax
import rich.console

from jaxasr.data.pipeline import HostBatch
from jaxasr.errors import CheckpointError, NonFiniteError
from jaxasr.finetune import given_params
from jaxasr.inputs import Position, groups
from jaxasr.logs import Reporter, RunLog, Start, StepLog
from jaxasr.memory import teller
from jaxasr.parallel import Devices, is_main_process
from jaxasr.prepare import Prepared, fingerprint_of_options
from jaxasr.screens import plan
from jaxasr.session import session
from jaxasr.state import (
    Steps,
    TrainState,
    abstract_state,
    copy_of,
    gone_back,
    model_maker,
    state_creator,
    train_steps,
    with_total,
)
from jaxasr.states import Checkpoints, Progress
from jaxasr.stopping import Ends, Stopped, StopSignals
from jaxasr.train_config import TrainConfig
from jaxasr.typing import Params
from jaxasr.validate import Validator


class Parts(NamedTuple):
    """What a run works with."""

    log: RunLog
    step_log: StepLog
    steps: Steps
    model: Callable[[TrainState], Params]
    """From the state to what is validated and saved of it."""
    validator: Validator
    checkpoints: Checkpoints
    ends: Ends
    stop: StopSignals
    progress: Progress


def loop(
    cfg: TrainConfig,
    data: Prepared,
    devices: Devices,
    workdir: pathlib.Path,
    console: rich.console.Console,
    opened: contextlib.ExitStack,
    start: Start,
    failed: NonFiniteError | None = None,
    reporter: Reporter | None = None,
) -> None:
    """From the first step, or the last state saved, to the scores of the test sets; what it opens, `opened` closes.

    After a run that `failed` it goes back to the last good state, and on with a smaller learning rate.

    Raises:
      NonFiniteError: too many steps in a row had no finite loss and gradient.
    """
    parts, state = _opened(cfg, data, devices, workdir, console, opened, start, failed, reporter)
    log, step_log, steps, model, validator, checkpoints, ends, stop, progress = parts
    step = int(state.step)
    if not ends.reached(step):
        steps.announce(data.train.shapes_by_need(progress.epoch, progress.batch))
    validator.announce(devices.replicated_spec(jax.eval_shape(model, state)))

    def save() -> None:
        step_log.save()
        checkpoints.save(step, copy_of(state), progress)
        validator.forget_others()

    opened.enter_context(stop)
    if progress.validation_due or (ends.reached(step) and not progress.best):
        validator.validate(model(state), step, progress.epoch)
    begin = progress.epoch, progress.batch, cfg.workers, cfg.accumulate
    ready = opened.enter_context(contextlib.closing(_compiled(steps, groups(data.train, *begin))))
    for position, hosts, waited in stop.until_asked(() if ends.reached(step) else ready):
        state, metrics = steps(state, hosts)
        step += 1
        progress.epoch, progress.batch = position.next()
        step_log.add(step, ends.known_total, position.epochs, hosts, metrics, waited)
        measured = ends.measured(steps.ready() and validator.ready(), state.step)
        if measured and (seconds := stop.unless_asked(functools.partial(validator.timed, model(state)))):
            log.say(ends.set_minutes(step, seconds, position))
            state = with_total(state, ends.total, devices)
        due = ends.due(step, position)
        stopping = step < ends.total and stop.requested_by(step, cfg.log_steps)
        if due or stopping or measured:
            step_log.flush()
            progress.validation_due = due
            if due and not stopping:
                validator.validate(model(state), step, position.epochs)
            save()
            ends.interrupted()
        if stopping or ends.reached(step):
            break
    ready.close()  # nothing more is to be read
    if stop.requested:
        save()
    _finish(parts, step, cfg, workdir)


def _opened(
    cfg: TrainConfig,
    data: Prepared,
    devices: Devices,
    workdir: pathlib.Path,
    console: rich.console.Console,
    opened: contextlib.ExitStack,
    start: Start,
    failed: NonFiniteError | None,
    reporter: Reporter | None,
) -> tuple[Parts, TrainState]:
    """The parts of a run, and its newest state, or else its first one."""

    def closing(part: Any) -> Any:
        return opened.enter_context(contextlib.closing(part))

    began, say = time.perf_counter(), functools.partial(console.print, highlight=False, soft_wrap=True)
    create = state_creator(cfg, data.task, devices)
    abstract, model = abstract_state(create, devices), model_maker(cfg, devices)
    for said in filter(None, (cfg.trainable.summary(abstract.params), devices.summary(abstract))):
        say(said)
    log = closing(RunLog(workdir, console, active=is_main_process(), imports=cfg.imports, reporter=reporter))
    steps = closing(train_steps(cfg, data.task, devices, abstract, teller(data.task.source, log)))
    run = fingerprint_of_options(workdir) if is_main_process() else None
    checkpoints = closing(Checkpoints(workdir / "checkpoints", run=run))
    if failed is not None:
        checkpoints.forget_from(failed.first_step - 1)  # a state is good if a step went well from there
    fingerprint = data.train.fingerprint()
    if (restored := checkpoints.restore(abstract, say)) is not None:
        state, progress = restored
        check_same_data(progress, fingerprint, workdir)
        say(f"going on from step {int(state.step)} in epoch {progress.epoch}")
    else:
        steps.announce(data.train.shapes_by_need()[:1])  # it compiles while the state is made
        state = create(jax.random.key(cfg.seed), given_params(cfg, data.task, say))
        progress = Progress(data_hash=fingerprint)
    if failed is not None:
        progress.rollbacks = failed.rollbacks + 1
    ends, stop = Ends(cfg, data.train, progress, began), StopSignals()
    for line in plan(cfg, data, devices, abstract, int(state.step), ends.known_total):
        say(line)
    start.lap("state")
    log.event(split="session", step=int(state.step), **session(cfg, data, devices))
    step_log = StepLog(log, data.task, cfg.log_steps, cfg.nonfinite_limit, start, progress)
    validator = closing(Validator(cfg, data, devices, workdir, log, progress, stop))
    parts = Parts(log, step_log, steps, model, validator, checkpoints, ends, stop, progress)
    return parts, gone_back(with_total(state, ends.total, devices), progress.rollbacks, devices)


def _finish(run: Parts, step: int, cfg: TrainConfig, workdir: pathlib.Path) -> None:
    """Ends a run that came to `step`, with the scores of the test sets.

    Raises:
      Stopped: it was asked to stop before.
    """
    run.step_log.flush()
    run.checkpoints.wait()
    run.stop.listen_no_more()  # everything is saved: from here on a signal may end the program where it is
    if run.stop.requested:
        raise Stopped(run.stop.signal, step, workdir)
    if run.ends.out_of_patience:
        run.log.say(f"--patience={cfg.patience}: no better {cfg.metric} for so long; the run ends at step {step}")
    run.validator.finish()


def _compiled(steps: Steps, items: Iterable[tuple[Position, list[HostBatch], float]]) -> Generator[Any, None, None]:
    """The items, each once the program for its batches is there."""
    for position, hosts, waited in items:
        steps.wait_for(hosts)
        yield position, hosts, waited


def check_same_data(progress: Progress, fingerprint: str, workdir: pathlib.Path) -> None:
    """Raises CheckpointError where the data are not those that the run was started with."""
    if progress.data_hash != fingerprint:
        raise CheckpointError(
            f"{workdir}: the training utterances, their lengths, or the noises and rooms are not those that the run "
            "was started with; a run goes on with the same data (--check_sound as before, every file readable as "
            "before); restore it, or use another --workdir."
        )
