"""From FunASR's folders to models fine-tuned on the digits, and back, as on the command line."""

import numpy as np
import pytest

from jaxasr.convert import __main__ as converter
from jaxasr.convert import torch_file
from jaxasr.params import flatten, load_params
from jaxasr.train import main as train

from . import tiny
from .parity.fixtures import HERE

STEPS = ("--steps=3", "--batch_seconds=9", "--max_buckets=1", "--keep_best=1", "--report=false")
OPTIONS = {
    "as it is": [],
    "all rules": ["--init.map", "::"],
    "encoder alone": ["--init.map", "encoder"],
    "all but the encoder": ["--init.map", "::encoder"],
    "new tokens": ["--init.tokens=new", "--tokenizer=char"],
    "frozen encoder": ["--freeze", "encoder"],
    "LoRA": ["--adapter=lora", "--adapter.rank=4", "--adapter.alpha=8"],
    "LoRA and output": ["--adapter=lora", "--adapter.rank=4", "--adapter.train", "output", "ctc"],
}
MOVE = {
    "frozen encoder": lambda path: not path.startswith("encoder/"),
    "LoRA": lambda path: path.endswith(("qkv/kernel", "q/kernel", "k/kernel", "v/kernel", "attention/out/kernel")),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {split: tiny.corpus(folder / split, split, 20) for split in ("train", "valid")}


@pytest.fixture(scope="module", params=["asr_0x", "asr_1x", "paraformer_0x", "paraformer_1x"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / request.param
    converter.main([str(HERE / "release" / request.param), str(folder)])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("how", OPTIONS)
def test_a_converted_folder_is_fine_tuned(model, data, how, tmp_path):
    """Letters are on its list and so the digits' words are not unknown to it; one in capitals would be."""
    texts = [f"--train={data['train']}", f"--valid={data['valid']}", "--cleaners", "lower", "--unknown_symbols=unk"]
    workdir = tmp_path / "run"
    train([f"--init={model}", *texts, *OPTIONS[how], *STEPS, "--max_infeasible=1", f"--workdir={workdir}"])
    before, after = (flatten(load_params(f / "params.safetensors")) for f in (model, workdir / "model"))
    assert before.keys() == after.keys()
    moved = {path for path in after if not np.array_equal(after[path], before[path])}
    assert moved
    if how in MOVE:
        assert moved <= {path for path in after if MOVE[how](path)}
    converter.main(["--to=funasr", str(workdir), str(tmp_path / "back")])
    theirs = torch_file.read(tmp_path / "back" / "model.pt", print)
    assert sum(x.size for x in theirs.values()) >= sum(x.size for x in after.values())
