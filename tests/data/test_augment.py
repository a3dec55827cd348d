import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxasr.data import augment


def speech(samples: int, seed: int = 0) -> np.ndarray:
    """Noise that is loud in some stretches and next to silent in the others."""
    rng = np.random.default_rng(seed)
    loud = np.repeat(rng.choice([1e-4, 0.05, 0.3], -(-samples // 700)), 700)[:samples]
    return (loud * rng.normal(size=samples)).astype(np.float32)


def power_by_frames(x: np.ndarray) -> float:
    """FunASR's: frames written out, a decision for each, the samples that it stands for."""
    x = x.astype(np.float64)
    if len(x) < 1024:
        return float(np.mean(x**2))
    frames = -(-(len(x) - 1024) // 512) + 1
    padded = np.pad(x, (0, (frames - 1) * 512 + 1024 - len(x)))
    power = np.array([np.mean(padded[512 * i : 512 * i + 1024] ** 2) for i in range(frames)])
    if not power.any():
        return 0.0
    detected = np.repeat(power / power.mean() > 0.01, 512)
    detected = np.pad(detected, (0, len(x) - len(detected)), mode="edge")
    return float(np.mean(x[detected] ** 2))


# Power


@settings(max_examples=60, deadline=None)
@given(samples=st.integers(1, 5000), seed=st.integers(0, 99))
def test_power_is_that_of_the_samples_that_are_not_silent(samples, seed):
    x = speech(samples, seed)
    assert augment.speech_power(x) == pytest.approx(power_by_frames(x), rel=1e-9)


@pytest.mark.parametrize("samples", [1023, 1024, 1025, 1535, 1536, 1537, 2048, 2049])
def test_power_about_the_edges_of_frames(samples):
    x = speech(samples, samples)
    assert augment.speech_power(x) == pytest.approx(power_by_frames(x), rel=1e-9)


def test_silence_around_a_word_is_left_out():
    word = np.full(4096, 0.5, np.float32)
    padded = np.concatenate([np.zeros(40_960, np.float32), word, np.zeros(40_960, np.float32)])
    assert 0.2 < augment.speech_power(padded) <= 0.25
    assert augment.speech_power(np.zeros(5000, np.float32)) == augment.speech_power(np.zeros(0, np.float32)) == 0.0


# Rooms


@settings(max_examples=60, deadline=None)
@given(samples=st.integers(1, 3000), taps=st.integers(1, 4000), seed=st.integers(0, 99))
def test_reverberation_is_convolution_from_the_direct_path_on(samples, taps, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=samples).astype(np.float32)
    response = (rng.normal(size=taps) * np.exp(-5 * np.arange(taps) / taps)).astype(np.float32)
    direct = np.argmax(np.abs(response))
    wet = np.convolve(x.astype(np.float64), response.astype(np.float64))[direct : direct + samples]
    found = augment.reverberate(x, response)
    assert (found.shape, found.dtype) == (x.shape, np.float32)
    assert power_by_frames(found) == pytest.approx(power_by_frames(x), rel=1e-5)
    expected = wet * (power_by_frames(x) / power_by_frames(wet)) ** 0.5
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.max(np.abs(expected)))


def test_the_way_from_the_mouth_to_the_microphone_is_no_delay():
    x = speech(3000)
    response = np.zeros(900, np.float32)
    response[700] = -0.02
    np.testing.assert_allclose(augment.reverberate(x, response), -x, atol=1e-6)


def test_silence_in_a_room_is_silence():
    response = np.array([0.5, 1.0, 0.2], np.float32)
    for samples in (0, 1, 2000):
        np.testing.assert_array_equal(augment.reverberate(np.zeros(samples, np.float32), response), 0)


def test_transforms_are_long_enough_and_of_small_factors():
    for size in [*range(1, 3000), 100_003]:
        found = augment._fft_size(size)
        assert size <= found < 1.34 * size
        while found % 2 == 0:
            found //= 2
        assert found in (1, 3, 5, 9, 15)


# Noise


def test_noise_at_a_ratio():
    x, noise = speech(20_000), speech(20_000, 1)
    for snr_db in (-10.0, 0.0, 3.5, 30.0):
        mixed = augment.add_noise(x, noise, snr_db)
        assert mixed.dtype == np.float32
        added = mixed.astype(np.float64) - x
        assert 10 * np.log10(power_by_frames(x) / np.mean(added**2)) == pytest.approx(snr_db, abs=1e-3)


def test_silence_gets_no_noise_and_silent_noise_adds_nothing():
    x, nothing = speech(3000), np.zeros(3000, np.float32)
    np.testing.assert_array_equal(augment.add_noise(nothing, x, 5.0), nothing)
    np.testing.assert_array_equal(augment.add_noise(x, nothing, 5.0), x)
    assert augment.add_noise(x[:0], x[:0], 5.0).shape == (0,)


# Volume


def test_volume():
    audio = np.array([0.1, -0.2], np.float32)
    louder = augment.volume(audio, 20.0)
    assert louder.dtype == np.float32
    np.testing.assert_allclose(louder, [1.0, -2.0], rtol=1e-6)
    np.testing.assert_array_equal(augment.volume(audio, 0.0), audio)


def test_random_volume_is_within_bounds_and_follows_the_generator():
    audio = np.ones(1, np.float32)
    rng = np.random.default_rng(0)
    gains = [20 * np.log10(augment.random_volume(audio, rng, -6.0, 3.0)[0]) for _ in range(200)]
    assert -6.01 < min(gains) < -5.5
    assert 2.5 < max(gains) < 3.01
    again = augment.random_volume(audio, np.random.default_rng(0), -6.0, 3.0)
    assert 20 * np.log10(again[0]) == gains[0]


def test_nothing_passes_full_scale():
    quiet, loud = np.array([0.5, -1.0], np.float32), np.array([0.5, -2.0], np.float32)
    assert augment.within_full_scale(quiet) is quiet
    np.testing.assert_array_equal(augment.within_full_scale(loud), [0.25, -1.0])
    assert augment.within_full_scale(loud).dtype == np.float32
    assert augment.within_full_scale(loud[:0]).shape == (0,)
