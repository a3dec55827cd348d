"""Starting from a model: its options, its token list and statistics, its parameters (`--init`)."""

import dataclasses
import pathlib
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxasr import checkpoint, config
from jaxasr.command_line import Below
from jaxasr.data.batch import BucketShape
from jaxasr.data.tokenizer import Tokenizer, Vocabulary
from jaxasr.errors import ConfigError
from jaxasr.init import Init, Plan, planned, under
from jaxasr.nn.initialization import Initialization
from jaxasr.params import flatten, load_params, param_shapes, shapes_by_path, write_atomically
from jaxasr.paths import Known, unflatten
from jaxasr.tasks.base import TASKS, Task
from jaxasr.train_config import TrainConfig
from jaxasr.typing import Params

OPTIONS = "init.yaml"
"""In the workdir, the options of the model that the run was started from."""
TOKEN_OPTIONS = ("tokenizer", "token_list", "non_linguistic_symbols")
"""What a task's tokens are made by."""
SHOWN = 5


def folder_of(init: Init) -> pathlib.Path:
    """The model's folder.

    Raises:
      ConfigError: it is empty, or a rule to draw parameters by.
      CheckpointError: there is no model.
    """
    if not init.folder:
        raise ConfigError("--init=: no folder; that of a model was expected; name it, or give --init=none.")
    if init.folder in typing.get_args(Initialization) and not pathlib.Path(init.folder).exists():
        raise ConfigError(
            f"--init={init.folder}: no such folder; that of a model was expected; to draw all weights by this rule "
            f"give --initialization={init.folder}."
        )
    folder = checkpoint.model_folder(init.folder)
    checkpoint.check_members(folder)
    return folder


# --- options -----------------------------------------------------------------------------------------------------


def options_below(init: Init, workdir: pathlib.Path) -> Below:
    """The model's options, which the run's own stand above; of a run that goes on as they were when it began."""
    file = workdir / OPTIONS
    if not (checkpoint.has_state(workdir) and file.is_file()):
        file = folder_of(init) / "config.yaml"
    options = config.read_yaml(file)
    task = checkpoint.task_of(options, file)
    task, open_options = (task, ()) if init.tokens == "model" else _without_token_files(task)
    mapping = {"task": TASKS.name_of(type(task))} | config.changed(task)
    return Below(str(file), mapping | {"imports": options.get("imports") or ()}, open_options)


def _without_token_files(task: Task) -> tuple[Task, tuple[str, ...]]:
    """`task` without the files that its old tokens came from, and what is none of its own then.

    A tokenizer that is nothing without its file, such as FunASR's seg_dict, is the one that a task has by default.
    """

    def without(part: Any, names: Sequence[str]) -> Any:
        fields = config.option_fields(type(part))
        return dataclasses.replace(part, **{n: fields[n].default for n in names if "names_files" in fields[n].metadata})

    fields = config.option_fields(type(task))
    parts = {n: getattr(task, n) for n in TOKEN_OPTIONS if "registry" in getattr(fields.get(n), "metadata", ())}
    parts = {n: without(part, list(config.option_fields(type(part)))) for n, part in parts.items()}
    lost = tuple(name for name, part in parts.items() if not _stands_alone(part))
    parts |= {name: fields[name].default for name in lost}
    return dataclasses.replace(without(task, [n for n in TOKEN_OPTIONS if n in fields]), **parts), lost


def _stands_alone(tokenizer: Tokenizer) -> bool:
    try:
        tokenizer.check()
    except ConfigError:
        return False
    return True


def keep_options(cfg: TrainConfig, workdir: pathlib.Path) -> None:
    """Writes the model's options into the workdir, since the model may change or vanish while the run goes on."""
    if cfg.init is not None:
        write_atomically(workdir / OPTIONS, (folder_of(cfg.init) / "config.yaml").read_bytes())


# --- token list and statistics -----------------------------------------------------------------------------------


