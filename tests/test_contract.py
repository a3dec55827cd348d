"""What every entry of every registry promises: a new one is tested by being registered."""

import copy
import dataclasses
import functools
import inspect
import itertools
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec

from jaxasr.averages import AVERAGES
from jaxasr.data.batch import AsrBatch, AsrFeatureBatch, AsrFeatureExample, BucketShape, TextBatch
from jaxasr.data.bucketing import PlannedBatch
from jaxasr.data.cleaners import CLEANERS, Cleaning
from jaxasr.data.lexicon import LookupTokenizer
from jaxasr.data.manifest import Utterance
from jaxasr.data.perturb import PREPROCESSORS
from jaxasr.data.pipeline import HostBatch
from jaxasr.data.tokenizer import TOKENIZERS, CharTokenizer, Vocabulary
from jaxasr.errors import ConfigError
from jaxasr.nn.batch_norm import STATS, running, split_stats
from jaxasr.nn.ctc import ctc_feasible
from jaxasr.nn.decoders import DECODERS
from jaxasr.nn.encoders import ENCODERS, Taps
from jaxasr.nn.frontends import FRONTENDS
from jaxasr.nn.masking import length_mask
from jaxasr.nn.network import AsrNetwork, SpeechOutputs
from jaxasr.nn.normalize import NORMALIZERS, Cmvn, UtteranceMvn
from jaxasr.nn.rows import DATA_AXIS
from jaxasr.nn.specaug import SPECAUGS, SpecAugment
from jaxasr.optim import OPTIMIZERS, Optimizer
from jaxasr.parallel import Devices, pmapped
from jaxasr.reporting.looks import last_attention
from jaxasr.schedules import SCHEDULES, Constant, Noam
from jaxasr.search.choices import NO_FUSION, Search
from jaxasr.state import TrainState, init_state, make_count, make_train_step, train_steps
from jaxasr.tasks import TASKS, AsrTask
from jaxasr.tasks.asr_search import by_joint
from jaxasr.tasks.base import Mean
from jaxasr.train_config import TrainConfig

from .slow import slow
from .unoptimised import UNOPTIMISED

# Compiling is nearly all that these tests cost: a fifth of it without optimisation.
jit = functools.partial(jax.jit, compiler_options=UNOPTIMISED)

SMALL = {
    "num_layers": 2,
    "d_model": 16,
    "num_heads": 2,
    "d_ff": 32,
    "d_hidden": 8,
    "d_attention": 8,
    "attention_filter": 3,
    "d_embed": 8,
    "subsample": (2,),
    "d_gate": 32,
    "kernel_size": 3,
    "dropout": 0.2,
    "attention_dropout": 0.2,
    "num_mels": 16,
    "width": 16,
    "dither": 1.0,
    "max_freq_width": 5,
    "max_time_width": 5,
    "time_warp_window": 6,
    "warmup_steps": 5,
    "phase_ratios": (0.025, 0.475, 0.5),
    "sample_rate": 8000,
    "volume_db": 6.0,
    "size": 28,
    "length_normalized_loss": False,
}
GARBAGE = [np.nan, 1e30, -7.0]


def tiny(cls, **changes):
    """An instance of width 16; whatever is random while training is on."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    slots = {n: tiny(type(f.default)) for n, f in fields.items() if f.metadata.get("registry") and f.default}
    return cls(**{n: v for n, v in (SMALL | slots | changes).items() if n in fields})


def random_like(shapes, seed=0):
    """Parameters of these shapes, none of them zero: compiling `init` would take longer, and hides biases."""
    rng = np.random.default_rng(seed)

    def draw(path, spec):
        assert spec.dtype == jnp.float32, jax.tree_util.keystr(path)
        x = rng.normal(size=spec.shape).astype(np.float32)
        name = path[-1].key
        if name == "var":
            return 0.5 + np.abs(x)
        return 1 + x / 10 if name == "scale" else x / 10 if x.ndim < 2 or name == "bias" else x / x.shape[-2] ** 0.5

    return jax.tree_util.tree_map_with_path(draw, shapes)


def padded(x, lengths, garbage, extra=0):
    """`x` (B, T, ...) with T wider by `extra` and garbage after each row's length."""
    x = np.pad(x, [(0, 0), (0, extra)] + [(0, 0)] * (x.ndim - 2))
    for row, length in zip(x, lengths, strict=True):
        row[length:] = garbage(row[length:].shape) if callable(garbage) else garbage
    return x


def assert_rows_close(found, expected, lengths, atol=1e-5):
    """Equal on each row's own positions, of which one array may have more room."""
    found, expected = np.asarray(found, np.float32), np.asarray(expected, np.float32)
    assert np.max(lengths) > 0
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(found[row, :length], expected[row, :length], rtol=1e-5, atol=atol, err_msg=f"{row}")


def assert_trees_close(found, expected):
    """Equal to 1e-5 of each array's largest element, and finite."""
    trees = jax.device_get((found, expected))
    found, expected = (dict(jax.tree_util.tree_flatten_with_path(tree)[0]) for tree in trees)
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        assert np.all(np.isfinite(value)), jax.tree_util.keystr(path)
        atol = 1e-5 * max(1.0, np.max(np.abs(value), initial=0.0))
        np.testing.assert_allclose(found[path], value, rtol=1e-5, atol=atol, err_msg=jax.tree_util.keystr(path))


def norm(tree):
    return np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(jax.device_get(tree))))


def assert_differ(found, expected, lengths):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_rows_close(found, expected, lengths)


def assert_near(half, full, lengths, dtype=jnp.bfloat16):
    """A result of this type, computed in bfloat16, within five percent of the float32 one, in norm."""
    assert half.dtype == dtype
    mask = np.arange(full.shape[1]) < np.asarray(lengths)[:, None]
    half, full = np.asarray(half, np.float32)[mask], np.asarray(full)[mask]
    assert np.linalg.norm(half - full) < 0.05 * np.linalg.norm(full)


def assert_is_value(make):
    """Made twice it is the same: hashable, equal, printable, and a copy is no other."""
    one, other = make(), make()
    assert one == other == copy.copy(one) == pickle.loads(pickle.dumps(one))
    assert hash(one) == hash(other)
    assert repr(one) == repr(other)


def check_lengths(output_lengths, sizes):
    """The same from whole numbers, a NumPy array and a traced one; never less for more."""
    expected = [output_lengths(int(s)) for s in sizes]
    assert all(type(n) is int and n >= 0 for n in expected)
    assert expected == sorted(expected)
    assert output_lengths(0) == 0
    as_array = output_lengths(np.asarray(sizes, np.int32))
    traced = jit(output_lengths)(np.asarray(sizes, np.int32))
    assert (as_array.dtype, traced.dtype) == (np.int32, np.int32)
    assert as_array.tolist() == traced.tolist() == expected


# --- encoders ----------------------------------------------------------------------------------------------------

FRAMES, WIDER, WIDTH = 29, 8, 20
LENGTHS = np.array([FRAMES, 18, 11], np.int32)


TRANSFORMER = tiny(ENCODERS["transformer"])
ENCODER_CASES = {name: tiny(ENCODERS[name]) for name in ENCODERS} | {
    "transformer, linear": TRANSFORMER.clone(subsampling="linear"),
    "transformer, none": TRANSFORMER.clone(subsampling="none"),
    "transformer, conv2d2": TRANSFORMER.clone(subsampling="conv2d2"),
    "transformer, conv2d6": TRANSFORMER.clone(subsampling="conv2d6"),
    "transformer, conv2d8": TRANSFORMER.clone(subsampling="conv2d8", remat=True),
    "transformer, norms last": TRANSFORMER.clone(norm_first=False, concat_after=True),
    "sanm_chunk, two sizes": tiny(
        ENCODERS["sanm_chunk"], chunk_size=(8, 12), stride=(5, 8), look_back=(1, 2), chunk_choice=1
    ),
    "conformer, layer norm": tiny(ENCODERS["conformer"], conv_norm="layer", positions="relative_legacy"),
}


@functools.cache
def encoder_case(name):
    """The encoder, its variables, an input and `encode(variables, x, lengths, key=None)`."""
    encoder = ENCODER_CASES[name]
    x = np.random.default_rng(0).normal(size=(3, FRAMES, WIDTH)).astype(np.float32)
    init = functools.partial(encoder.init, train=False)
    variables = random_like(jax.eval_shape(init, jax.random.key(0), x, LENGTHS))

    @jit
    def encode(variables, x, lengths, key=None):
        rngs = None if key is None else {"dropout": key}
        return encoder.apply(variables, x, lengths, train=key is not None, rngs=rngs)

    return encoder, variables, padded(x, LENGTHS, 0.0), encode


