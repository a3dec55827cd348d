"""`python -m jaxasr.align`."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import yaml

import jaxasr
from jaxasr import align, checkpoint, corpora, decode
from jaxasr.align import AlignOptions
from jaxasr.data import manifest
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.decode import DecodeOptions
from jaxasr.nn.normalize import Cmvn
from jaxasr.parallel import Devices
from jaxasr.recognizer import Recognizer
from jaxasr.search.choices import Search
from jaxasr.searching import SearchFlags

from . import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A model that never learnt anything, and says what can be written."""
    task = tiny.TASK.prepared(manifest.read(corpora.digits() / "train"))
    task = task.with_resources(cmvn=Cmvn(np.full(80, -9.0, np.float32), np.full(80, 0.4, np.float32)))
    params = jax.jit(task.model().init)(jax.random.key(1), task.batch_spec(jaxasr.BucketShape(1, 8000, 1)))
    params = jax.tree.map(lambda x: 3.0 * x, jax.device_get(params))
    params["ctc"]["bias"][[1, 2, -1]] = -50.0
    folder = tmp_path_factory.mktemp("model")
    checkpoint.save_model(folder, task, params)
    return str(folder)


def test_what_was_heard_is_where_it_was_heard(model, tmp_path, capsys):
    """And what cannot be aligned is told with its reason."""
    kaldi = tiny.corpus(tmp_path / "test", "test", 30)
    heard = {said.id: said for said in decode.decode(DecodeOptions((kaldi,), model, max_buckets=1))}
    texts = {name: said.text for name, said in heard.items() if said.text}
    assert len(texts) > 3
    unknown, endless = list(texts)[:2]
    (tmp_path / "test" / "text").write_text(
        "".join(
            f"{name} {'HELLO' if name == unknown else 'ONE ' * 400 if name == endless else text}\n"
            for name, text in {name: texts.get(name, "") for name in heard}.items()
        )
    )
    out = tmp_path / "out"
    formats = ("ctm", "TextGrid", "jsonl")
    found = align.align(AlignOptions((kaldi,), model, str(out), formats, max_buckets=1))
    assert {said.id for said in found} == texts.keys() - {unknown, endless}
    for said in found:
        assert (said.tokens, said.text) == (heard[said.id].tokens, heard[said.id].text)
        np.testing.assert_allclose(said.times, heard[said.id].times, atol=1e-6)
        np.testing.assert_allclose(said.score, heard[said.id].score, rtol=1e-4)
        assert (out / f"{said.id}.TextGrid").exists()
    left_out = {row["id"]: row["reason"] for row in map(json.loads, (out / "left_out.jsonl").read_text().splitlines())}
    assert left_out.pop(unknown) == "with unknown symbols" and left_out.pop(endless).startswith("with fewer frames")
    assert set(left_out.values()) <= {"with empty text"} and len(left_out) == len(heard) - len(texts)
    said = capsys.readouterr().err
    assert f"{len(heard)} in = {len(found)} used + " in said and "audio seconds per second" in said
    rows = (out / "ctm").read_text().splitlines()
    assert [row.split()[4] for row in rows] == [word for said in found for word in said.text.split()]
    record = yaml.safe_load((out / "align.yaml").read_text())
    assert record["options"]["formats"] == list(formats) and len(record["model"]["sha256"]) == 64


def test_times_of_attention(model, tmp_path):
    """By the alignment of what it said, in every format; the options are kept beside them."""
    kaldi, out = tiny.corpus(tmp_path / "test", "test", 40), tmp_path / "out"
    formats = ("srt", "ctm", "TextGrid", "jsonl")
    searching = SearchFlags(search="attention_greedy")
    found = decode.decode(DecodeOptions((kaldi,), model, searching, output=str(out), formats=formats, max_buckets=1))
    for said in found:
        if said.times is not None:
            bounds = np.ravel(said.times)
            assert np.all(np.diff(bounds) >= 0.0) and np.all(bounds <= said.seconds)
        assert (out / f"{said.id}.srt").exists()
    assert any(said.times for said in found)
    record = yaml.safe_load((out / "decode.yaml").read_text())
    assert record["options"]["search"] == "attention_greedy" and record["options"]["formats"] == list(formats)
    assert record["model"]["folder"] == model and "jax" in record["versions"]


@pytest.mark.parametrize(("ctc_weight", "times", "told"), [(0.0, True, False), (0.3, False, False), (0.3, True, True)])
def test_times_are_told_where_they_are_wanted_and_can_be(ctc_weight, times, told):
    task = dataclasses.replace(tiny.TASK, ctc_weight=ctc_weight).with_resources(
        vocabulary=Vocabulary(tiny.TOKENS), cmvn=Cmvn(np.zeros(80, np.float32), np.ones(80, np.float32))
    )
    params = jax.eval_shape(task.model().init, jax.random.key(0), task.batch_spec(jaxasr.BucketShape(1, 8000, 1)))
    recognizer = Recognizer(task, Search("attention_greedy", times=times), Devices.first())
    assert recognizer.tells_times(params) == told
