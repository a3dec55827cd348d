"""Imports point one way, and what must start fast imports little."""

import ast
import pathlib
import subprocess
import sys
from collections.abc import Sequence

import pytest

import jaxasr

PACKAGE = pathlib.Path(jaxasr.__file__).parent
LAYERS = [
    {"errors", "typing", "registry", "corpora", "launch", "consoles", "commands", "versions", "board", "watch"},
    {"values", "recipes"},
    {"config", "command_line", "nn", "data", "scoring", "paths"},
    {"search", "optim", "schedules", "averages", "convert", "adapters", "fsdp", "init", "params", "checksums"},
    {"bars"},
    {"trainable"},
    {"tasks"},
    {"parallel", "compiled", "memory", "inputs", "train_config", "stream", "profiling"},
    {"gradients"},
    {"state", "states", "checkpoint", "cmvn", "logs", "stopping"},
    {"finetune", "fit", "hypothesis", "language_models"},
    {"recognizer", "searching", "fetch", "outputs"},
    {"long"},
    {"speech_to_text", "tuning"},
    {"decode", "align", "prepare", "evaluate", "ngram"},
    {"session", "reporting"},
    {"report", "info", "plot", "data/check", "data/pack", "screens"},
    {"convert/folders"},
    {"validate"},
    {"loop", "replay"},
    {"train", "completion", "notebook"},
    {"__main__", ""},  # the package itself, whose public names are loaded when they are used
]
OF_FOLDERS = {
    *("__main__", "folders", "foreign", "funasr", "funasr_texts", "espnet", "espnet_options", "espnet_tokens"),
    *("options", "encoder_options", "decoder_options", "feature_options", "model_options"),
}
"""Modules of `convert` that make models of folders, above the tasks; the others have the rules of parameters."""
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}


def imported(file: pathlib.Path) -> set[str]:
    """The parts of jaxasr, as in `jaxasr.PART`, that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "jaxasr":
            names |= {f"jaxasr.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {named(name.split(".")[1:]) for name in names if name.startswith("jaxasr.")}


def named(parts: Sequence[str]) -> str:
    first, *rest = parts
    if first == "convert" and rest and rest[0] in OF_FOLDERS:
        return "convert/folders"
    if (first, *rest) in (("data", "check"), ("data", "pack")):
        return f"data/{rest[0]}"  # the command
    return "" if first == "__init__" else first


def part(file: pathlib.Path) -> str:
    return named(file.relative_to(PACKAGE).with_suffix("").parts)


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_point_one_way(file):
    mine = part(file)
    for other in imported(file) - {mine}:
        assert LAYER[other] <= LAYER[mine], f"{mine} imports {other}"
    if mine == "data":
        assert imported(file) <= {"data", "errors", "registry", "consoles"}
    if mine == "nn":
        assert imported(file) <= {"nn", "errors", "registry", "typing"}


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {line.split(".")[0] for line in done.stdout.splitlines() if not line.startswith(" ")}


def test_data_needs_no_jax():
    parts = ("preprocess", "batch", "pipeline", "audio", "tokenizer", "augment")
    code = f"import jaxasr.evaluate, {', '.join(f'jaxasr.data.{part}' for part in parts)}"
    assert not modules_after(code) & {"jax", "flax", "orbax"}


def test_importing_the_package_does_nothing():
    assert not modules_after("import jaxasr") & {"jax", "flax", "numpy", "soundfile", "tyro"}


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'laod'; there are"):
        jaxasr.laod  # noqa: B018
    assert jaxasr.AsrTask.__name__ == "AsrTask"
    assert callable(jaxasr.load)