SLOW = [f"transformer, {option}" for option in ("none", "linear", "conv2d2", "conv2d6", "norms last")]
every_encoder = pytest.mark.parametrize("name", slow(ENCODER_CASES, *SLOW))


@every_encoder
def test_encoder_padding_changes_nothing(name):
    """More room neither: rows alone have less, and with a key there is more."""
    _, variables, x, encode = encoder_case(name)
    y, lengths = encode(variables, x, LENGTHS)
    assert np.all(np.isfinite(y[0]))
    for garbage in GARBAGE:
        found, found_lengths = encode(variables, padded(x, LENGTHS, garbage), LENGTHS)
        np.testing.assert_array_equal(found_lengths, lengths)
        assert_rows_close(found, y, lengths)


@every_encoder
def test_encoder_rows_are_independent(name):
    _, variables, x, encode = encoder_case(name)
    y, lengths = encode(variables, x, LENGTHS)
    alone, alone_lengths = encode(variables, x[1:2, : LENGTHS[1]], LENGTHS[1:2])
    assert_rows_close(alone, y[1:2], lengths[1:2])
    assert alone_lengths[0] == lengths[1]
    others, other_lengths = encode(variables, x[[2, 1, 0]], LENGTHS[[0, 1, 2]])
    assert_rows_close(others[1:2], y[1:2], lengths[1:2])
    np.testing.assert_array_equal(other_lengths, lengths)


@every_encoder
def test_encoder_lengths(name):
    encoder, variables, x, encode = encoder_case(name)
    check_lengths(encoder.output_lengths, range(100))
    for lengths in (LENGTHS, [FRAMES, FRAMES - 1, 0], [12, 10, 9]):
        lengths = np.array(lengths, np.int32)
        _, found = encode(variables, x, lengths)
        assert found.tolist() == encoder.output_lengths(lengths).tolist()
    for size in (9, 12, FRAMES):
        y, _ = jax.eval_shape(encode, variables, x[:, :size], LENGTHS)
        assert y.shape[1] >= encoder.output_lengths(size)
        assert y.shape == (3, y.shape[1], encoder.output_width)


@every_encoder
def test_encoder_filler_rows_leave_the_gradient(name):
    encoder, variables, x, encode = encoder_case(name)
    y, _ = jax.eval_shape(encode, variables, x, LENGTHS)
    slope = np.random.default_rng(1).normal(size=y.shape).astype(np.float32)

    @jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradient(variables, x, lengths):
        y, lengths = encoder.apply(variables, x, lengths, train=False)
        return jnp.sum(jnp.where(length_mask(lengths, y.shape[1])[:, :, None], y * slope, 0.0))

    garbage = np.random.default_rng(2).choice(GARBAGE, x.shape).astype(np.float32)
    whole = gradient(variables, x, LENGTHS)
    parts = []
    for row in range(3):
        mine = np.arange(3) == row
        parts.append(gradient(variables, np.where(mine[:, None, None], x, garbage), LENGTHS * mine))
        assert not np.any(np.asarray(parts[-1][1])[~mine])
    assert_trees_close(jax.tree.map(lambda *g: sum(map(np.asarray, g)), *parts), whole)


@every_encoder
def test_encoder_computes_in_the_dtype_of_its_input(name):
    encoder, variables, x, encode = encoder_case(name)
    half = jnp.asarray(x, jnp.bfloat16)
    init = functools.partial(encoder.init, train=False)
    random_like(jax.eval_shape(init, jax.random.key(0), half, LENGTHS))  # asserts float32
    y, lengths = encode(variables, x, LENGTHS)
    assert (y.dtype, lengths.dtype) == (np.float32, np.int32)
    assert_near(encode(variables, half, LENGTHS)[0], y, lengths)


@every_encoder
def test_encoder_noise_comes_from_the_key_alone(name):
    encoder, variables, x, encode = encoder_case(name)
    still, lengths = encode(variables, x, LENGTHS)
    keys = jax.random.split(jax.random.key(3), 2)
    noisy, _ = encode(variables, x, LENGTHS, keys[0])
    np.testing.assert_array_equal(encode(variables, x, LENGTHS, keys[0])[0], noisy)
    assert_rows_close(encode(variables, padded(x, LENGTHS, np.nan, WIDER), LENGTHS, keys[0])[0], noisy, lengths)
    if STATS not in variables:  # a batch norm that learns looks at all rows
        others = encode(variables, x[[0, 1, 0]], LENGTHS[[0, 1, 0]], keys[0])[0]
        assert_rows_close(others[:2], noisy[:2], lengths[:2])
    if hasattr(encoder, "dropout"):
        assert_differ(noisy, still, lengths)
        assert_differ(noisy, encode(variables, x, LENGTHS, keys[1])[0], lengths)


@every_encoder
def test_encoder_shows_its_layers(name):
    """One that takes taps; looking changes nothing, and what is shown is as free of padding as what comes out."""
    encoder, variables, x, encode = encoder_case(name)
    if "taps" not in inspect.signature(type(encoder).__call__).parameters:
        return

    @jit
    def look(variables, x, lengths):
        seen = []
        taps = Taps((1,), lambda y, come_out: seen.append(come_out(y)))
        y, lengths = encoder.apply(variables, x, lengths, train=False, taps=taps)
        return y, lengths, seen

    y, lengths = encode(variables, x, LENGTHS)
    found, found_lengths, (shown,) = look(variables, x, LENGTHS)
    np.testing.assert_array_equal(found_lengths, lengths)
    assert_rows_close(found, y, lengths)
    assert shown.shape == y.shape
    assert_differ(shown, y, lengths)
    _, _, (dirty,) = look(variables, padded(x, LENGTHS, np.nan), LENGTHS)
    assert_rows_close(dirty, shown, lengths)


@every_encoder
def test_encoder_is_a_value(name):
    assert_is_value(lambda: ENCODER_CASES[name].clone())


# --- decoders ----------------------------------------------------------------------------------------------------

ROOM, SYMBOLS = 8, 11
MEMORY_LENGTHS = np.array([13, 8, 3], np.int32)


@functools.cache
def decoder_case(name):
    """The decoder, its variables, tokens, memory and `decode(variables, tokens, memory, lengths, key=None)`."""
    decoder = tiny(DECODERS[name])
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, SYMBOLS, (3, 6), dtype=np.int32)
    memory = padded(rng.normal(size=(3, 13, 16)).astype(np.float32), MEMORY_LENGTHS, 0.0)
    init = functools.partial(decoder.init, train=False, vocab_size=SYMBOLS)
    variables = random_like(jax.eval_shape(init, jax.random.key(0), tokens, memory, MEMORY_LENGTHS))

    @jit
    def decode(variables, tokens, memory, lengths, key=None):
        rngs = None if key is None else {"dropout": key}
        options = {"vocab_size": SYMBOLS, "train": key is not None, "rngs": rngs}
        return decoder.apply(variables, tokens, memory, lengths, **options)[0]

    return decoder, variables, tokens, memory, decode


@functools.cache
def decoder_steps(name):
    """`step(tokens, memory, lengths, cache, position)` to logits and cache."""
    decoder, variables, *_ = decoder_case(name)

    @jit
    def step(tokens, memory, lengths, cache, position):
        options = {"vocab_size": SYMBOLS, "train": False, "cache": cache, "position": position}
        return decoder.apply(variables, tokens, memory, lengths, **options)

    return step


every_decoder = pytest.mark.parametrize("name", slow(DECODERS, "dynamic_conv", "lightweight_conv2d"))
ALL_TOKENS = np.full(3, 6)


@every_decoder
def test_decoder_is_causal(name):
    _, variables, tokens, memory, decode = decoder_case(name)
    logits = decode(variables, tokens, memory, MEMORY_LENGTHS)
    assert (logits.shape, logits.dtype) == ((3, 6, SYMBOLS), np.float32)
    changed = tokens.copy()
    changed[:, 3:] = (changed[:, 3:] + 5) % SYMBOLS
    found = decode(variables, changed, memory, MEMORY_LENGTHS)
    assert_rows_close(found, logits, np.full(3, 3))
    assert not np.any(np.isclose(found, logits, atol=1e-4)[:, 3:].all(axis=2))


@every_decoder
def test_decoder_padding_changes_nothing(name):
    _, variables, tokens, memory, decode = decoder_case(name)
    logits = decode(variables, tokens, memory, MEMORY_LENGTHS)
    for garbage in GARBAGE:
        dirty = padded(memory, MEMORY_LENGTHS, garbage)
        assert_rows_close(decode(variables, tokens, dirty, MEMORY_LENGTHS), logits, ALL_TOKENS)


