"""What comes from elsewhere is read and never run: the package, models, the heads of their files."""

import ast
import dataclasses
import importlib
import json
import os
import pathlib
import random
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

import jaxasr
from jaxasr import checkpoint, config, finetune
from jaxasr.checkpoint import PARAMS_FILE
from jaxasr.convert import bert
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.errors import CheckpointError, ConfigError, exit_with_message
from jaxasr.info import parameters
from jaxasr.init import Init
from jaxasr.params import MOST_HEADER, load_params, param_shapes
from tests import tiny

# The package -------------------------------------------------------------------------------------------------

PACKAGE = pathlib.Path(jaxasr.__file__).parent
RUN = {"eval", "exec", "compile", "__import__", "execfile"}
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle", "torch"}
ATTRIBUTES = {
    *("os.system", "os.popen", "os.spawnl", "os.spawnv", "pty.spawn", "subprocess.getoutput"),
    *("subprocess.getstatusoutput", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"),
    *("yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader", "np.loads", "runpy.run_path", "runpy.run_module"),
}
ONCE = {"importlib.import_module": {"__init__.py", "__main__.py", "completion.py", "config.py"}}
"""Of our own modules by name, and of those that the user names."""


OWN = {"workers.py": {"import cloudpickle"}}
"""What goes to the program's own processes."""


def ways_to_run(source: str, file: str = "") -> list[str]:
    """What of a source could run, or unpickle, what comes from outside."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [f"import {a.name}" for a in node.names if a.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            found.append(f"from {node.module}")
        elif isinstance(node, ast.ImportFrom):
            found += [name for a in node.names if (name := f"{node.module}.{a.name}") in ATTRIBUTES | {*ONCE}]
        elif isinstance(node, ast.Attribute) and (name := ast.unparse(node)) in ATTRIBUTES:
            found.append(name)
        elif isinstance(node, ast.Call):
            found += _calls(node, file)
    return [way for way in found if way not in OWN.get(file, ())]


def _calls(node: ast.Call, file: str) -> list[str]:
    name, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
    found = [name] if name in RUN else []
    found += [f"shell={given['shell']}"] if given.get("shell", "False") != "False" else []
    found += [name] if name in ("np.load", "numpy.load") and given.get("allow_pickle") != "False" else []
    found += [name] if name in ONCE and file not in ONCE[name] else []
    return found


def test_the_package_runs_nothing_that_it_reads():
    found = {str(f.relative_to(PACKAGE)): ways_to_run(f.read_text(), f.name) for f in PACKAGE.rglob("*.py")}
    assert {file: ways for file, ways in found.items() if ways} == {}


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from pickle import loads", "import torch.serialization as t", "eval('1')", "exec(x)"),
        *("os.system('ls')", "yaml.load(x)", "yaml.load(x, yaml.UnsafeLoader)", "subprocess.run(x, shell=True)"),
        *("subprocess.run(x, shell=y)", "np.load(x)", "np.load(x, allow_pickle=True)", "importlib.import_module(x)"),
        *("from os import system", "from yaml import load as l", "from importlib import import_module"),
    ],
)
def test_ways_to_run_are_seen(source):
    assert ways_to_run(source)


# Model folders -----------------------------------------------------------------------------------------------

TASK = dataclasses.replace(tiny.TASK, normalizer=None).with_resources(vocabulary=Vocabulary(tiny.TOKENS))


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A folder that names a module beside it, which leaves a trace when it is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    pathlib.Path("my_parts.py").write_text("import pathlib\npathlib.Path('ran').touch()\n")
    checkpoint.save_model(pathlib.Path("model"), TASK, {"a": np.zeros(1, np.float32)}, ("my_parts",))
    yield pathlib.Path("model")
    sys.modules.pop("my_parts", None)


def test_a_model_imports_nothing_by_itself(model):
    with pytest.raises(ConfigError, match=r"^model/config\.yaml: imports: it needs my_parts; .* --import=my_parts \("):
        checkpoint.load_task(model)
    assert not pathlib.Path("ran").exists()
    with pytest.raises(CheckpointError, match="parameters differ"):  # so far it comes then
        checkpoint.load_model(model, imports=("my_parts",))
    assert pathlib.Path("ran").exists()


@pytest.mark.parametrize("command", ["decode", "align", "evaluate", "info", "plot", "report", "ngram", "convert"])
def test_every_command_that_takes_a_model_takes_modules(command):
    module = importlib.import_module(f"jaxasr.{command}" if command != "convert" else "jaxasr.convert.__main__")
    options = getattr(module, f"{command.capitalize()}Options")
    assert "imports" in {field.name for field in dataclasses.fields(options)}


def test_only_files_of_the_folder_are_opened(model, tmp_path):
    """Whatever paths its options name."""
    (tmp_path / "secret").write_text("a b\n")
    file = model / "config.yaml"
    others = {"cmvn_file": str(tmp_path / "secret"), "token_list": "../secret"}
    file.write_text(json.dumps(config.read_yaml(file) | others | {"imports": []}))
    opened = []
    listening = [True]
    sys.addaudithook(lambda event, args: opened.append(args[0]) if listening[0] and event == "open" else None)
    checkpoint.load_task(model)
    listening[0] = False
    assert {str(path) for path in opened} >= {"model/config.yaml", "model/tokens.txt"}
    assert not [path for path in map(str, opened) if "secret" in path]


@pytest.mark.parametrize("name", [PARAMS_FILE, "tokens.txt", "more"])
def test_links_out_of_the_folder_are_refused(model, name):
    pathlib.Path("secret").write_text("a\n")
    (model / name).unlink(missing_ok=True)
    (model / name).symlink_to("../secret")
    with pytest.raises(CheckpointError, match=rf"^model/{name}: leads out of .*cp -rL model NEW\.$"):
        checkpoint.load_task(model)


def test_a_pipe_is_not_waited_for(model):
    (model / "tokens.txt").unlink()
    os.mkfifo(model / "tokens.txt")
    with pytest.raises(CheckpointError, match=r"tokens\.txt: leads out of .* neither file nor folder"):
        checkpoint.load_task(model)
    (model / "config.yaml").unlink()
    os.mkfifo(model / "config.yaml")
    with pytest.raises(CheckpointError, match=r"config\.yaml: leads out of .* neither file nor folder"):
        finetune.options_below(Init("model"), pathlib.Path("workdir"))


def test_modules_are_looked_for_here_where_some_are_named_alone(monkeypatch):
    """A folder of strangers may hold a file that is called as a package is."""
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    config.import_modules((), "imports")
    assert "" not in sys.path
    config.import_modules(("json",), "imports")
    assert sys.path[0] == ""


def test_an_error_is_a_line_that_commands_no_terminal(capsys):
    def fail():
        raise ConfigError("a\x1b[2J\nb\u202e 三\u3000é: wrong")

    with pytest.raises(SystemExit):
        exit_with_message(fail)()
    assert capsys.readouterr().err == "error: a\\x1b[2J\\nb\\u202e 三\u3000é: wrong\n"


# Heads of safetensors ----------------------------------------------------------------------------------------

WHOLE = {"a/b/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "a/b/bias": np.ones(3, np.float16)}
VALUES = [
    *(0, 1, -1, 2**31, 2**63 - 1, 2**64, 10**40, 1.5, True, None, "", "F32", "F8_E4M3", "BF16", "BOOL", "F4", [], {}),
    *(
        [0],
        [0, 0],
        [2**62, 2**62],
        [0, 2**63 - 1],
        [-1, 24],
        [24, 0],
        [1] * 60,
        [[1]],
        {"dtype": "F32"},
        "\0",
        "é" * 99,
    ),
]
NAMES = ["", "/", "a", "a/b", "a/b/kernel/x", "../x", "/etc/passwd", "__metadata__", "a//b", "\0", "é" * 300, "\ud800"]


def mutated(rng: random.Random) -> bytes:
    """A file whose header, or its length, is not as it was."""
    whole = safetensors.numpy.save(WHOLE)
    size = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + size]), whole[8 + size :]
    for _ in range(rng.randint(0, 3)):
        name = rng.choice([*header, *NAMES])
        entry = header.get(name)
        if isinstance(entry, dict) and rng.random() < 0.7:
            entry[rng.choice(["dtype", "shape", "data_offsets", "more"])] = rng.choice(VALUES)
        else:
            header[name] = rng.choice([*header.values(), *VALUES])
    text = json.dumps(header).encode()
    if rng.random() < 0.3:
        text = rng.choice([b"[" * 100_000, b'{"a":' * 5000, b"\xff" * 50, text[: rng.randint(0, len(text))], text * 2])
    content = bytearray(rng.choice([len(text), size, 0, 2**20, 2**40, 2**63, 2**64 - 1]).to_bytes(8, "little"))
    if rng.random() < 0.7:
        content[:8] = len(text).to_bytes(8, "little")
    content += text + data[: rng.choice([len(data), 0, rng.randint(0, len(data))])]
    for _ in range(rng.choice([0, 0, 1, 5])):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def fuzzed(path: pathlib.Path, number: int) -> dict[str, int]:
    """How many of so many such files were refused, and how many of those can be read; nothing else comes of them."""
    found, rng = {"refused": 0, "read": 0}, random.Random(0)
    for _ in range(number):
        path.write_bytes(mutated(rng))
        for read in (param_shapes, load_params):
            try:
                read(path)
                outcome = "read"
            except CheckpointError:
                outcome = "refused"
        found[outcome] += 1
    return found


def test_mutated_heads_are_refused(tmp_path):
    found = fuzzed(tmp_path / "params.safetensors", 100)
    assert found["refused"] > 60
    assert sum(found.values()) == 100


def test_an_oversized_head_is_not_read(tmp_path):
    path = tmp_path / "params.safetensors"
    with path.open("wb") as file:
        file.write((MOST_HEADER + 1).to_bytes(8, "little") + b"{")
        file.truncate(2 * MOST_HEADER)
    for read in (load_params, param_shapes, parameters, bert._open):
        with pytest.raises(CheckpointError, match=f"a header of {MOST_HEADER + 1} bytes; at most {MOST_HEADER}, "):
            read(path)


FUZZ = """
import pathlib, resource, sys
from tests.test_trust import fuzzed
fuzzed(pathlib.Path(sys.argv[1]), 10)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(fuzzed(pathlib.Path(sys.argv[1]), 5000), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_5000_mutated_heads_take_little_memory(tmp_path):
    command = [sys.executable, "-c", FUZZ, str(tmp_path / "params.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    counts, mib = done.stdout.rsplit(" ", 1)
    print(f"5000 heads: {counts}; {mib.strip()} MiB more")
    assert int(mib) < 100
