import dataclasses
import functools
import html.parser
import struct

import jax
import numpy as np
import pytest
import soundfile

import jaxasr
from jaxasr import checkpoint, notebook, plot
from jaxasr.data.batch import AsrExample
from jaxasr.errors import ConfigError, DataError
from jaxasr.nn.decoders import ParaformerSanmDecoder
from jaxasr.nn.encoders import SanmChunkEncoder, SanmEncoder
from jaxasr.plot import PlotOptions
from jaxasr.reporting import browser, looks
from jaxasr.tasks import ParaformerTask
from tests import tiny

SIZES = {"num_layers": 1, "d_model": 16, "num_heads": 2, "d_ff": 32, "kernel_size": 5}
RNG = np.random.default_rng(0)


@functools.cache
def paraformer(**options) -> tuple[ParaformerTask, dict]:
    """One that never learnt anything, with a CTC head."""
    before = {name: getattr(tiny.TASK, name) for name in ("sample_rate", "preprocess", "frontend", "tokenizer")}
    choices = {"encoder": SanmEncoder(**SIZES), "decoder": ParaformerSanmDecoder(**SIZES), "ctc_weight": 0.3}
    task = ParaformerTask(normalizer=None, **(choices | before | options))
    task = task.with_resources(vocabulary=jaxasr.Vocabulary((*tiny.TOKENS[:3], *"abcdefg", "<unk>")))
    params = jax.jit(task.model().init)(jax.random.key(3), task.batch_spec(jaxasr.BucketShape(1, 8000, 3)))
    return task, jax.tree.map(lambda x: 2.0 * x, jax.device_get(params))


class Texts(html.parser.HTMLParser):
    def __init__(self, page: str):
        super().__init__()
        self.found, self.boxes = [], 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.boxes += ("class", "box") in attrs

    def handle_data(self, data):
        self.found.append(data)


@pytest.mark.parametrize("chunked", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_look_at_a_paraformer(chunked):
    heard_in_chunks = {"encoder": SanmChunkEncoder(**SIZES), "decoder_look_back": (1,)}
    task, params = paraformer(**heard_in_chunks if chunked else {})
    sounds = [RNG.integers(-9000, 9000, size, dtype=np.int16) for size in (8000, 5000)]
    found = looks.look(task, params, [AsrExample("a", s, np.array([4, 5])) for s in sounds])
    for one, sound in zip(found, sounds, strict=True):
        frames = task.frames(len(sound))
        assert one.alphas.shape == (frames,) and one.ctc.shape == (frames, 11)
        assert one.attention.shape == (2, len(one.said), frames) and len(one.said) == len(one.fired) > 0
        assert [token for token, _, _ in one.aligned] == [4, 5]
        for _, start, end in (*one.aligned, *one.fired):
            assert 0.0 <= start < end <= frames
        if not chunked:
            np.testing.assert_allclose(one.attention.sum(axis=2), 1.0, rtol=1e-4)


def test_a_plot_of_a_sound(tmp_path):
    task, params = paraformer()
    checkpoint.save_model(tmp_path / "model", task, params)
    soundfile.write(tmp_path / "a.wav", RNG.normal(scale=0.1, size=16000), 8000)
    options = PlotOptions(str(tmp_path / "model"), str(tmp_path / "a.wav"), str(tmp_path / "out.html"))
    page = Texts(plot.plot(options).read_text())
    text = " ".join(page.found)
    for title in ("Spectrogram", "CTC posteriors", "Weights of the predictor", "Attention of the decoder"):
        assert title in text
    assert page.boxes > 0
    shown = Texts(notebook.plot(tmp_path / "model", tmp_path / "a.wav")._repr_html_())
    assert "Spectrogram" in shown.found and shown.boxes == page.boxes
    with pytest.raises(DataError, match=r"0\.01 s; one frame to 30 s were expected"):
        plot.plot(dataclasses.replace(options, start=0.5, seconds=0.01))
    for part in ({"start": -1.0}, {"start": np.nan}, {"seconds": np.nan}, {"seconds": -1.0}):
        with pytest.raises(ConfigError, match=r"^--start=.* --seconds=.*: 0 or more seconds, and more than 0, were"):
            plot.plot(dataclasses.replace(options, **part))


@pytest.mark.skipif(browser.find() is None, reason="no Chromium is installed")
def test_a_plot_as_a_picture(tmp_path):
    task, params = paraformer()
    checkpoint.save_model(tmp_path / "model", task, params)
    soundfile.write(tmp_path / "a.wav", RNG.normal(scale=0.1, size=8000), 8000)
    plot.main([str(tmp_path / "model"), str(tmp_path / "a.wav"), f"--output={tmp_path / 'a.png'}"])
    data = (tmp_path / "a.png").read_bytes()
    assert data.startswith(b"\x89PNG") and struct.unpack(">II", data[16:24])[0] == 1120
