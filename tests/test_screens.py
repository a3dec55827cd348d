"""What a run says first and last, as a terminal of 100 columns shows it."""

import contextlib
import dataclasses
import importlib
import io
import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import rich.console
import soundfile

from jaxasr import evaluate
from jaxasr.checkpoint import write_atomically
from jaxasr.commands import command
from jaxasr.config import to_yaml
from jaxasr.logs import RunLog
from jaxasr.parallel import Devices
from jaxasr.schedules import WarmupRsqrt
from jaxasr.screens import by_part, next_commands
from jaxasr.train import train

from . import tiny

LINES, COLUMNS = 40, 100
BUCKETS = 5
"""As many as a run has by default."""


def shown(text: str) -> list[str]:
    """The lines of a terminal: longer ones go on in the next."""
    return [line[i : i + COLUMNS] for line in text.splitlines() for i in range(0, max(len(line), 1), COLUMNS)]


def screens(text: str) -> tuple[list[str], list[str]]:
    """The lines to the first step, and those behind the last."""
    first, _, rest = text.partition("first step after")
    return shown(first + "\n"), shown(rest[rest.rindex("\nmodel: ") :])


def faulty(folder: pathlib.Path) -> str:
    """A corpus of which four utterances cannot be used, for three reasons."""
    path, rate = pathlib.Path(tiny.corpus(folder, "train", 20)), 8000
    soundfile.write(path / "long.wav", np.zeros(51 * rate, np.int16), rate)
    (path / "damaged.wav").write_bytes(b"RIFF")
    more = {
        "wav.scp": f"long {path}/long.wav\nzz {path}/damaged.wav\n",
        "segments": "a_very_long_one long 0 50.9\nanother_long_one long 0 50.5\ndamaged zz 0 1\nsilent long 0 1\n",
        "text": "a_very_long_one one\nanother_long_one two\ndamaged three\nsilent \n",
        "utt2spk": "a_very_long_one x\nanother_long_one x\ndamaged x\nsilent x\n",
    }
    for name, lines in more.items():
        with (path / name).open("a") as file:
            file.write(lines)
    return str(path)


def test_a_run_says_what_will_happen_and_what_came_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setattr(Devices, "all", lambda *_: Devices.first())
    rising = WarmupRsqrt(warmup_steps=99)
    cfg = tiny.config(tmp_path, train=(faulty(tmp_path / "own"),), epochs=1, max_infeasible=0.2, schedule=rising)
    train(cfg)
    text = capsys.readouterr().out
    first, last = screens(text)
    more = 2 * (BUCKETS - 1)  # a line of the table and one on memory for each
    assert len(first) + more <= LINES and len(last) <= LINES, "\n".join(first)
    said = "".join(first)
    for part in (
        r"train: \d+ in = \d+ used \+ ",
        r"2 too long \(a_very_long_one, another_long_one\)",
        r"1 with empty text",
        r"1 unreadable",
        r"held out: valid \d+ utterances, 0.0\d h; test \S+ \d+ utterances",
        r"parameters: [\d,]+ \(encoder [\d,]+, .*\); the state takes \d+\.\d MB a device",
        r"devices: 1 x cpu \(.*, \d+ cores\), mesh data 1",
        r"so that they count as errors: valid \d of 10 texts \('FOUR'\); smaller tokens",
        r"plan: to step \d+, \d+ an epoch, validated after every epoch",
        r"warning: --schedule=warmup_rsqrt: warm-up takes 99 steps, the run \d+; take warmup_linear, or fewer",
        r"memory  \d+ rows x",
    ):
        assert re.search(part, said), (part, said)
    printed = text.partition("\nNext:\n")[2].splitlines()
    commands = [one.command for one in next_commands(cfg, pathlib.Path(cfg.workdir), search="ctc_greedy")]
    assert len(printed) == len(commands) == 4 and all(map(str.endswith, printed, commands))
    words = shlex.split(commands[1])
    assert words[2] == "jaxasr.evaluate"
    evaluate.main(words[3:])  # as it stands
    assert "WER" in capsys.readouterr().out


def test_folders_of_modules_are_told_again(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "my parts")
    assert command("info", ["a"], ["b"]) == "PYTHONPATH='my parts' python -m jaxasr.info a --import=b"
    assert command("info", ["a"]) == "python -m jaxasr.info a"


