import functools
import itertools

import jax
import numpy as np
import pytest

from jaxasr.search.ctc_prefix import LOG_ZERO, emissions, extended, no_tokens, prefix_scores
from tests.search.alignments import texts_of

V, EOS = 4, 3
LENGTHS = (4, 2, 1, 0)


def score(texts, text):
    """Of all texts that begin so; of this one alone where eos ends it."""
    if text[-1] == EOS:
        return texts.get(text[:-1], 0.0)
    return sum(p for its, p in texts.items() if its[: len(text)] == text)


@pytest.mark.parametrize("garbage", [0.0, np.nan])
def test_prefix_scores_are_those_of_all_alignments(garbage):
    logits = np.random.default_rng(0).normal(scale=2.0, size=(4, 5, V)).astype(np.float32)
    logits[:, :, EOS] = -1e4  # CTC never says it
    for row, length in zip(logits, LENGTHS, strict=True):
        row[length:] = garbage
    emitted = jax.jit(emissions)(logits, np.array(LENGTHS))
    texts = [texts_of(np.float64(row[:length])) for row, length in zip(logits, LENGTHS, strict=True)]
    every = np.full((4, 2, V), np.arange(V))
    scores = jax.jit(functools.partial(prefix_scores, eos=EOS))
    heard, said = jax.jit(no_tokens, static_argnums=1)(emitted, 2), [(), ()]
    for parents, tokens in (([0, 0], [1, 2]), ([0, 0], [1, 2]), ([1, 0], [1, 1]), ([], [])):
        found = np.asarray(scores(heard, emitted, every))
        for row, hypothesis in itertools.product(range(4), range(2)):
            text = said[hypothesis]
            expected = [score(texts[row], (*text, token)) for token in range(1, V)]
            got = found[row, hypothesis, 1:]
            np.testing.assert_allclose(np.exp(np.maximum(got, -200.0)), expected, 1e-5, 1e-12, err_msg=f"{row} {text}")
            assert np.all((got < LOG_ZERO / 2) == (np.array(expected) == 0.0))
        if parents:
            heard = jax.jit(extended)(heard, emitted, np.tile(parents, (4, 1)), np.tile(tokens, (4, 1)))
            said = [(*said[parent], token) for parent, token in zip(parents, tokens, strict=True)]
