import collections
import dataclasses

import numpy as np
import pytest
import soundfile

from jaxasr import command_line
from jaxasr.data import augment, sounds
from jaxasr.data.audio import to_int16
from jaxasr.data.manifest import Utterance
from jaxasr.data.perturb import CommonPreprocessor
from jaxasr.errors import ConfigError, DataError
from jaxasr.tasks import AsrTask
from jaxasr.train_config import TrainConfig
from tests.data.test_augment import power_by_frames, speech


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """Folders of noises and of rooms at several rates; one noise is shorter than most speech."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    (folder / "noise").mkdir()
    (folder / "rir").mkdir()
    for rate, seconds in ((8000, 6.0), (11_025, 0.03), (16_000, 0.4), (44_100, 1.0), (48_000, 3.0)):
        noise = np.cumsum(rng.normal(size=(int(rate * seconds), 2)), axis=0)  # low frequencies, as most noise
        soundfile.write(folder / "noise" / f"{rate}.flac", 0.3 * noise / np.max(np.abs(noise)), rate)
        taps = int(0.1 * rate)
        room = rng.normal(size=taps) * np.exp(-7 * np.arange(taps) / taps) * (np.arange(taps) > 0.01 * rate)
        soundfile.write(folder / "rir" / f"{rate}.wav", 0.3 * room / np.max(np.abs(room)), rate)
    return {"noise": str(folder / "noise"), "rir": str(folder / "rir")}


def task_of(*argv: str) -> AsrTask:
    made = command_line.parse(TrainConfig, argv, prog="prog", description="")
    assert made is not None and isinstance(made.task, AsrTask)
    return made.task.prepared([Utterance("u", "", "ab")])


@pytest.fixture
def sound(tmp_path):
    """An utterance of a second at 8 kHz, and its samples."""
    samples = np.random.default_rng(0).integers(-9000, 9000, 8000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 8000)
    return Utterance("u", str(tmp_path / "a.wav"), "ab"), samples


# Options


def test_none_is_the_sound_as_it_is(sound):
    task = task_of("--config=digits", "--preprocess=none")
    assert task.preprocess is None
    task.check()
    assert task.training_speeds() == (1.0,)
    utterance, samples = sound
    plain = task.preprocess_fn(train=False)(utterance, np.random.default_rng(0)).audio
    np.testing.assert_array_equal(plain, samples)
    np.testing.assert_array_equal(task.preprocess_fn(train=True)(utterance, np.random.default_rng(0)).audio, plain)
    changed = task_of("--config=digits").preprocess_fn(train=True)(utterance, np.random.default_rng(0)).audio
    assert (changed != plain).any()


def test_evaluation_is_clean_and_looks_for_no_files(sound, files):
    utterance, samples = sound
    gone = task_of("--config=digits", "--preprocess.noise=gone", "--preprocess.rir=gone")
    gone.check()
    plain = gone.preprocess_fn(train=False)(utterance, np.random.default_rng(0)).audio
    np.testing.assert_array_equal(plain, samples)
    with pytest.raises(DataError, match=r"^--preprocess.rir=gone: no such file or folder; "):
        gone.preprocess_fn(train=True)
    with pytest.raises(DataError, match=r"^--preprocess.noise=gone: no such file or folder; "):
        CommonPreprocessor(rir=files["rir"], noise="gone").perturb_fn(8000)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"speeds": (1.0, 0.3)}, "--preprocess.speeds=(1.0, 0.3): factors from 0.5 to 2 were expected; "),
        ({"volume_db": -1.0}, "--preprocess.volume_db=-1.0: half the range of the gain, 0 or more, was expected; "),
        ({"noise_probability": 1.1}, "--preprocess.noise_probability=1.1: 0 to 1 was expected; "),
        ({"rir_probability": -0.1}, "--preprocess.rir_probability=-0.1: 0 to 1 was expected; "),
        ({"snr_db": (9.0, 3.0)}, "--preprocess.snr_db=9.0 3.0: the lower ratio first was expected; "),
    ],
)
def test_options_that_mean_nothing(options, said):
    with pytest.raises(ConfigError) as caught:
        AsrTask(preprocess=CommonPreprocessor(**options)).check()
    assert str(caught.value).startswith(said)


def test_options_that_mean_something():
    argv = ("--preprocess.noise_probability=0.5", "--preprocess.snr_db", "5", "5", "--preprocess.rir_probability=0")
    task_of(*argv).check()


# Noise


def unlimited(perturb, x: np.ndarray, seed: int) -> np.ndarray:
    """What `perturb` makes of a sound too quiet to pass full scale, as loud again; by powers of two, so exact."""
    return perturb(x * np.float32(2**-10), np.random.default_rng(seed)) * np.float32(2**10)


def test_the_ratio_in_the_output_is_the_one_asked_for(files):
    """500 cases of any length, level, rate and noise, with and without a room and a gain, as int16."""
    rng, seen = np.random.default_rng(0), collections.Counter()
    preprocessors = {
        (rate, rir): CommonPreprocessor(noise=files["noise"], rir=rir).perturb_fn(rate)
        for rate in (8000, 16_000)
        for rir in (None, files["rir"])
    }
    for case in range(500):
        x = speech(int(10 ** rng.uniform(1.5, 4.6)), case)
        x *= np.float32(10 ** (-2 * rng.random() ** 3) / np.max(np.abs(x)))  # peaks at -40 to 0 dB
        snr_db = rng.uniform(-5, 25)
        rate, rir = ((8000, None), (16_000, None), (8000, files["rir"]), (16_000, files["rir"]))[case % 4]
        bound = preprocessors[rate, rir]
        options = dataclasses.replace(bound.options, snr_db=(snr_db, snr_db), volume_db=float(rng.choice([0.0, 6.0])))
        noisy = dataclasses.replace(bound, options=options)
        clean = dataclasses.replace(noisy, noises=())

        found = to_int16(noisy(x, np.random.default_rng(case))) / 32768
        peak = max(1.0, np.max(np.abs(unlimited(noisy, x, case))))
        wanted = unlimited(clean, x, case) / peak
        added = np.mean((found - wanted) ** 2)
        assert 10 * np.log10(power_by_frames(wanted) / added) == pytest.approx(snr_db, abs=0.1), case
        assert len(found) == len(x)
        seen["limited" if peak > 1.0 else "not limited"] += 1
        seen["shorter than a frame" if len(x) < 1024 else "longer"] += 1
    assert min(seen.values()) >= 30, seen


def test_ratios_are_drawn_evenly(files):
    perturb = CommonPreprocessor(noise=files["noise"], snr_db=(3.0, 10.0)).perturb_fn(8000)
    x = speech(4000)
    ratios = []
    for seed in range(300):
        added = unlimited(perturb, x, seed) - x
        ratios.append(10 * np.log10(power_by_frames(x) / np.mean(added**2)))
    assert 2.99 < min(ratios) < 3.3
    assert 9.7 < max(ratios) < 10.01
    assert np.mean(ratios) == pytest.approx(6.5, abs=0.4)


@pytest.mark.parametrize(("kind", "reader"), [("noise", "crop"), ("rir", "response")])
def test_files_are_drawn_evenly(files, kind, reader, monkeypatch):
    drawn, read = collections.Counter(), getattr(sounds, reader)
    monkeypatch.setattr(sounds, reader, lambda file, *args: drawn.update([file.rate]) or read(file, *args))
    perturb = CommonPreprocessor(**{kind: files[kind]}).perturb_fn(8000)
    for seed in range(300):
        perturb(speech(1000), np.random.default_rng(seed))
    assert drawn.keys() == {8000, 11_025, 16_000, 44_100, 48_000}
    assert all(35 < count < 90 for count in drawn.values()), drawn


@pytest.mark.parametrize("kind", ["noise", "rir"])
def test_probability(files, kind):
    x = speech(2000)

    def share(probability: float) -> float:
        options = {kind: files[kind], f"{kind}_probability": probability}
        perturb = CommonPreprocessor(**options).perturb_fn(8000)
        return np.mean([(unlimited(perturb, x, seed) != x).any() for seed in range(200)]).item()

    assert (share(0.0), share(1.0)) == (0.0, 1.0)
    assert share(0.3) == pytest.approx(0.3, abs=0.1)


def test_without_one_the_others_draw_the_same(files):
    x = speech(3000)
    options = CommonPreprocessor(noise=files["noise"], rir=files["rir"], volume_db=6.0, snr_db=(5.0, 5.0))

    def made(**changes) -> np.ndarray:
        return unlimited(dataclasses.replace(options, **changes).perturb_fn(8000), x, 7)

    np.testing.assert_array_equal(made(noise=None), made(noise_probability=0.0))
    np.testing.assert_array_equal(made(rir=None), made(rir_probability=0.0))
    gain = made(noise=None, rir=None)[0] / x[0]
    np.testing.assert_allclose(made(noise=None), gain * made(noise=None, volume_db=0.0), rtol=1e-5, atol=1e-7)
    noise = made(rir=None, volume_db=0.0) - x
    in_room = made(volume_db=0.0) - made(noise=None, volume_db=0.0)
    np.testing.assert_allclose(in_room, noise, atol=1e-5)


def test_a_gain_alone_may_clip_and_noise_with_it_does_not(files):
    x = 4.0 * speech(3000)
    assert np.max(np.abs(x)) > 2.0
    loud = CommonPreprocessor(volume_db=3.0).perturb_fn(8000)(x, np.random.default_rng(0))
    assert np.max(np.abs(loud)) > 1.0
    for kind in ("noise", "rir"):
        options = CommonPreprocessor(volume_db=3.0, **{kind: files[kind]})
        assert np.max(np.abs(options.perturb_fn(8000)(x, np.random.default_rng(0)))) == pytest.approx(1.0)


def test_rooms_keep_length_and_power(files):
    perturb = CommonPreprocessor(rir=files["rir"]).perturb_fn(16_000)
    for seed in range(40):
        x = speech(100 + 211 * seed, seed)
        wet = unlimited(perturb, x, seed)
        assert (wet.shape, wet.dtype) == (x.shape, np.float32)
        assert (wet != x).any()
        assert augment.speech_power(wet) == pytest.approx(augment.speech_power(x), rel=1e-5)


def test_silence_and_the_shortest_sounds(files):
    perturb = CommonPreprocessor(**files, volume_db=6.0).perturb_fn(8000)
    for samples in (0, 1, 2, 5000):
        silence = np.zeros(samples, np.float32)
        np.testing.assert_array_equal(perturb(silence, np.random.default_rng(0)), silence)
        found = perturb(silence + np.float32(0.1), np.random.default_rng(0))
        assert found.shape == (samples,) and np.isfinite(found).all()
