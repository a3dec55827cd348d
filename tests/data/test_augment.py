import numpy as np

from jaxasr.data import augment


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
