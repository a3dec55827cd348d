import numpy as np
import pytest
import soundfile

from jaxasr import config
from jaxasr.data.manifest import Utterance
from jaxasr.data.perturb import CommonPreprocessor
from jaxasr.errors import ConfigError
from jaxasr.tasks import AsrTask
from jaxasr.train_config import TrainConfig


def task_of(*argv: str) -> AsrTask:
    made = config.parse(TrainConfig, argv, prog="prog", description="")
    assert made is not None and isinstance(made.task, AsrTask)
    return made.task.prepared([Utterance("u", "", "ab")])


@pytest.fixture
def sound(tmp_path):
    """An utterance of a second at 8 kHz, and its samples."""
    samples = np.random.default_rng(0).integers(-9000, 9000, 8000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 8000)
    return Utterance("u", str(tmp_path / "a.wav"), "ab"), samples


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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"speeds": (1.0, 0.3)}, "--preprocess.speeds=(1.0, 0.3): factors from 0.5 to 2 were expected; "),
        ({"volume_db": -1.0}, "--preprocess.volume_db=-1.0: half the range of the gain, 0 or more, was expected; "),
    ],
)
def test_options_that_mean_nothing(options, said):
    with pytest.raises(ConfigError) as caught:
        AsrTask(preprocess=CommonPreprocessor(**options)).check()
    assert str(caught.value).startswith(said)
