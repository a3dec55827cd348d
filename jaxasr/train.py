"""Training: `python -m jaxasr.train --task=asr --encoder=sanm`. `train` opens what `loop.loop` works with."""

import contextlib
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jaxasr import command_line, consoles, corpora
from jaxasr.errors import NonFiniteError, exit_with_message
from jaxasr.launch import is_command, with_huge_pages
from jaxasr.stopping import Stopped, failing_alone, leave
from jaxasr.train_config import TrainConfig


@failing_alone()
def train(
    cfg: TrainConfig,
    *,
    collate_fn: Callable[..., Any] | None = None,
    reporter: Callable[[dict[str, Any]], None] | None = None,
) -> pathlib.Path:
    """Trains, keeps the best, averages them and scores the test sets; returns the workdir.

    The same configuration on the same workdir goes on where it stopped, to the same result. SIGTERM and
    Ctrl-C save and raise `Stopped`.

    Args:
      collate_fn: from examples and a `BucketShape` to a batch; None for the task's own.
      reporter: is given every record that log.jsonl gets, in the main process, in this thread. What it raises ends the
        run as any error does, so that the same call goes on.
    """
    # what --help does not need is imported here
    from jaxasr.checkpoint import claimed, has_state
    from jaxasr.compiled import use_persistent_cache
    from jaxasr.data import reading
    from jaxasr.finetune import check_given
    from jaxasr.logs import Start
    from jaxasr.loop import loop
    from jaxasr.memory import full_is_told
    from jaxasr.parallel import Devices, is_main_process, start_processes
    from jaxasr.prepare import prepare, resumed

    start, cfg = Start(), cfg.rooted()
    start_processes(cfg.coordinator, cfg.num_processes, cfg.process_id)
    asked, going_on = cfg, has_state(pathlib.Path(cfg.workdir))
    cfg = resumed(asked)
    cfg.check()
    if not going_on:
        check_given(cfg)
    reading.allow(cfg.stall_seconds)
    use_persistent_cache()
    console = consoles.console(quiet=not is_main_process(), markup=False, emoji=False)
    with claimed(pathlib.Path(cfg.workdir)) as workdir, full_is_told():
        if has_state(workdir) != going_on:  # another run was at work meanwhile
            cfg = resumed(asked)
        devices = Devices.all(cfg.fsdp)
        data = prepare(cfg, workdir, devices, console, collate_fn)
        start.lap("reading")
        failed = None
        while True:
            try:
                with contextlib.ExitStack() as opened:
                    loop(cfg, data, devices, workdir, console, opened, start, failed, reporter)
                return workdir
            except NonFiniteError as error:
                if error.rollbacks >= cfg.rollbacks:
                    raise
                failed = error.with_traceback(None)  # or what it worked with would be kept: state, threads, processes
                console.print(f"{error} --rollbacks={cfg.rollbacks}: back to the last good state.", soft_wrap=True)


@exit_with_message
def main(argv: Sequence[str] | None = None) -> None:
    """The command line; without --train it trains on the bundled digits by the recipe `digits`."""
    argv = sys.argv[1:] if argv is None else list(argv)
    description = "Trains a model, averages its best validations and scores the test sets."
    cfg = command_line.parse(
        TrainConfig,
        argv,
        prog="python -m jaxasr.train",
        description=description,
        fallback=digits_recipe,
        below=options_below,
    )
    if cfg is None:
        return
    try:
        train(with_bundled_digits(cfg))
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        if is_command(sys.orig_argv, sys.argv) and jax.process_count() == 1:
            leave(stopped.exit_status)  # or what is being compiled, for minutes perhaps, would be waited for
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

    >>> digits_recipe({"task": ["paraformer"]})
    'digits_paraformer'
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