@every_decoder
def test_decoder_shows_where_it_looks(name):
    decoder, variables, tokens, memory, _ = decoder_case(name)
    options = {"vocab_size": SYMBOLS, "train": False, "mutable": ["intermediates"]}
    _, sown = jit(functools.partial(decoder.apply, **options))(variables, tokens, memory, MEMORY_LENGTHS)
    weights = last_attention({"intermediates": {"decoder": sown["intermediates"]}})
    assert weights.shape[0] == 3 and weights.shape[2:] == (6, 13)
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-5)
    assert not np.any(weights * ~length_mask(MEMORY_LENGTHS, 13)[:, None, None])


@every_decoder
def test_decoder_rows_are_independent(name):
    _, variables, tokens, memory, decode = decoder_case(name)
    logits = decode(variables, tokens, memory, MEMORY_LENGTHS)
    alone = decode(variables, tokens[1:2, :4], memory[1:2, : MEMORY_LENGTHS[1]], MEMORY_LENGTHS[1:2])
    assert_rows_close(alone, logits[1:2], [4])
    others = decode(variables, tokens[[2, 1, 0]], memory[[2, 1, 0]], np.array([0, 8, 13], np.int32))
    assert_rows_close(others[1:2], logits[1:2], [6])
    assert np.all(np.isfinite(others))


@every_decoder
@pytest.mark.parametrize("chunks", [(1, 1, 1, 1, 1, 1), (3, 1, 1, 1)])
def test_decoder_steps_equal_the_whole(name, chunks):
    decoder, variables, tokens, memory, decode = decoder_case(name)
    logits = decode(variables, tokens, memory, MEMORY_LENGTHS)
    dirty = padded(memory, MEMORY_LENGTHS, np.nan)
    cache, position = decoder.empty_cache(3, ROOM, np.float32), 0
    for size in chunks:
        here = slice(position, position + size)
        found, cache = decoder_steps(name)(tokens[:, here], dirty, MEMORY_LENGTHS, cache, position)
        assert_rows_close(found, logits[:, here], np.full(3, size))
        position += size


@every_decoder
def test_decoder_cache_has_rows_at_axis_1(name):
    decoder, _, tokens, memory, _ = decoder_case(name)
    step, cache = decoder_steps(name), decoder.empty_cache(3, ROOM, np.float32)
    _, cache = step(tokens[:, :3], memory, MEMORY_LENGTHS, cache, 0)
    expected, _ = step(tokens[:, 3:4], memory, MEMORY_LENGTHS, cache, 3)
    order = np.array([2, 0, 0])
    moved = jax.tree.map(lambda x: np.asarray(x)[:, order], cache)
    found, _ = step(tokens[order, 3:4], memory[order], MEMORY_LENGTHS[order], moved, 3)
    assert_rows_close(found, np.asarray(expected)[order], np.ones(3, int))


@every_decoder
def test_decoder_in_a_beam(name):
    """Hypotheses that change places, and some that are let go, score as their whole texts do."""
    decoder, variables, _, memory, decode = decoder_case(name)
    network = AsrNetwork(None, decoder, SYMBOLS, has_ctc=False)
    search = Search("joint", beam=4, nbest=4, maxlenratio=-5.0)

    @jit
    def beam(variables, memory):
        outputs = SpeechOutputs(memory, MEMORY_LENGTHS, None)
        return by_joint(network, {"params": {"decoder": variables["params"]}}, outputs, search, NO_FUSION).nbest

    tokens, lengths, scores = map(np.asarray, beam(variables, memory))
    for k in range(4):
        said = np.pad(tokens[:, k], ((0, 0), (1, 0)), constant_values=Vocabulary.SOS)
        logits = decode(variables, np.maximum(said, 0), memory, MEMORY_LENGTHS)
        ends = np.arange(6) == lengths[:, k, None]
        targets = np.where(ends, Vocabulary.EOS, np.pad(tokens[:, k], ((0, 0), (0, 1))))
        counts = (np.arange(6) <= lengths[:, k, None]) & (np.arange(6) < 5)  # the sixth is not said
        each = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), np.maximum(targets, 0)[:, :, None], axis=2)
        np.testing.assert_allclose(np.sum(each[..., 0] * counts, axis=1), scores[:, k], rtol=1e-4, atol=1e-5)


@every_decoder
def test_decoder_filler_rows_leave_the_gradient(name):
    decoder, variables, tokens, memory, _ = decoder_case(name)
    slope = np.random.default_rng(1).normal(size=(3, 6, SYMBOLS)).astype(np.float32)

    @jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradient(variables, memory, lengths, weights):
        logits, _ = decoder.apply(variables, tokens, memory, lengths, vocab_size=SYMBOLS, train=False)
        return jnp.sum(logits * slope * weights[:, None, None])

    whole = gradient(variables, memory, MEMORY_LENGTHS, np.ones(3, np.float32))
    parts = []
    for row in range(3):
        mine = np.arange(3) == row
        dirty = np.where(mine[:, None, None], memory, np.float32(np.nan))
        parts.append(gradient(variables, dirty, MEMORY_LENGTHS * mine, mine.astype(np.float32)))
        assert not np.any(np.asarray(parts[-1][1])[~mine])
    assert_trees_close(jax.tree.map(lambda *g: sum(map(np.asarray, g)), *parts), whole)


@every_decoder
def test_decoder_computes_in_the_dtype_of_its_memory(name):
    """And says what it says in float32, in which logits are told apart."""
    decoder, variables, tokens, memory, decode = decoder_case(name)
    half = jnp.asarray(memory, jnp.bfloat16)
    init = functools.partial(decoder.init, train=False, vocab_size=SYMBOLS)
    random_like(jax.eval_shape(init, jax.random.key(0), tokens, half, MEMORY_LENGTHS))  # asserts float32
    logits = decode(variables, tokens, memory, MEMORY_LENGTHS)
    assert_near(decode(variables, tokens, half, MEMORY_LENGTHS), logits, ALL_TOKENS, jnp.float32)
    cache = decoder.empty_cache(3, ROOM, jnp.bfloat16)
    step_logits, cache = jax.eval_shape(decoder_steps(name), tokens[:, :1], half, MEMORY_LENGTHS, cache, 0)
    assert step_logits.dtype == jnp.float32
    sums = {jnp.dtype(jnp.float32)} & {x.dtype for x in jax.tree.leaves(decoder.empty_cache(3, ROOM, jnp.bfloat16))}
    assert {x.dtype for x in jax.tree.leaves(cache)} == {jnp.dtype(jnp.bfloat16)} | sums


@every_decoder
def test_decoder_noise_comes_from_the_key_alone(name):
    decoder, variables, tokens, memory, decode = decoder_case(name)
    still = decode(variables, tokens, memory, MEMORY_LENGTHS)
    keys = jax.random.split(jax.random.key(3), 2)
    noisy = decode(variables, tokens, memory, MEMORY_LENGTHS, keys[0])
    np.testing.assert_array_equal(decode(variables, tokens, memory, MEMORY_LENGTHS, keys[0]), noisy)
    wide = np.pad(tokens, ((0, 0), (0, 3))), padded(memory, MEMORY_LENGTHS, np.nan, 5), MEMORY_LENGTHS
    assert_rows_close(decode(variables, *wide, keys[0]), noisy, ALL_TOKENS)
    if hasattr(decoder, "dropout"):
        assert_differ(noisy, still, ALL_TOKENS)
        assert_differ(noisy, decode(variables, tokens, memory, MEMORY_LENGTHS, keys[1]), ALL_TOKENS)


@every_decoder
def test_decoder_is_a_value(name):
    assert_is_value(lambda: tiny(DECODERS[name]))


# --- frontends ---------------------------------------------------------------------------------------------------

RATE = 8000
SAMPLES = np.array([2400, 1777, 640, 199, 1, 0], np.int32)
GIVEN = np.array([30, 22, 7, 6, 1, 0], np.int32)
SOUND_FRONTENDS = [name for name in FRONTENDS if tiny(FRONTENDS[name]).input_frames is None]


@functools.cache
def frontend_case(name, subsampling):
    """The frontend before such an encoder, inputs with zeros in the padding, lengths, `features(x, lengths, key=None)`.

    Inputs are sound, or features where the frontend is given some.
    """
    frontend = tiny(FRONTENDS[name]).for_encoder(subsampling)
    rng, given = np.random.default_rng(0), frontend.input_frames
    if given is None:
        lengths, inputs = SAMPLES, rng.normal(scale=3000, size=(len(SAMPLES), max(SAMPLES))).astype(np.int16)
    else:
        lengths, inputs = GIVEN, rng.normal(size=(len(GIVEN), max(GIVEN), given.width)).astype(np.float32)

    @jit
    def features(inputs, lengths, key=None):
        return frontend(inputs, lengths, sample_rate=RATE, key=key)

    return frontend, padded(inputs, lengths, 0), lengths, features


def every_frontend(test, names=tuple(FRONTENDS)):
    return pytest.mark.parametrize("name", names)(pytest.mark.parametrize("subsampling", [1, 4])(test))


