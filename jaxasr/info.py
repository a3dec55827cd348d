"""What a model is: `python -m jaxasr.info DIR`. Nothing is compiled; of the parameters only the header is read."""

import dataclasses
import json
import math
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import tyro

from jaxasr import checkpoint, config
from jaxasr.command_line import Imports, options_of
from jaxasr.errors import exit_with_message, harmless
from jaxasr.logs import short
from jaxasr.nn.batch_norm import STATS
from jaxasr.params import opened_params
from jaxasr.reporting import gather
from jaxasr.reporting.gather import Run
from jaxasr.reporting.html import count, duration, percent
from jaxasr.tasks.base import TASKS, Task

FIRST_TOKENS = 12


def describe(path: str | pathlib.Path) -> dict[str, Any]:
    """What is known of the model in a folder or workdir, as JSON can hold it; `run` is None for a model alone.

    Raises:
      CheckpointError: there is no model.
      ConfigError: its options cannot be read, or name modules that are not imported.
    """
    folder = checkpoint.model_folder(path)
    task = checkpoint.load_task(folder)
    name = TASKS.name_of(type(task))
    above = pathlib.Path(path)
    workdir = above if folder != above and (above / "config.yaml").exists() else None
    return {
        "model": str(folder),
        "task": name,
        "options": {"task": name} | chosen(task) | config.changed(task),
        "imports": list(config.read_yaml(folder / "config.yaml").get("imports") or ()),
        "parameters": parameters(folder / checkpoint.PARAMS_FILE),
        "layers": layers(task),
        "bytes": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        "reads": task.source.kind,
        "input_rate": task.input_rate,
        "frame_ms": task.frame_ms,
        "searches": [*task.searches(), *task.beam_searches()],
        "dtype": getattr(task, "dtype", "float32"),
        "resources": resources(task),
        "run": None if workdir is None else training(gather.read(workdir)),
    }


def layers(task: Task) -> dict[str, int]:
    """How many layers each of the task's parts has, of those that have some."""
    parts = {name: getattr(task, name) for name in config.slots(type(task))}
    return {name: part.num_layers for name, part in parts.items() if hasattr(part, "num_layers")}


def chosen(task: Task) -> dict[str, Any]:
    """The task's parts by name: encoder, decoder, tokenizer, ..."""
    plain = config.to_mapping(task)
    return {name: plain[name] and {"type": plain[name]["type"]} for name in config.slots(type(task))}


def parameters(file: pathlib.Path) -> dict[str, Any]:
    """Numbers in all and in every part of the network, and their types, by a parameter file's header.

    Running statistics, which nothing learns, are counted apart.

    Raises:
      CheckpointError: it is no safetensors file.
    """
    parts: dict[str, int] = {}
    dtypes = set()
    with opened_params(file) as opened:
        for name in opened.keys():  # noqa: SIM118 - it is no mapping
            header = opened.get_slice(name)
            part = name.split("/")[0]
            parts[part] = parts.get(part, 0) + math.prod(header.get_shape())
            dtypes.add(header.get_dtype())
    statistics = parts.pop(STATS, 0)
    return {"total": sum(parts.values()), "parts": parts, "statistics": statistics, "dtypes": sorted(dtypes)}


def resources(task: Task) -> dict[str, Any]:
    """What only data could tell: the token list and the feature statistics, where the task has them."""
    vocabulary, cmvn = getattr(task, "vocabulary", None), getattr(task, "cmvn", None)
    found: dict[str, Any] = {"hash": task.resources_hash()}
    if vocabulary is not None:
        found["vocabulary"] = {"size": len(vocabulary), "first": list(vocabulary.tokens[:FIRST_TOKENS])}
    found["cmvn_features"] = None if cmvn is None else len(cmvn.shift)
    return found


def training(run: Run) -> dict[str, Any]:
    """How a workdir's model was trained, and how well it does."""
    log, metric = run.log, run.cfg.metric
    last = max(log.train[-1:] + log.valid[-1:], key=lambda r: r.get("step", 0), default={})
    best = min((r for r in log.valid if gather.is_number(r.get(metric))), key=lambda r: r[metric], default=None)
    return {
        "status": run.status,
        "steps": last.get("step", 0),
        "epochs": last.get("epoch", 0.0),
        "seconds": log.seconds,
        "best": None if best is None else {"metric": metric, "value": best[metric], "step": best.get("step", 0)},
        "kept": None if log.kept is None else log.kept.get("note"),
        "tests": [_test(item) for item in run.tests],
        "measured": log.measured,
    }


