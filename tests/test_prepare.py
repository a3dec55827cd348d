"""What a run that goes on takes from its workdir, and what it holds against it."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import rich.console
import yaml
from flax import linen as nn

from jaxasr import checkpoint, config
from jaxasr.data.lexicon import PhoneTokenizer
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.errors import CheckpointError, ConfigError
from jaxasr.nn.normalize import Cmvn, UtteranceMvn
from jaxasr.nn.postencoders import TransformerPostEncoder
from jaxasr.parallel import Devices
from jaxasr.prepare import FILES, check_same_files, hashes_of_files, prepare, resumed
from jaxasr.train_config import TrainConfig

from . import tiny

CMVN = Cmvn(np.linspace(-9, 9, 80, dtype=np.float32), np.full(80, np.float32(1 / 3)))
TASK = tiny.TASK.with_resources(vocabulary=Vocabulary(("<blank>", "<s>", "</s>", "a", "<unk>")), cmvn=CMVN)


@pytest.fixture
def workdir(tmp_path) -> pathlib.Path:
    """A run that has got as far as its first state."""
    folder = tmp_path / "run"
    checkpoint.save_model(folder / "model", TASK, None)
    (folder / "config.yaml").write_text(config.to_yaml(run(folder)))
    (folder / "checkpoints" / "1").mkdir(parents=True)
    return folder


def run(folder: pathlib.Path) -> TrainConfig:
    return TrainConfig(task=tiny.TASK, workdir=str(folder))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"microbatches": 2}, r"--rows_multiple=8 on 8 devices with --microbatches=2: a multiple of the product"),
        ({"fit": "device"}, r"--fit=device: a cpu does not say how much memory it has"),
    ],
)
def test_what_devices_cannot_do_is_said_before_data_is_read(changes, said, tmp_path):
    cfg = TrainConfig(task=tiny.TASK, train=("nowhere",), **changes)
    with pytest.raises(ConfigError, match=said):
        prepare(cfg, tmp_path, Devices.all(), rich.console.Console(quiet=True))


def test_statistics_are_taken_to_the_bit(workdir):
    for found, expected in zip(resumed(run(workdir)).task.cmvn, CMVN, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_other_statistics_are_refused(workdir):
    file = workdir / "model" / "am.mvn"
    file.write_text(file.read_text().replace("0.333333343", "0.333333373"))  # the next float32
    with pytest.raises(CheckpointError, match=r"model/am.mvn: not the statistics that the model was trained with"):
        resumed(run(workdir))


def test_statistics_that_are_gone_are_not_estimated_anew(workdir):
    (workdir / "model" / "am.mvn").unlink()
    with pytest.raises(CheckpointError, match=r"model/am.mvn: no such file; the feature statistics"):
        resumed(run(workdir))


def test_a_model_without_the_hash_of_its_statistics(workdir):
    file = workdir / "model" / "config.yaml"
    options = yaml.safe_load(file.read_text())
    assert options.pop("statistics_hash") == CMVN.hash
    file.write_text(yaml.safe_dump(options))
    assert resumed(run(workdir)).task.cmvn is not None


def test_statistics_that_nothing_needs(tmp_path):
    task = dataclasses.replace(TASK, normalizer=UtteranceMvn(), cmvn=None)
    checkpoint.save_model(tmp_path, task, None)
    assert checkpoint.load_task(tmp_path).cmvn is None


@pytest.mark.parametrize("name", ["config.yaml", "model/config.yaml"])
def test_options_that_are_gone(name, workdir):
    (workdir / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: no such file; the options of the run or the model"):
        resumed(run(workdir))


@pytest.mark.parametrize("content", [b"{", b"[]", b"null", b"\xff"])
def test_damaged_hashes(content, workdir):
    (workdir / FILES).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{FILES}: damaged; the SHA-256 of files by their paths in JSON"):
        resumed(run(workdir))


def test_only_options_that_name_files_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("char", "none", "hamming", "lexicon.txt", "bert.safetensors", "noise.scp", "symbols", "tokens.txt"):
        pathlib.Path(name).write_text(name)
    task = dataclasses.replace(
        tiny.TASK,
        preprocess=dataclasses.replace(tiny.TASK.preprocess, noise="noise.scp", rir="folder_of_rooms"),
        tokenizer=PhoneTokenizer(file="lexicon.txt"),
        non_linguistic_symbols=("symbols",),
        token_list="tokens.txt",
        cmvn_file="gone.mvn",
        postencoder=TransformerPostEncoder(weights="bert.safetensors"),
    )
    assert set(hashes_of_files(task)) == {"lexicon.txt", "noise.scp", "symbols", "tokens.txt"}


def test_hashes_of_files_that_are_named_no_more(tmp_path, monkeypatch):
    """Those that were written by names of no files."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("char").write_text("a")
    pathlib.Path(FILES).write_text(json.dumps({"char": "of another content"}))
    check_same_files(tiny.TASK, tmp_path)


def test_fields_of_modules_that_name_files():
    class Embedding(nn.Module):
        table: str | None = config.naming_files()
        others: tuple[str, ...] = config.naming_files(())
        kind: str = "table"

    assert list(config.named_files(Embedding())) == []
    assert list(config.named_files(Embedding("a", ("b", "c"), "d"))) == ["a", "b", "c"]