def every_frontend_of_sound(test):
    return every_frontend(test, SOUND_FRONTENDS)


def with_garbage(inputs, lengths, extra=0):
    """The inputs with something else in the padding."""
    rng = np.random.default_rng(9)
    if inputs.dtype == np.int16:
        return padded(inputs, lengths, lambda shape: rng.integers(-32768, 32768, shape, dtype=np.int16), extra)
    return padded(inputs, lengths, lambda shape: rng.choice(GARBAGE, shape), extra)


@every_frontend
def test_frontend_lengths_and_widths(name, subsampling):
    frontend, inputs, lengths, features = frontend_case(name, subsampling)
    check_lengths(lambda n: frontend.output_lengths(n, RATE), range(0, 3000, 7))
    x, frames = features(inputs, lengths)
    assert (x.dtype, frames.dtype) == (np.float32, np.int32)
    assert frames.tolist() == frontend.output_lengths(lengths, RATE).tolist()
    assert x.shape == (len(lengths), x.shape[1], frontend.output_width)
    assert x.shape[1] >= max(frames)
    assert frontend.output_width % frontend.num_bands == 0
    rate = RATE if frontend.input_frames is None else 1000 / frontend.input_frames.hop_ms
    hour = frontend.output_lengths(int(3600 * rate), RATE) * frontend.frame_ms()
    np.testing.assert_allclose(hour, 3_600_000, rtol=1e-4)


@every_frontend
def test_frontend_padding_is_zero_and_changes_nothing(name, subsampling):
    _, inputs, lengths, features = frontend_case(name, subsampling)
    x, frames = features(inputs, lengths)
    for extra in (0, 555):
        found, found_frames = features(with_garbage(inputs, lengths, extra), lengths)
        np.testing.assert_array_equal(found_frames, frames)
        assert_rows_close(found, x, frames)
        assert not np.any(np.asarray(found)[np.arange(found.shape[1]) >= np.asarray(frames)[:, None]])


@every_frontend
def test_frontend_rows_are_independent(name, subsampling):
    _, inputs, lengths, features = frontend_case(name, subsampling)
    x, frames = features(inputs, lengths)
    alone, alone_frames = features(inputs[1:2, : lengths[1]], lengths[1:2])
    assert alone_frames[0] == frames[1]
    assert_rows_close(alone, x[1:2], frames[1:2])


@every_frontend_of_sound
def test_frontend_takes_float_sound(name, subsampling):
    _, audio, _, features = frontend_case(name, subsampling)
    x, frames = features(audio, SAMPLES)
    sound = padded(audio.astype(np.float32) / 32768, SAMPLES, np.nan)
    found, found_frames = features(sound, SAMPLES)
    np.testing.assert_array_equal(found_frames, frames)
    assert_rows_close(found, x, frames)


@every_frontend_of_sound
def test_frontend_takes_a_batch_too_short_for_a_frame(name, subsampling):
    frontend, audio, _, features = frontend_case(name, subsampling)
    lengths = np.array([20, 0], np.int32)
    x, frames = features(audio[:2, :20], lengths)
    assert frames.tolist() == frontend.output_lengths(lengths, RATE).tolist()
    assert frames[0] in (0, 1) and frames[1] == 0  # one whose windows reach beyond the ends has a frame of anything
    assert np.all(np.isfinite(x)) and not np.any(np.asarray(x)[1]) and np.any(np.asarray(x)[0]) == frames[0]


@every_frontend
def test_frontend_noise_comes_from_the_key_alone(name, subsampling):
    frontend, inputs, lengths, features = frontend_case(name, subsampling)
    keys = jax.random.split(jax.random.key(3), 2)
    x, frames = features(inputs, lengths, keys[0])
    assert np.all(np.isfinite(x))
    found, found_frames = features(with_garbage(inputs, lengths, 555), lengths, keys[0])
    np.testing.assert_array_equal(found_frames, frames)
    assert_rows_close(found, x, frames)
    if getattr(frontend, "dither", 0.0):
        assert_differ(x, features(inputs, lengths)[0], frames)
        assert_differ(x, features(inputs, lengths, keys[1])[0], frames)


@every_frontend
def test_frontend_is_a_value(name, subsampling):
    assert_is_value(lambda: tiny(FRONTENDS[name]).for_encoder(subsampling))


# --- normalizers, SpecAugment ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(NORMALIZERS))
def test_normalizer(name):
    normalizer = tiny(NORMALIZERS[name])
    rng = np.random.default_rng(0)
    x = padded(rng.normal(size=(3, FRAMES, WIDTH)).astype(np.float32), LENGTHS, 0.0)
    cmvn = Cmvn(*rng.uniform(1, 2, size=(2, WIDTH)).astype(np.float32)) if normalizer.needs_statistics else None
    normalised = jit(lambda x, lengths: normalizer(x, lengths, cmvn))
    y = normalised(x, LENGTHS)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert_differ(y, x, LENGTHS)
    for garbage in GARBAGE:
        assert_rows_close(normalised(padded(x, LENGTHS, garbage, WIDER), LENGTHS), y, LENGTHS)
    assert_rows_close(normalised(x[1:2, : LENGTHS[1]], LENGTHS[1:2]), y[1:2], LENGTHS[1:2])
    assert np.all(np.isfinite(normalised(x, LENGTHS * 0)))
    assert_is_value(lambda: tiny(NORMALIZERS[name]))


