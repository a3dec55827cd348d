"""Hugging Face's BERT-like blocks behind an encoder, as FunASR puts them there; make_fixtures.py made the files."""

import functools
import pathlib
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxasr.convert import convert_params
from jaxasr.convert.around import TRANSFORMER_POSTENCODER
from jaxasr.convert.bert import read_blocks, renamed
from jaxasr.errors import CheckpointError, ConfigError
from jaxasr.nn.activations import ACTIVATIONS
from jaxasr.nn.postencoders import TransformerPostEncoder

from .fixtures import HERE, assert_rows_close, more, shapes_of

POST_NORM = TransformerPostEncoder(num_layers=2, d_model=16, num_heads=2, d_ff=24)
CASES = {
    "post_norm": POST_NORM,
    "relu": POST_NORM.clone(activation="relu", norm_epsilon=1e-3),
    "pre_norm": POST_NORM.clone(
        norm_first=True,
        norm_epsilon=1e-5,
        weights_map=(
            "attention.LayerNorm=attention.output.LayerNorm",
            "intermediate.LayerNorm=output.LayerNorm",
            "roberta_prelayernorm.LayerNorm=roberta_prelayernorm.encoder.LayerNorm",
        ),
    ),
}


def folder_of(name: str) -> pathlib.Path:
    return HERE / "more" / f"bert_{name}"


@functools.cache
def shapes(postencoder):
    """Of its parameters, for frames of width 12."""
    postencoder = postencoder.clone(weights_map=())  # which is none without weights
    init = functools.partial(postencoder.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), np.zeros((1, 3, 12), np.float32), np.array([3]))["params"]


def blocks(postencoder, path, say=lambda text: None):
    return read_blocks(postencoder.clone(weights=str(path)), shapes(postencoder), say)


@pytest.mark.parametrize("name", CASES)
def test_blocks_are_theirs(name):
    arrays, assert_close = more(f"bert_{name}")
    linear_in = {key: x for key, x in arrays["param"].items() if key.startswith("linear_in.")}
    params = convert_params(linear_in, TRANSFORMER_POSTENCODER) | blocks(CASES[name], folder_of(name))
    x, lengths = arrays["in"]["x"], arrays["in"]["x_lens"]
    assert shapes_of(params) == shapes_of(shapes(CASES[name]))
    apply = functools.partial(CASES[name].clone(weights_map=()).apply, train=False)
    y, y_lengths = jax.jit(apply)({"params": params}, x, lengths)
    np.testing.assert_array_equal(y_lengths, lengths)
    assert_rows_close(assert_close, y, arrays["out"]["y"], lengths)


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@functools.cache
def expected():
    """The blocks as FunASR's post-encoder has them in its checkpoints."""
    params = convert_params(more("bert_post_norm")[0]["param"], TRANSFORMER_POSTENCODER)
    return {"blocks": params["blocks"]}


def test_what_is_left_out_is_said():
    said = []
    assert_same(blocks(POST_NORM, folder_of("post_norm"), said.append), expected())
    assert said == [
        f"{folder_of('post_norm')}/model.safetensors: 32 tensors of 2 blocks; left out: bert.embeddings.LayerNorm, "
        "bert.embeddings.position_embeddings, bert.embeddings.token_type_embeddings, bert.embeddings.word_embeddings, "
        "cls.predictions, cls.predictions.transform.LayerNorm, cls.predictions.transform.dense"
    ]


DISTILBERT = (
    "distilbert.transformer=encoder",
    "attention.q_lin=attention.self.query",
    "attention.k_lin=attention.self.key",
    "attention.v_lin=attention.self.value",
    "attention.out_lin=attention.output.dense",
    "sa_layer_norm=attention.output.LayerNorm",
    "ffn.lin1=intermediate.dense",
    "ffn.lin2=output.dense",
    "output_layer_norm=output.LayerNorm",
)


def written(tmp_path: pathlib.Path, change) -> pathlib.Path:
    """A file with the tensors of BERT, `change` (name, tensor) to (name, tensor)."""
    tensors = safetensors.numpy.load_file(folder_of("post_norm") / "model.safetensors")
    safetensors.numpy.save_file(dict(change(*item) for item in tensors.items()), tmp_path / "other.safetensors")
    return tmp_path / "other.safetensors"


