"""What is said chunk by chunk is what is said of the whole sound."""

import dataclasses
import functools
import io
import itertools
import time

import jax
import numpy as np
import pytest
import soundfile

from jaxasr import checkpoint, decode
from jaxasr.data.batch import AsrExample, BucketShape
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.data.utterance import Utterance
from jaxasr.nn.decoders import ParaformerSanmDecoder
from jaxasr.nn.encoders import SanmChunkEncoder
from jaxasr.nn.frontends import WavFrontend
from jaxasr.nn.normalize import Cmvn
from jaxasr.nn.positions import sinusoids_halves, sinusoids_halves_from
from jaxasr.nn.predictors import CifPredictor, CifPredictorV2, CifPredictorV3
from jaxasr.stream import Listener, listen, played
from jaxasr.tasks import ParaformerTask
from tests.test_contract import random_like, talkative

RATE, MELS = 8000, 8
SIZES = {"d_model": 16, "num_heads": 2, "d_ff": 32}
CHUNKS = {"chunk_size": (8, 6), "stride": (5, 4), "look_back": (1, 2), "chunk_choice": 0}
WORDS = ("<blank>", "<s>", "</s>", *"abcdefghijklmnopqrst", "<unk>")
SAMPLES = 16000


def case(lfr=(4, 3), predictor=None, decoder_look_back=(1,), **chunks):
    """A task, its parameters, and a listener with them."""
    task = ParaformerTask(
        sample_rate=RATE,
        preprocess=None,
        frontend=WavFrontend(num_mels=MELS, lfr_m=lfr[0], lfr_n=lfr[1]),
        encoder=SanmChunkEncoder(num_layers=3, kernel_size=5, **SIZES, **(CHUNKS | chunks)),
        predictor=predictor or CifPredictorV2(),
        decoder=ParaformerSanmDecoder(num_layers=2, kernel_size=4, shift=2, **SIZES),
        decoder_look_back=decoder_look_back,
        vocabulary=Vocabulary(WORDS),
        cmvn=Cmvn(np.full(MELS * lfr[0], -16.0, np.float32), np.full(MELS * lfr[0], 0.5, np.float32)),
    )
    task.check()
    shapes = jax.eval_shape(task.model().init, jax.random.key(0), task.batch_spec(BucketShape(1, SAMPLES, 4)))
    params = talkative(random_like(shapes, seed=3), len(WORDS))
    return task, params, Listener.of(task, params)


def sound(samples, seed=0):
    """A tone after the other in noise, as int16."""
    rng = np.random.default_rng(seed)
    tones = -(-samples // 300)
    hertz, loudness = (np.repeat(x, 300)[:samples] for x in (rng.uniform(50, 3900, tones), rng.normal(5, 2, tones)))
    wave = 3 * np.sin(2 * np.pi * np.cumsum(hertz) / RATE) + rng.normal(size=samples)
    return np.clip(wave * np.exp(loudness), -30000, 30000).astype(np.int16)


def said_of_the_whole(task, params, sounds):
    examples = [AsrExample(str(i), samples, np.zeros(0, np.int32)) for i, samples in enumerate(sounds)]
    batch = task.collate_fn()(examples, BucketShape(len(sounds), SAMPLES, 1))
    found = jax.device_get(jax.jit(task.decode_fn("parallel_greedy"))(params, batch))
    tokens = [tuple(row[:length].tolist()) for row, length in zip(found.tokens, found.lengths, strict=True)]
    return tokens, found.scores


def heard(listener, samples):
    return listener.hear(listener.start, samples.tobytes(), ended=True)


@functools.cache
def usual():
    return case()


LENGTHS = [0, 1, 199, 200, 279, 280, 281, 1399, 1400, 1401, 1480, 2680, 2760, 2840, 5000, 9999, SAMPLES]
"""In samples; some end with a chunk, or a frame before it or behind."""


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"decoder_look_back": (0,), "look_back": (0,)}, marks=pytest.mark.slow),
        {"decoder_look_back": (2, 4), "chunk_choice": 1, "predictor": CifPredictor()},
        pytest.param({"chunk_size": (5,), "stride": (5,), "look_back": (2,), "lfr": (7, 6)}, marks=pytest.mark.slow),
        pytest.param(
            {"chunk_size": (7,), "stride": (4,), "pad_left": (3,), "look_back": (1,), "lfr": (2, 1)},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"pad_left": (2,), "stride": (3, 4), "look_back": (4,), "predictor": CifPredictorV3(upsample_type="cnn")},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_chunk_by_chunk_as_the_whole(options):
    task, params, listener = usual() if not options else case(**options)
    sounds = [sound(samples, seed) for seed, samples in enumerate(LENGTHS)]
    expected, scores = said_of_the_whole(task, params, sounds)
    found = [heard(listener, samples) for samples in sounds]
    assert [stream.tokens for stream in found] == expected
    np.testing.assert_allclose([stream.score for stream in found], scores, rtol=1e-4, atol=1e-4)
    assert len(set(expected[-1])) > 1 and expected[:3] == [()] * 3