@pytest.mark.parametrize("name", list(SPECAUGS))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_specaug(name, dtype):
    specaug = tiny(SPECAUGS[name])
    specaug.check()
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, FRAMES, WIDTH)), dtype)
    x = padded(np.asarray(x), LENGTHS, 0.0)
    changed = jit(lambda x, lengths, key: specaug(x, lengths, num_bands=WIDTH // 2, key=key))
    keys = jax.random.split(jax.random.key(0), 8)
    atol = 1e-6 if dtype == "float32" else 2e-2  # a time warp may round the other way
    for key in keys:
        y = changed(x, LENGTHS, key)
        assert (y.shape, y.dtype) == (x.shape, x.dtype)
        beyond = np.arange(FRAMES + WIDER) >= LENGTHS[:, None]
        for garbage in GARBAGE:
            wide = padded(x, LENGTHS, garbage, WIDER)
            found = np.asarray(changed(wide, LENGTHS, key))
            assert_rows_close(found, y, LENGTHS, atol=atol)
            np.testing.assert_array_equal(found[beyond].astype(np.float32), wide[beyond].astype(np.float32))
        others = changed(x[[1, 1, 2]], LENGTHS[[1, 1, 1]], key)
        assert_rows_close(others[1:2], y[1:2], LENGTHS[1:2], atol=atol)
        nothing = changed(x, LENGTHS * 0, key)
        np.testing.assert_array_equal(np.asarray(nothing), x)
    assert len({np.asarray(changed(x, LENGTHS, key)).tobytes() for key in keys}) == len(keys)
    views = jit(lambda key: specaug(x, LENGTHS, num_bands=WIDTH // 2, key=key, views=2))(keys[0])
    assert (views.shape, views.dtype) == ((6, *x.shape[1:]), x.dtype)
    assert_differ(views[0::2], views[1::2], LENGTHS)
    np.testing.assert_array_equal(changed(x, LENGTHS, keys[0]), changed(x, LENGTHS, keys[0]))
    assert_is_value(lambda: tiny(SPECAUGS[name]))


@pytest.mark.parametrize("name", list(SPECAUGS))
def test_specaug_is_the_same_on_any_number_of_devices(name):
    specaug, devices, rows = tiny(SPECAUGS[name]), Devices.all(), 2 * jax.device_count()
    x = np.tile(np.random.default_rng(0).normal(size=(1, FRAMES, WIDTH)).astype(np.float32), (rows, 1, 1))
    lengths = np.full(rows, FRAMES, np.int32)

    def changed(x, lengths, key):
        return specaug(x, lengths, num_bands=WIDTH // 2, key=key)

    whole = np.asarray(jit(changed)(x, lengths, jax.random.key(0)))
    spec = PartitionSpec(DATA_AXIS)
    share = pmapped(changed, devices.mesh, (spec, spec, PartitionSpec()), spec)
    np.testing.assert_allclose(share(x, lengths, jax.random.key(0)), whole, rtol=1e-5, atol=1e-6)
    assert len({row.tobytes() for row in whole}) == rows


# --- what training does to sound ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(PREPROCESSORS))
def test_preprocess(name):
    perturber = tiny(PREPROCESSORS[name])
    perturber.check()
    perturb = pickle.loads(pickle.dumps(perturber.perturb_fn(RATE)))  # as a worker gets it
    loud = np.random.default_rng(0).normal(scale=0.2, size=3000).astype(np.float32)
    for sound in (loud, loud[:300], loud[:1], loud[:0], 0.0 * loud):
        before = sound.copy()
        found = [perturb(sound, np.random.default_rng(seed)) for seed in (1, 1, 2)]
        assert all((y.shape, y.dtype) == (sound.shape, np.float32) and np.isfinite(y).all() for y in found)
        np.testing.assert_array_equal(found[0], found[1])
        assert (found[0] != found[2]).any() == before.any()
        np.testing.assert_array_equal(sound, before)
    assert_is_value(lambda: tiny(PREPROCESSORS[name]))


@pytest.mark.parametrize("name", list(PREPROCESSORS))
@pytest.mark.parametrize("speeds", [(), (1.0, 0.4), (2.1,), (-1.0,)])
def test_preprocess_refuses_speeds_that_are_none(name, speeds):
    with pytest.raises(ConfigError, match=r"^--preprocess.speeds=.*: factors from 0.5 to 2 were expected; "):
        tiny(PREPROCESSORS[name], speeds=speeds).check()


# --- tokenizers --------------------------------------------------------------------------------------------------


every_tokenizer = pytest.mark.parametrize("name", list(TOKENIZERS))
# ▁ is a space to sentencepiece
any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"))


@functools.cache
def learnt_tokenizer(name, symbols=()):
    """The tokenizer with what it learns from a few transcripts."""
    words = {"lines": ("the the", "fox fox", "jumps jumps")}  # what they lack stays as it is
    tokenizer = tiny(TOKENIZERS[name], cleaning=Cleaning.of(("lower",), symbols), **words)
    return tokenizer.prepared(["The quick brown fox", "jumps over the lazy dog"] * 5)


@every_tokenizer
@settings(deadline=None)
@given(text=any_text)
def test_tokenizer(name, text):
    tokenizer = learnt_tokenizer(name)
    tokens = tokenizer.split(text)
    assert all(token and not re.search(r"\s", token) for token in tokens)
    normalised = tokenizer.join(tokens)
    if not isinstance(tokenizer, LookupTokenizer):
        assert re.sub(r"\s", "", normalised) == re.sub(r"\s", "", text)
    assert tokenizer.split(normalised) == tokens


@every_tokenizer
@settings(deadline=None)
@given(parts=st.lists(st.sampled_from(["<NOISE>", "<NOISE>s", "[a,b]", "FOX", "O", " ", "<"])))
def test_tokenizer_keeps_symbols_whole(name, parts):
    text, symbols = "".join(parts), ("<NOISE>", "<NOISE>s", "[a,b]")
    tokenizer = learnt_tokenizer(name, symbols)
    tokens = tokenizer.tokens(text)
    assert [t for t in tokens if t in symbols] == re.findall(r"<NOISE>s?|\[a,b\]", text)
    cleaned = re.sub("FOX|O(?!I)", lambda found: found[0].lower(), text)
    assert re.sub(r"\s", "", tokenizer.join(tokens)) == re.sub(r"\s", "", cleaned)


@every_tokenizer
def test_tokenizer_is_a_value_and_travels(name, tmp_path):
    assert_is_value(lambda: tiny(TOKENIZERS[name]))
    tokenizer = learnt_tokenizer(name, ("<NOISE>",))
    tokens = tokenizer.tokens("The fox <NOISE> jumps")
    assert pickle.loads(pickle.dumps(tokenizer)).tokens("The fox <NOISE> jumps") == tokens
    assert set(tokens) <= set(tokenizer.inventory(["The fox <NOISE> jumps"]))
    for file, content in tokenizer.files().items():
        (tmp_path / file).write_bytes(content)
    loaded = dataclasses.replace(tiny(TOKENIZERS[name]), cleaning=tokenizer.cleaning).load(tmp_path)
    assert loaded.tokens("The fox <NOISE> jumps") == tokens
    assert loaded.files() == tokenizer.files()


# --- cleaners ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(CLEANERS))
@settings(deadline=None)
@given(text=any_text)
def test_cleaner(name, text):
    cleaner = CLEANERS[name]()
    assert cleaner(cleaner(text)) == cleaner(text)
    cleaning = Cleaning.of((name,))
    assert cleaning(cleaning(text)) == cleaning(text)
    assert pickle.loads(pickle.dumps(cleaning)) == cleaning
    assert cleaning.names() == ([] if name == "none" else [name])


# --- optimizers, schedules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_optimizer_goes_downhill(name):
    optimizer = tiny(OPTIMIZERS[name], learning_rate=0.05)
    optimizer.check()
    transform = optimizer.build()
    goal = {"a": np.array([1.0, -2.0], np.float32), "b": np.array([[0.5]], np.float32)}

    def loss(params):
        return sum(jnp.sum(jnp.square(params[k] - goal[k])) for k in goal)

    @jit
    def descend(params):
        def step(carry, _):
            params, state = carry
            updates, state = transform.update(jax.grad(loss)(params), state, params)
            return (jax.tree.map(lambda p, u: p - optimizer.learning_rate * u, params, updates), state), loss(params)

        (params, _), losses = jax.lax.scan(step, (params, transform.init(params)), length=400)
        return loss(params), losses

    last, losses = descend(jax.tree.map(np.zeros_like, goal))
    assert losses[1] < losses[0]
    assert last < 1e-2 * losses[0]
    assert_is_value(lambda: tiny(OPTIMIZERS[name]))


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_optimizer_clips_the_global_norm(name):
    params = {"a": np.ones(3, np.float32), "b": np.ones((2, 2), np.float32)}
    rng = np.random.default_rng(0)
    gradients = [{k: np.float32(s * rng.normal(size=p.shape)) for k, p in params.items()} for s in (3, 0.1, 30)]
    norms = [np.sqrt(sum(np.sum(np.square(g)) for g in gradient.values())) for gradient in gradients]
    limit = float(norms[0]) / 2
    assert norms[1] < limit < norms[2]

    @functools.partial(jit, static_argnums=0)
    def updates_of(clip_norm, gradients):
        transform = tiny(OPTIMIZERS[name], clip_norm=clip_norm).build()
        state, found = transform.init(params), []
        for gradient in gradients:
            updates, state = transform.update(gradient, state, params)
            found.append(updates)
        return found

    clipped = [
        {k: g * np.float32(min(1.0, limit / norm)) for k, g in gradient.items()}
        for gradient, norm in zip(gradients, norms, strict=True)
    ]
    assert_trees_close(updates_of(limit, gradients), updates_of(0.0, clipped))
    assert_trees_close(updates_of(1e9, gradients), updates_of(0.0, gradients))


def peak_of(schedule):
    """The highest share; Noam's learning rate is no peak but a factor."""
    return (schedule.d_model * max(schedule.warmup_steps, 1)) ** -0.5 if isinstance(schedule, Noam) else 1.0


@functools.cache
def shares_of(schedule):
    """`shares(steps, total)`."""
    return jit(jax.vmap(schedule, in_axes=(0, None)))


@pytest.mark.parametrize("name", list(SCHEDULES))
@pytest.mark.parametrize("total", [1, 2, 3, 8, 200])
def test_schedule(name, total):
    schedule = tiny(SCHEDULES[name])
    schedule.check()
    shares = shares_of(schedule)
    share = shares(np.arange(250, dtype=np.int32), np.int32(total))
    assert (share.shape, share.dtype) == ((250,), np.float32)
    other = shares(np.arange(250, dtype=np.int32), np.int32(total + 9))
    assert schedule.needs_total != np.array_equal(share, other)
    share = np.asarray(share) / peak_of(schedule)
    assert np.all(np.isfinite(share) & (share >= 0.0) & (share <= 1.0 + 1e-6))
    assert share.max() > 0.75  # a peak may lie between two steps of a run of three
    peak = share.argmax()
    assert peak <= 5
    assert np.all(np.diff(share[: peak + 1]) > 0)  # warm-up
    assert np.all(np.diff(share[peak:]) <= 0)
    assert np.all(share[:total] > 0)  # every step of the run learns
    assert_is_value(lambda: tiny(SCHEDULES[name]))


@pytest.mark.parametrize("name", list(SCHEDULES))
@pytest.mark.parametrize("warmup_steps", [0, 1])
def test_schedule_without_warmup(name, warmup_steps):
    phases = (warmup_steps / 100, 0.5 - warmup_steps / 100, 0.5)
    schedule = tiny(SCHEDULES[name], warmup_steps=warmup_steps, phase_ratios=phases)
    np.testing.assert_allclose(jit(schedule)(np.int32(0), np.int32(100)), peak_of(schedule), rtol=1e-6)


@pytest.mark.parametrize("name", list(AVERAGES))
def test_average(name):
    """It stays between the parameters that there were; of equal ones it is those; `step` and `total` may be traced."""
    average = tiny(AVERAGES[name])
    average.check()
    rng = np.random.default_rng(0)
    start, course = rng.normal(size=3).astype(np.float32), rng.normal(size=(20, 3)).astype(np.float32)

    @jit
    def averages(course, total):
        def step(averaged, now):
            number, params = now
            averaged = average.update(averaged, {"w": params}, number, total)
            return averaged, averaged.params["w"]

        begin = average.init({"w": jnp.asarray(start)})
        return jax.lax.scan(step, begin, (jnp.arange(1, 21), course))[1]  # a carry of another type is an error

    found = np.asarray(averages(course, 20))
    before = np.concatenate([start[None], course])
    for n in range(20):
        low, high = before[: n + 2].min(axis=0), before[: n + 2].max(axis=0)
        assert np.all((low - 1e-6 <= found[n]) & (found[n] <= high + 1e-6))
    assert not np.allclose(found[-1], course[-1])
    np.testing.assert_allclose(averages(np.tile(start, (20, 1)), 20), np.tile(start, (20, 1)), rtol=1e-6)
    assert_is_value(lambda: tiny(AVERAGES[name]))


# --- tasks -------------------------------------------------------------------------------------------------------

NARROW, WIDE = BucketShape(rows=8, samples=4800, tokens=5), BucketShape(rows=8, samples=5700, tokens=7)
TEXTS = ["abc", "aab", "c", "cab", "bb"]
ALONE = {"decoder": None, "ctc_weight": 1.0}
"""CTC compiles faster without a decoder, for what another test shows with one."""
BATCH_NORM = tiny(ENCODERS["conformer"], num_layers=1, subsampling="linear", macaron=False, positions="absolute")
"""The least encoder with running statistics."""


@dataclasses.dataclass
class Case:
    """A task with examples, parameters and jitted functions; a replaced one keeps the parameters."""

    task: object
    examples: list
    params: object = None
    narrow: BucketShape = NARROW
    wide: BucketShape = WIDE

    def __post_init__(self):
        if self.params is None:
            spec = self.task.batch_spec(self.narrow)
            self.params = random_like(jax.eval_shape(self.task.model().init, jax.random.key(0), spec))
        loss_and_gradient = jax.value_and_grad(self.task.loss_fn(), has_aux=True)
        self.run = jit(lambda params, batch, key=None: loss_and_gradient(params, batch, key))

    def batch(self, examples, shape=None, seed=None):
        """The examples in the first rows; with a seed there is garbage in the padding."""
        batch = self.task.collate_fn()(examples, shape or self.narrow)
        return batch if seed is None else dirtied(batch, np.random.default_rng(seed))

    def loss(self, *args):
        loss, gradient, _ = self.counted(*args)
        return loss, gradient

    def counted(self, *args):
        """The loss, its gradient, and over how many rows or tokens it is a mean."""
        (loss, metrics), gradient = jax.device_get(self.run(self.params, *args))
        assert loss == pytest.approx(metrics["loss"].value, rel=1e-5)
        return loss, gradient, metrics["loss"].count


def dirtied(batch, rng):
    """Garbage where a batch says that nothing is; one of a type of the task's own stays as it is."""
    if not isinstance(batch, AsrBatch | AsrFeatureBatch | TextBatch):
        return batch
    tokens = np.where(
        np.arange(batch.tokens.shape[1]) < batch.token_lengths[:, None],
        batch.tokens,
        rng.integers(-9, 10**6, batch.tokens.shape, dtype=np.int32),
    )
    if isinstance(batch, TextBatch):
        return batch._replace(tokens=tokens)
    inputs = with_garbage(batch.inputs, batch.input_lengths)
    return batch._replace(**{batch._fields[0]: inputs}, tokens=tokens)


def shallow(task):
    """With stacks of one layer: their own tests have more, and of a task it is compiling that takes the time."""
    stacks = {f.name: getattr(task, f.name) for f in dataclasses.fields(task) if "registry" in f.metadata}
    return dataclasses.replace(
        task, **{n: s.clone(num_layers=1) for n, s in stacks.items() if hasattr(s, "num_layers")}
    )


@functools.cache
def task_case(name, folder):
    rng = np.random.default_rng(0)
    utterances = []
    for i, (text, samples) in enumerate(zip(TEXTS, [4800, 4333, 2100, 3999, 3000], strict=True)):
        path = folder / f"{i}.wav"
        soundfile.write(path, rng.normal(scale=3000, size=samples).astype(np.int16), RATE)
        utterances.append(Utterance(f"utt{i}", str(path), text))
    task = shallow(tiny(TASKS[name])).prepared(utterances)

    def statistics(features_of):
        width = jax.eval_shape(features_of, task.batch_spec(NARROW))[0].shape[2]
        return Cmvn(rng.normal(-8, 1, width).astype(np.float32), np.full(width, 0.4, "f"))

    task = task.with_statistics(statistics)
    task.check()
    preprocess = pickle.loads(pickle.dumps(task.preprocess_fn(train=False)))  # as a worker gets it
    return Case(task, [preprocess(u, np.random.default_rng(0)) for u in utterances])


@pytest.fixture(scope="module", params=list(TASKS))
def case(request, tmp_path_factory):
    return task_case(request.param, tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def given_features():
    """A small task of features, since what differs from one of sound ends before the encoder."""
    changes = {"frontend": tiny(FRONTENDS["features"]), "preprocess": None, "decoder": None, "ctc_weight": 1.0}
    task = tiny(AsrTask, encoder=tiny(ENCODERS["sanm"], num_layers=1), normalizer=None, **changes)
    task = task.with_resources(vocabulary=Vocabulary.from_texts(TEXTS, task.tokenizer))
    task.check()
    rng, encode = np.random.default_rng(0), task.preprocess_fn(train=False).encode
    examples = [
        AsrFeatureExample(text, rng.normal(size=(frames, 16)).astype(np.float32), encode(text))
        for text, frames in zip(TEXTS, (58, 52, 24, 48, 36), strict=True)
    ]
    return Case(task, examples, narrow=NARROW._replace(samples=58), wide=WIDE._replace(samples=71))


@pytest.fixture(scope="module")
def asr(tmp_path_factory):
    return task_case("asr", tmp_path_factory.getbasetemp())


@functools.cache
def asr_with(asr_task, **changes):
    return Case(dataclasses.replace(asr_task, **changes), [])


def check_rows(case, examples):
    """The loss and its gradient are the means of the rows', or of their tokens; filler rows are nothing."""
    loss, gradient = case.loss(case.batch(examples))
    losses, gradients, counts = zip(
        *(case.counted(case.batch([example], seed=row)) for row, example in enumerate(examples)), strict=True
    )
    np.testing.assert_allclose(np.average(losses, weights=counts), loss, rtol=1e-5)
    mean = jax.tree.map(lambda *g: np.average(g, axis=0, weights=counts), *gradients)
    assert_trees_close(mean, gradient)
    kernels = [g for path, g in jax.tree_util.tree_flatten_with_path(gradient)[0] if path[-1].key == "kernel"]
    assert all(np.any(g) for g in kernels)


def test_task_loss_is_the_mean_of_its_rows(case):
    check_rows(case, case.examples)


def test_task_rows_of_weight_0_count_for_nothing(case):
    batch = case.batch(case.examples)
    weights = np.where(np.arange(len(batch.weights)) < 3, batch.weights, 0)
    loss, gradient = case.loss(batch._replace(weights=weights))
    expected, expected_gradient = case.loss(case.batch(case.examples[:3]))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert_trees_close(gradient, expected_gradient)


def check_padding(case, room, *key):
    loss, gradient = case.loss(case.batch(case.examples), *key)
    for seed in (None, 0):
        wide_loss, wide_gradient = case.loss(case.batch(case.examples, room, seed), *key)
        np.testing.assert_allclose(wide_loss, loss, rtol=1e-5)
        assert_trees_close(wide_gradient, gradient)


@pytest.mark.parametrize("train", [False, True])
def test_task_padding_changes_nothing(case, train):
    """More room neither: with a key here, without one where batches accumulate."""
    check_padding(case, *((case.wide, jax.random.key(5)) if train else (case.narrow,)))


def test_task_noise_comes_from_the_key_alone(case):
    batch = case.batch(case.examples)
    losses = [case.loss(batch, jax.random.key(k))[0] for k in (5, 5, 6)]
    assert losses[0] == losses[1]
    assert len({float(x) for x in (*losses, case.loss(batch)[0])}) == 3


@dataclasses.dataclass(frozen=True)
class Plain(Optimizer):
    """The gradient itself."""

    learning_rate: float = 1.0
    clip_norm: float = 0.0

    def rule(self):
        return optax.identity()


def cut(example, parts):
    """The beginning of an example: one of so many parts."""
    return example._replace(**{example._fields[1]: example.inputs[: len(example.inputs) // parts]})


def in_modes(*modes, slow=("pmap",)):
    """Every task in every mode; in these `asr` alone is fast, since what they compile is of no task's own."""
    return [
        pytest.param(name, *mode, marks=pytest.mark.slow if mode[0] in slow and name != "asr" else ())
        for name, mode in itertools.product(TASKS, modes)
    ]


@pytest.mark.parametrize(("case", "mode"), in_modes(("jit",), ("pmap",)), indirect=["case"])
def test_task_loss_is_the_same_on_any_number_of_devices(case, mode):
    check_devices(case, mode)


def test_task_of_features_keeps_the_promises_of_one_of_sound(given_features):
    check_rows(given_features, given_features.examples)
    check_padding(given_features, given_features.wide)
    check_devices(given_features, "pmap")
    check_lengths(given_features.task.frames, range(100))


def check_devices(case, mode):
    assert jax.device_count() == 8
    short = cut(case.examples[0], 16)  # no alignment with its three tokens
    batch = case.batch([*case.examples, short], seed=1)
    step = make_train_step(case.task.loss_fn(), Plain(), Constant())
    zero, key = np.int32(0), jax.random.key(7)
    params, stats = split_stats(case.params)
    state = TrainState(zero, zero, zero, np.int32(9), key, params, Plain().build().init(params), None, stats)

    (_, metrics), gradient = case.run(case.params, batch, jax.random.fold_in(key, 0))
    gradient, _ = split_stats(gradient)
    seen = metrics.pop(STATS, None)
    devices = Devices.all()
    places = (devices.replicated, devices.by_row), devices.replicated
    compiled = devices.compiled_for(step, *places, mode=mode).lower(state, devices.put(batch)).compile(UNOPTIMISED)
    new, found = compiled(state, devices.put(batch))
    for name in metrics:
        np.testing.assert_allclose(found[name].total, metrics[name].total, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(found[name].count, metrics[name].count, rtol=1e-6, err_msg=name)
    assert_trees_close(jax.tree.map(lambda old, new: old - np.asarray(new), params, new.params), gradient)
    np.testing.assert_allclose(found["grad_norm"].value, norm(gradient), rtol=1e-5)
    if seen is not None:
        assert_trees_close(new.stats, running(stats, *seen))


@pytest.fixture(scope="module")
def batch_norm(asr):
    return Case(dataclasses.replace(asr.task, encoder=BATCH_NORM, **ALONE), asr.examples)


@pytest.mark.parametrize("mode", ["jit", pytest.param("pmap", marks=pytest.mark.slow)])
def test_batch_norm_counts_the_frames_of_all_devices(batch_norm, mode):
    check_devices(batch_norm, mode)


@pytest.mark.parametrize(
    ("case", "mode", "shapes", "changes"),
    in_modes(
        ("jit", (NARROW, NARROW, WIDE), {}),
        ("pmap", (NARROW, NARROW, NARROW), {"length_normalized_loss": True}),
        slow=("jit", "pmap"),
    ),
    indirect=["case"],
)
def test_task_batches_accumulate_to_one(case, mode, shapes, changes, monkeypatch):
    """Unequal batches update as one with all their rows, also where parts of the loss count different things."""
    changes = {name: value for name, value in changes.items() if hasattr(case.task, name)}
    whole = asr_with(case.task, **changes) if changes else case
    loss_fn = whole.task.loss_fn()
    quiet = lambda params, batch, key, counts=None: loss_fn(params, batch, None, counts)  # noqa: E731 (no noise)
    monkeypatch.setattr(type(case.task), "loss_fn", lambda task: quiet)
    short = cut(case.examples[0], 16)  # no alignment with its three tokens
    examples = [*case.examples[:2], short], case.examples[2:3], case.examples[3:]
    batches = [case.batch(some, shape, seed=1) for some, shape in zip(examples, shapes, strict=True)]
    hosts = [HostBatch(PlannedBatch(s, np.arange(0)), [], b) for s, b in zip(shapes, batches, strict=True)]

    cfg = TrainConfig(task=whole.task, optimizer=Plain(), schedule=Constant(), accumulate=3, parallel=mode)
    devices = Devices.all()
    create = jax.jit(lambda params, key: init_state(lambda *_: params, Plain(), None, key))
    state = jax.device_put(create(case.params, jax.random.key(7)), devices.replicated)
    steps = train_steps(cfg, whole.task, devices, devices.abstract(state))
    new, found = steps(state, hosts)
    steps.close()

    (_, metrics), gradient = whole.run(case.params, case.batch([*case.examples, short]))
    assert_trees_close(jax.tree.map(lambda old, new: old - np.asarray(new), case.params, new.params), gradient)
    np.testing.assert_allclose(found["grad_norm"].value, norm(gradient), rtol=1e-5)
    for name in metrics:
        np.testing.assert_allclose(found[name].total, metrics[name].total, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(found[name].count, metrics[name].count, rtol=1e-6, err_msg=name)


def test_task_counts_need_no_network(case):
    counts = dict.fromkeys(jax.eval_shape(case.run, case.params, case.batch([]))[0][1], 0.0)
    count = jit(make_count(case.task.loss_fn())).lower(counts, case.batch(case.examples), case.params).compile()
    assert " dot(" not in count.as_text() and "custom-call" not in count.as_text()
    (_, metrics), _ = case.run(case.params, case.batch(case.examples))
    found = count(counts, case.batch(case.examples), case.params)
    assert found == {name: mean.count for name, mean in metrics.items()}


def test_task_step_gives_the_state_that_it_takes():
    """Any other type, a weak one too, would compile the second step anew."""
    averages = [None, *(tiny(AVERAGES[name]) for name in AVERAGES)]
    for optimizer in (tiny(OPTIMIZERS[name]) for name in OPTIMIZERS):
        for schedule, average in itertools.product((tiny(SCHEDULES[name]) for name in SCHEDULES), averages):
            step = make_train_step(lambda p, b, k: (jnp.sum(p["kernel"] * b), {}), optimizer, schedule, average)
            params = {"kernel": jnp.zeros((3, 2))}
            state = init_state(lambda *_: params, optimizer, None, jax.random.key(0), average)  # noqa: B023
            new, _ = jax.eval_shape(step, state, jnp.zeros((3, 2)))
            assert [(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(new)] == [
                (x.shape, x.dtype, x.aval.weak_type) for x in jax.tree.leaves(state)
            ]


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_one_trace_a_shape(mode):
    traces = []

    def loss_fn(params, batch, key):
        traces.append(batch.shape)
        return jnp.sum(params["w"] * batch), {}

    devices, optimizer = Devices.all(), tiny(OPTIMIZERS["adamw"])
    places = (devices.replicated, devices.by_row), devices.replicated
    step = devices.compiled_for(make_train_step(loss_fn, optimizer, Constant()), *places, mode=mode, donate=(0,))
    params, zero = {"w": jnp.zeros(())}, jnp.zeros((), jnp.int32)
    state = TrainState(zero, zero + 0, zero + 0, zero + 0, jax.random.key(0), params, optimizer.build().init(params))
    state = jax.device_put(state, devices.replicated)
    for rows in (8, 16, 8, 16, 8):
        state, _ = step(state, devices.put(np.ones((rows, 3), np.float32)))
    assert len(traces) == 2
    assert state.step == 5


def talkative(params, vocab_size):
    """These parameters, but blank, sos and eos seldom the best."""
    special = 3.0 * (np.arange(vocab_size) < 3)
    return jax.tree.map(lambda x: np.float32(x - special) if x.shape == (vocab_size,) else x, params)


@pytest.mark.parametrize(
    ("name", "search"),
    [(n, search) for n in TASKS for t in [tiny(TASKS[n])] for search in (*t.searches(), *t.beam_searches())],
)
def test_task_decoding_ignores_padding(name, search, tmp_path_factory):
    case = task_case(name, tmp_path_factory.getbasetemp())
    params = talkative(case.params, len(case.task.vocabulary))
    decode = jit(case.task.decode_fn(Search(search, beam=3)))
    found, wide = (
        jax.device_get(decode(params, case.batch(case.examples, shape, seed)))
        for shape, seed in ((case.narrow, None), (case.wide, 1))
    )
    np.testing.assert_array_equal(found.lengths, wide.lengths)
    np.testing.assert_allclose(found.scores, wide.scores, rtol=1e-5, atol=1e-5)
    assert found.lengths[:5].any()
    assert not found.lengths[5:].any()  # filler
    for ours, theirs, length in zip(found.tokens, wide.tokens, found.lengths, strict=True):
        assert ours[:length].tolist() == theirs[:length].tolist()
        assert np.all(ours[length:] == -1) and np.all(theirs[length:] == -1)
        assert isinstance(case.task.text(ours[:length]), str)
    for of_tokens, of_wide in ((found.log_probs, wide.log_probs), (found.spans, wide.spans)):
        if of_tokens is not None:
            assert_rows_close(of_tokens, of_wide, found.lengths, atol=1e-4)


def test_task_is_a_value(case):
    assert_is_value(lambda: tiny(type(case.task)))
    assert len({case.task, dataclasses.replace(case.task)}) == 1


def test_task_frames(case):
    check_lengths(case.task.frames, range(0, 5000, 37))


# --- joint CTC and attention -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3, 1.0])
def test_asr_with_any_share_of_ctc(asr, ctc_weight):
    changes = {"decoder": None} if ctc_weight == 1.0 else {}
    case = asr if ctc_weight == 0.3 else asr_with(asr.task, ctc_weight=ctc_weight, **changes)
    case.task.check()
    assert set(case.params) == {"encoder"} | {n for n, w in {"ctc": 0.0, "decoder": 1.0}.items() if ctc_weight != w}
    check_rows(case, asr.examples[:3])

    # rows too short for an alignment leave the mean of CTC, and nothing becomes infinite
    short = [e._replace(audio=e.audio[:samples]) for e, samples in zip(asr.examples, (300, 300, 0), strict=False)]
    short = [e._replace(tokens=np.tile(e.tokens, 3)[:3]) for e in short]
    loss, gradient = case.loss(case.batch(short))
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(gradient))
    assert np.isfinite(loss)
    both, both_gradient = case.loss(case.batch(asr.examples[:3] + short))
    if ctc_weight == 1.0:
        assert loss == 0.0
        assert not any(np.any(g) for g in jax.tree.leaves(gradient))
        expected, expected_gradient = case.loss(case.batch(asr.examples[:3]))
        np.testing.assert_allclose(both, expected, rtol=1e-5)
        assert_trees_close(both_gradient, expected_gradient)


@pytest.mark.parametrize("conditioning", [False, True])
def test_asr_with_intermediate_ctc(asr, conditioning):
    alone = ALONE if conditioning else {}
    deeper = dataclasses.replace(asr.task, encoder=asr.task.encoder.clone(num_layers=2), **alone)
    case = asr_with(deeper, interctc_layers=(1,), interctc_weight=0.4, interctc_conditioning=conditioning)
    case.task.check()
    assert ("condition" in case.params) == conditioning
    check_rows(case, asr.examples[:2])
    (loss, metrics), _ = jax.device_get(case.run(case.params, case.batch(asr.examples)))
    ctc = 0.6 * metrics["loss/ctc"].value + 0.4 * metrics["loss/ctc_layer1"].value
    att = 0.0 if conditioning else metrics["loss/att"].value
    np.testing.assert_allclose(loss, case.task.ctc_weight * ctc + (1.0 - case.task.ctc_weight) * att, rtol=1e-6)
    if not conditioning:  # looking changes nothing
        _, expected = jax.device_get(jit(deeper.loss_fn())(case.params, case.batch(asr.examples)))
        np.testing.assert_allclose(metrics["loss/ctc"].value, expected["loss/ctc"].value, rtol=1e-6)


@pytest.fixture(scope="module")
def paired(asr):
    case = Case(dataclasses.replace(asr.task, cr_weight=0.5, **ALONE), asr.examples)
    case.task.check()
    return case


def test_asr_with_two_views(paired):
    key, batch = jax.random.key(5), paired.batch(paired.examples)
    (loss, metrics), _ = jax.device_get(paired.run(paired.params, batch, key))
    np.testing.assert_allclose(loss, metrics["loss/ctc"].value + 0.5 * metrics["loss/cr"].value, rtol=1e-6)
    assert metrics["loss/cr"].value > 0
    check_padding(paired, paired.wide, key)
    # a view counts half, so that batches add up by the counts of their utterances
    counts = jit(make_count(paired.task.loss_fn()))(dict.fromkeys(metrics, 0.0), batch, paired.params)
    assert counts == {name: mean.count for name, mean in metrics.items()}
    assert counts["loss/cr"] == counts["loss/ctc"] == len(paired.examples)


def test_asr_with_two_views_on_any_number_of_devices(paired):
    check_devices(paired, "pmap")


def test_asr_with_two_views_that_are_alike(asr):
    still = dataclasses.replace(
        asr.task,
        specaug=SpecAugment(num_freq_masks=0, num_time_masks=0),
        frontend=dataclasses.replace(asr.task.frontend, dither=0.0),
        encoder=quiet(asr.task.encoder),
        decoder=quiet(asr.task.decoder),
    )
    batch, key = asr.batch(asr.examples), jax.random.key(5)
    paired = dataclasses.replace(still, cr_weight=0.5)
    loss, gradient = dataclasses.replace(asr, task=paired).loss(batch, key)
    expected, expected_gradient = dataclasses.replace(asr, task=still).loss(batch)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert_trees_close(gradient, expected_gradient)


def quiet(stack):
    return stack.clone(dropout=0.0, attention_dropout=0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"specaug": SpecAugment(min_time_width=99)}, "min_time_width=99, max_time_width=40; whole numbers"),
        ({"normalizer": UtteranceMvn(), "cmvn_file": "x"}, "--cmvn_file=x: the normalizer takes none; remove it"),
        ({"normalizer": None, "cmvn_file": "x"}, "--cmvn_file=x: the normalizer takes none; remove it"),
    ],
)
def test_asr_checks_its_parts(asr, changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(asr.task, **changes).check()


def test_asr_text_has_no_spaces_at_its_ends(asr):
    vocabulary = Vocabulary.from_texts(["a b"], CharTokenizer())
    task = dataclasses.replace(asr.task, vocabulary=vocabulary)
    assert task.text(vocabulary.encode(task.tokenizer.split(" a b ")).tolist()) == "a b"


def test_asr_counts_what_has_no_alignment(asr):
    short = asr.examples[0]._replace(audio=asr.examples[0].audio[:300])
    (_, metrics), _ = asr.run(asr.params, asr.batch([*asr.examples, short]))
    assert (metrics["infeasible"].total, metrics["infeasible"].count) == (1, 6)
    assert (metrics["loss/ctc"].count, metrics["loss/att"].count) == (5, 6)
    assert metrics["acc/token"].count == sum(len(text) + 1 for text in (*TEXTS, TEXTS[0]))


def test_asr_frames_needed_are_those_of_ctc(asr):
    texts = ["", "a", "aa", "ab", "aab", "aaaa", "abab"]
    ids = [asr.task.preprocess_fn(train=False).encode(text) for text in texts]
    tokens, lengths = np.full((7, 4), -1), np.array([len(i) for i in ids])
    for row, i in zip(tokens, ids, strict=True):
        row[: len(i)] = i
    feasible = jit(ctc_feasible)
    for frames in range(9):
        expected = [asr.task.frames_needed(text) <= frames for text in texts]
        assert feasible(np.full(7, frames), tokens, lengths).tolist() == expected


def test_asr_in_bfloat16(asr):
    half = dataclasses.replace(asr, task=dataclasses.replace(asr.task, dtype="bfloat16"))
    batch = asr.batch(asr.examples)
    outputs = jax.eval_shape(half.task.model().apply, asr.params, batch)
    assert outputs.encoded.dtype == jnp.bfloat16
    assert outputs.ctc_logits.dtype == outputs.attention_logits.dtype == jnp.float32
    (loss, metrics), gradient = jax.device_get(half.run(asr.params, batch))
    expected, expected_gradient = asr.loss(batch)
    assert {x.dtype for x in jax.tree.leaves((loss, metrics, gradient))} == {np.dtype(np.float32)}
    np.testing.assert_allclose(loss, expected, rtol=0.02)
    a, b = (np.concatenate([np.ravel(g) for g in jax.tree.leaves(tree)]) for tree in (gradient, expected_gradient))
    assert a @ b > 0.99 * np.linalg.norm(a) * np.linalg.norm(b)


def test_asr_metrics_do_not_depend_on_batches(asr):
    """What is added up over batches is that of all rows, where parts of the loss count different things too."""
    case = asr_with(asr.task, length_normalized_loss=True)
    short = asr.examples[0]._replace(id="short", audio=asr.examples[0].audio[:300])
    rows = [*asr.examples[:3], short]

    def values(*batches):
        added = {}
        for rows in batches:
            (_, metrics), _ = jax.device_get(case.run(case.params, case.batch(rows)))
            added = {name: added.get(name, Mean(0, 0)) + mean for name, mean in metrics.items()}
        return case.task.values(added)

    whole = values(rows)
    for cut in (1, 2):
        found = values(rows[:cut], rows[cut:])
        assert found == pytest.approx(whole, rel=1e-5)
    assert "loss/ctc" not in values([short])  # which has no alignment
    assert values([short])["loss"] == pytest.approx(0.7 * values([short])["loss/att"])


def test_asr_is_a_task_of_the_registry():
    assert TASKS["asr"] is AsrTask
