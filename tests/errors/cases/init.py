"""Starting from a model."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from jaxasr.checkpoint import flatten_shapes, model_folder, save_model
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.finetune import check_given, folder_of, token_axes, with_model
from jaxasr.init import Init, planned
from jaxasr.nn.postencoders import TransformerPostEncoder
from jaxasr.paths import unflatten
from jaxasr.tasks import AsrTask
from jaxasr.train_config import TrainConfig
from tests import tiny
from tests.errors.cases.options import parse
from tests.errors.files import write
from tests.parity.fixtures import HERE as PARITY

TASK = dataclasses.replace(tiny.TASK, normalizer=None, decoder=None, ctc_weight=1.0)
MODEL = {"encoder/kernel": (2, 3), "ctc/bias": (4,)}
BERT: Any = {"num_layers": 2, "d_model": 16, "num_heads": 2, "d_ff": 24}


def plan(*rules: str, model: Any = MODEL, network: Any = MODEL) -> None:
    planned(Init("old", rules), model, network)


def other_tokens() -> None:
    save_model(pathlib.Path("old"), TASK.with_resources(vocabulary=Vocabulary(tiny.TOKENS)), {"a": np.zeros(1)})
    with_model(TrainConfig(task=dataclasses.replace(TASK, token_list="tokens.txt"), init=Init("old")))


def over_itself() -> None:
    save_model(pathlib.Path("old/model"), TASK.with_resources(vocabulary=Vocabulary(tiny.TOKENS)), {"a": np.zeros(1)})
    with_model(TrainConfig(task=TASK, init=Init("old"), workdir="old"))


def tokens_without_shapes() -> None:
    class Untold(AsrTask):
        def parameter_shapes(self, num_tokens: int = 4) -> Any:
            del num_tokens

    task = TASK.with_resources(vocabulary=Vocabulary(tiny.TOKENS))
    save_model(pathlib.Path("old"), task, {"a": np.zeros(1)})
    fields = {field.name: getattr(task, field.name) for field in dataclasses.fields(task)}
    check_given(TrainConfig(task=Untold(**fields), init=Init("old", tokens="new")))


def two_rows_a_token() -> None:
    class Doubled(AsrTask):
        def parameter_shapes(self, num_tokens: int = 4) -> Any:
            return {"head": np.zeros((3, 2 * num_tokens))}

    token_axes(Doubled())


def weights_twice() -> None:
    """A post-encoder's blocks from the model and from its own file, and its first layer from neither."""
    task = dataclasses.replace(TASK, postencoder=TransformerPostEncoder(**BERT))
    task = task.with_resources(vocabulary=Vocabulary(tiny.TOKENS))
    shapes = flatten_shapes(task)
    save_model(pathlib.Path("old"), task, unflatten({path: np.zeros(shape) for path, shape in shapes.items()}))
    weights = TransformerPostEncoder(**BERT, weights=str(PARITY / "more" / "bert_post_norm"))
    new = dataclasses.replace(task, postencoder=weights)
    check_given(TrainConfig(task=new, init=Init("old", ("::postencoder/input",))))


CASES = {
    "a map without a model": lambda: parse("--init.map=encoder"),
    "a model named twice": lambda: parse("--init=a", "--init.folder=b"),
    "a rule to draw by": lambda: folder_of(Init("xavier_uniform")),
    "a model of FunASR": lambda: model_folder(pathlib.Path(write("old/model.pb")).parent),
    "another token list": other_tokens,
    "the run's own model": over_itself,
    "four parts of a rule": lambda: plan("a:b:c:d"),
    "a rule for no parameter": lambda: plan("encodr"),
    "a rule that excludes nothing": lambda: plan("encoder::ctc"),
    "a rule that takes nothing": lambda: plan("encoder::encoder"),
    "no folder": lambda: folder_of(Init("")),
    "a rule to no parameter": lambda: plan("encoder:encoder2"),
    "two rules for one parameter": lambda: plan("encoder", "::ctc"),
    "a parameter of another shape": lambda: plan(network=MODEL | {"ctc/bias": (5,)}),
    "a parameter without a place": lambda: plan(network={"ctc/bias": (4,)}),
    "a parameter that is missing": lambda: plan(model={"ctc/bias": (4,)}),
    "new tokens for a task that tells no shapes": tokens_without_shapes,
    "two rows a token": two_rows_a_token,
    "weights from two files": weights_twice,
}
