"""Folders of streaming Paraformers, converted, hold FunASR's numbers of each whole sound; see make_online.py."""

import functools

import jax
import numpy as np

from jaxasr import checkpoint, decode
from jaxasr.convert import folders

from .fixtures import close_of
from .test_release import FOLDER, converted, sounds


@functools.cache
def expected() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "expected_online.npz") as arrays:
        return dict(arrays)


def test_numbers():
    """Of both sounds in one batch, whose padding changes nothing here; with the first of the two chunk sizes."""
    task, params = converted("online_0x")
    assert task.decoder_look_back == (1, 1)

    @jax.jit
    def said(params, batch):
        features, lengths = task.features(batch)
        found = task.network().apply({"params": params}, features, lengths, train=False, method="recognize")
        return features, found, jax.nn.log_softmax(found.attention_logits)

    features, found, log_probs = said(params, sounds(np.zeros((2, 1))))
    close, out = close_of("release_online"), expected()
    for row, count in enumerate(out[f"0/count_{row}"] for row in range(2)):
        frames = found.lengths[row]
        close_of("release_features")(features[row, :frames], out[f"feats_{row}"])
        close(found.encoded[row, :frames], out[f"0/encoder_out_{row}"])
        close(found.predicted.alphas[row, :frames], out[f"0/alphas_{row}"])
        assert found.predicted.counts[row] == count
        close(log_probs[row, :count], out[f"0/log_probs_{row}"])
        np.testing.assert_array_equal(np.argmax(log_probs[row, :count], -1), said_by_theirs(0, row))


def said_by_theirs(choice, row) -> np.ndarray:
    return np.argmax(expected()[f"{choice}/log_probs_{row}"], -1)


def test_the_text_whole_and_streamed(tmp_path, capsys):
    """With the second chunk size, chosen as the docs say."""
    folders.to_jaxasr(FOLDER / "online_1x", tmp_path / "model", print)
    file = tmp_path / "model/config.yaml"
    file.write_text(file.read_text().replace("chunk_choice: 0", "chunk_choice: 1"))
    text = checkpoint.load_task(tmp_path / "model").text
    rows = enumerate((FOLDER / "clips.txt").read_text().split())
    clips = {FOLDER / clip: text(said_by_theirs(1, row).tolist()) for row, clip in rows}
    capsys.readouterr()
    for options in ([], ["--stream", "--pace=0"]):
        decode.main([f"--model={tmp_path / 'model'}", *options, *map(str, clips)])
        assert capsys.readouterr().out.splitlines() == [f"{clip.stem} {words}" for clip, words in clips.items()]
