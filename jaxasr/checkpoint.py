"""What a run leaves on disk: full states to go on from (`states`), and models to use (safetensors).

workdir/
  config.yaml     the run's options
  checkpoints/    full states: parameters, optimizer, step, key, data position, list of best models
  best/           parameters of the best validations
  model/          what `jaxasr.decode --model` takes: options, token list, statistics, parameters
  log.jsonl, tensorboard/
"""

import contextlib
import fcntl
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import yaml

from jaxasr import config
from jaxasr.errors import CheckpointError, JaxasrError
from jaxasr.parallel import is_main_process
from jaxasr.params import UNFINISHED, shapes_by_path, written
from jaxasr.params import flatten as flatten
from jaxasr.params import load_params as load_params
from jaxasr.params import save_params as save_params
from jaxasr.params import write_atomically as write_atomically
from jaxasr.paths import unflatten
from jaxasr.tasks.base import TASKS, Task
from jaxasr.typing import Params

PARAMS_FILE = "params.safetensors"


@contextlib.contextmanager
def claimed(workdir: pathlib.Path) -> Iterator[pathlib.Path]:
    """The folder, made where it is missing, with no other run in it meanwhile.

    Raises:
      CheckpointError: another run is at work there.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / ".lock").open("w") if is_main_process() else None
    except OSError as error:
        raise CheckpointError(
            f"--workdir={workdir}: {error.strerror}; a folder to write in was expected; give another."
        ) from error
    with file or contextlib.nullcontext():
        if file is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CheckpointError(
                    f"--workdir={workdir}: another run is at work there; a folder for each run was expected; wait for "
                    "it, stop it, or give another --workdir."
                ) from error
            except OSError:  # a file system without locks
                pass
            for left in workdir.rglob(f".*{UNFINISHED}"):  # by a run that was killed while it wrote
                left.unlink(missing_ok=True)
        yield workdir


def has_state(workdir: pathlib.Path) -> bool:
    """Whether the run has got so far that it can be gone on with; before that its options may still be changed."""
    return any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*"))


# --- models ------------------------------------------------------------------------------------------------------


def average(paths: list[pathlib.Path]) -> Params:
    """The mean of several models' parameters, summed in float64."""
    total: dict[str, np.ndarray] = {}
    dtypes: dict[str, np.dtype] = {}
    for path in paths:
        for name, value in flatten(load_params(path)).items():
            dtypes[name] = value.dtype
            total[name] = total.get(name, 0.0) + value.astype(np.float64)
    return unflatten({name: (value / len(paths)).astype(dtypes[name]) for name, value in total.items()})


class BestModels:
    """The parameters of the best validations, kept as files named by their step; the main process writes them."""

    def __init__(self, folder: pathlib.Path, keep: int, best: list[tuple[float, int]]):
        self.folder = folder
        self.keep = keep
        self._on_disk = best

    def path(self, step: int) -> pathlib.Path:
        """Where the parameters of the model of a step are."""
        return self.folder / f"step_{step:08d}.safetensors"

    def add(self, best: list[tuple[float, int]], metric: float, step: int, params: Params) -> list[tuple[float, int]]:
        """The new list, best first; saves `params` if they are on it."""
        metric = metric if metric == metric else float("inf")  # NaN has no place in an order
        ranked = sorted({*best, (metric, step)})[: self.keep]
        if (metric, step) in ranked and is_main_process():
            save_params(self.path(step), params)
        return ranked

    def remove_others(self, best: list[tuple[float, int]]) -> None:
        """Deletes what is on no list that a run can start from: `best`, just being saved, or the one before it."""
        kept = {self.path(step) for _, step in [*best, *self._on_disk]}
        self._on_disk = best
        if is_main_process():
            for path in set(self.folder.glob("step_*.safetensors")) - kept:
                path.unlink()


def save_model(folder: pathlib.Path, task: Task, params: Params | None, imports: tuple[str, ...] = ()) -> None:
    """Writes what `load_model` reads; `params` None leaves the parameters there as they are."""
    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
    mapping = {"task": TASKS.name_of(type(task))} | config.to_mapping(task)
    mapping |= {"imports": list(imports)} | _hashes(task)
    write_atomically(folder / "config.yaml", yaml.safe_dump(mapping, sort_keys=False, allow_unicode=True).encode())
    with written(folder):
        task.save_resources(folder)
    if params is not None:
        save_params(folder / PARAMS_FILE, params)


_HASHES = ("resources_hash", "statistics_hash")


def _hashes(task: Task) -> dict[str, str | None]:
    """What a model's config.yaml has of the files beside it."""
    return dict(zip(_HASHES, (task.resources_hash(), task.statistics_hash()), strict=True))