def cuts(size, rng):
    """Where the bytes of a stream are cut, at random and now and then in an odd place."""
    count = int(rng.integers(0, 40))
    return sorted(rng.integers(0, size + 1, count).tolist())


def test_text_does_not_depend_on_how_the_bytes_come():
    task, params, listener = usual()
    samples = sound(6001, seed=7)
    pcm = samples.tobytes()
    (expected,), _ = said_of_the_whole(task, params, [samples])
    assert len(set(expected)) > 4
    rng = np.random.default_rng(0)
    for _ in range(300):
        ends = [0, *cuts(len(pcm), rng), len(pcm)]
        stream = listener.start
        for begin, end in itertools.pairwise(ends):
            stream = listener.hear(stream, pcm[begin:end])
        assert listener.hear(stream, ended=True).tokens == expected


def test_streams_in_one_process_do_not_hear_each_other():
    _, _, listener = usual()
    sounds = [sound(SAMPLES, seed) for seed in range(4)]
    alone = [heard(listener, samples).tokens for samples in sounds]
    streams = [listener.start] * 4
    for begin in range(0, SAMPLES, 700):
        streams = [
            listener.hear(stream, samples[begin : begin + 700].tobytes(), ended=begin + 700 >= SAMPLES)
            for stream, samples in zip(streams, sounds, strict=True)
        ]
    assert [stream.tokens for stream in streams] == alone
    assert len(set(alone)) == 4


def test_many_streams_in_one_step():
    """By `jax.vmap`, wherever each of them stands."""
    _, params, listener = usual()
    framing, step = listener.streaming.framing, listener.streaming.step
    streams = [listener.hear(listener.start, sound(6000, seed)[: 2000 * seed].tobytes()) for seed in range(3)]
    samples = np.stack([sound(framing.samples, 10 + seed) for seed in range(3)])
    left = np.array([1 << 20, 20, 2], np.int32)
    states = jax.tree.map(lambda *leaves: np.stack(leaves), *(stream.heard for stream in streams))
    together = jax.jit(jax.vmap(step, (None, 0, 0, 0)))(params, states, samples, left)
    for row, stream in enumerate(streams):
        alone = listener._step(params, stream.heard, samples[row], left[row])
        for many, one in zip(*map(jax.tree.leaves, (together, alone)), strict=True):
            np.testing.assert_allclose(many[row], one, rtol=1e-4, atol=1e-4)


def test_what_is_said_stays_and_the_last_word_comes():
    _, _, listener = usual()
    last = []
    for seed in range(6):
        pcm = sound(8000, seed).tobytes()
        stream = listener.start
        for begin in range(0, len(pcm), 800):
            after = listener.hear(stream, pcm[begin : begin + 800])
            assert after.tokens[: len(stream.tokens)] == stream.tokens
            stream = after
        assert stream.tokens
        last.append(len(listener.hear(stream, ended=True).tokens) - len(stream.tokens))
    assert any(last)


