import dataclasses
import json
import math
import pathlib
import threading

import jax
import numpy as np
import pytest
import soundfile

import jaxasr
from jaxasr import checkpoint, corpora, decode
from jaxasr.data import audio, manifest
from jaxasr.data.segmenter import Segmenter
from jaxasr.decode import DecodeOptions
from jaxasr.hypothesis import Hypothesis, joined
from jaxasr.long import Batching, seam
from jaxasr.nn.normalize import Cmvn
from jaxasr.searching import SearchFlags

from . import tiny

RATE = 8000
CUTS = Segmenter(max_segment=4.0, min_silence=0.3, overlap=1.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """One that never learnt anything, with outputs all over the vocabulary."""
    task = tiny.TASK.prepared(manifest.read(corpora.digits() / "train"))
    task = task.with_resources(cmvn=Cmvn(np.full(80, -9.0, np.float32), np.full(80, 0.4, np.float32)))
    params = jax.jit(task.model().init)(jax.random.key(1), task.batch_spec(jaxasr.BucketShape(1, 8000, 1)))
    folder = tmp_path_factory.mktemp("model")
    checkpoint.save_model(folder, task, jax.tree.map(lambda x: 3.0 * x, jax.device_get(params)))
    return str(folder)


@pytest.fixture(scope="module")
def speech(model) -> jaxasr.speech_to_text.SpeechToText:
    return jaxasr.load(model)


@pytest.fixture(scope="module")
def long(tmp_path_factory) -> pathlib.Path:
    """Two minutes of digits, now and then with a pause, then with noise, at another rate than the model's."""
    rng = np.random.default_rng(0)
    parts = []
    for utterance in manifest.read(corpora.digits() / "test")[:60]:
        pause = rng.choice([0.0, 0.5, 1.5])
        parts += [audio.read(utterance, 16000), rng.normal(scale=1e-3, size=int(pause * 16000)).astype(np.float32)]
    path = tmp_path_factory.mktemp("long") / "long.flac"
    sound = np.resize(np.concatenate(parts), 120 * 16000)
    sound[50 * 16000 : 65 * 16000] += rng.normal(scale=0.1, size=15 * 16000)
    soundfile.write(path, sound, 16000)
    return path


@pytest.fixture(scope="module")
def heard(speech, long) -> Hypothesis:
    return speech.transcribe(long, timestamps=True, segmenter=CUTS)


def test_long_sound_is_what_its_segments_are(speech, long, heard):
    sound = np.concatenate([*audio.blocks(manifest.Utterance("a", str(long), ""), RATE)])
    segments = list(CUTS.segments([sound], RATE))
    parts = speech.transcribe([s.audio for s in segments], timestamps=True)
    assert len(segments) > 15 and any(s.cut for s in segments)
    tokens = list(zip(heard.tokens, heard.times, heard.confidences, strict=True))
    cuts = [segment.cut is not None for segment in segments] + [False]
    for i, segment in enumerate(segments):
        if not (cuts[i] or cuts[i + 1]):
            start, end = segment.start / RATE, segment.end / RATE
            inside = [t for t in tokens if start <= sum(t[1]) / 2 < end]
            assert [t[0] for t in inside] == parts[i].tokens
            np.testing.assert_allclose([t[1] for t in inside], np.add(parts[i].times, start), atol=1e-4)
            np.testing.assert_allclose([t[2] for t in inside], parts[i].confidences, rtol=1e-3)
    bounds = np.ravel(heard.times)
    assert bounds[0] >= 0.0 and bounds[-1] <= 120.0 and np.all(np.diff(bounds) >= -1e-6)
    assert [w.text for w in heard.words] == heard.text.split()
    covered = np.zeros(len(sound), bool)
    for segment in segments:
        covered[segment.start : segment.end] = True
    assert heard.silence == pytest.approx(1.0 - covered.mean()) and heard.silence > 0.05


def test_batches_change_nothing(model, long, heard, tmp_path, capsys):
    options = DecodeOptions((str(long),), model, segmenter=CUTS, output=str(tmp_path / "out"))
    changes = ({"max_buckets": 1}, {"rows": 7, "extra_padding": 0.5, "max_buckets": 1})
    for change in changes:
        [found] = decode.decode(dataclasses.replace(options, **change))
        assert (found.id, found.tokens, found.text) == ("long", heard.tokens, heard.text)
        np.testing.assert_allclose(found.times, heard.times, atol=1e-6)
    row = json.loads((tmp_path / "out" / "hyp.jsonl").read_text())
    assert row["silence"] == pytest.approx(heard.silence, abs=1e-3)
    assert f"long: {100 * heard.silence:.1f} % of the sound was taken for silence" in capsys.readouterr().err


def test_shapes_are_few_and_do_not_depend_on_the_sound(speech):
    shapes = Batching().shapes(speech.task, Segmenter().longest(RATE))
    assert [s.samples / RATE for s in shapes] == [3.75, 7.5, 15.0, 30.0]
    assert [s.rows for s in shapes] == [32, 16, 8, 4]


def test_what_is_short_enough_is_not_cut(speech, long):
    sound, rate = soundfile.read(long, frames=16000 * 4, dtype="float32")
    found = [
        speech.transcribe((sound, rate), timestamps=True, segmenter=s) for s in (Segmenter(max_segment=math.inf), CUTS)
    ]
    assert found[0] == found[1] and found[0].silence is None and found[0].text


def test_sound_in_every_form_is_the_same(speech, long, heard):
    sound, rate = soundfile.read(long, dtype="float32")
    forms = [str(long), long.read_bytes(), (sound, rate)]
    assert speech.transcribe(forms, segmenter=CUTS) == [heard.text] * 3


def test_every_search_hears_long_sound(speech, long):
    """One that knows no times too, by any name."""
    sound, rate = soundfile.read(long, frames=16000 * 5, dtype="float32")
    said = speech.transcribe((sound, rate), timestamps=True, search=SearchFlags("attention_greedy"), segmenter=CUTS)
    assert said.text and len(said.tokens) == len(said.confidences) and said.silence > 0.0


def test_eight_threads_hear_the_same(model, long):
    sound = np.concatenate([*audio.blocks(manifest.Utterance("a", str(long), ""), RATE)])
    pieces = [sound[i * RATE : (i + 1) * RATE] for i in range(8)]
    speech = jaxasr.load(model)
    calls = [(piece, search) for piece in pieces for search in (None, "ctc_greedy")]
    found: dict[int, list[Hypothesis]] = {}

    def work(number: int) -> None:
        order = np.random.default_rng(number).permutation(len(calls))
        heard = {int(i): speech.transcribe(calls[i][0], search=calls[i][1], timestamps=True) for i in order}
        found[number] = [heard[i] for i in range(len(calls))]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [speech.transcribe(piece, search=search, timestamps=True) for piece, search in calls]
    assert len({said.text for said in expected}) > 3
    assert all(found[number] == expected for number in range(8))


# Seams


def said(tokens, times=None) -> Hypothesis:
    return Hypothesis("", "", 0.0, list(tokens), [1.0] * len(tokens), times)


def spoken(rng: np.random.Generator, count: int, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens, and the middles of their times."""
    return rng.integers(3, 3 + vocabulary, count), np.cumsum(rng.uniform(0.1, 0.5, count))


@pytest.mark.parametrize("timed", [True, False])
def test_what_two_segments_have_both_heard_is_said_once(timed):
    """Their ends are heard wrongly, and times to half a frame of 60 ms."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        tokens, middles = spoken(rng, 60, 4 if timed else 60)
        cut = float(rng.uniform(middles[25], middles[35]))
        begin, end = cut - 1.2, cut + 1.2

        def part(inside, edge, tokens=tokens, middles=middles):
            found, at = tokens[inside].copy(), middles[inside]
            found[edge] = 1  # half a word is another one
            times = [(m - 0.03 + d, m + 0.03 + d) for m, d in zip(at, rng.uniform(-0.03, 0.03, len(at)), strict=True)]
            return said(found.tolist(), times if timed else None)

        before, after = part(middles < end, -1), part(middles > begin, 0)
        room = (end - begin) / end, (end - begin) / (middles[-1] - begin)
        keep, first = seam(before, after, cut, room)
        wrong += before.tokens[:keep] + after.tokens[first:] != tokens.tolist()
    assert wrong == 0


def test_segments_that_agree_in_nothing_are_divided_by_time():
    before = said([3, 4, 5, 6], [(0.0, 0.1), (1.0, 1.1), (2.0, 2.1), (2.4, 2.6)])
    after = said([7, 8, 9], [(1.2, 1.3), (2.0, 2.1), (3.0, 3.1)])
    assert seam(before, after, 2.2, (0.5, 0.5)) == (3, 2)
    assert seam(before._replace(times=None), after, 2.2, (0.5, 0.5)) == (4, 0)
    assert seam(said([], []), after, 2.2, (0.5, 0.5)) == (0, 2)


def test_texts_of_segments_have_a_space_between_them_unless_hanzi_meet():
    assert joined(["one", "", "two", "三", "四 five", "六"]) == "one two 三四 five 六"