def read_options(folder: pathlib.Path) -> dict[str, Any]:
    """The options of a model, or of a run, as its folder's config.yaml has them.

    Raises:
      CheckpointError: there is none.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise CheckpointError(
            f"{file}: no such file; the options of the run or the model in this folder were expected; put it back, or "
            "use another folder."
        )
    return config.read_yaml(file)


def load_task(folder: pathlib.Path) -> Task:
    """The task of a model folder, with its resources.

    Raises:
      CheckpointError: a file is missing or another model's, or no plain file of the folder's own.
      ConfigError: the options mean nothing, or name modules that are not imported.
    """
    check_members(folder)
    return with_resources(task_of(read_options(folder), folder / "config.yaml"), folder)


def check_members(folder: pathlib.Path) -> None:
    """Raises CheckpointError where something in a model's folder leads out of it, or is neither file nor folder."""
    inside = folder.resolve()
    for path in sorted(folder.glob("*")):
        if not path.resolve().is_relative_to(inside) or not (path.is_file() or path.is_dir()):
            raise CheckpointError(
                f"{path}: leads out of the model's folder, or is neither file nor folder; plain files were expected, "
                f"since a model that comes from elsewhere could have any other file read; if you trust it, copy what "
                f"links lead to: cp -rL {folder} NEW."
            )


def task_of(options: Mapping[str, Any], file: pathlib.Path) -> Task:
    """The task, without its resources, that a model's options in `file` describe.

    Raises:
      ConfigError: they mean nothing, or name modules that are not imported.
      CheckpointError: they name no task.
    """
    config.check_imported(options, str(file))
    mapping = {key: value for key, value in options.items() if key not in ("imports", *_HASHES)}
    name = mapping.pop("task", None)
    if name is None:
        raise CheckpointError(f"{file}: names no task; a model's config.yaml was expected; give a model folder.")
    return config.from_mapping(TASKS[name], mapping, where=str(file))


def with_resources(task: Task, folder: pathlib.Path) -> Task:
    """The task with the resources in a model folder.

    Raises:
      CheckpointError: they are not those that the folder was written with.
    """
    known = read_options(folder)
    task = task.load_resources(folder)
    other = {name for name, found in _hashes(task).items() if known.get(name) not in (None, found)}
    if "resources_hash" in other:
        raise CheckpointError(
            f"{folder}/tokens.txt: not the token list that the model was trained with (or bpe.model, lexicon.txt, "
            "seg_dict or non_linguistic_symbols.txt beside it is not), whose hash config.yaml has; the numbers of the "
            "model's tokens would mean other words; put the files of one model together."
        )
    if "statistics_hash" in other:
        raise CheckpointError(
            f"{folder}/am.mvn: not the statistics that the model was trained with, whose hash config.yaml has; its "
            "features would be others; put the files of one model together."
        )
    return task


def model_folder(path: str | pathlib.Path) -> pathlib.Path:
    """The model folder that `path` is, or that the workdir `path` holds.

    Raises:
      CheckpointError: it is neither.
    """
    path = pathlib.Path(path)
    for folder in (path / "model", path):
        if (folder / PARAMS_FILE).exists() and (folder / "config.yaml").exists():
            return folder
    if found := sorted(file for pattern in ("*.pth", "*.pb", "*.pt") for file in path.glob(pattern)):
        raise CheckpointError(
            f"{path}: {found[0].name}, a model of FunASR or ESPnet; one of jaxasr was expected; convert it with "
            f"`python -m jaxasr.convert {path} NEW`, and give NEW."
        )
    raise CheckpointError(
        f"{path}: no model there; a workdir or a folder with config.yaml and {PARAMS_FILE} was expected; "
        "a run writes one at its first validation."
    )


def load_model(path: str | pathlib.Path, *, imports: Sequence[str] = ()) -> tuple[Task, Params]:
    """A model's task and parameters, from a model folder or a workdir.

    Args:
      imports: modules to import first, which register what the model names; it is never done because a model says so.

    Raises:
      ConfigError: its options mean nothing, or name modules that are not imported.
      CheckpointError: there is none, or the parameters do not fit the options beside them.
    """
    config.import_modules(imports, "imports")
    folder = model_folder(path)
    task = load_task(folder)
    params = load_params(folder / PARAMS_FILE)
    try:
        expected = flatten_shapes(task)
    except JaxasrError:
        raise
    except Exception as error:  # numbers that no array can have make JAX raise whatever it likes
        raise CheckpointError(
            f"{folder}/config.yaml: {type(error).__name__}: {error}; options of a network were expected; copy the "
            "model anew."
        ) from error
    found = {name: value.shape for name, value in flatten(params).items()}
    if expected != found:
        wrong = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
        raise CheckpointError(
            f"{folder}: {wrong[0]} has shape {found.get(wrong[0])}; {expected.get(wrong[0])} was expected by "
            f"config.yaml ({len(wrong)} parameters differ); put the files of one model together."
        )
    return task, params


def flatten_shapes(task: Task) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter of the task's network, by its path."""
    from jaxasr.data.batch import BucketShape

    spec = task.batch_spec(BucketShape(1, int(task.input_rate), 1))
    return shapes_by_path(jax.eval_shape(task.model().init, jax.random.key(0), spec))
