"""`python -m jaxasr.ngram`, and what a search makes of its file."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxasr import checkpoint
from jaxasr.data import arpa
from jaxasr.data.manifest import Utterance
from jaxasr.data.tokenizer import CharTokenizer
from jaxasr.ngram import NgramOptions, estimate, main
from jaxasr.search.scorers import Sum
from jaxasr.searching import SearchFlags

from . import tiny

TEXT = "One two\nTWO three\n\none three two\n"


@pytest.fixture
def task(tmp_path):
    """A model of characters in lower case, in the folder `model`."""
    task = dataclasses.replace(tiny.TASK, normalizer=None, tokenizer=CharTokenizer(), cleaners=("lower",))
    task = task.prepared([Utterance("u", "u.wav", "one two three four")])
    checkpoint.save_model(tmp_path / "model", task, {"w": np.zeros(1, np.float32)}, ())
    return task


def test_a_model_of_the_models_tokens(tmp_path, task):
    (tmp_path / "a.txt").write_text(TEXT)
    output = str(tmp_path / "lms" / "a.arpa")
    options = NgramOptions((str(tmp_path / "a.txt"),), output, model=str(tmp_path / "model"), discount_fallback=True)
    found = estimate(dataclasses.replace(options, valid=options.text))
    assert found.text.number == 3 and found.text.blank == 1
    assert set(found.model.words) == {*task.vocabulary.tokens} - {"<blank>"}
    assert found.valid is not None and 1.0 < found.valid.all == found.valid.known < 10.0
    assert arpa.read(output).words == found.model.words


def test_a_search_adds_up_what_its_flags_name(tmp_path, task):
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "hot.txt").write_text("Two\n")
    output = str(tmp_path / "a.arpa")
    estimate(NgramOptions((str(tmp_path / "a.txt"),), output, model=str(tmp_path / "model"), discount_fallback=True))
    flags = SearchFlags(ngram=output, ngram_weight=0.5, hotwords=str(tmp_path / "hot.txt"), hotwords_weight=3.0)
    fusion = flags.fusion(flags.scorers(task))

    @jax.jit
    def scored(fusion, said):
        several = Sum(fusion.scorers)
        state, total = several.start(1, len(said)), 0.0
        for token in said:
            total += several.score(state, token[None, None])[0, 0]
            state = several.advance(state, token[None])
        return total

    ids = task.vocabulary.encode(task.tokens("two"))
    model = arpa.read(output)
    alone = model.log10_scores(np.array([1, *(model.ids[t] for t in "two")]), np.arange(4))[1:].sum() * np.log(10.0)
    assert scored(fusion, ids) == pytest.approx(0.5 * alone + 3.0 * 3, rel=1e-5)


def test_the_summary(tmp_path, capsys):
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "b.txt").write_text("one four\n")
    arguments = [str(tmp_path / "a.txt"), f"--output={tmp_path / 'a.arpa'}", "--order=2", "--discount_fallback"]
    main([*arguments, "--valid", str(tmp_path / "b.txt")])
    said = capsys.readouterr().out
    assert "3 sentences (1 without words left out), 7 words" in said
    assert "without the 1 unknown of 2 words (50.00 %)" in said
