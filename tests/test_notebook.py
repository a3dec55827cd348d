import json

import numpy as np

from jaxasr import consoles, notebook


def train_record(step: int) -> dict:
    return {"split": "train", "time": 1.0, "step": step, "epoch": 0.5, "loss": 9.0 / step, "learning_rate": 1e-3}


def drawn(shown: notebook.Shown) -> str:
    return shown._repr_html_()


def test_curves_are_drawn_anew_as_they_grow(monkeypatch):
    now, seen = [0.0], []
    monkeypatch.setattr(notebook.time, "monotonic", lambda: now[0])
    curves = notebook.LiveCurves(lambda shown: seen.append(drawn(shown)), charts=1)
    for record in ({"split": "session", "time": 0.0, "step": 0}, *map(train_record, (1, 2, 3))):
        curves(record)
    assert len(seen) == 1 and seen[0].count("<polyline") == 1  # the others came within a second
    now[0] = 1.5
    curves(train_record(4))
    curves({"split": "valid", "time": 2.0, "step": 4, "epoch": 1.0, "loss": 3.0, "wer": 0.5})
    assert len(seen) == 3 and "validation" in seen[2] and "Learning rate" not in seen[2]


def test_curves_of_a_run_that_goes_on_begin_at_its_first_step(tmp_path):
    seen = []
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(train_record(step)) + "\n" for step in (1, 2)))
    curves = notebook.LiveCurves(lambda shown: seen.append(drawn(shown).replace("&quot;", '"')), tmp_path)
    assert len(seen) == 1, "what there is of a run is shown though it may have ended"
    curves(train_record(7))
    assert len(seen) == 2
    for picture in seen:
        assert '"points":[[44.0,' in picture and '1,"9"]' in picture


def test_nothing_is_drawn_over_in_a_notebook(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    assert consoles.console().is_terminal
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    assert not consoles.console().is_terminal


def test_looks_are_for_what_is_shown_alone():
    """No rule of the report's style reaches the notebook around it."""
    style = notebook._styles()
    assert style.startswith(".jaxasr {") and style.count("{") == style.count("}")
    assert "& {" in style
    for name in (":root", "html {", "body {"):
        assert name not in style


def test_pictures(tmp_path):
    sound = np.random.default_rng(0).integers(-9000, 9000, 4000, dtype=np.int16)
    assert "data:image/png;base64," in drawn(notebook.spectrogram(sound, 8000))
    (tmp_path / "report.html").write_text("<!doctype html>\n<p>a report</p>")
    assert 'srcdoc="&lt;!doctype html&gt;' in drawn(notebook.report(tmp_path, height=300))
