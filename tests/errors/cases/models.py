"""Models on disk, and other toolkits' parameters."""

import dataclasses
import pathlib

import numpy as np

from jaxasr.checkpoint import PARAMS_FILE, load_model, load_params, load_task, save_model
from jaxasr.convert import CTC_HEAD, SANM_ENCODER, convert_params
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.info import parameters
from tests import tiny
from tests.errors.files import write

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


def no_task() -> None:
    load_task(pathlib.Path(write("model/config.yaml", "sample_rate: 8000\n")).parent)


CASES = {
    "an empty folder": lambda: load_model("."),
    "a config.yaml without a task": no_task,
    "the token list of another model": other_tokens,
    "parameters of another network": lambda: load_model(saved()),
    "parameters that are none": lambda: load_params(pathlib.Path(write(PARAMS_FILE, "rubbish"))),
    "parameters that are none, looked at": lambda: parameters(pathlib.Path(write(PARAMS_FILE, "rubbish"))),
    "a tensor without a rule": lambda: convert_params({"lm.weight": np.zeros(1)}, CTC_HEAD),
    "a layer left out": lambda: convert_params({"encoders.1.norm1.weight": np.zeros(1)}, SANM_ENCODER),
}
