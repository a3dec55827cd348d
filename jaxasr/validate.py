"""Scoring while and after training, by the same decoding as `jaxasr.decode`."""

import pathlib
import time
from collections.abc import Sequence

import jax
import numpy as np

from jaxasr import checkpoint, report
from jaxasr.checkpoint import BestModels
from jaxasr.errors import CheckpointError
from jaxasr.evaluate import print_score
from jaxasr.hypothesis import Hypothesis, with_words
from jaxasr.inputs import Inputs
from jaxasr.logs import RunLog, short
from jaxasr.outputs import files
from jaxasr.parallel import Devices, is_main_process, wait_for_processes
from jaxasr.prepare import Prepared
from jaxasr.recognizer import Recognizer
from jaxasr.scoring import Score, score_cleaned
from jaxasr.screens import next_commands
from jaxasr.search.choices import Search
from jaxasr.states import Progress
from jaxasr.stopping import StopSignals
from jaxasr.train_config import TrainConfig
from jaxasr.typing import Params


class Validator:
    """Scores models on the validation set, keeps the best, and at the end chooses one and tests it."""

    def __init__(
        self,
        cfg: TrainConfig,
        data: Prepared,
        devices: Devices,
        workdir: pathlib.Path,
        log: RunLog,
        progress: Progress,
        stop: StopSignals,
    ):
        self._cfg = cfg
        self._data = data
        self._devices = devices
        self._workdir = workdir
        self._log = log
        self._progress = progress
        self._stop = stop
        self._best = BestModels(workdir / "best", cfg.keep_best, progress.best)
        self._search = cfg.search or next(iter(data.task.searches()), None)
        self._recognizer = Recognizer(data.task, self._search, devices, loss=True)

    def announce(self, params: Params) -> None:
        """Compiles ahead of time."""
        self._recognizer.announce(params, self._data.valid.shapes_by_need())

    def ready(self) -> bool:
        """Whether the search is compiled for every shape."""
        return self._recognizer.compiled.ready()

    def close(self) -> None:
        """Gives up what is not compiled yet."""
        self._recognizer.compiled.close()

    def score(self, params: Params) -> dict[str, float]:
        """Loss and its parts; word and character error rate of a task that decodes."""
        hypotheses, metrics = self._recognizer(params, self._data.valid)
        values = self._data.task.values(metrics)
        if self._search is None:
            return values
        found = score_of(self._data.valid, hypotheses)
        return values | {"wer": found.wer.rate, "cer": found.cer.rate}

    def timed(self, params: Params) -> float:
        """Seconds that one validation takes once it is compiled."""
        began = time.perf_counter()
        self.score(params)
        return time.perf_counter() - began

    def validate(self, params: Params, step: int, epochs: float) -> None:
        """Scores the model of `step`, keeps it where it is one of the best, and notes that in the progress.

        Nothing of that where the run is asked to stop meanwhile: the validation stays due.
        """
        record, progress = self._stop.unless_asked(lambda: self.score(params)), self._progress
        if record is None:
            return
        metric = record[self._cfg.metric]
        better = metric < (progress.best[0][0] if progress.best else float("inf"))  # NaN never is
        progress.since_best = 0 if better else progress.since_best + 1
        progress.best = self._best.add(progress.best, metric, step, params)
        is_best = progress.best[0][1] == step
        if is_best and is_main_process():
            checkpoint.save_params(self._workdir / "model" / checkpoint.PARAMS_FILE, params)
        self._log.validation(record, step, epochs, "best so far" if is_best else "")
        progress.validation_due = False

    def forget_others(self) -> None:
        """Deletes models that are among the best no more, now that the progress is saved."""
        self._best.remove_others(self._progress.best)

    def finish(self) -> None:
        """Chooses between the best model and the average of the best, saves it, and scores the test sets with it."""
        wait_for_processes("finish")
        workdir, log = self._workdir, self._log
        params, note, record = self._choose()
        log.say(note)
        log.event(split="kept", step=self._progress.best[0][1], note=note, **record)
        if is_main_process():
            checkpoint.save_params(workdir / "model" / checkpoint.PARAMS_FILE, params)
        on_device = jax.device_put(params, self._devices.replicated)
        for number, (path, inputs) in enumerate(zip(self._cfg.test, self._data.tests, strict=True)):
            test = self._test if self._search is not None else self._measure
            test("test" if len(self._cfg.test) == 1 else f"test{number}", path, inputs, on_device)
        said = f"hypotheses: {workdir}/test*/   " if self._search is not None else ""
        log.say(
            f"\nmodel: {workdir / 'model'}   {said}log: {workdir / 'log.jsonl'}   curves: "
            f"tensorboard --logdir {workdir / 'tensorboard'}"
        )
        if self._cfg.report and is_main_process():
            report.at_end(workdir, log.say, self._cfg.imports)
        log.say("\nNext:")
        for what, command in next_commands(self._cfg, workdir, search=self._search):
            log.say(f"  {what:9} {command}")

    def _measure(self, name: str, path: str, inputs: Inputs, params: Params) -> None:
        """What a task that decodes nothing says of a test set: its metrics."""
        _, metrics = Recognizer(self._data.task, None, self._devices, loss=True)(params, inputs)
        found = self._data.task.values(metrics)
        self._log.say(f"\n{path}: {short(found)}")
        self._log.event(split=name, search=None, path=path, **found)

    def _test(self, name: str, path: str, inputs: Inputs, params: Params) -> None:
        """Scores a test set by every search."""
        task, log = self._data.task, self._log
        for search in dict.fromkeys([self._search or task.usual_search(), *task.searches()]):
            hypotheses, _ = Recognizer(task, Search(search, times=True), self._devices)(params, inputs)
            found = score_of(inputs, hypotheses)
            if is_main_process():
                files.write(self._workdir / name / search, [with_words(task, said) for said in hypotheses])
                log.say(f"\n{path} by {search}:")
                print_score(found, log.console)
            log.event(split=name, search=search, wer=found.wer.rate, cer=found.cer.rate, path=path)

    def _readable(self, best: list[tuple[float, int]]) -> list[tuple[float, int]]:
        """Those of the best models whose files are as they were written; of the others it is said.

        Raises:
          CheckpointError: there are none.
        """
        faults: dict[int, CheckpointError] = {}
        for _, step in best:
            try:
                checkpoint.load_params(self._best.path(step))
            except CheckpointError as error:
                faults[step] = error
        if len(faults) == len(best):
            raise faults[best[0][1]]
        for error in faults.values():
            self._log.say(f"warning: {error} This one of the best models is left out.")
        return [(metric, step) for metric, step in best if step not in faults]

    def _choose(self) -> tuple[Params, str, dict[str, float]]:
        """(parameters, why, their metrics): the average of the best models, unless the best alone has a lower loss.

        The only model of a run is not validated again, and has none here.
        """
        best = self._readable(self._progress.best)
        paths = [self._best.path(step) for _, step in best]
        if len(paths) == 1:
            return checkpoint.load_params(paths[0]), f"the model of step {best[0][1]} is kept, the only one", {}
        averaged, single = checkpoint.average(paths), checkpoint.load_params(paths[0])
        found = [self.score(jax.device_put(params, self._devices.replicated)) for params in (averaged, single)]
        name = "cer" if self._cfg.metric == "cer" else "wer"
        rates = [f", {name.upper()} {100 * r[name]:.2f} %" if name in r else "" for r in found]
        lines = [f"loss {r['loss']:.3f}{rate}" for r, rate in zip(found, rates, strict=True)]
        # by the loss: on a small validation set the best of many error rates is best by luck
        kept = lowest([r["loss"] for r in found])
        which = ("average", f"best model, of step {best[0][1]},")[kept]
        note = f"average of the best {len(paths)}: valid {lines[0]}; best alone: valid {lines[1]}; the {which} is kept"
        return (
            (averaged, single)[kept],
            note,
            {n: found[kept][n] for n in ("loss", "wer") if n in found[kept]},
        )


def lowest(losses: Sequence[float]) -> int:
    """The place of the lowest loss, of equal ones the first; NaN is above all others.

    >>> lowest([2.0, 1.0])
    1
    """
    return int(np.argmin(np.nan_to_num(losses, nan=np.inf, posinf=np.inf)))


def score_of(inputs: Inputs, hypotheses: list[Hypothesis]) -> Score:
    """The errors of hypotheses for these inputs, their texts cleaned as those of training."""
    references = {u.id: u.text for u in inputs.selection.utterances}
    return score_cleaned(inputs.task.cleaning, references, {h.id: h.text for h in hypotheses})
