"""The task `paraformer`; what every task promises is in test_contract.py, FunASR's numbers in parity/."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr import decode, evaluate, report
from jaxasr.data.batch import BucketShape
from jaxasr.hypothesis import hypothesis_of
from jaxasr.nn.decoders import ParaformerSanmDecoder
from jaxasr.nn.encoders import SanmChunkEncoder, SanmEncoder
from jaxasr.nn.predictors import PREDICTORS
from jaxasr.parallel import Devices
from jaxasr.tasks import ParaformerTask
from jaxasr.train import train
from tests import tiny
from tests.slow import slow
from tests.test_contract import Case, assert_trees_close, jit, quiet, talkative, task_case
from tests.test_contract import tiny as tiny_part

KEY = jax.random.key(5)


@pytest.fixture(scope="module")
def paraformer(tmp_path_factory):
    return task_case("paraformer", tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def still(paraformer):
    """Of which training draws nothing but the tokens that are shown, and which learns nothing but what to say."""
    task = dataclasses.replace(
        paraformer.task,
        specaug=None,
        frontend=dataclasses.replace(paraformer.task.frontend, dither=0.0),
        encoder=quiet(paraformer.task.encoder),
        decoder=quiet(paraformer.task.decoder),
        sampling_ratio=1.0,
        predictor_weight=0.0,
    )
    return dataclasses.replace(paraformer, task=task)


def metrics_of(case, *key, params=None):
    (loss, metrics), gradient = jax.device_get(case.run(params or case.params, case.batch(case.examples), *key))
    return loss, {name: mean.value for name, mean in metrics.items()}, gradient


def with_changes(case, **changes):
    task = dataclasses.replace(case.task, **changes)
    task.check()
    return Case(task, case.examples)


def of_the_same_parameters(case, **changes):
    return dataclasses.replace(case, task=dataclasses.replace(case.task, **changes))


def test_the_parts_of_the_network(paraformer):
    assert set(paraformer.params) == {"encoder", "predictor", "decoder", "embed"}
    for changes in ({"sampling_ratio": 0.0}, {"share_embedding": True}):
        task = dataclasses.replace(paraformer.task, **changes)
        assert set(task.parameter_shapes()) == {"encoder", "predictor", "decoder"}


def test_the_loss_is_made_of_its_parts(paraformer):
    changes = {"ctc_weight": 0.3, "interctc_layers": (1,), "predictor_weight": 0.5, "first_pass_loss": True}
    changes["cr_weight"] = 0.6
    deeper = with_changes(paraformer, **changes, encoder=paraformer.task.encoder.clone(num_layers=2))
    loss, metrics = jax.device_get(jit(deeper.task.loss_fn())(deeper.params, deeper.batch(deeper.examples), KEY))
    parts = {name: mean.value for name, mean in metrics.items()}
    ctc = 0.7 * parts["loss/ctc"] + 0.3 * parts["loss/ctc_layer1"]
    expected = (
        0.3 * (ctc + 0.6 * parts["loss/cr"])
        + 0.7 * (parts["loss/att"] + parts["loss/first"])
        + 0.5 * parts["loss/count"]
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert set(deeper.task.searches()) == {"parallel_greedy", "ctc_greedy"}


def test_weights_for_timestamps_learn_to_count(paraformer):
    """By half the weight of those that cut the sound, as FunASR's BiCifParaformer; no other loss reaches them."""
    case = with_changes(
        paraformer, predictor=tiny_part(PREDICTORS["cif_v3"], upsample_type="cnn"), predictor_weight=0.6
    )
    loss, parts, gradient = metrics_of(case)
    counted = 0.6 * parts["loss/count"] + 0.3 * parts["loss/fine_count"]
    np.testing.assert_allclose(loss, parts["loss/att"] + counted, rtol=1e-6)
    outputs = jit(case.task.model().apply)(case.params, case.batch(case.examples))
    known = np.array([len(e.tokens) + 1 for e in case.examples])
    off = np.abs(np.sum(outputs.predicted.fine_alphas, axis=1)[: len(known)] - known)
    np.testing.assert_allclose(parts["loss/fine_count"], np.mean(off), rtol=1e-5)
    assert np.any(gradient["predictor"]["output2"]["kernel"])


