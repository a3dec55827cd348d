import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import kaldi_native_fbank as knf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxasr.errors import ConfigError
from jaxasr.nn.frontends import StftFrontend, WavFrontend, framing
from jaxasr.nn.frontends.mel import mel_filterbank
from jaxasr.nn.frontends.stacking import stack_frames


@functools.partial(jax.jit, static_argnums=(0, 3))
def features_of(frontend, audio, lengths, sample_rate):
    return frontend(audio, lengths, sample_rate=sample_rate)


stacked = jax.jit(stack_frames, static_argnums=(2, 3))


def kaldi(frontend, audio, sample_rate):
    """The frames (T, F) that Kaldi's own code makes of one waveform."""
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = sample_rate
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = frontend.window
    options.frame_opts.frame_length_ms = frontend.window_ms
    options.frame_opts.frame_shift_ms = frontend.hop_ms
    options.frame_opts.preemph_coeff = frontend.preemphasis
    options.frame_opts.snip_edges = frontend.snip_edges
    options.mel_opts.num_bins = frontend.num_mels
    options.mel_opts.low_freq = frontend.low_hz
    options.mel_opts.high_freq = frontend.high_hz
    options.energy_floor = 0.0
    fbank = knf.OnlineFbank(options)
    fbank.accept_waveform(sample_rate, audio.astype(np.float32).tolist())
    fbank.input_finished()
    frames = [fbank.get_frame(i) for i in range(fbank.num_frames_ready)]
    return np.array(frames, np.float32).reshape(len(frames), frontend.num_mels)


def random_sound(rng, samples):
    """Noise with a tone and an offset, from almost silent to clipped."""
    noise = rng.normal(scale=10.0 ** rng.uniform(0.5, 4.0), size=samples)
    tone = rng.uniform(0, 3e3) * np.sin(np.arange(samples) * rng.uniform(0.01, 3.0))
    return np.clip(np.round(noise + tone + rng.uniform(-500, 500)), -32768, 32767).astype(np.int16)


def assert_close(found, expected):
    """Within FunASR's own distance from Kaldi; more only in a band that float32 itself cannot tell.

    The spectrum of a frame is rounded to 1.2e-7 of its largest amplitude, by Kaldi's FFT and by XLA's: a band
    with 1e-12 of the largest band's energy is half rounding.
    """
    ratio = np.exp((np.max(expected, axis=1, keepdims=True) - expected) / 2)  # of amplitudes
    bound = 2e-3 + 1e-4 * np.abs(expected) + 4 * np.finfo(np.float32).eps * ratio  # two roundings, squared
    np.testing.assert_array_less(np.abs(found - expected), bound)


def check_equals_kaldi(frontend, sample_rate, lengths, seed):
    rng = np.random.default_rng(seed)
    audio = np.stack([random_sound(rng, max(lengths)) for _ in lengths])
    found, frames = jax.device_get(features_of(frontend, audio, np.array(lengths), sample_rate))
    for row, sound, length, count in zip(found, audio, lengths, frames, strict=True):
        expected = kaldi(frontend, sound[:length], sample_rate)
        assert count == len(expected)
        assert_close(row[:count], expected)
        assert not np.any(row[count:])