def _test(item: gather.Scored) -> dict[str, Any]:
    found = {"name": item.name, "path": item.path, "search": item.search, "fault": item.fault or None}
    if item.score is None:
        return found | {"wer": item.logged.get("wer"), "interval_95": None}
    rate, bounds = item.score.wer.rate, item.score.wer_interval
    finite = [bound if math.isfinite(bound) else None for bound in bounds]
    return found | {"wer": rate if math.isfinite(rate) else None, "interval_95": finite}


# --- as text -----------------------------------------------------------------------------------------------------


def lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, what there is to say)."""
    yield "model", found["model"]
    for name, value in found["options"].items():
        yield name, _options(value)
    total, parts, statistics = (found["parameters"][name] for name in ("total", "parts", "statistics"))
    yield "parameters", f"{count(total)}: " + ", ".join(f"{part} {count(size)}" for part, size in parts.items())
    yield "layers", ", ".join(f"{part} {number}" for part, number in found["layers"].items()) or "none"
    if statistics:
        yield "statistics", f"{count(statistics)} numbers that run along, of batch norms"
    stored = ", ".join(found["parameters"]["dtypes"])
    yield "size", f"{found['bytes'] / 1e6:.2f} MB on disk ({stored}); computes in {found['dtype']}"
    if found["frame_ms"] is None:
        yield "reads", found["reads"]
    else:
        rate = f"{found['input_rate']:g} {'Hz' if found['reads'] == 'sound' else 'frames a second'}"
        yield found["reads"], f"{rate}, {found['frame_ms']:g} ms per encoder frame"
        yield "searches", ", ".join(found["searches"])
    yield from _resource_lines(found["resources"])
    yield "imports", ", ".join(found["imports"]) or "none"
    if found["run"] is not None:
        yield from _training_lines(found["run"])


def _options(value: Any) -> str:
    """`sanm: num_layers 4, d_model 128` for what a slot holds."""
    if not isinstance(value, dict):
        return "none" if value is None else str(value)
    options = ", ".join(f"{name} {_options(inner)}" for name, inner in value.items() if name != "type")
    return f"{value.get('type', '')}: {options}" if options else str(value.get("type", ""))


def _resource_lines(resources: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if (vocabulary := resources.get("vocabulary")) is not None:
        more = " ..." if vocabulary["size"] > len(vocabulary["first"]) else ""
        yield "vocabulary", f"{vocabulary['size']} tokens: {' '.join(vocabulary['first'])}{more}"
    features = resources["cmvn_features"]
    yield "CMVN", "none" if features is None else f"of {features} features"
    yield "hash", resources["hash"]


def _training_lines(run: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "trained", f"{run['steps']} steps, {run['epochs']:.1f} epochs, {duration(run['seconds'])}; {run['status']}"
    if (best := run["best"]) is not None:
        value = f"{best['value']:.4g}" if best["metric"] == "loss" else percent(best["value"])
        yield "best", f"validation {best['metric']} {value} at step {best['step']}"
    if run["kept"]:
        yield "kept", run["kept"]
    for test in run["measured"]:
        yield test["split"], f"{short(test)}, {test['path']}"
    for test in run["tests"]:
        low, high = test["interval_95"] or (None, None)
        interval = f" (95 % interval {percent(low)} to {percent(high)})" if low is not None else ""
        yield test["name"], f"WER {percent(test['wer'])}{interval} by {test['search']}, {test['path']}"


# --- command line ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class InfoOptions:
    """What a model is: options that differ from the defaults, parameters, vocabulary, how it was trained, its WER."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Workdir of a run, or its model folder."""
    json: bool = False
    """Print JSON."""
    imports: Imports = ()


def info(options: InfoOptions) -> dict[str, Any]:
    """What the command line prints."""
    config.import_modules(options.imports, "--import")
    return describe(options.model)


@exit_with_message
def main(argv: Sequence[str] | None = None) -> None:
    """The command line: `argv`, or else the program's own arguments."""
    options = options_of(InfoOptions, argv, "info")
    found = info(options)
    shown = list(lines(found))
    width = max(len(name) for name, _ in shown)
    if options.json:
        print(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        print("\n".join(f"{name:{width}}  {harmless(value)}" for name, value in shown))


if __name__ == "__main__":
    main(sys.argv[1:])