@pytest.mark.parametrize("before", ["", "roberta."])
def test_names_in_other_models(tmp_path, before):
    """As BERT's first files have them: inside of nothing or of another model, with gamma and beta for norms."""

    def old(name, x):
        old_norm = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        return old_norm.replace("bert.", before), x

    assert_same(blocks(POST_NORM, written(tmp_path, old)), expected())


def test_names_by_a_map(tmp_path):
    def distilled(name, x):
        for pair in reversed(DISTILBERT):
            theirs, _, bert = pair.partition("=")
            name = name.replace(f"{bert}." if bert != "encoder" else "bert.encoder.", f"{theirs}.")
        return name, x

    file = written(tmp_path, distilled)
    assert "distilbert.transformer.layer.0.attention.q_lin.weight" in safetensors.numpy.load_file(file)
    assert_same(blocks(POST_NORM.clone(weights_map=DISTILBERT), file), expected())


def test_a_backslash_in_a_map_is_one():
    assert renamed("a.b", ("a=\\1",)) == "\\1.b"


def test_two_names_of_one_tensor_are_refused(tmp_path):
    """As of gamma and weight: neither may win."""
    tensors = safetensors.numpy.load_file(folder_of("post_norm") / "model.safetensors")
    norm = "bert.encoder.layer.1.output.LayerNorm"
    tensors[f"{norm}.gamma"] = 2.0 * tensors[f"{norm}.weight"]
    file = tmp_path / "two.safetensors"
    safetensors.numpy.save_file(tensors, file)
    with pytest.raises(CheckpointError, match=rf"two\.safetensors: .* are both {norm}\.weight; one of them was "):
        blocks(POST_NORM, file)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_becomes_float32(tmp_path, dtype):
    found = blocks(POST_NORM, written(tmp_path, lambda name, x: (name, x.astype(jax.numpy.dtype(dtype)))))
    assert_same(found, jax.tree.map(lambda x: x.astype(jax.numpy.dtype(dtype)).astype(np.float32), expected()))


def test_options_of_the_model_beside_the_file(tmp_path):
    """num_heads, which no tensor says, is compared with config.json, and not where there is none."""
    shutil.copy(folder_of("post_norm") / "model.safetensors", tmp_path)
    assert_same(blocks(POST_NORM.clone(num_heads=4), tmp_path), expected())
    with pytest.raises(ValueError, match=r"--postencoder.num_heads=4: .*config.json has 2; "):
        blocks(POST_NORM.clone(num_heads=4), folder_of("post_norm"))


def beside(tmp_path: pathlib.Path, config: str) -> pathlib.Path:
    """The folder of a model with this configuration."""
    shutil.copy(folder_of("post_norm") / "model.safetensors", tmp_path)
    (tmp_path / "config.json").write_text(config)
    return tmp_path


@pytest.mark.parametrize("config", ["[]", "3", "null", '"x"', "{", "[" * 100_000, '{"hidden_act": ["gelu"]}'])
def test_a_configuration_that_is_none(tmp_path, config):
    with pytest.raises(CheckpointError, match=r"config\.json: .* was expected"):
        blocks(POST_NORM, beside(tmp_path, config))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("gelu", "gelu"),
        ("gelu_python", "gelu"),
        ("silu", "swish"),
        ("relu", "relu"),
        *((name, "gelu_tanh") for name in ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")),
    ],
)
def test_activations_by_their_names(tmp_path, theirs, ours):
    folder = beside(tmp_path, f'{{"hidden_act": "{theirs}"}}')
    assert_same(blocks(POST_NORM.clone(activation=ours), folder), expected())
    with pytest.raises(
        ValueError, match=rf"--postencoder\.activation=tanh: .*; give --postencoder\.activation={ours}\."
    ):
        blocks(POST_NORM.clone(activation="tanh"), folder)


def test_gelu_by_tanh():
    """The equation of `gelu_new` in transformers, from Hendrycks & Gimpel (2016)."""
    x = np.linspace(-4.0, 4.0, 33, dtype=np.float32)
    expected = 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(jax.jit(ACTIVATIONS["gelu_tanh"])(x), expected, atol=1e-6)
    assert np.abs(np.asarray(ACTIVATIONS["gelu"](x)) - expected).max() > 1e-4


def test_a_map_without_weights_is_refused():
    init = functools.partial(POST_NORM.clone(weights_map=("a=b",)).init, train=False)
    message = r"--postencoder\.weights_map=\('a=b',\) with --postencoder\.weights=None: it would change nothing"
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(init, jax.random.key(0), np.zeros((1, 3, 12), np.float32), np.array([3]))