def taken(line: str, monkeypatch):
    """The options that the command's own parser makes of what was printed."""
    python, m, module, *words = shlex.split(line)
    assert (python, m) == ("python", "-m")
    found, name = [], module.removeprefix("jaxasr.")
    loaded = importlib.import_module(module)

    class Parsed(Exception):  # noqa: N818
        pass

    def keep(options, *_):
        found.append(options)
        raise Parsed

    with monkeypatch.context() as patch:
        patch.setattr(loaded, name, keep)
        with pytest.raises(Parsed):
            loaded.main(words)
    return found[0]


def test_what_is_printed_next_is_what_the_commands_take(tmp_path, monkeypatch):
    for name in ("my_parts", "my_checks"):
        (tmp_path / f"{name}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    folder = tmp_path / "a run"
    cfg = tiny.config(folder, imports=("my_parts", "my_checks"), steps=7, epochs=None, patience=3)
    workdir = pathlib.Path(cfg.workdir)
    write_atomically(workdir / "config.yaml", to_yaml(cfg).encode())
    found = {what: taken(line, monkeypatch) for what, line in next_commands(cfg, workdir, search="ctc_greedy")}
    assert list(found) == ["decode", "evaluate", "report", "go on"]
    assert found["go on"] == dataclasses.replace(cfg, steps=14, patience=6)
    assert (found["decode"].model, found["decode"].input) == (str(workdir), cfg.test)
    assert (found["evaluate"].ref, found["evaluate"].hyp) == (cfg.test[0], f"{workdir}/test/ctc_greedy")
    assert found["report"].workdir == str(workdir)
    for name in ("decode", "evaluate", "report"):
        assert found[name].imports == cfg.imports


def test_a_model_of_text_is_asked_by_another(tmp_path):
    cfg = tiny.config(tmp_path, test=())
    commands = dict(next_commands(cfg, pathlib.Path("exp/lm"), search=None))
    assert list(commands) == ["ask it", "report", "go on"] and "--lm=exp/lm" in commands["ask it"]
    assert "--epochs=4" in commands["go on"]


def test_a_run_of_many_steps_can_go_on(tmp_path):
    cfg = tiny.config(tmp_path, steps=1_234_567)
    assert "--steps=2469134" in dict(next_commands(cfg, tmp_path, search="ctc_greedy"))["go on"]


def test_parts_are_told_by_their_size():
    sizes = {name: {"kernel": np.zeros((2, number))} for number, name in enumerate("abcdefgh", 1)}
    told = "72 (h 16, g 14, f 12, e 10, d 8, c 6, others 6)"
    assert by_part(sizes) == by_part({"params": sizes}) == told


@pytest.mark.slow
def test_the_digits_by_their_recipe(tmp_path):
    command = [sys.executable, "-m", "jaxasr.train", "--steps=20", "--minutes=none", f"--workdir={tmp_path / 'run'}"]
    environment = os.environ | {"COLUMNS": str(COLUMNS)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    first, last = screens(done.stdout)
    assert len(first) <= LINES and len(last) <= LINES
    evaluate = next(line.split(None, 1)[1] for line in done.stdout.splitlines() if line.startswith("  evaluate"))
    again = subprocess.run([sys.executable, *shlex.split(evaluate)[1:]], capture_output=True, text=True, check=True)
    assert "WER" in again.stdout


@pytest.mark.parametrize("width", [80, 200])
def test_a_bar_tells_first_how_far_how_long_and_how_fast(width, tmp_path):
    file = io.StringIO()
    console = rich.console.Console(file=file, force_terminal=True, width=width, color_system=None)
    record = {"loss": 0.24, "loss/ctc": 0.2, "grad_norm": 4.8, "audio_seconds_per_second": 96.4}
    with contextlib.closing(RunLog(tmp_path, console)) as log:
        log.advance(1234, 3077, 45.5)
        log.steps(record, 1234, 3077, 45.5)
    last = file.getvalue().rpartition("epoch")[2]
    assert re.search(r" 45\.5 ━+ +1234/3077 \d+:\d\d:\d\d left \S+:\S+ audio s/s 96  loss 0\.", last)
    assert ("|g| 4.800" in last) == (width == 200)
