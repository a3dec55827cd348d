"""Folders of streaming Paraformers, converted, hold FunASR's numbers of each whole sound; see make_online.py."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest

from jaxasr import checkpoint, decode
from jaxasr.convert import folders

from .fixtures import close_of
from .test_release import FOLDER, converted, sounds

CLIPS = (FOLDER / "clips.txt").read_text().split()


@functools.cache
def expected() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "expected_online.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize(("name", "choice"), [("online_0x", 0), ("online_1x", 1)])
def test_numbers(name, choice):
    """Of both sounds in one batch, whose padding changes nothing here."""
    task, params = converted(name)
    task: Any = dataclasses.replace(task, encoder=task.encoder.clone(chunk_choice=choice))
    assert task.decoder_look_back == (1, 1)

    @jax.jit
    def said(params, batch):
        features, lengths = task.features(batch)
        variables = {"params": params}
        return features, task.network().apply(variables, features, lengths, train=False, method="recognize")

    features, found = said(params, sounds(np.zeros((2, 1))))
    close, out = close_of("release_online"), expected()
    for row, count in enumerate(out[f"{choice}/count_{row}"] for row in range(2)):
        frames = found.lengths[row]
        close_of("release_features")(features[row, :frames], out[f"feats_{row}"])
        assert found.predicted.counts[row] == count
        log_probs = jax.nn.log_softmax(found.attention_logits[row, :count])
        close(log_probs, out[f"{choice}/log_probs_{row}"])
        np.testing.assert_array_equal(np.argmax(log_probs, -1), np.argmax(out[f"{choice}/log_probs_{row}"], -1))
        if choice == 0:
            close(found.encoded[row, :frames], out[f"0/encoder_out_{row}"])
            close(found.predicted.alphas[row, :frames], out[f"0/alphas_{row}"])


def test_the_text_whole_and_streamed(tmp_path, capsys):
    folders.to_jaxasr(FOLDER / "online_1x", tmp_path / "model", print)
    task: Any = checkpoint.load_task(tmp_path / "model")
    said = [np.argmax(expected()[f"0/log_probs_{row}"], -1).tolist() for row in range(2)]
    lines = [f"{clip.removesuffix('.flac')} {task.text(ids)}" for clip, ids in zip(CLIPS, said, strict=True)]
    capsys.readouterr()
    for options in ([], ["--stream", "--pace=0"]):
        decode.main([f"--model={tmp_path / 'model'}", *options, *(str(FOLDER / clip) for clip in CLIPS)])
        assert capsys.readouterr().out.splitlines() == lines
