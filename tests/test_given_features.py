"""A run on features that were made before gives what the run on their sound gives."""

import csv
import dataclasses
import json
import pathlib
from typing import Any

import jax.numpy as jnp
import kaldiio
import numpy as np
import pytest

import jaxasr
from jaxasr import decode, evaluate, info, report
from jaxasr.data import audio, manifest
from jaxasr.data.utterance import Utterance
from jaxasr.decode import DecodeOptions
from jaxasr.errors import ConfigError, DataError
from jaxasr.logs import StepLog
from jaxasr.nn.frontends import GivenFeatures, WavFrontend
from jaxasr.parallel import Devices
from jaxasr.report import ReportOptions
from jaxasr.train import Stopped, train
from jaxasr.train_config import TrainConfig

from . import tiny
from .test_train import stop_at

SOUND = dataclasses.replace(
    tiny.CTC_TASK,
    preprocess=None,
    specaug=None,
    encoder=tiny.CTC_TASK.encoder.clone(dropout=0.0, attention_dropout=0.0),
)
GIVEN = dataclasses.replace(SOUND, frontend=GivenFeatures(width=16, lfr_m=5, lfr_n=3))


def log_mel(utterances: list[Utterance]) -> dict[str, np.ndarray]:
    """What the sound's frontend makes of them, before frames are stacked."""
    frontend = SOUND.frontend
    assert isinstance(frontend, WavFrontend)
    sounds = [audio.to_int16(audio.read(u, SOUND.sample_rate)) for u in utterances]
    lengths = np.array([len(s) for s in sounds], np.int32)
    padded = np.stack([np.pad(s, (0, max(lengths) - len(s))) for s in sounds]).astype(np.float32)
    features = np.asarray(frontend.log_mel(jnp.asarray(padded), lengths, SOUND.sample_rate))
    frames = frontend.num_frames(lengths, SOUND.sample_rate)
    return {u.id: row[:count] for u, row, count in zip(utterances, features, frames, strict=True)}


def as_csv(folder: pathlib.Path, kaldi: str) -> str:
    """A table of .npy files from a Kaldi folder of sound."""
    folder.mkdir()
    utterances = manifest.read(kaldi)
    for name, features in log_mel(utterances).items():
        np.save(folder / f"{name}.npy", features)
    with (folder / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "path", "text"], *([u.id, f"{u.id}.npy", u.text] for u in utterances)])
    return str(folder / "m.csv")


