"""The scripts in the shells that they are for."""

import contextlib
import io
import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import sys
import time

import pytest

import jaxasr
from jaxasr import completion, versions
from jaxasr.__main__ import COMMANDS, main, main_of

ASK = """
_asked() {
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    _jaxasr
    printf '%s\\n' "${COMPREPLY[@]}"
}
_asked """


MADE = """
import contextlib
from jaxasr.__main__ import main
for shell in ("bash", "zsh"):
    with open(shell, "w") as file, contextlib.redirect_stdout(file):
        main(["--completion", shell])
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The folder with what the command prints, for which no device is started."""
    folder, package = tmp_path_factory.mktemp("scripts"), pathlib.Path(jaxasr.__file__).parents[1]
    subprocess.run([sys.executable, "-c", MADE], cwd=folder, env=os.environ | {"PYTHONPATH": str(package)}, check=True)
    return folder


@pytest.fixture
def complete(scripts, tmp_path):
    """What bash makes of the last of the words, which it has cut at `=`."""

    def asked(*words, line=""):
        words = [*words, *re.findall("[^ =]+|=", line)]
        quoted = " ".join(f"'{word}'" for word in words)
        program = f"source {scripts / 'bash'}{ASK}{quoted}"
        done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    return asked


def test_commands(complete):
    assert complete("jaxasr", "t") == ["train "]
    assert {f"{name} " for name in COMMANDS} < set(complete("jaxasr", ""))
    assert complete("jaxasr", "--completion", "z") == ["zsh "]


def test_options_come_part_by_part(complete):
    assert complete("jaxasr", "train", "--enc") == ["--encoder.", "--encoder="]
    assert complete("jaxasr", "train", "--batch-s") == ["--batch_seconds="]
    assert complete("jaxasr", "train", "--encoder.ker") == ["--encoder.kernel_size="]
    assert complete("jaxasr", "pack", "--sh") == ["--shard_mib="]
    assert complete("jaxasr", "decode", "--len") == ["--length_bonus="]  # of a part without a name
    assert complete("jaxasr", "check", "--js") == ["--json "]  # a switch takes nothing


def test_options_are_those_of_what_is_chosen(complete):
    assert "--encoder.chunk_size=" in complete("jaxasr", "train", "--encoder.")
    assert "--encoder.chunk_size=" not in complete(line="jaxasr train --encoder=sanm --encoder.")
    assert "--encoder.chunk_size=" in complete("jaxasr", "train", "--encoder", "sanm_chunk", "--encoder.")
    assert complete(line="jaxasr train --task=lm --enc") == [""]
    weights = ["--predictor_bias=", "--predictor_weight="]
    assert complete(line="jaxasr train --task=paraformer --pred") == ["--predictor.", "--predictor=", *weights]


def test_choices(complete):
    assert complete(line="jaxasr train --encoder=sanm_") == ["sanm_chunk "]
    assert complete("jaxasr", "train", "--encoder", "sanm_") == ["sanm_chunk "]
    assert complete("jaxasr", "train", "--decoder", "=") == sorted(complete(line="jaxasr train --decoder="))
    assert "none " in complete(line="jaxasr train --decoder=n")
    assert complete(line="jaxasr train --best_metric=l") == ["loss "]
    assert complete(line="jaxasr check --sound=h") == ["headers "]
    assert complete(line="jaxasr decode --search=ctc_g") == ["ctc_greedy "]
    assert complete("jaxasr", "decode", "--formats", "ctm", "Tex") == ["TextGrid "]


def test_files(complete, tmp_path):
    (tmp_path / "some data").mkdir()
    (tmp_path / "some.wav").touch()
    files = ["some data", "some.wav"]
    for words in (["decode", "so"], ["check", "--json", "so"], ["train", "--train", "x", "so"], ["pack", "x", "so"]):
        assert sorted(complete("jaxasr", *words)) == files
    assert sorted(complete(line="jaxasr decode --model=so")) == files
    assert complete(line="jaxasr train --config=digits_t") == ["digits_transformer"]
    assert sorted(complete(line="jaxasr train --config=so")) == files


def test_every_option_of_the_commands_is_there(scripts):
    text = (scripts / "bash").read_text()
    tables = dict(re.findall(r"^(\w+)\)\n    cat <<'END'\n(.*?)\nEND$", text, re.DOTALL | re.MULTILINE))
    assert tables.keys() == COMMANDS.keys()
    for command in tables.keys() - {"train"}:
        options = {option.partition("=")[0] for option in tables[command].split()[1:]}
        assert options == asked_of_tyro(command) | {"help"}, command


def asked_of_tyro(command):
    """The options in the command's own help."""
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit):
        main_of(command)(["--help"])
    return {name.replace("-", "_") for name in re.findall(r"^[│ ] --([a-z][a-z-]*)", out.getvalue(), re.MULTILINE)}


def test_keys_pressed_in_a_terminal(scripts, tmp_path):
    """Readline cuts the line and puts the words in, which a function called by hand does not show."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], os.environ | {"TERM": "dumb", "PS1": "READY "})
    seen = ""

    def until(text):
        nonlocal seen
        end = time.monotonic() + 20
        while text not in seen:
            assert time.monotonic() < end, seen
            if select.select([terminal], [], [], 0.1)[0]:
                seen += os.read(terminal, 4096).decode(errors="replace")

    try:
        until("READY ")
        os.write(terminal, f'source {scripts / "bash"}; jaxasr() {{ echo "given: $*."; }}\n'.encode())
        os.write(terminal, b"jaxasr tra\t--enco\t=sanm_\t--encoder.ker\t3\n")
        until("given: train --encoder=sanm_chunk --encoder.kernel_size=3.")
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def test_zsh_makes_the_same_of_it(scripts):
    if shutil.which("zsh") is None:
        pytest.skip("completion in zsh: there is no zsh here")
    asked = (
        "\n_jaxasr_offers --enc train\n_jaxasr_offers --encoder.ker train --encoder=sanm\n_jaxasr_offers --de= train"
    )
    said = []
    for shell in completion.SHELLS:
        common = (scripts / shell).read_text().partition("\n_jaxasr() {")[0]
        done = subprocess.run([shell, "-f", "-c", common + asked], capture_output=True, text=True, check=True)
        said.append(done.stdout.splitlines())
    assert said[0] == said[1] and said[0][:3] == ["--encoder.", "--encoder=", "--encoder.kernel_size="]
    subprocess.run(["zsh", "-f", "-n", str(scripts / "zsh")], check=True)


def test_the_version_names_what_runs_here(capsys, monkeypatch, tmp_path):
    main(["--version"])
    said = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert said["jaxasr"].startswith(jaxasr.__version__) and said["devices"] == "8 x cpu"
    assert said.keys() >= {"python", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint"}
    monkeypatch.setattr(versions.jaxasr, "__file__", str(tmp_path / "jaxasr" / "__init__.py"))
    assert "commit" not in versions.versions()  # no checkout, and what is installed is another one
    commit = "0123456789abcdef0123"
    record = tmp_path / "jaxasr-0.1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: jaxasr\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "commit" not in versions.versions()  # a wheel that came as a file
    (record / "direct_url.json").write_text(f'{{"url": "x", "vcs_info": {{"vcs": "git", "commit_id": "{commit}"}}}}')
    assert versions.versions()["commit"] == commit[:12]


def test_help_and_completion_of_the_command(capsys):
    main([])
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in COMMANDS) and "--version" in said
    with pytest.raises(SystemExit):
        main(["--completion", "bsh"])
    assert "Did you mean 'bash'?" in capsys.readouterr().err