@pytest.mark.parametrize("sample_rate", [8000, 16_000])
@pytest.mark.parametrize("window", ["hamming", "povey"])
@pytest.mark.parametrize("snip_edges", [True, False])
@settings(deadline=None, max_examples=8)
@given(data=st.data())
def test_equals_kaldi(sample_rate, window, snip_edges, data):
    longest, size = sample_rate // 4, sample_rate // 40
    middle = st.integers(size // 2 if snip_edges else 1, longest)
    lengths = [longest, size, size - 1, *data.draw(st.lists(middle, min_size=3, max_size=3))]
    frontend = WavFrontend(window=window, snip_edges=snip_edges)
    check_equals_kaldi(frontend, sample_rate, lengths, data.draw(st.integers(0, 2**32 - 1)))


@pytest.mark.parametrize(
    "frontend",
    [
        WavFrontend(num_mels=23, low_hz=100.0, high_hz=-400.0, preemphasis=0.9),
        WavFrontend(num_mels=40, window_ms=32.0, hop_ms=8.0, high_hz=3800.0),
        WavFrontend(num_mels=40, window="hanning"),
        WavFrontend(num_mels=40, window="blackman"),
        WavFrontend(num_mels=40, window="rectangular"),
        WavFrontend(num_mels=40, window_ms=20.0, hop_ms=12.5, snip_edges=False),
        WavFrontend(num_mels=40, hop_ms=10.125, snip_edges=False),  # 81 samples, an odd number
        WavFrontend(num_mels=23, window_ms=10.0, hop_ms=12.5, snip_edges=False),  # windows that do not meet
    ],
)
def test_equals_kaldi_with_other_options(frontend):
    check_equals_kaldi(frontend, 8000, [2000, 1777, 400, 256], seed=0)


@pytest.mark.parametrize("constant", [0, 10_001])
def test_silence_is_the_logarithm_of_float32_epsilon(constant):
    found, _ = features_of(WavFrontend(), np.full((1, 800), constant, np.int16), np.array([800]), 16_000)
    np.testing.assert_allclose(found, math.log(np.finfo(np.float32).eps), rtol=1e-6)


@pytest.mark.parametrize("frontend", [WavFrontend(lfr_m=7, lfr_n=6), StftFrontend()])
def test_a_few_rows_at_a_time_are_the_same(frontend, monkeypatch):
    rng = np.random.default_rng(0)
    audio, lengths = np.stack([random_sound(rng, 4000) for _ in range(6)]), np.array([4000, 3999, 400, 0, 2000, 1])

    def lowered():
        return jax.jit(lambda *sound: frontend(*sound, sample_rate=16_000)).lower(audio, lengths)

    expected = lowered().compile()(audio, lengths)
    monkeypatch.setattr(framing, "FRAMES_IN_CACHE", 50)  # of two rows, or of less than one
    few = lowered()
    assert "while" in few.as_text()
    found = few.compile()(audio, lengths)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6), found, expected)


def low_frame_rate(frames, m, n):
    """FunASR's `apply_lfr`, frame by frame."""
    count = math.ceil(len(frames) / n)
    frames = [frames[0]] * ((m - 1) // 2) + list(frames)
    out = []
    for i in range(count):
        stack = frames[i * n : i * n + m]
        out.append(np.concatenate(stack + [frames[-1]] * (m - len(stack))))
    return np.array(out)


@pytest.mark.parametrize(("m", "n"), [(7, 6), (5, 1), (7, 1), (4, 3), (5, 4), (1, 1)])
def test_stack_frames_equals_a_loop(m, n):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(41, 40, 2)).astype(np.float32)
    lengths = np.arange(41)
    found, counts = jax.device_get(stacked(x, lengths, m, n))
    assert found.shape == (41, math.ceil(40 / n), 2 * m)
    assert counts.tolist() == [math.ceil(length / n) for length in lengths]
    for length in range(1, 41):
        np.testing.assert_array_equal(found[length, : counts[length]], low_frame_rate(x[length, :length], m, n))


def test_output_lengths_follow_the_definition():
    samples = np.arange(2000)
    for snip_edges in (True, False):
        frontend = WavFrontend(snip_edges=snip_edges, lfr_m=7, lfr_n=6)
        windows = (samples - 200) // 80 + 1 if snip_edges else (samples + 40) // 80
        expected = np.ceil(np.maximum(windows, 0) / 6).astype(int)
        np.testing.assert_array_equal(frontend.output_lengths(samples, 8000), expected)
        assert [frontend.output_lengths(int(s), 8000) for s in samples] == expected.tolist()