def test_no_token_changes_with_what_comes_later():
    """Of the whole sound too: the masks let no token see behind its chunk."""
    task, params, _ = usual()
    long = sound(SAMPLES)
    expected, _ = said_of_the_whole(task, params, [long[:length] for length in (8000, 12000, SAMPLES)])
    for shorter, longer in itertools.pairwise(expected):
        sure = len(shorter) - 10  # of the two last chunks, which see that nothing comes
        assert sure > 5 and longer[:sure] == shorter[:sure]


def test_training_draws_chunks():
    """Each of either size; and learns of what they see."""
    task, params, _ = usual()
    task = dataclasses.replace(task, specaug=None, encoder=task.encoder.clone(num_layers=1))
    params = params | {"encoder": {name: of for name, of in params["encoder"].items() if name != "blocks"}}
    examples = [AsrExample(str(n), sound(n), np.arange(3, 9, dtype=np.int32)) for n in (SAMPLES, 7000)]
    batch = task.collate_fn()(examples, BucketShape(2, SAMPLES, 6))
    run = jax.jit(jax.value_and_grad(task.loss_fn(), has_aux=True))
    (loss, _), gradient = run(params, batch, jax.random.key(0))
    assert np.isfinite(loss) and all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_positions_far_into_the_sound():
    found = jax.jit(lambda first: sinusoids_halves_from(first, 5, 16))(np.int32(70_000))
    np.testing.assert_allclose(found, sinusoids_halves(70_005, 16)[70_000:], atol=2e-6)


# --- command line ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a model, and a sound file of another rate."""
    task, params, _ = usual()
    folder = tmp_path_factory.mktemp("model")
    checkpoint.save_model(folder, task, params)
    soundfile.write(folder / "sound.wav", sound(12000), RATE)
    return folder


def test_a_file_plays(model, capsys, tmp_path):
    """And is decoded as without --stream."""
    inputs = str(model / "sound.wav"), str(model / "sound.wav")
    options = decode.DecodeOptions(inputs, str(model), stream=True, pace=0.0, output=str(tmp_path / "out"))
    found = decode.decode(options)
    expected = decode.decode(decode.DecodeOptions(inputs, str(model)))
    assert [(h.id, h.text, h.tokens) for h in found] == [(h.id, h.text, h.tokens) for h in expected]
    np.testing.assert_allclose([h.score for h in found], [h.score for h in expected], rtol=1e-4)
    assert (tmp_path / "out" / "text").read_text().splitlines() == [f"{h.id} {h.text}" for h in found]


def test_bytes_on_standard_input(model, monkeypatch, capsys):
    _, _, listener = usual()
    pcm = sound(9000).tobytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(pcm + b"x")))  # half a sample more
    decode.main(["-", f"--model={model}", "--stream"])
    assert capsys.readouterr().out == f"- {listener.text(heard(listener, sound(9000)))}\n"


def test_partial_results_at_the_pace(model):
    """Nothing is said of what has not been played, what is shown only grows, and times are told."""
    _, _, listener = usual()
    shown: list[str] = []
    parts = played(listener, Utterance("a", str(model / "sound.wav"), ""), pace=5.0)
    began = time.perf_counter()
    ended, times = listen(listener, parts, shown.append)
    assert time.perf_counter() - began > 1.5 / 5.0
    assert len(shown) > 3 and shown[-1] == listener.text(ended)
    assert all(longer.startswith(shorter) for shorter, longer in itertools.pairwise(shown))
    assert times.sound == 1.5 and times.first is not None and 0.0 < times.first < 1.0
    assert "1.50 s of sound; the first token came after" in str(times)
    assert str(listen(listener, [b"1"], shown.append)[1]) == "0.00 s of sound, not one chunk"
