"""The loop of training; `loop` reads from top to bottom."""

import contextlib
import functools
import pathlib
import time
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import rich.console

from jaxasr.data.pipeline import HostBatch
from jaxasr.errors import CheckpointError, NonFiniteError
from jaxasr.finetune import given_params
from jaxasr.inputs import groups
from jaxasr.logs import RunLog, Start, StepLog
from jaxasr.memory import teller
from jaxasr.parallel import Devices, is_main_process
from jaxasr.prepare import Prepared, fingerprint_of_options
from jaxasr.session import session
from jaxasr.state import Steps, abstract_state, copy_of, gone_back, model_maker, state_creator, train_steps, with_total
from jaxasr.states import Checkpoints, Progress
from jaxasr.stopping import Ends, Stopped, StopSignals
from jaxasr.train_config import TrainConfig
from jaxasr.validate import Validator


def loop(
    cfg: TrainConfig,
    data: Prepared,
    devices: Devices,
    workdir: pathlib.Path,
    console: rich.console.Console,
    opened: contextlib.ExitStack,
    start: Start,
    failed: NonFiniteError | None = None,
) -> None:
    """From the first step, or the last state saved, to the scores of the test sets; what it opens, `opened` closes.

    Args:
      failed: what the run came to before; it goes back to the last good state, and on with a smaller learning rate.

    Raises:
      NonFiniteError: too many steps in a row had no finite loss and gradient.
    """

    def closing(part: Any) -> Any:
        return opened.enter_context(contextlib.closing(part))

    began, say = time.perf_counter(), functools.partial(console.print, highlight=False, soft_wrap=True)
    create = state_creator(cfg, data.task, devices)
    abstract, model = abstract_state(create, devices), model_maker(cfg, devices)
    for said in filter(None, (cfg.trainable.summary(abstract.params), devices.summary(abstract))):
        say(said)
    log = closing(RunLog(workdir, console, active=is_main_process()))
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
    step, ends = int(state.step), Ends(cfg, data.train, progress, began)
    state = gone_back(with_total(state, ends.total, devices), progress.rollbacks, devices)
    start.lap("state")
    log.event(split="session", step=step, **session(cfg, data, devices))
    step_log, stop = StepLog(log, data.task, cfg.log_steps, cfg.nonfinite_limit, start, progress), StopSignals()
    validator = closing(Validator(cfg, data, devices, workdir, log, progress, stop))
    if not ends.reached(step):
        steps.announce(data.train.shapes_by_need(progress.epoch, progress.batch))
    validator.announce(devices.replicated_spec(jax.eval_shape(model, abstract)))

    def save() -> None:
        step_log.save()
        checkpoints.save(step, copy_of(state), progress)
        validator.forget_others()

    opened.enter_context(stop)
    if progress.validation_due or (ends.reached(step) and not progress.best):
        validator.validate(model(state), step, progress.epoch)
    begin = progress.epoch, progress.batch, cfg.workers, cfg.accumulate
    ready = _compiled(steps, groups(data.train, *begin)) if not ends.reached(step) else ()
    for position, hosts, waited in stop.until_asked(ready):
        state, metrics = steps(state, hosts)
        step += 1
        progress.epoch, progress.batch = position.next()
        step_log.add(step, ends.known_total, position.epochs, hosts, metrics, waited)
        if measured := ends.measured(steps.ready() and validator.ready(), state.step):
            log.say(ends.set_minutes(step, validator.timed(model(state)), position))
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
    if stop.requested:
        save()
    step_log.flush()
    checkpoints.wait()
    stop.listen_no_more()  # everything is saved: from here on a signal may end the program where it is
    if stop.requested:
        raise Stopped(stop.signal, step, workdir)
    if ends.out_of_patience:
        log.say(f"--patience={cfg.patience}: no better {cfg.metric} for so long; the run ends at step {step}")
    validator.finish()


def _compiled(steps: Steps, items: Iterable[tuple[Any, list[HostBatch], float]]) -> Iterator[Any]:
    """The items, each once the program for its batches is there."""
    for position, hosts, waited in items:
        steps.wait_for(hosts)
        yield position, hosts, waited


def check_same_data(progress: Progress, fingerprint: str, workdir: pathlib.Path) -> None:
    if progress.data_hash != fingerprint:
        raise CheckpointError(
            f"{workdir}: the training utterances, their lengths, or the noises and rooms are not those that the run "
            "was started with; a run goes on with the same data (--check_sound as before, every file readable as "
            "before); restore it, or use another --workdir."
        )