def as_archive(folder: pathlib.Path, kaldi: str) -> str:
    """A Kaldi folder of features from one of sound."""
    folder.mkdir()
    utterances = manifest.read(kaldi)
    kaldiio.save_ark(str(folder / "feats.ark"), log_mel(utterances), scp=str(folder / "feats.scp"))
    (folder / "text").write_text("".join(f"{u.id} {u.text}\n" for u in utterances))
    return str(folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[TrainConfig, TrainConfig]:
    """A run on sound, and one on features that was stopped and went on."""
    folder = tmp_path_factory.mktemp("runs")
    sound = tiny.config(folder, task=SOUND, epochs=1, valid_steps=3, keep_best=1, test=())
    given = dataclasses.replace(
        sound,
        task=GIVEN,
        train=(as_csv(folder / "given_train", sound.train[0]),),
        valid=(as_archive(folder / "given_valid", sound.valid[0]),),
        workdir=str(folder / "given"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Devices, "all", lambda *_: Devices.first())
        train(sound)
        with pytest.MonkeyPatch.context() as stopping:
            stopping.setattr(StepLog, "add", stop_at(4, StepLog.add))
            with pytest.raises(Stopped):
                train(given)
        train(given)
    return sound, given


def losses(cfg: TrainConfig, split: str) -> dict[int, float]:
    records = map(json.loads, (pathlib.Path(cfg.workdir) / "log.jsonl").read_text().splitlines())
    return {r["step"]: r["loss"] for r in records if r["split"] == split}


def test_losses_are_those_of_the_sound(runs):
    sound, given = runs
    for split in ("train", "valid"):
        expected, found = losses(sound, split), losses(given, split)
        assert found.keys() == expected.keys()
        np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-5)


def texts(cfg: TrainConfig, *inputs: str) -> dict[str, str]:
    return {h.id: h.text for h in decode.decode(DecodeOptions(inputs, cfg.workdir))}


def test_decoding_takes_every_form_of_features(runs, tmp_path):
    sound, given = runs
    expected = texts(sound, sound.valid[0])
    assert len(set(expected.values())) > 1
    assert texts(given, given.valid[0]) == expected
    table = as_csv(tmp_path / "given", sound.valid[0])
    assert texts(given, table) == texts(given, str(tmp_path / "given")) == expected
    lines = (pathlib.Path(given.valid[0]) / "feats.scp").read_text().splitlines()
    assert texts(given, lines[0].split()[1]) == {"feats": expected[lines[0].split()[0]]}
    name, text = next(iter(expected.items()))
    path = tmp_path / "given" / f"{name}.npy"
    recognizer = jaxasr.load(given.workdir)
    assert recognizer.transcribe(path) == recognizer.transcribe(np.load(path)) == text
    assert recognizer.transcribe([np.load(path).astype(np.float64), str(path)]) == [text, text]
    assert evaluate.read_texts(table) == evaluate.read_texts(given.valid[0])


def test_decoding_refuses_what_the_model_does_not_read(runs, tmp_path):
    sound, given = runs
    on_features, on_sound = (jaxasr.load(cfg.workdir) for cfg in (given, sound))
    for wrong in (np.zeros(8000, np.float32), np.zeros((20, 15), np.float32), np.full((20, 16), np.nan, np.float32)):
        with pytest.raises(DataError, match=r"^transcribe: "):
            on_features.transcribe(wrong)
    with pytest.raises(DataError, match=r"an array of shape \(20, 16\).*; samples \(S,\)"):
        on_sound.transcribe(np.zeros((20, 16), np.float32))
    for call in (on_features.transcribe, lambda name: texts(given, name)):
        with pytest.raises(DataError, match=r"^a.wav: 'a.wav'; --frontend=features reads .npy files and PATH.ark:OFF"):
            call("a.wav")
    for call in (on_sound.transcribe, lambda name: texts(sound, name)):
        for name in ("a.npy", "a.ark:3"):
            with pytest.raises(DataError, match=f"^{name}: '{name}' holds features; a sound file was expected; "):
                call(name)
    for folder in (str(tmp_path), sound.valid[0]):
        with pytest.raises(DataError, match=r"a folder without feats.scp and without feature files; .* \(.npy\); "):
            texts(given, folder)


def test_a_report_has_everything_but_sound(runs):
    _, given = runs
    page = report.report(ReportOptions(given.workdir)).read_text(encoding="utf-8")
    assert "No sound: the model reads features." in page and "CTC posteriors of" in page
    assert ("features", "100 frames a second, 30 ms per encoder frame") in list(
        info.lines(info.describe(given.workdir))
    )
    assert "feats.ark" in page and "<audio" not in page and "cannot be decoded" not in page


def test_training_says_what_is_wrong_with_the_features(runs, tmp_path):
    sound, given = runs

    def refused(**changes: Any) -> str:
        with pytest.raises(DataError) as caught:
            train(dataclasses.replace(given, workdir=str(tmp_path), **changes))
        return str(caught.value)

    narrow = dataclasses.replace(GIVEN, frontend=GivenFeatures(width=14, lfr_m=5, lfr_n=3))
    for valid in ((), given.valid):
        message = refused(task=narrow, valid=valid)
        assert message.startswith("--train: n") and "frames of 16 features; 14, as --frontend.width says, " in message
    assert "a folder without 'feats.scp'" in refused(train=sound.train)
    assert "reads its 'wav.scp'" in refused(train=sound.train)
    assert "holds features; a sound file was expected; " in refused(train=given.train, task=SOUND)


@pytest.mark.parametrize("changes", [{"preprocess": tiny.TASK.preprocess}, {"channel": 0}])
def test_options_for_sound_do_not_go_with_features(changes):
    message = "--frontend=features with --preprocess or --channel: .*; add --preprocess=none, "
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(GIVEN, **changes).check()


@pytest.mark.parametrize("frontend", [GivenFeatures(width=0), GivenFeatures(hop_ms=0.0), GivenFeatures(lfr_m=0)])
def test_frontends_that_cannot_be(frontend):
    with pytest.raises(ConfigError, match=r"^--frontend: "):
        dataclasses.replace(GIVEN, frontend=frontend).check()
