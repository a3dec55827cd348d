"""Model folders as ESPnet's recipes leave them: from sound to features, encoded frames, probabilities and text."""

import copy
import functools
import itertools
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
import yaml

from jaxasr import config
from jaxasr.convert import convert_params, espnet, rules_of
from jaxasr.convert.__main__ import main as convert_main
from jaxasr.convert.espnet_tokens import in_our_order, read_tokens
from jaxasr.data.batch import AsrBatch, BucketShape
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.decode import main as decode_main
from jaxasr.errors import JaxasrError

from .fixtures import HERE, close_of

FOLDER = HERE / "release"
NAMES = ["espnet_conformer", "espnet_transformer", "espnet_e_branchformer"]


@functools.cache
def expected():
    with np.load(FOLDER / "expected_espnet.npz") as arrays:
        return dict(arrays)


@functools.cache
def theirs(name):
    [file] = (FOLDER / name).rglob("config.yaml")
    return config.read_yaml(file)


def read(folder, say=print, **options) -> Any:
    return espnet.read(folder, say, **options).task


def batch_of(task, tokens):
    """The two sounds, each with these tokens."""
    clips = (FOLDER / "clips.txt").read_text().split()
    sounds = [soundfile.read(FOLDER / clip, dtype="int16")[0] for clip in clips]
    lengths = np.array([len(sound) for sound in sounds], np.int32)
    audio = np.stack([np.pad(sound, (0, max(lengths) - len(sound))) for sound in sounds])
    ids = np.stack([task.vocabulary.encode(tokens)] * 2)
    return AsrBatch(audio, lengths, ids, np.full(2, len(tokens), np.int32), np.ones(2, np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_model(name):
    model = espnet.read(FOLDER / name, print)
    task: Any = model.task
    shapes = jax.eval_shape(task.model().init, jax.random.key(0), task.batch_spec(BucketShape(1, 16_000, 1)))
    params = convert_params(model.tensors, rules_of(task, "espnet"), shapes)
    out = {key.removeprefix(f"{name}/"): array for key, array in expected().items() if key.startswith(f"{name}/")}
    listed = out["token_list"].tolist()
    batch = batch_of(task, [listed[i] for i in out["tokens"]])
    features, found = jax.jit(lambda params, batch: (task.features(batch)[0], task.model().apply(params, batch)))(
        params, batch
    )
    columns = [task.vocabulary.tokens.index("</s>" if token == "<sos/eos>" else token) for token in listed]
    said = {"ctc": found.ctc_logits, "attention": found.attention_logits}
    said |= {f"ctc_{layer}": x for layer, x in zip(task.interctc_layers, found.intermediate_logits, strict=True)}
    log_probs = {key: np.asarray(jax.nn.log_softmax(logits)) for key, logits in said.items()}
    for row in range(2):
        frames = len(out[f"encoded_{row}"])
        assert found.lengths[row] == frames
        close_of("espnet_features")(features[row, out[f"frames_{row}"]], out[f"features_{row}"])
        close = close_of(name)
        close(found.encoded[row, :frames], out[f"encoded_{row}"])
        for key, x in log_probs.items():
            right = out[f"{key}_{row}"]
            close(x[row, : len(right), columns].T, right, err_msg=key)
            assert np.max(x[row, : len(right), Vocabulary.SOS]) < -20.0 - np.log(len(listed)) + 1e-3
        ids = [i for i, _ in itertools.groupby(np.argmax(log_probs["ctc"][row, :frames], axis=-1))]
        assert task.text(ids) == str(out[f"text_{row}"])


@pytest.mark.parametrize("name", NAMES)
def test_tokenizers(name):
    task = read(FOLDER / name)
    theirs_of_ours = read_tokens(theirs(name)["token_list"], "").rows
    ids = task.vocabulary.encode(task.tokenizer.tokens(str(expected()[f"{name}/read"])))
    assert theirs_of_ours[ids].tolist() == expected()[f"{name}/read_ids"].tolist()


def test_options():
    fields, left_out = espnet.fields_of(theirs("espnet_conformer"), "c.yaml: ")
    assert fields == {
        "tokenizer": {"type": "bpe"},
        "ctc_weight": 0.3,
        "label_smoothing": 0.1,
        "length_normalized_loss": False,
        "sample_rate": 16_000,
        "channel": 0,
        "frontend": {
            "type": "default",
            "hop_ms": 10.0,
            "window_ms": 25.0,
            "fft_size": 512,
            "num_mels": 80,
            "low_hz": 0.0,
            "high_hz": 0.0,
            "htk": False,
            "lfr_m": 1,
            "lfr_n": 1,
        },
        "specaug": {
            "type": "specaug",
            "time_warp_window": 5,
            "num_freq_masks": 2,
            "min_freq_width": 0,
            "max_freq_width": 26,
            "num_time_masks": 10,
            "min_time_share": 0.0,
            "max_time_share": 0.05,
            "max_time_width": None,
        },
        "normalizer": {"type": "global_mvn", "mean": True, "variance": True},
        "preencoder": None,
        "postencoder": None,
        "encoder": {
            "type": "conformer",
            "d_model": 24,
            "num_heads": 4,
            "d_ff": 48,
            "num_layers": 2,
            "dropout": 0.1,
            "attention_dropout": 0.1,
            "subsampling": "conv2d",
            "norm_first": True,
            "concat_after": False,
            "macaron": True,
            "positions": "relative",
            "activation": "swish",
            "convolution": True,
            "kernel_size": 15,
        },
        "decoder": {
            "type": "transformer",
            "d_model": 24,
            "num_heads": 4,
            "d_ff": 48,
            "num_layers": 2,
            "dropout": 0.1,
            "attention_dropout": 0.1,
        },
    }
    assert len(left_out) == 1 and left_out[0].startswith("c.yaml: options of training: ")
    assert "optim_conf, scheduler" in left_out[0] and "encoder" not in left_out[0]


def changed(name, **options):
    """A configuration with other values, `__` standing for a section's dot."""
    conf = copy.deepcopy(theirs(name))
    for key, value in options.items():
        *sections, last = key.split("__")
        inner = conf
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return conf


def test_defaults_of_espnet():
    """Where a configuration says nothing, ESPnet's defaults hold, not those of our recipes."""
    conf = changed("espnet_conformer", encoder_conf={}, decoder_conf={}, model_conf={}, frontend_conf={})
    fields, _ = espnet.fields_of(conf, "")
    assert fields["encoder"]["positions"] == "relative_legacy" and not fields["encoder"]["macaron"]
    assert (fields["ctc_weight"], fields["label_smoothing"]) == (0.5, 0.0)
    assert (fields["frontend"]["hop_ms"], fields["frontend"]["window_ms"]) == (8.0, None)
    assert fields["decoder"]["d_ff"] == 2048


def test_given_features_and_pure_ctc():
    conf = changed("espnet_conformer", input_size=83, frontend=None, frontend_conf={}, model_conf__ctc_weight=1.0)
    fields, _ = espnet.fields_of(conf, "")
    assert fields["frontend"]["type"] == "features" and fields["frontend"]["width"] == 83
    assert fields["preprocess"] is None and "channel" not in fields
    assert fields["decoder"] is None and "label_smoothing" not in fields


def test_intermediate_ctc_of_no_weight():
    conf = changed("espnet_conformer", encoder_conf__interctc_layer_idx=[1])
    fields, left_out = espnet.fields_of(conf, "")
    assert "interctc_layers" not in fields and "interctc_layer_idx=[1]" in left_out[0]


@pytest.mark.parametrize(
    "options",
    [
        {"frontend": "s3prl"},
        {"frontend_conf__window": "hamming"},
        {"frontend_conf__center": False},
        {"frontend_conf__frontend_conf": {"use_beamformer": True}},
        {"encoder": "vgg_rnn"},
        {"encoder": "whisper"},
        {"encoder_conf__input_layer": "conv2d1"},
        {"encoder_conf__zero_triu": True},
        {"encoder_conf__qk_norm": True},
        {"encoder_conf__ctc_trim": True},
        {"encoder_conf__positionwise_layer_type": "conv1d"},
        {"encoder_conf__pos_enc_layer_type": "conv"},
        {"decoder": "transducer"},
        {"decoder_conf__normalize_before": False},
        {"decoder_conf__input_layer": "linear"},
        {"preencoder": "other"},
        {"postencoder": "hugging_face_transformers"},
        {"normalize": "other"},
        {"model": "maskctc"},
        {"model_conf__sym_sos": "<sop>"},
        {"model_conf__aux_ctc": {"1": "lid"}},
        {"model_conf__lang_token_id": 3},
        {"token_type": "whisper_en"},
        {"token_type": "phn", "g2p": "pyopenjtalk"},
        {"speech_volume_normalize": 1.0},
        {"preprocessor": "multi"},
        {"preprocessor_conf__delimiter": ","},
        {"use_nlp_prompt": True},
        {"use_adapter": True},
        {"encoder_conf__num_block": 3},
    ],
    ids=str,
)
def test_what_cannot_be_converted(options):
    with pytest.raises(JaxasrError) as raised:
        espnet.fields_of(changed("espnet_conformer", **options), "c.yaml: ")
    key, value = list(options.items())[-1]
    assert f"c.yaml: {key.replace('__', '.')}".removesuffix(".frontend_conf") in str(raised.value)
    assert str(value) in str(raised.value) or "no option" in str(raised.value)


def test_conditioned_e_branchformer_cannot_be_converted():
    """Its layers are shown to CTC without the last norm, which ours go through."""
    options = {"encoder_conf__interctc_layer_idx": [1], "encoder_conf__interctc_use_conditioning": True}
    with pytest.raises(JaxasrError, match=r"encoder_conf\.interctc_use_conditioning: True"):
        espnet.fields_of(changed("espnet_e_branchformer", **options), "")


# --- tokens ------------------------------------------------------------------------------------------------------


def test_tokens_in_our_order():
    tokens = read_tokens(["<blank>", "a", "<unk>", "b", "<sos/eos>"], "")
    assert tokens.vocabulary.tokens == ("<blank>", "<s>", "</s>", "a", "b", "<unk>")
    assert tokens.rows.tolist() == [0, 4, 4, 1, 3, 2]
    given = {"ctc.ctc_lo.weight": np.eye(5, 3), "decoder.embed.0.weight": np.eye(5), "encoder.after_norm.bias": 1}
    given |= {"ctc.ctc_lo.bias": np.arange(5.0), "encoder.conditioning_layer.weight": np.eye(2, 5)}
    found = in_our_order(given, tokens, "")
    assert found["encoder.after_norm.bias"] == 1
    assert found["decoder.embed.0.weight"].tolist() == np.eye(5)[tokens.rows].tolist()
    assert found["encoder.conditioning_layer.weight"].tolist() == [[1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0]]
    assert found["ctc.ctc_lo.bias"].tolist() == [0, -18, 4, 1, 3, 2]
    np.testing.assert_allclose(found["ctc.ctc_lo.weight"][1], [0.2] * 3)


def test_nothing_says_sos():
    """Whatever comes in, its probability rounds off beside the others', and its logarithm stays of their size."""
    V, D = 30, 8
    tokens = read_tokens(["<blank>", "<unk>", *(f"t{i}" for i in range(V - 3)), "<sos/eos>"], "")
    generator = np.random.default_rng(0)
    head = {"ctc.ctc_lo.weight": generator.normal(size=(V, D)), "ctc.ctc_lo.bias": generator.normal(size=V) - 300.0}
    found = in_our_order(head, tokens, "")
    x = jnp.asarray(100.0 * generator.normal(size=(50, D)), jnp.float32)
    logits = x @ found["ctc.ctc_lo.weight"].T + found["ctc.ctc_lo.bias"][None]
    others = np.delete(np.arange(V + 1), Vocabulary.SOS)
    log_probs, without = jax.nn.log_softmax(logits), jax.nn.log_softmax(logits[:, others])
    np.testing.assert_array_equal(log_probs[:, others], without)
    lower = jnp.mean(without, axis=1) - log_probs[:, Vocabulary.SOS]
    np.testing.assert_allclose(lower, 20.0, atol=1e-2)


@pytest.mark.parametrize(
    "listed",
    [
        ["<unk>", "<blank>", "a", "<sos/eos>"],
        ["<blank>", "<unk>", "a"],
        ["<blank>", "a", "<sos/eos>"],
        ["<blank>", "<unk>", "</s>", "<sos/eos>"],
    ],
)
def test_lists_in_another_order(listed):
    with pytest.raises(JaxasrError, match=r"c\.yaml: token_list .*<blank> first, <sos/eos> last"):
        read_tokens(listed, "c.yaml")


def test_another_list_of_tokens():
    tokens = read_tokens(["<blank>", "<unk>", "<sos/eos>"], "")
    with pytest.raises(JaxasrError, match=r"m\.pth: ctc\.ctc_lo\.bias has shape \(4,\); 3 tokens were expected"):
        in_our_order({"ctc.ctc_lo.bias": np.zeros(4)}, tokens, "m.pth")


# --- files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """The Conformer's, as the recipe leaves it; beneath is that of the experiment."""
    shutil.copytree(FOLDER / "espnet_conformer", tmp_path / "recipe")
    [experiment] = (tmp_path / "recipe").glob("exp/asr_train*")
    return tmp_path / "recipe", experiment


def test_the_experiment_of_a_recipe(folder):
    """Its files are named from where the recipe is run, two folders above; statistics are among the tensors."""
    recipe, experiment = folder
    shutil.rmtree(recipe / "exp" / "asr_stats_raw_en_bpe30_sp")
    task = read(experiment)
    assert task.tokenizer.split("one yes") == read(recipe).tokenizer.split("one yes")
    with np.load(next((FOLDER / "espnet_conformer").rglob("feats_stats.npz"))) as sums:
        np.testing.assert_allclose(-task.cmvn.shift, sums["sum"] / sums["count"], rtol=1e-5)


def test_a_file_beside_the_configuration(folder):
    recipe, experiment = folder
    shutil.move(recipe / "data" / "en_token_list" / "bpe_unigram30" / "bpe.model", experiment / "bpe.model")
    assert read(experiment).tokenizer.content
    (experiment / "bpe.model").unlink()
    with pytest.raises(JaxasrError, match=r"bpemodel=data/.*: 0 files bpe\.model in "):
        read(experiment)


@pytest.mark.parametrize("name", ["/", "*", "x" * 5000, "../../../secret", "ABSOLUTE"])
def test_no_file_outside_of_the_recipe_is_read(folder, tmp_path, name):
    recipe, experiment = folder
    [model] = recipe.rglob("bpe.model")
    secret = shutil.move(model, tmp_path / "secret")
    file = experiment / "config.yaml"
    named = yaml.safe_load(file.read_text()) | {"bpemodel": str(secret) if name == "ABSOLUTE" else name}
    file.write_text(yaml.safe_dump(named))
    with pytest.raises(JaxasrError, match=r": 0 files .* in .*; one was expected there"):
        read(experiment)
    (experiment / "bpe.model").symlink_to(secret)
    with pytest.raises(JaxasrError, match=r"bpe\.model: leads out of the model's folder"):
        read(experiment)


def test_which_parameters(folder):
    recipe, experiment = folder
    [best] = experiment.glob("*.pth")
    (experiment / "checkpoint.pth").write_bytes(b"a state of training")
    (experiment / "12epoch.pth").write_bytes(b"one epoch")
    (experiment / "valid.acc.ave_5best.pth").write_bytes(b"fewer")
    with pytest.raises(JaxasrError, match=r": valid\.acc\.ave_10best\.pth, valid\.acc\.ave_5best\.pth; one file "):
        read(recipe)
    read(recipe, model_file=best.name)
    with pytest.raises(JaxasrError, match=r": 12epoch\.pth, checkpoint\.pth, .*; give --model_file"):
        read(recipe, model_file="13epoch.pth")
    (experiment / "valid.acc.ave.pth").symlink_to(best.name)  # as recipes leave it
    said = []
    read(recipe, said.append)
    assert best.name in said[0]
    for path in experiment.glob("*.pth"):
        path.unlink()
    with pytest.raises(JaxasrError, match=r": 0 config\.yaml of ESPnet's task asr with a \.pth \(none\)"):
        read(recipe)


def test_which_configuration(folder):
    recipe, experiment = folder
    assert espnet.is_model(recipe) and espnet.is_model(experiment) and not espnet.is_model(recipe / "data")
    (recipe / "exp" / "lm_train").mkdir()
    (recipe / "exp" / "lm_train" / "config.yaml").write_text("lm: transformer\ntoken_list: [a]\n")
    read(recipe)
    shutil.copytree(experiment, recipe / "exp" / "another")
    with pytest.raises(JaxasrError, match=r"2 config\.yaml"):
        read(recipe)


def test_from_the_command_line(folder, tmp_path, monkeypatch, capsys):
    """Converted, looked at, and decoded with: what ESPnet says of the sounds."""
    monkeypatch.chdir(tmp_path)
    convert_main(["recipe", "model"])
    said = capsys.readouterr().out
    assert "ESPnet 202511" in said and "options of training" in said
    clips = (FOLDER / "clips.txt").read_text().split()
    decode_main(["--model=model", "--search=ctc_greedy", *(str(FOLDER / clip) for clip in clips)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[-2:]] == [
        str(expected()[f"espnet_conformer/text_{row}"]) for row in range(2)
    ]


def test_no_statistics(folder, monkeypatch):
    recipe, _ = folder
    tensors_of = espnet.torch_file.read
    without = ("normalize.mean", "normalize.std")
    monkeypatch.setattr(
        espnet.torch_file, "read", lambda *given: {k: x for k, x in tensors_of(*given).items() if k not in without}
    )
    with pytest.raises(JaxasrError, match=r"no normalize\.mean and normalize\.std"):
        read(recipe)
