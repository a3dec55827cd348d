"""Models on disk, and other toolkits' parameters."""

import dataclasses
import functools
import pathlib
import pickle
import zipfile
from typing import Any

import jax
import numpy as np

from jaxasr.checkpoint import PARAMS_FILE, load_model, load_params, load_task, save_model
from jaxasr.convert import CTC_HEAD, SANM_ENCODER, convert_params, torch_file
from jaxasr.convert.bert import read_blocks
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.info import parameters
from jaxasr.nn.normalize import Cmvn, GlobalMvn
from jaxasr.nn.postencoders import TransformerPostEncoder
from tests import tiny
from tests.errors.files import write
from tests.parity.fixtures import HERE as PARITY

TASK = dataclasses.replace(tiny.TASK, normalizer=None, decoder=None, ctc_weight=1.0).with_resources(
    vocabulary=Vocabulary(("<blank>", "<s>", "</s>", "a", "<unk>"))
)


def saved() -> pathlib.Path:
    folder = pathlib.Path("model")
    save_model(folder, TASK, {"ctc": {"kernel": np.zeros((2, 3), np.float32)}})
    return folder


def other_tokens() -> None:
    folder = saved()
    write("model/tokens.txt", (folder / "tokens.txt").read_text().replace("\na\n", "\nb\n"))
    load_task(folder)


def other_statistics() -> None:
    """Those of a model, with a digit of another."""
    file = with_statistics() / "am.mvn"
    file.write_text(file.read_text().replace("0.25", "0.75"))
    load_task(file.parent)


def with_statistics() -> pathlib.Path:
    folder = pathlib.Path("model")
    cmvn = Cmvn(np.zeros(80, np.float32), np.full(80, 0.25, np.float32))
    save_model(folder, dataclasses.replace(TASK, normalizer=GlobalMvn()).with_resources(cmvn=cmvn), None)
    return folder


def no_statistics() -> None:
    (with_statistics() / "am.mvn").unlink()
    load_task(pathlib.Path("model"))


def no_task() -> None:
    load_task(pathlib.Path(write("model/config.yaml", "sample_rate: 8000\n")).parent)


BERT = PARITY / "more" / "bert_post_norm"


def bert(path: str | pathlib.Path = BERT, **options: Any) -> None:
    """Reads the blocks of a model of two, for a post-encoder that fits them but for `options`."""
    sizes = {"num_layers": 2, "d_model": 16, "num_heads": 2, "d_ff": 24}
    postencoder = TransformerPostEncoder(**sizes | options, weights=str(path))
    init = functools.partial(postencoder.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), np.zeros((1, 3, 4), np.float32), np.array([3]))["params"]
    read_blocks(postencoder, shapes, print)


def bert_beside_rubbish() -> None:
    write("config.json", "{")
    bert("model.safetensors")


def of_torch(**files: bytes) -> dict[str, Any]:
    """Reads a zip with these files beside each other."""
    with zipfile.ZipFile("model.pt", "w") as archive:
        for name, content in files.items():
            archive.writestr(f"model/{name}.pkl", content)
    return torch_file.read("model.pt")


CASES = {
    "an empty folder": lambda: load_model("."),
    "a config.yaml without a task": no_task,
    "the token list of another model": other_tokens,
    "the statistics of another model": other_statistics,
    "no statistics, which are needed": no_statistics,
    "no options": lambda: load_task(pathlib.Path("model")),
    "parameters of another network": lambda: load_model(saved()),
    "parameters that are none": lambda: load_params(pathlib.Path(write(PARAMS_FILE, "rubbish"))),
    "parameters that are none, looked at": lambda: parameters(pathlib.Path(write(PARAMS_FILE, "rubbish"))),
    "a tensor without a rule": lambda: convert_params({"lm.weight": np.zeros(1)}, CTC_HEAD),
    "a layer left out": lambda: convert_params({"encoders.1.norm1.weight": np.zeros(1)}, SANM_ENCODER),
    "a map of one name": lambda: bert(weights_map=("encoder",)),
    "weights that are none": lambda: bert(write("model.safetensors", "rubbish")),
    "a configuration that is none": bert_beside_rubbish,
    "heads of another number": lambda: bert(num_heads=4),
    "weights of no encoder": lambda: bert(weights_map=("encoder=coder",)),
    "fewer blocks than layers": lambda: bert(num_layers=3),
    "more blocks than layers": lambda: bert(num_layers=1),
    "blocks of another width": lambda: bert(d_ff=32),
    "no file of torch": lambda: torch_file.read("none.pt"),
    "rubbish for a file of torch": lambda: torch_file.read(write("model.pt", "rubbish")),
    "a file of an old torch": lambda: torch_file.read(write("model.pt", pickle.dumps({}, protocol=2))),
    "a zip of something else": of_torch,
    "a pickle cut short": lambda: of_torch(data=b"\x80\x02}"),
    "a pickle that would run something": lambda: of_torch(data=b"cos\nsystem\n."),
    "a pickle without tensors": lambda: of_torch(data=pickle.dumps({"epoch": 3})),
}