@pytest.mark.parametrize("bias", [0, 1])
def test_an_end_is_a_token_or_not(paraformer, bias):
    case = paraformer if bias else of_the_same_parameters(paraformer, predictor_bias=0)

    @jit
    def run(params, batch):
        outputs = case.task.model().apply(params, batch)
        return outputs.predicted.counts, case.task.loss_of(outputs, batch)[1]

    counts, metrics = run(case.params, case.batch(case.examples, seed=1))
    known = np.array([len(e.tokens) + bias for e in case.examples])
    assert (metrics["acc/token"].count, metrics["loss/count"].count) == (sum(known), len(known))
    np.testing.assert_allclose(metrics["error/count"].value, np.mean(np.abs(counts[: len(known)] - known)), rtol=1e-5)


def test_tokens_are_shown_while_training_alone(still):
    """What is said at first is what is said without a key, and nothing is learnt through it."""
    _, calm, unshown = metrics_of(still)
    _, shown, gradient = metrics_of(still, KEY)
    assert shown["acc/token"] == calm["acc/token"] < 1.0
    assert shown["loss/att"] != calm["loss/att"]
    assert not np.any(unshown["embed"]["embedding"])
    assert np.any(gradient["embed"]["embedding"])


@pytest.mark.slow
def test_the_first_pass_may_learn_too(still):
    """Then its loss is added, and its gradient."""
    both = of_the_same_parameters(still, first_pass_loss=True)
    _, _, first = metrics_of(still)
    loss, parts, gradient = metrics_of(both, KEY)
    assert loss == pytest.approx(parts["loss/att"] + parts["loss/first"])
    _, shown, second = metrics_of(still, KEY)
    assert parts["loss/att"] == pytest.approx(shown["loss/att"])
    assert_trees_close(gradient, jax.tree.map(np.add, first, second))


def test_a_token_is_shown_as_its_row_of_the_output_layer(still):
    shared = with_changes(still, share_embedding=True)
    rows = {"embed": {"embedding": still.params["decoder"]["output"]["kernel"].T}}
    loss, _, gradient = metrics_of(still, KEY, params=still.params | rows)
    found, _, found_gradient = metrics_of(shared, KEY, params={n: p for n, p in still.params.items() if n != "embed"})
    np.testing.assert_allclose(found, loss, rtol=1e-6)
    kernel = gradient["decoder"]["output"]["kernel"] + gradient.pop("embed")["embedding"].T
    gradient["decoder"]["output"]["kernel"] = kernel
    assert_trees_close(found_gradient, gradient)


