"""What every language model promises, as a network and as a search asks it; see test_contract.py."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from jaxasr.nn.lms import LMS, TransformerLm
from jaxasr.search.neural_lm import NeuralLm

from .test_contract import (
    TEXTS,
    Case,
    assert_differ,
    assert_is_value,
    assert_rows_close,
    check_padding,
    check_rows,
    jit,
    random_like,
    shallow,
    task_case,
    tiny,
)

SYMBOLS, ROOM = 11, 9
CASES = {name: tiny(LMS[name]) for name in LMS} | {
    "transformer, absolute": tiny(TransformerLm, positions="absolute"),
    "seq_rnn, gru": tiny(LMS["seq_rnn"], cell="gru"),
}
TOKENS = np.random.default_rng(0).integers(0, SYMBOLS, (3, 6), dtype=np.int32)
ALL = np.full(3, 6)
every_lm = pytest.mark.parametrize("name", list(CASES))


@functools.cache
def lm_case(name):
    """The network, its parameters, and `read(params, tokens, key=None)` to logits."""
    network = CASES[name]
    init = functools.partial(network.init, train=False, vocab_size=SYMBOLS)
    params = random_like(jax.eval_shape(init, jax.random.key(0), TOKENS))["params"]

    @jit
    def read(params, tokens, key=None):
        rngs = None if key is None else {"dropout": key}
        return network.apply({"params": params}, tokens, vocab_size=SYMBOLS, train=key is not None, rngs=rngs)[0]

    return network, params, read


@every_lm
def test_lm_is_causal_and_rows_are_independent(name):
    _, params, read = lm_case(name)
    logits = read(params, TOKENS)
    assert (logits.shape, logits.dtype) == ((3, 6, SYMBOLS), np.float32)
    changed = TOKENS.copy()
    changed[:, 3:] = (changed[:, 3:] + 5) % SYMBOLS
    found = read(params, changed)
    assert_rows_close(found, logits, np.full(3, 3))
    assert not np.any(np.isclose(found, logits, atol=1e-4)[:, 3:].all(axis=2))
    assert_rows_close(read(params, np.pad(TOKENS, ((0, 0), (0, 3)))), logits, ALL)
    assert_rows_close(read(params, TOKENS[[1, 0, 1]])[1:2], logits[:1], [6])


@every_lm
def test_lm_noise_comes_from_the_key_alone(name):
    _, params, read = lm_case(name)
    noisy = read(params, TOKENS, jax.random.key(3))
    np.testing.assert_array_equal(read(params, TOKENS, jax.random.key(3)), noisy)
    assert_differ(noisy, read(params, TOKENS), ALL)
    assert_differ(noisy, read(params, TOKENS, jax.random.key(4)), ALL)
    assert_rows_close(read(params, np.pad(TOKENS, ((0, 0), (0, 3))), jax.random.key(3)), noisy, ALL)


@every_lm
def test_lm_is_a_value(name):
    assert_is_value(lambda: CASES[name].clone())


@every_lm
def test_scorer_says_what_the_network_says_of_the_whole(name):
    """Of hypotheses of different lengths, which change their places on the way and are gone on with or not."""
    network, params, read = lm_case(name)
    scorer = NeuralLm(params, network, SYMBOLS)
    every = np.tile(np.arange(SYMBOLS, dtype=np.int32), (4, 1))
    start = jit(lambda s: s.start(4, ROOM))
    advance, score = jit(lambda s, state, last: s.advance(state, last)), jit(lambda s, state: s.score(state, every))
    take = jit(lambda s, state, rows: s.take(state, rows))
    rng, hypotheses, state = np.random.default_rng(1), [[], [], [], []], start(scorer)
    for _ in range(ROOM):
        rows, last = rng.integers(0, 4, 4), rng.integers(3, SYMBOLS, 4, dtype=np.int32)
        state = take(scorer, state, rows)
        hypotheses = [hypotheses[row] for row in rows]
        longer = rng.random(4) < 0.7
        after = advance(scorer, state, last)
        state = jax.tree.map(lambda x, y: np.where(longer.reshape(-1, *[1] * (x.ndim - 1)), x, y), after, state)  # noqa: B023
        hypotheses = [h + [int(n)] * bool(more) for h, n, more in zip(hypotheses, last, longer, strict=True)]
        whole = np.zeros((4, ROOM + 1), np.int32)
        for row, tokens in enumerate(hypotheses):
            whole[row, : len(tokens) + 1] = [1, *tokens]
        expected = jax.nn.log_softmax(read(params, whole))
        lengths = np.array([len(tokens) for tokens in hypotheses])
        np.testing.assert_allclose(score(scorer, state), expected[np.arange(4), lengths], atol=1e-5)
    assert len(set(map(len, hypotheses))) > 1


def test_task_with_a_recurrent_model_keeps_the_promises(tmp_path_factory):
    case = task_case("lm", tmp_path_factory.getbasetemp())
    task = shallow(dataclasses.replace(case.task, lm=tiny(LMS["seq_rnn"])))
    case = Case(task, case.examples)
    check_rows(case, case.examples)
    check_padding(case, case.wide, jax.random.key(5))


def test_an_empty_line_is_its_end(tmp_path_factory):
    """Its loss is that of `</s>` alone: finite, and one token."""
    case = task_case("lm", tmp_path_factory.getbasetemp())
    empty = case.examples[0]._replace(tokens=np.zeros(0, np.int32))
    loss, gradient, count = case.counted(case.batch([empty], seed=0))
    assert (np.isfinite(loss), count) == (True, 1)
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(gradient))
    _, _, both = case.counted(case.batch([empty, *case.examples]))
    assert both == 1 + sum(len(text) + 1 for text in TEXTS)


def test_perplexity_of_an_even_guess_is_the_number_of_tokens(tmp_path_factory):
    case = task_case("lm", tmp_path_factory.getbasetemp())
    zeros = jax.tree.map(np.zeros_like, case.params)
    (_, metrics), _ = jax.device_get(case.run(zeros, case.batch(case.examples)))
    values = case.task.values(metrics)
    assert values["perplexity"] == pytest.approx(len(case.task.vocabulary), rel=1e-5)
    assert values["loss"] == pytest.approx(np.log(len(case.task.vocabulary)), rel=1e-5)
