"""Training: `python -m jaxasr.train --task=asr --encoder=sanm`. `train` reads from top to bottom."""

import contextlib
import functools
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import rich.console

from jaxasr import command_line, corpora
from jaxasr.errors import CheckpointError, exit_with_message
from jaxasr.launch import with_huge_pages
from jaxasr.stopping import Ends, Stopped, StopSignals
from jaxasr.train_config import TrainConfig


def train(cfg: TrainConfig, *, collate_fn: Callable[..., Any] | None = None) -> pathlib.Path:
    """Trains, keeps the best, averages them and scores the test sets; returns the workdir.

    The same configuration on the same workdir goes on where it stopped, to the same result. SIGTERM and
    Ctrl-C save and raise `Stopped`.

    Args:
      collate_fn: from examples and a `BucketShape` to a batch; None for the task's own.
    """
    # what --help does not need is imported here
    from jaxasr.checkpoint import claimed, has_state
    from jaxasr.compiled import use_persistent_cache
    from jaxasr.finetune import check_given
    from jaxasr.logs import Start
    from jaxasr.parallel import Devices, is_main_process, start_processes
    from jaxasr.prepare import prepare, resumed

    start, cfg = Start(), cfg.rooted()
    start_processes(cfg.coordinator, cfg.num_processes, cfg.process_id)
    cfg = resumed(cfg)
    cfg.check()
    if not has_state(pathlib.Path(cfg.workdir)):
        check_given(cfg)
    use_persistent_cache()
    console = rich.console.Console(quiet=not is_main_process(), markup=False, emoji=False)
    with claimed(pathlib.Path(cfg.workdir)) as workdir, contextlib.ExitStack() as opened:
        devices = Devices.all(cfg.fsdp)
        data = prepare(cfg, workdir, devices, console, collate_fn)
        start.lap("reading")
        loop(cfg, data, devices, workdir, console, opened, start)
    return workdir


def loop(
    cfg: TrainConfig,
    data: Any,
    devices: Any,
    workdir: pathlib.Path,
    console: rich.console.Console,
    opened: contextlib.ExitStack,
    start: Any,
) -> None:
    """From the first step, or the last state saved, to the scores of the test sets; what it opens, `opened` closes."""
    from jaxasr.states import Checkpoints, Progress
    from jaxasr.finetune import given_params
    from jaxasr.inputs import groups
    from jaxasr.logs import RunLog, StepLog
    from jaxasr.memory import teller
    from jaxasr.parallel import is_main_process
    from jaxasr.session import session
    from jaxasr.state import abstract_state, copy_of, model_maker, state_creator, train_steps, with_total
    from jaxasr.validate import Validator

    def closing(part: Any) -> Any:
        return opened.enter_context(contextlib.closing(part))

    began = time.perf_counter()
    create = state_creator(cfg, data.task, devices)
    abstract, model = abstract_state(create, devices), model_maker(cfg, devices)
    for said in filter(None, (cfg.trainable.summary(abstract.params), devices.summary(abstract))):
        console.print(said, highlight=False, soft_wrap=True)
    log = closing(RunLog(workdir, console, active=is_main_process()))
    steps = closing(train_steps(cfg, data.task, devices, abstract, teller(data.task.source, log)))
    checkpoints = closing(Checkpoints(workdir / "checkpoints"))
    if (restored := checkpoints.restore(abstract, console.print)) is not None:
        state, progress = restored
        check_same_data(progress, data.train.fingerprint(), workdir)
        console.print(f"going on from step {int(state.step)} in epoch {progress.epoch}", highlight=False)
    else:
        steps.announce(data.train.shapes_by_need()[:1])  # it compiles while the state is made
        say = functools.partial(console.print, highlight=False, soft_wrap=True)
        state = create(jax.random.key(cfg.seed), given_params(cfg, data.task, say))
        progress = Progress(data_hash=data.train.fingerprint())
    step, ends = int(state.step), Ends(cfg, data.train, progress, began)
    state = with_total(state, ends.total, devices)
    start.lap("state")
    log.event(split="session", step=step, **session(cfg, data))
    step_log = StepLog(log, data.task, cfg.log_steps, cfg.nonfinite_limit, start)
    validator = closing(Validator(cfg, data, devices, workdir, log, progress))
    if not ends.reached(step):
        steps.announce(data.train.shapes_by_need(progress.epoch, progress.batch))
    validator.announce(devices.replicated_spec(jax.eval_shape(model, abstract)))
    stop = opened.enter_context(StopSignals())
    if progress.validation_due or (ends.reached(step) and not progress.best):
        validator.validate(model(state), step, progress.epoch)
    begin = progress.epoch, progress.batch, cfg.workers, cfg.accumulate
    for position, hosts, waited in groups(data.train, *begin) if not ends.reached(step) else ():
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
            checkpoints.save(step, copy_of(state), progress)
            validator.forget_others()
            ends.interrupted()
        if stopping or ends.reached(step):
            break
    step_log.flush()
    checkpoints.wait()
    stop.listen_no_more()  # everything is saved: from here on a signal may end the program where it is
    if stop.requested:
        raise Stopped(stop.signal, step, workdir)
    if ends.out_of_patience:
        log.say(f"--patience={cfg.patience}: no better {cfg.metric} for so long; the run ends at step {step}")
    validator.finish()


def check_same_data(progress: Any, fingerprint: str, workdir: pathlib.Path) -> None:
    if progress.data_hash != fingerprint:
        raise CheckpointError(
            f"{workdir}: the training utterances, their lengths, or the noises and rooms are not those that the run "
            "was started with; a run goes on with the same data (--check_sound as before, every file readable as "
            "before); restore it, or use another --workdir."
        )


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; without --train it trains on the bundled digits by the recipe `digits`."""
    argv = sys.argv[1:] if argv is None else list(argv)
    description = "Trains a model, averages its best validations and scores the test sets."

    def run() -> None:
        cfg = command_line.parse(
            TrainConfig,
            argv,
            prog="python -m jaxasr.train",
            description=description,
            fallback=digits_recipe,
            below=options_below,
        )
        if cfg is not None:
            train(with_bundled_digits(cfg))

    try:
        exit_with_message(run)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.exit_status)


def options_below(cfg: TrainConfig) -> command_line.Below | None:
    """Those of the model that the run starts from."""
    if cfg.init is None:
        return None
    from jaxasr import finetune

    return finetune.options_below(cfg.init, pathlib.Path(cfg.workdir))


def digits_recipe(asked: Mapping[str, Sequence[str]]) -> str:
    """The recipe for the bundled digits that suits the task and the encoder that flags ask for, if they do.

    Stacked frames suit an encoder that keeps their rate, those of 10 ms the others; other tasks have their own.
    """
    from jaxasr.nn.encoders import ENCODERS
    from jaxasr.recipes import RECIPES

    task, encoder = (" ".join(asked.get(name, ())) for name in ("task", "encoder"))
    if (RECIPES / f"digits_{task}.yaml").is_file():
        return f"digits_{task}"
    divides = encoder in ENCODERS and ENCODERS[encoder]().output_lengths(1000) < 1000
    return "digits_transformer" if divides else "digits"


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
    with_huge_pages()
    main()
