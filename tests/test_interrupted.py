"""How commands end: on Ctrl-C with 130, on a full disk with 2, a line each; with 141 where nobody reads any more."""

import contextlib
import importlib
import os
import signal
import subprocess
import sys

import pytest

from jaxasr.__main__ import COMMANDS, MODULES, main
from jaxasr.errors import DataError

WORK = {
    "train": ("train", ["--train=x"]),
    "decode": ("decode", ["--model=x", "a.wav"]),
    "align": ("align", ["--model=x", "--output=y", "x"]),
    "evaluate": ("evaluate", ["x", "y"]),
    "plot": ("plot", ["x", "a.wav"]),
    "report": ("report", ["x"]),
    "replay": ("replay", ["x"]),
    "info": ("info", ["x"]),
    "check": ("check", ["x"]),
    "pack": ("pack", ["x", "y"]),
    "ngram": ("estimate", ["x", "--output=y"]),
    "convert": ("convert", ["x", "y"]),
}
"""The function that does what each command is for, and arguments to come to it."""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_ends_with_a_line(command, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    function, arguments = WORK[command]
    monkeypatch.setattr(importlib.import_module(MODULES[command]), function, interrupted)
    with pytest.raises(SystemExit) as ended:
        main([command, *arguments])
    assert ended.value.code == 130 and capsys.readouterr().err == "interrupted\n"


def test_a_command_that_is_imported_ends_with_a_line(tmp_path):
    (tmp_path / "tyro.py").write_text("raise KeyboardInterrupt")  # comes while it is imported
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-m", "jaxasr.info", "x"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("", "interrupted\n")
    assert done.returncode == -signal.SIGINT  # 130 in a shell


def test_a_reader_may_stop_reading(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit, match="141"):
            main(["--help"])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_told(command, monkeypatch, capsys):
    function, arguments = WORK[command]
    monkeypatch.setattr(importlib.import_module(MODULES[command]), function, lambda *_: print("a" * 10_000))
    assert on_a_full_disk([command, *arguments], monkeypatch, capsys) == (2, FULL)


def test_a_full_disk_is_told_at_the_end(monkeypatch, capsys):
    assert on_a_full_disk(["--help"], monkeypatch, capsys) == (2, FULL)  # no more than Python keeps until then


FULL = "error: stdout: No space left on device; room for what is printed was expected; make some, or print elsewhere.\n"


def on_a_full_disk(words, monkeypatch, capsys) -> tuple[int, str]:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as ended:
            main(words)
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (DataError("what ended it"), (2, "error: what ended it\n")),
        (KeyboardInterrupt(), (130, "interrupted\n")),
        (SystemExit(3), (2, FULL)),
    ],
)
def test_a_full_disk_hides_no_error(error, ended, monkeypatch, capsys):
    def fail(*_):
        print("a")
        raise error

    monkeypatch.setattr(importlib.import_module(MODULES["info"]), "info", fail)
    assert on_a_full_disk(["info", *WORK["info"][1]], monkeypatch, capsys) == ended


def test_stdout_may_be_closed(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    main(["--help"])


def test_a_command_that_waits_is_interrupted_by_the_signal(tmp_path):
    pipe = tmp_path / "text"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "jaxasr", "evaluate", str(pipe), str(pipe)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    with pipe.open("w"):  # waits until it reads
        assert interrupted(process) == ("", "interrupted\n")
    assert process.returncode == 130


def interrupted(process: subprocess.Popen) -> tuple[str, str]:
    """What it prints until it ends; a signal between two calls of the system is only seen with the next one."""
    for _ in range(30):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=1)
    raise AssertionError("not interrupted")