def with_model(cfg: TrainConfig) -> TrainConfig:
    """`cfg` for a new run, with what its task takes of the model beside parameters; itself where it starts from none.

    Raises:
      CheckpointError: there is no model, or it is damaged.
      ConfigError: the tokens are the model's and the options say other ones, or the model is the run's own.
    """
    if cfg.init is None:
        return cfg
    folder = folder_of(cfg.init)
    if folder.resolve() == (pathlib.Path(cfg.workdir) / "model").resolve():
        raise ConfigError(
            f"--init={cfg.init.folder} with --workdir={cfg.workdir}: the run would write over the model that it starts "
            "from; two folders were expected; give another --workdir."
        )
    model: Any = checkpoint.load_task(folder)
    task: Any = cfg.task
    taken = _tokens(cfg.init, task, model) if cfg.init.tokens == "model" else {}
    if _same_features(task, model):
        taken["cmvn"] = getattr(model, "cmvn", None)
    return dataclasses.replace(cfg, task=dataclasses.replace(task, **taken))


def _tokens(init: Init, task: Any, model: Any) -> dict[str, Any]:
    """The model's tokenizer and resources but for statistics, as far as both have them."""
    fields = {field.name: field for field in dataclasses.fields(task) if hasattr(model, field.name)}
    for name in (name for name in TOKEN_OPTIONS if name in fields):
        if getattr(task, name) != getattr(model, name):
            now, before = (config.to_mapping(made)[name] or "none" for made in (task, model))
            raise ConfigError(
                f"--{name}: {now} with --init={init.folder}; the model's own, {before}, was expected, since its "
                "parameters are of its tokens; remove the option, or give --init.tokens=new."
            )
    resources = [n for n, field in fields.items() if "resource" in field.metadata and n != "cmvn"]
    return {name: getattr(model, name) for name in (*resources, *TOKEN_OPTIONS) if name in fields}


def _same_features(task: Any, model: Any) -> bool:
    """Whether the model's statistics are those of the task's features, and the task is given no others."""
    if getattr(model, "cmvn", None) is None or not hasattr(task, "cmvn"):
        return False
    if any(getattr(task, name) != getattr(model, name) for name in ("sample_rate", "frontend", "cmvn_file")):
        return False
    spec = task.batch_spec(BucketShape(1, int(task.input_rate), 1))
    features, _ = jax.eval_shape(lambda batch: task.features(batch, normalize=False), spec)
    return features.shape[-1] == len(model.cmvn.shift)  # an encoder of another frame rate has others


# --- parameters --------------------------------------------------------------------------------------------------


def check_given(cfg: TrainConfig) -> None:
    """Raises ConfigError or CheckpointError where parameters that a new run starts from do not fit; no data is read."""
    if cfg.init is None:
        cfg.task.given_params(_silent)
    else:
        _files_params(cfg.init, cfg.task, _plan(cfg.init, cfg.task), _silent)


def given_params(cfg: TrainConfig, task: Any, say: Callable[[str], None]) -> Params:
    """What a new run starts from, at its place: the model's parameters, and those of files that the task names."""
    if cfg.init is None:
        given = task.given_params(say)
        if cfg.freeze or cfg.adapter is not None:
            known = flatten(given)
            _warn_of_drawn([path for path in checkpoint.flatten_shapes(task) if path not in known], cfg, say)
        return given
    folder, plan = folder_of(cfg.init), _plan(cfg.init, task)
    params = flatten(load_params(folder / checkpoint.PARAMS_FILE))
    given: dict[str, Any] = {place: params[path].astype(np.float32) for place, path in plan.sources.items()}
    own = _files_params(cfg.init, task, plan, say)
    drawn = [path for path in plan.drawn if path not in own]
    parts = [f"{len(given)} parameters taken", *_listed("drawn anew", drawn), *_listed("left out", plan.left_out)]
    say(f"--init={cfg.init.folder}: {'; '.join(parts)}")
    axes = token_axes(task) if cfg.init.tokens == "new" else {}
    if rows := {path: found for path, found in axes.items() if path in given}:
        model: Any = checkpoint.load_task(folder)
        old, new = model.vocabulary, task.vocabulary
        given |= {path: with_new_tokens(given[path], found, old, new) for path, found in rows.items()}
        say(_said_of_tokens(old, new))
    _warn_of_drawn([*drawn, *(path for path in rows if not np.all(given[path].known))], cfg, say)
    return unflatten(given | own)


