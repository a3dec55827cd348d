"""Scoring while and after training, by the same decoding as `jaxasr.decode`."""

import pathlib
import time

import jax
import numpy as np

from jaxasr import checkpoint
from jaxasr.checkpoint import BestModels, Progress
from jaxasr.decode import Hypothesis, Recognizer, write_hypotheses
from jaxasr.evaluate import print_score
from jaxasr.inputs import Inputs
from jaxasr.logs import RunLog
from jaxasr.parallel import Devices, is_main_process, wait_for_processes
from jaxasr.prepare import Prepared
from jaxasr.scoring import Score, score
from jaxasr.train_config import TrainConfig
from jaxasr.typing import Params


class Validator:
    """Loss, word and character error rate on the validation set."""

    def __init__(self, cfg: TrainConfig, data: Prepared, devices: Devices):
        self._inputs = data.valid
        self.recognizer = Recognizer(data.task, cfg.search or data.task.searches()[0], devices, loss=True)

    def announce(self, params: Params) -> None:
        """Compiles ahead of time."""
        self.recognizer.announce(params, self._inputs.shapes)

    def __call__(self, params: Params) -> dict[str, float]:
        hypotheses, metrics = self.recognizer(params, self._inputs)
        found = score_of(self._inputs, hypotheses)
        record = {name: float(np.asarray(mean.value)) for name, mean in metrics.items()}
        return record | {"wer": found.wer.rate, "cer": found.cer.rate}

    def close(self) -> None:
        """Gives up what is not compiled yet."""
        self.recognizer.compiled.close()

    def timed(self, params: Params) -> float:
        """Seconds that one validation takes once it is compiled."""
        self.recognizer.compiled.wait()
        began = time.perf_counter()
        self(params)
        return time.perf_counter() - began


def score_of(inputs: Inputs, hypotheses: list[Hypothesis]) -> Score:
    """Of references cleaned as the training text was, since the model can say nothing else."""
    cleaning = inputs.task.cleaning
    references = {u.id: cleaning.without_symbols(cleaning(u.text)) for u in inputs.selection.utterances}
    return score(references, {h.id: cleaning.without_symbols(h.text) for h in hypotheses})


def finish(
    cfg: TrainConfig,
    data: Prepared,
    devices: Devices,
    validator: Validator,
    best: BestModels,
    progress: Progress,
    workdir: pathlib.Path,
    log: RunLog,
) -> None:
    """Chooses between the best model and the average of the best, saves it, and scores the test sets with it."""
    wait_for_processes("finish")
    params, note = choose(devices, validator, best, progress)
    log.say(note)
    if is_main_process():
        checkpoint.save_params(workdir / "model" / checkpoint.PARAMS_FILE, params)
    on_device = jax.device_put(params, devices.replicated)
    for number, (path, inputs) in enumerate(zip(cfg.test, data.tests, strict=True)):
        for search in dict.fromkeys([cfg.search or data.task.searches()[0], *data.task.searches()]):
            hypotheses, _ = Recognizer(data.task, search, devices)(on_device, inputs)
            found = score_of(inputs, hypotheses)
            name = "test" if len(cfg.test) == 1 else f"test{number}"
            if is_main_process():
                folder = workdir / name / search
                write_hypotheses(folder, hypotheses)
                log.say(f"\n{path} by {search}:")
                print_score(found, log.console)
            log.event(split=name, search=search, wer=found.wer.rate, cer=found.cer.rate, path=path)
    log.say(
        f"\nmodel: {workdir / 'model'}   hypotheses: {workdir}/test*/   log: {workdir / 'log.jsonl'}   curves: "
        f"tensorboard --logdir {workdir / 'tensorboard'}\ndecode: python -m jaxasr.decode --model={workdir} INPUT..."
    )


def choose(devices: Devices, validator: Validator, best: BestModels, progress: Progress) -> tuple[Params, str]:
    """(parameters, why): the average of the best models, unless the best of them does better on the validation set."""
    paths = [best.path(step) for _, step in progress.best]
    if len(paths) == 1:
        return checkpoint.load_params(paths[0]), f"the model of step {progress.best[0][1]} is kept, the only one"
    averaged, single = checkpoint.average(paths), checkpoint.load_params(paths[0])
    found = [validator(jax.device_put(params, devices.replicated)) for params in (averaged, single)]
    lines = [f"loss {r['loss']:.3f}, WER {100 * r['wer']:.2f} %" for r in found]
    # by the loss: on a small validation set the best of many error rates is best by luck
    kept = int(found[1]["loss"] < found[0]["loss"])
    which = ("average", f"best model, of step {progress.best[0][1]},")[kept]
    note = f"average of the best {len(paths)}: valid {lines[0]}; best alone: valid {lines[1]}; the {which} is kept"
    return (averaged, single)[kept], note
