"""FunASR's `ParaformerOnline` over whole utterances, each alone: what tokens of chunks see; see make_fixtures.py."""

import functools

import jax
import numpy as np
import pytest

from jaxasr.convert import convert_params, rules_of_part
from jaxasr.convert.decoders import EMBEDDING
from jaxasr.data.batch import AsrBatch
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.nn.decoders import ParaformerSanmDecoder
from jaxasr.nn.encoders import SanmChunkEncoder
from jaxasr.tasks import ParaformerTask

from .fixtures import more

SIZES = {"num_layers": 2, "d_model": 16, "num_heads": 2, "d_ff": 24, "kernel_size": 5, "dropout": 0.0}
CASES = {
    "look_ahead": ({"chunk_size": (8,), "stride": (5,), "look_back": (2,)}, 1),
    "look_back_2": ({"chunk_size": (7,), "stride": (6,)}, 2),
    "pad_left": ({"chunk_size": (9,), "stride": (4,), "pad_left": (3,)}, 0),
}


def case(name):
    chunks, decoder_look_back = CASES[name]
    task = ParaformerTask(
        encoder=SanmChunkEncoder(**SIZES, **chunks),
        decoder=ParaformerSanmDecoder(**SIZES, shift=2),
        decoder_look_back=(decoder_look_back,),
        sampling_ratio=0.0,
        length_normalized_loss=False,
        vocabulary=Vocabulary(("<blank>", "<s>", "</s>", *map(chr, range(97, 112)), "<unk>")),
    )
    task.check()
    arrays, assert_close = more(f"online_{name}")
    rules = {part: rules_of_part(part, getattr(task, part)) for part in ("encoder", "predictor")}
    rules["decoder"] = [EMBEDDING, *rules_of_part("decoder", task.decoder)]
    found = arrays["param"].items()
    of = {part: {k.removeprefix(f"{part}."): v for k, v in found if k.startswith(f"{part}.")} for part in rules}
    params = {part: convert_params(of[part], rules[part]) for part in rules}
    del params["decoder"]["embed"]
    return task, params, arrays, assert_close


@pytest.mark.parametrize("name", CASES)
def test_inference(name):
    task, params, arrays, assert_close = case(name)
    given, out = arrays["in"], arrays["out"]
    recognize = functools.partial(task.network().apply, train=False, method="recognize")
    found = jax.jit(recognize)({"params": params}, given["x"], given["x_lens"])
    log_probs = jax.nn.log_softmax(found.attention_logits)
    for row in range(len(given["x"])):
        count = int(out[f"counts_{row}"])
        assert found.predicted.counts[row] == count > 1
        assert_close(found.predicted.embeddings[row, :count], out[f"embeds_{row}"][:count])
        assert_close(log_probs[row, :count], out[f"log_probs_{row}"][:count])


@pytest.mark.parametrize("name", CASES)
def test_losses(name):
    task, params, arrays, assert_close = case(name)
    given, out = arrays["in"], arrays["out"]

    @jax.jit
    def parts(weights):
        batch = AsrBatch(given["x"], given["x_lens"], given["ys"], given["ys_lens"], weights)
        inputs = given["x"], given["x_lens"], *task.texts(batch)
        outputs = task.network().apply({"params": params}, *inputs, train=False)
        _, metrics = task.loss_of(outputs, batch)
        return [metrics[name].value for name in ("loss/att", "loss/count", "acc/token")]

    for row in range(len(given["x"])):
        assert_close(parts(np.eye(len(given["x"]), dtype=np.float32)[row]), out[f"loss_{row}"])
