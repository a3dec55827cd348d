"""What every decoder of all tokens at once, and every predictor of them, promises; see test_contract.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.nn.decoders import PARALLEL_DECODERS
from jaxasr.nn.masking import length_mask
from jaxasr.nn.predictors import PREDICTORS, CifPredictorV3

from .slow import slow
from .test_contract import (
    GARBAGE,
    assert_differ,
    assert_is_value,
    assert_near,
    assert_rows_close,
    assert_trees_close,
    jit,
    padded,
    random_like,
    tiny,
)

WIDTH, SYMBOLS, ROOM = 16, 11, 9
MEMORY_LENGTHS = np.array([13, 8, 3], np.int32)
LENGTHS = np.array([6, 4, 1], np.int32)


def noise(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


MEMORY = padded(noise((3, 13, WIDTH), 0), MEMORY_LENGTHS, 0.0)
X = padded(noise((3, 6, WIDTH), 1), LENGTHS, 0.0)

# --- decoders ----------------------------------------------------------------------------------------------------


@functools.cache
def decoder_case(name):
    """The decoder, its variables and `decode(variables, x, lengths, memory, memory_lengths, key=None)`."""
    decoder = tiny(PARALLEL_DECODERS[name])
    init = functools.partial(decoder.init, train=False, vocab_size=SYMBOLS)
    variables = random_like(jax.eval_shape(init, jax.random.key(0), X, LENGTHS, MEMORY, MEMORY_LENGTHS))

    @jit
    def decode(variables, x, lengths, memory, memory_lengths, key=None):
        options = {"train": key is not None, "rngs": None if key is None else {"dropout": key}}
        return decoder.apply(variables, x, lengths, memory, memory_lengths, vocab_size=SYMBOLS, **options)

    return decoder, variables, decode


every_decoder = pytest.mark.parametrize("name", list(PARALLEL_DECODERS))


@every_decoder
def test_decoder_padding_changes_nothing(name):
    _, variables, decode = decoder_case(name)
    logits = decode(variables, X, LENGTHS, MEMORY, MEMORY_LENGTHS)
    assert (logits.shape, logits.dtype) == ((3, 6, SYMBOLS), np.float32)
    for garbage in GARBAGE:
        x, memory = padded(X, LENGTHS, garbage), padded(MEMORY, MEMORY_LENGTHS, garbage)
        assert_rows_close(decode(variables, x, LENGTHS, memory, MEMORY_LENGTHS), logits, LENGTHS)


@every_decoder
def test_decoder_rows_are_independent(name):
    _, variables, decode = decoder_case(name)
    logits = decode(variables, X, LENGTHS, MEMORY, MEMORY_LENGTHS)
    alone = decode(variables, X[1:2, :4], LENGTHS[1:2], MEMORY[1:2, :8], MEMORY_LENGTHS[1:2])
    assert_rows_close(alone, logits[1:2], LENGTHS[1:2])


@every_decoder
def test_decoder_gradient_stays_in_its_row(name):
    decoder, variables, _ = decoder_case(name)
    slope = noise((3, 6, SYMBOLS), 2)

    @jit
    @functools.partial(jax.grad, argnums=(0, 1, 2))
    def gradient(variables, x, memory, lengths):
        y = decoder.apply(variables, x, LENGTHS, memory, MEMORY_LENGTHS, vocab_size=SYMBOLS, train=False)
        return jnp.sum(jnp.where(length_mask(lengths, 6)[..., None], y * slope, 0.0))

    whole = gradient(variables, X, MEMORY, LENGTHS)
    parts = [gradient(variables, X, MEMORY, LENGTHS * (np.arange(3) == row)) for row in range(3)]
    assert_trees_close(jax.tree.map(lambda *g: sum(map(np.asarray, g)), *parts), whole)
    for row, (_, of_x, of_memory) in enumerate(parts):
        others = np.arange(3) != row
        assert not np.any(np.asarray(of_x)[others]) and not np.any(np.asarray(of_memory)[others])


@every_decoder
def test_decoder_computes_in_the_dtype_of_the_memory(name):
    _, variables, decode = decoder_case(name)
    logits = decode(variables, X, LENGTHS, MEMORY, MEMORY_LENGTHS)
    half = decode(variables, jnp.bfloat16(X), LENGTHS, jnp.bfloat16(MEMORY), MEMORY_LENGTHS)
    assert_near(half, logits, LENGTHS, np.float32)


@every_decoder
def test_decoder_noise_comes_from_the_key_alone(name):
    _, variables, decode = decoder_case(name)
    inputs = variables, X, LENGTHS, MEMORY, MEMORY_LENGTHS
    noisy = decode(*inputs, jax.random.key(3))
    np.testing.assert_array_equal(decode(*inputs, jax.random.key(3)), noisy)
    assert_differ(noisy, decode(*inputs), LENGTHS)
    assert_differ(noisy, decode(*inputs, jax.random.key(4)), LENGTHS)
    wide = padded(X, LENGTHS, np.nan, 5), LENGTHS, padded(MEMORY, MEMORY_LENGTHS, np.nan, 5), MEMORY_LENGTHS
    assert_rows_close(decode(variables, *wide, jax.random.key(3)), noisy, LENGTHS)


@every_decoder
def test_decoder_is_a_value(name):
    assert_is_value(lambda: tiny(PARALLEL_DECODERS[name]))


# --- predictors --------------------------------------------------------------------------------------------------

PREDICTOR_CASES = {name: tiny(PREDICTORS[name]) for name in PREDICTORS} | {
    f"cif_v3, {kind}": tiny(CifPredictorV3, upsample_type=kind, from_context=False) for kind in ("cnn", "cnn_attn")
}


@functools.cache
def predictor_case(name):
    """The predictor, its variables and `predict(variables, x, lengths, token_lengths=None, key=None)`."""
    predictor = PREDICTOR_CASES[name]
    init = functools.partial(predictor.init, train=False, num_tokens=ROOM)
    variables = random_like(jax.eval_shape(init, jax.random.key(0), MEMORY, MEMORY_LENGTHS))

    @jit
    def predict(variables, x, lengths, token_lengths=None, key=None):
        options = {"train": key is not None, "rngs": None if key is None else {"dropout": key}}
        return predictor.apply(variables, x, lengths, num_tokens=ROOM, token_lengths=token_lengths, **options)

    return predictor, variables, predict


every_predictor = pytest.mark.parametrize("name", slow(PREDICTOR_CASES, "cif_v3, cnn"))
TOKENS = np.array([7, 4, 2], np.int32)
SLOPE = noise((3, ROOM, WIDTH), 4)


def assert_same(found, expected, lengths, token_lengths):
    np.testing.assert_allclose(found.counts, expected.counts, rtol=1e-5)
    assert_rows_close(found.alphas, expected.alphas, lengths)
    assert_rows_close(found.embeddings, expected.embeddings, token_lengths)
    if expected.fine_alphas is not None:
        assert_rows_close(found.fine_alphas, expected.fine_alphas, 3 * lengths)


@every_predictor
@pytest.mark.parametrize("tokens", [None, TOKENS], ids=["counted", "given"])
def test_predictor_padding_changes_nothing(name, tokens):
    _, variables, predict = predictor_case(name)
    expected = predict(variables, MEMORY, MEMORY_LENGTHS, tokens)
    known = np.asarray(expected.counts, int) if tokens is None else tokens
    for garbage in GARBAGE:
        found = predict(variables, padded(MEMORY, MEMORY_LENGTHS, garbage), MEMORY_LENGTHS, tokens)
        assert_same(found, expected, MEMORY_LENGTHS, known)
    alone = predict(variables, MEMORY[1:2, :8], MEMORY_LENGTHS[1:2], None if tokens is None else tokens[1:2])
    row = jax.tree.map(lambda x: x[1:2], expected)
    assert_same(alone, row, MEMORY_LENGTHS[1:2], known[1:2])


@every_predictor
def test_predictor_gives_each_token_as_much(name):
    """Weights add up to the tokens, and so do the parts of them that tokens get; where there is nothing is 0."""
    _, variables, predict = predictor_case(name)
    found = predict(variables, np.ones_like(MEMORY), MEMORY_LENGTHS, TOKENS)
    np.testing.assert_allclose(np.sum(found.alphas, axis=1), TOKENS, rtol=1e-5)
    assert np.all(np.asarray(found.alphas) >= 0.0)
    expected = np.broadcast_to((np.arange(ROOM) < TOKENS[:, None])[..., None], found.embeddings.shape)
    np.testing.assert_allclose(found.embeddings, expected, atol=1e-5)
    assert found.counts.dtype == np.float32
    counted = predict(variables, MEMORY, MEMORY_LENGTHS)
    assert np.all(np.asarray(counted.counts) == np.floor(counted.counts))
    if found.fine_alphas is not None:
        assert found.fine_alphas.shape == (3, 39)


@every_predictor
def test_predictor_gradient_is_finite_where_there_is_nothing(name):
    predictor, variables, _ = predictor_case(name)

    @jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradient(variables, x, lengths, tokens):
        options = {"num_tokens": ROOM, "token_lengths": tokens, "train": False}
        found = predictor.apply(variables, x, lengths, **options)
        return jnp.sum(found.embeddings**2) + jnp.sum(found.counts)

    empty = np.array([13, 8, 0], np.int32)
    for leaf in jax.tree.leaves(gradient(variables, padded(MEMORY, empty, np.nan), empty, np.array([7, 0, 0]))):
        assert np.all(np.isfinite(leaf))


@every_predictor
def test_predictor_gradient_stays_in_its_row(name):
    predictor, variables, _ = predictor_case(name)

    @jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradient(variables, x, shares):
        found = predictor.apply(variables, x, MEMORY_LENGTHS, num_tokens=ROOM, token_lengths=TOKENS, train=False)
        of_rows = jnp.sum(found.embeddings * SLOPE, axis=(1, 2)) + found.counts
        if found.fine_alphas is not None:
            of_rows += jnp.sum(found.fine_alphas * SLOPE.reshape(3, -1)[:, :39], axis=1)
        return jnp.sum(of_rows * shares)

    whole = gradient(variables, MEMORY, np.ones(3, np.float32))
    parts = [gradient(variables, MEMORY, np.eye(3, dtype=np.float32)[row]) for row in range(3)]
    assert_trees_close(jax.tree.map(lambda *g: sum(map(np.asarray, g)), *parts), whole)
    for row, (_, of_x) in enumerate(parts):
        assert np.any(np.asarray(of_x)[row]) and not np.any(np.delete(np.asarray(of_x), row, axis=0))


@every_predictor
def test_predictor_computes_in_the_dtype_of_its_input(name):
    predictor, variables, predict = predictor_case(name)
    init = functools.partial(predictor.init, train=False, num_tokens=ROOM)
    random_like(jax.eval_shape(init, jax.random.key(0), jnp.bfloat16(MEMORY), MEMORY_LENGTHS))  # asserts float32
    expected = predict(variables, MEMORY, MEMORY_LENGTHS, TOKENS)
    half = predict(variables, jnp.bfloat16(MEMORY), MEMORY_LENGTHS, TOKENS)
    assert_near(half.embeddings, expected.embeddings, TOKENS)
    assert_near(half.alphas, expected.alphas, MEMORY_LENGTHS, np.float32)
    assert half.counts.dtype == np.float32
    if expected.fine_alphas is not None:
        assert_near(half.fine_alphas, expected.fine_alphas, 3 * MEMORY_LENGTHS, np.float32)


NOISY = {"cif", "cif_v3, cnn_attn"}
"""Predictors with dropout."""


@every_predictor
def test_predictor_noise_comes_from_the_key_alone(name):
    _, variables, predict = predictor_case(name)

    def weights(key, garbage=0.0, extra=0):
        found = predict(variables, padded(MEMORY, MEMORY_LENGTHS, garbage, extra), MEMORY_LENGTHS, TOKENS, key)
        return found.alphas if found.fine_alphas is None else found.fine_alphas

    known = MEMORY_LENGTHS if weights(None).shape[1] == 13 else 3 * MEMORY_LENGTHS
    noisy = weights(jax.random.key(3))
    np.testing.assert_array_equal(weights(jax.random.key(3)), noisy)
    assert_rows_close(weights(jax.random.key(3), np.nan, 5), noisy, known)
    check = assert_differ if name in NOISY else assert_rows_close
    check(noisy, weights(None), known)
    check(noisy, weights(jax.random.key(4)), known)


@every_predictor
def test_predictor_compiles_once_a_shape(name):
    """Neither lengths nor the number of tokens are part of a program."""
    predictor, variables, _ = predictor_case(name)
    traced = []

    @jit
    def predict(x, lengths, token_lengths):
        traced.append(x.shape)
        return predictor.apply(variables, x, lengths, num_tokens=ROOM, token_lengths=token_lengths, train=False)

    for lengths, tokens in ((MEMORY_LENGTHS, TOKENS), (MEMORY_LENGTHS[::-1], TOKENS[::-1]), (TOKENS, MEMORY_LENGTHS)):
        jax.block_until_ready(predict(MEMORY, lengths, tokens))
    assert traced == [MEMORY.shape]


@every_predictor
def test_predictor_is_a_value(name):
    assert_is_value(lambda: PREDICTOR_CASES[name].clone())


@every_predictor
@pytest.mark.parametrize("tail", [0.0, 0.45])
def test_predictor_scales_to_the_number_it_found(name, tail):
    predictor, variables, _ = predictor_case(name)

    def predict(scaled, **given):
        case = predictor.clone(scaled=scaled, tail_threshold=tail)
        return jit(lambda: case.apply(variables, MEMORY, MEMORY_LENGTHS, num_tokens=ROOM, train=False, **given))()

    found = predict(True)
    np.testing.assert_array_equal(found.counts, predict(False).counts)
    known = predict(False, token_lengths=found.counts.astype(np.int32))
    np.testing.assert_allclose(found.embeddings, known.embeddings, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.alphas[:, :-1], known.alphas, rtol=1e-6)
    assert not np.any(found.alphas[:, -1])


@every_predictor
def test_predictor_has_room_for_all_tokens(name):
    """Where every frame's weight is the greatest that there is."""
    predictor, variables, _ = predictor_case(name)
    output = variables["params"]["output"] | {"bias": np.full(1, 99.0, np.float32)}
    most = {"params": variables["params"] | {"output": output}}
    for options in ({}, {"smooth_factor": 1.7, "tail_threshold": 0.8}, {"smooth_factor": 0.5, "noise_threshold": 0.2}):
        changed = predictor.clone(**options)
        room = changed.room(MEMORY.shape[1])
        found = jit(functools.partial(changed.apply, num_tokens=room, train=False))(most, MEMORY, MEMORY_LENGTHS)
        weight = changed.smooth_factor - changed.noise_threshold
        expected = np.floor(MEMORY_LENGTHS * weight + changed.tail_threshold)
        np.testing.assert_array_equal(found.counts, expected)
        assert room - 1 <= found.counts[0] <= room == found.embeddings.shape[1]