def _warn_of_drawn(paths: Sequence[str], cfg: TrainConfig, say: Callable[[str], None]) -> None:
    """Of those, drawn as a whole or for new tokens, that do not learn."""
    stuck = [path for path in paths if not cfg.trainable.learns(path)]
    option, advice = ("--freeze", "freeze fewer") if cfg.adapter is None else ("--adapter", "add them to its `train`")
    for what in _listed("parameters drawn, whole or for new tokens, and not learnt", stuck):
        say(f"warning: {option}: {what}; they stay as they are drawn; {advice}, or take them by --init")


def _silent(said: str) -> None:
    del said


def _plan(init: Init, task: Task) -> Plan:
    """With the network as it is for the model's token list, so that the new one need not be known."""
    folder = folder_of(init)
    vocabulary = getattr(checkpoint.load_task(folder), "vocabulary", None)
    shapes = None if vocabulary is None else task.parameter_shapes(len(vocabulary))
    if shapes is None and init.tokens == "new":
        raise ConfigError(
            f"--init.tokens=new: {type(task).__name__} does not tell its parameters by the number of tokens, or the "
            "model has no token list; both were expected; define parameter_shapes, or leave the tokens as they are."
        )
    network = checkpoint.flatten_shapes(task) if shapes is None else shapes_by_path(shapes)
    return planned(init, param_shapes(folder / checkpoint.PARAMS_FILE), network)


def _files_params(init: Init, task: Task, plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """By path, what files that the task names have for parts that the model does not fill."""
    parts = [part for part in task.given_parts() if any(under(path, part) for path in plan.drawn)]
    for part in set(task.given_parts()) - set(parts):
        say(f"--{part}: of --init={init.folder}; the file of its weights is not read")
    own = flatten(task.given_params(say)) if parts else {}
    if twice := sorted(own.keys() & plan.sources.keys()):
        part = twice[0].split("/")[0]
        raise ConfigError(
            f"--init.map: fills {twice[0]}, and so does the file of --{part} ({len(twice)} parameters are given "
            f"twice); one of the two was expected; exclude {part}, or remove its file."
        )
    return own


def _listed(what: str, names: Sequence[str]) -> list[str]:
    more = ", ..." if len(names) > SHOWN else ""
    return [f"{what}: {len(names)} ({', '.join(names[:SHOWN])}{more})"] if names else []


# --- tokens ------------------------------------------------------------------------------------------------------


def token_axes(task: Task) -> dict[str, list[int]]:
    """The axes of parameters, by path, that have one row for each token, by how shapes grow with the token list.

    Raises:
      ConfigError: a parameter grows otherwise.
    """
    few, more = (shapes_by_path(task.parameter_shapes(number)) for number in (4, 5))
    axes: dict[str, list[int]] = {}
    for path, shape in few.items():
        growing = [axis for axis, size in enumerate(shape) if more[path][axis] != size]
        if any((shape[axis], more[path][axis]) != (4, 5) for axis in growing):
            raise ConfigError(
                f"--init.tokens=new: {path} has shape {shape} for 4 tokens and {more[path]} for 5; one row for each "
                "token was expected; exclude it by --init.map."
            )
        axes |= {path: growing} if growing else {}
    return axes


def with_new_tokens(values: np.ndarray, axes: Sequence[int], old: Vocabulary, new: Vocabulary) -> Known:
    """A parameter of any shape for the tokens `new`, of which those in `old` are known: a row each on `axes`.

    >>> old, new = (Vocabulary(("<blank>", "<s>", "</s>", letter, "<unk>")) for letter in "ab")
    >>> with_new_tokens(np.arange(5), [0], old, new).known.tolist()
    [True, True, True, False, True]
    """
    positions: Mapping[str, int] = {token: number for number, token in enumerate(old.tokens)}
    rows = np.array([positions.get(token, 0) for token in new.tokens])
    shared = np.array([token in positions for token in new.tokens])
    known = np.ones((1,) * values.ndim, bool)
    for axis in axes:
        values = np.take(values, rows, axis)
        known = known & np.expand_dims(shared, [other for other in range(values.ndim) if other != axis])
    return Known(values, known)


def _said_of_tokens(old: Vocabulary, new: Vocabulary) -> str:
    added, lost = ([t for t in a.tokens if t not in set(b.tokens)] for a, b in ((new, old), (old, new)))
    parts = [*_listed("new", added), *_listed("of the model's left out", lost)]
    return "; ".join([f"--init.tokens=new: {len(new) - len(added)} tokens as the model has them", *parts])