@pytest.mark.parametrize("fft_size", [400, 401])
def test_a_centred_transform_counts_the_windows_that_there_are(fft_size):
    frontend = StftFrontend(num_mels=20, fft_size=fft_size).for_encoder(4)
    samples = np.array([1280, 1279, 129, 128, 1, 0])
    features, lengths = features_of(frontend, np.zeros((6, 1280), np.float32), samples, 16_000)
    expected = (samples + 2 * (fft_size // 2) - fft_size) // 128 + 1  # as torch.stft
    assert lengths.tolist() == [*expected[:-1], 0]
    assert features.shape[1] == lengths[0]


def test_for_encoder_fills_what_is_open():
    kept = WavFrontend().for_encoder(1)
    assert (kept.lfr_m, kept.lfr_n, kept.output_width, kept.num_bands) == (7, 6, 560, 80)
    assert kept.frame_ms() == 60.0
    divided = WavFrontend().for_encoder(4)
    assert (divided.lfr_m, divided.lfr_n, divided.output_width, divided.frame_ms()) == (1, 1, 80, 10.0)
    given = WavFrontend(lfr_m=5, lfr_n=1)
    assert given.for_encoder(1) == given.for_encoder(4) == given


def test_dither_is_noise_of_the_given_strength():
    # before the logarithm, noise of standard deviation s has s^2 times the energy of noise of deviation 1
    silence, lengths, key = np.zeros((1, 32_000), np.int16), np.array([32_000]), jax.random.key(0)

    @jax.jit
    def energies(key):
        noisy = [WavFrontend(dither=dither) for dither in (1.0, 8.0)]
        return [jnp.exp(f(silence, lengths, sample_rate=16_000, key=key)[0]).mean() for f in noisy]

    one, eight = energies(key)
    np.testing.assert_allclose(eight / one, 64.0, rtol=1e-3)
    sound, frontend = random_sound(np.random.default_rng(0), 32_000)[None], WavFrontend(dither=8.0)
    np.testing.assert_array_equal(
        features_of(frontend, sound, lengths, 16_000)[0], features_of(WavFrontend(), sound, lengths, 16_000)[0]
    )


@pytest.mark.parametrize(
    ("low_hz", "high_hz"), [(-1.0, 0.0), (20.0, 4001.0), (4000.0, 0.0), (20.0, 10.0), (20.0, -3990.0)]
)
def test_mel_filterbank_refuses_impossible_edges(low_hz, high_hz):
    with pytest.raises(ConfigError, match=r"low_hz=.*, high_hz=.* at 8000 Hz; 0 <= low_hz < high_hz <= 4000 was"):
        mel_filterbank(23, 256, 8000, low_hz, high_hz)


def test_mel_filterbank_triangles():
    bank = mel_filterbank(23, 512, 16_000, 20.0, 0.0)
    assert bank.shape == (256, 23)
    assert bank.dtype == np.float32
    assert bank.min() == 0.0
    assert bank.max() <= 1.0
    centres = np.argmax(bank, axis=0)
    assert np.all(np.diff(centres) > 0)
    # two neighbours cross: between the first and the last centre every bin's weights add up to 1
    np.testing.assert_allclose(bank[centres[0] + 1 : centres[-1]].sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window_ms": 0.1}, "window_ms=0.1, hop_ms=10.0 at 8000 Hz give windows of 0 samples every 80; "),
        ({"hop_ms": 0.01}, "window_ms=25.0, hop_ms=0.01 at 8000 Hz give windows of 200 samples every 0; "),
    ],
)
def test_windows_too_short(change, message):
    frontend = dataclasses.replace(WavFrontend(), **change)
    with pytest.raises(ConfigError, match=re.escape(message)):
        frontend.output_lengths(8000, 8000)


@pytest.mark.parametrize("change", [{"lfr_m": 0}, {"lfr_n": 0}, {"lfr_m": -1}])
def test_stacking_needs_positive_numbers(change):
    with pytest.raises(ConfigError, match=r"lfr_m=-?\d, lfr_n=\d; both are at least 1; "):
        WavFrontend(**change).for_encoder(1)