def test_in_bfloat16(paraformer):
    half = of_the_same_parameters(paraformer, dtype="bfloat16")
    outputs = jax.eval_shape(half.task.model().apply, half.params, half.batch(half.examples), key=KEY)
    assert outputs.encoded.dtype == outputs.predicted.embeddings.dtype == jnp.bfloat16
    assert outputs.attention_logits.dtype == outputs.first_logits.dtype == outputs.predicted.counts.dtype == jnp.float32
    batch = half.batch(half.examples)
    found, expected = (jit(case.task.loss_fn())(case.params, batch) for case in (half, paraformer))
    np.testing.assert_allclose(found[0], expected[0], rtol=0.02)
    assert {x.dtype for x in jax.tree.leaves(found)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("search", slow(["parallel_greedy", "ctc_greedy", "ctc_beam"], "ctc_greedy"))
def test_rows_are_decoded_as_alone(paraformer, search):
    """Those with no tokens too."""
    case = with_changes(paraformer, ctc_weight=0.3)
    params = talkative(case.params, len(case.task.vocabulary))
    decode = jit(case.task.decode_fn(search))
    together = decode(params, case.batch(case.examples))
    for row, example in enumerate(case.examples):
        alone = decode(params, case.batch([example]))
        assert together.lengths[row] == alone.lengths[0] > 0
        assert together.tokens[row].tolist() == alone.tokens[0].tolist()
        np.testing.assert_allclose(together.scores[row], alone.scores[0], rtol=1e-5)


@pytest.mark.parametrize("name", list(PREDICTORS))
def test_every_token_has_its_time(paraformer, name):
    """Within the sound, one after the other; the same alone; finer where the predictor has weights for it."""
    task = dataclasses.replace(paraformer.task, predictor=tiny_part(PREDICTORS[name]))
    case = Case(task, paraformer.examples)
    decode = jit(task.decode_fn("parallel_greedy"))
    params = talkative(case.params, len(task.vocabulary))
    together = jax.device_get(decode(params, case.batch(case.examples, seed=1)))
    for row, example in enumerate(case.examples):
        found = [
            hypothesis_of(task, hypotheses, at, example.id, len(example.audio))
            for hypotheses, at in ((together, row), (jax.device_get(decode(params, case.batch([example]))), 0))
        ]
        said = found[0]
        assert said.times is not None and len(said.times) == len(said.confidences) == len(said.tokens) > 0
        bounds = np.ravel(said.times)
        assert bounds[0] >= 0.0 and bounds[-1] <= len(example.audio) / task.sample_rate
        assert np.all(np.diff(bounds)[::2] > 0.0) and np.all(np.diff(bounds)[1::2] >= 0.0)
        np.testing.assert_allclose(bounds, np.ravel(found[1].times), atol=1e-4)
        assert all(0.0 < p <= 1.0 for p in said.confidences)
        np.testing.assert_allclose(said.confidences, found[1].confidences, rtol=1e-4)


def test_nothing_is_heard_in_nothing(paraformer):
    short = [e._replace(audio=e.audio[:samples]) for e, samples in zip(paraformer.examples, (0, 1), strict=False)]
    for batch in (paraformer.batch(short), paraformer.batch(short, BucketShape(8, 1, 4))):  # of no frame at all
        found = jit(paraformer.task.decode_fn("parallel_greedy"))(paraformer.params, batch)
        assert not np.any(found.lengths) and not np.any(found.scores) and np.all(np.asarray(found.tokens) == -1)
    assert paraformer.task.text([]) == ""


@pytest.mark.slow
def test_behind_an_encoder_of_chunks(paraformer):
    sizes = {"num_layers": 1, "d_model": 16, "num_heads": 2, "d_ff": 32, "kernel_size": 3}
    encoder = SanmChunkEncoder(**sizes, chunk_size=(8, 12), stride=(5, 8))
    case = with_changes(paraformer, encoder=encoder)
    _, parts, gradient = metrics_of(case, KEY)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((parts, gradient)))
    params = talkative(case.params, len(case.task.vocabulary))
    found = jit(case.task.decode_fn("parallel_greedy"))(params, case.batch(case.examples))
    assert np.all(found.lengths[:5] > 0)


def test_a_whole_run(tmp_path, monkeypatch):
    """From sound files to a model that writes what the trainer wrote, and to a look at it."""
    monkeypatch.setattr(Devices, "all", lambda *_: Devices.first())
    sizes = {"num_layers": 1, "d_model": 16, "num_heads": 2, "d_ff": 32, "kernel_size": 5}
    before = {name: getattr(tiny.TASK, name) for name in ("sample_rate", "preprocess", "frontend", "tokenizer")}
    task = ParaformerTask(encoder=SanmEncoder(**sizes), decoder=ParaformerSanmDecoder(**sizes), **before)
    cfg = tiny.config(tmp_path, task=task, epochs=1)
    train(cfg)
    texts = evaluate.read_texts(pathlib.Path(cfg.workdir) / "test" / "parallel_greedy")
    found = decode.decode(decode.DecodeOptions(cfg.test, cfg.workdir, output=str(tmp_path / "out")))
    assert {h.id: h.text for h in found} == texts
    logged = json.loads((pathlib.Path(cfg.workdir) / "log.jsonl").read_text().splitlines()[-1])
    options = evaluate.EvaluateOptions(cfg.test[0], str(tmp_path / "out"), model=cfg.workdir)
    assert logged["split"] == "test" and evaluate.evaluate(options).wer.rate == logged["wer"]
    report.write(pathlib.Path(cfg.workdir), tmp_path / "report.html", worst=0)
    assert "Weights of the predictor" in (tmp_path / "report.html").read_text()
