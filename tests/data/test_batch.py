import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxasr.data.batch import AsrExample, BucketShape, Collate
from jaxasr.errors import DataError


def example(name: str, samples: int, tokens: int) -> AsrExample:
    return AsrExample(name, np.arange(1, samples + 1, dtype=np.int16), np.arange(5, tokens + 5, dtype=np.int32))


def test_a_batch_by_hand():
    batch = Collate()([example("a", 2, 1), example("b", 3, 2)], BucketShape(3, 4, 2))
    np.testing.assert_array_equal(batch.audio, [[1, 2, 0, 0], [1, 2, 3, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(batch.audio_lengths, [2, 3, 0])
    np.testing.assert_array_equal(batch.tokens, [[5, -1], [5, 6], [-1, -1]])
    np.testing.assert_array_equal(batch.token_lengths, [1, 2, 0])
    np.testing.assert_array_equal(batch.weights, [1, 1, 0])
    types = [x.dtype for x in batch]
    assert types == [np.int16, np.int32, np.int32, np.int32, np.float32]


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), max_size=4))
def test_what_stands_in_a_batch_is_what_came(sizes):
    examples = [example(str(i), *size) for i, size in enumerate(sizes)]
    batch = Collate(float_pad_value=7.0, int_pad_value=-3)(examples, BucketShape(4, 6, 4))
    for row, one in enumerate(examples):
        np.testing.assert_array_equal(batch.audio[row, : batch.audio_lengths[row]], one.audio)
        np.testing.assert_array_equal(batch.tokens[row, : batch.token_lengths[row]], one.tokens)
    assert (batch.audio[np.arange(6) >= batch.audio_lengths[:, None]] == 7).all()
    assert (batch.tokens[np.arange(4) >= batch.token_lengths[:, None]] == -3).all()
    assert batch.weights.tolist() == [1.0] * len(examples) + [0.0] * (4 - len(examples))


def test_an_example_that_fits_exactly_and_one_of_no_length():
    batch = Collate()([example("full", 4, 2), example("empty", 0, 0)], BucketShape(2, 4, 2))
    assert batch.audio_lengths.tolist() == [4, 0]
    assert batch.token_lengths.tolist() == [2, 0]
    assert batch.weights.tolist() == [1, 1]  # no filler, though it has no length
    assert Collate()([], BucketShape(2, 4, 0)).tokens.shape == (2, 0)


@pytest.mark.parametrize(("samples", "tokens"), [(5, 1), (1, 3)])
def test_an_example_that_is_too_long_is_named(samples, tokens):
    with pytest.raises(DataError, match=rf"Collate: long has {samples} samples and {tokens} tokens; at most 4 and 2"):
        Collate()([example("ok", 1, 1), example("long", samples, tokens)], BucketShape(2, 4, 2))


def test_too_many_examples():
    with pytest.raises(DataError, match="Collate: 3 examples; at most 2 fit"):
        Collate()([example("a", 1, 1)] * 3, BucketShape(2, 4, 2))


@pytest.mark.parametrize("field", ["audio", "tokens"])
def test_floats_are_refused(field):
    wrong = example("wrong", 1, 1)._replace(**{field: np.array([0.5], np.float32)})
    with pytest.raises(DataError, match=r"Collate: wrong has .*float32.*; int16 and whole numbers were expected"):
        Collate()([wrong], BucketShape(2, 4, 2))


def test_collate_is_a_value():
    assert Collate() == Collate()
    assert hash(Collate()) == hash(Collate())
    assert dataclasses.replace(Collate(), int_pad_value=0) != Collate()
