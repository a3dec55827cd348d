import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxasr.errors import ConfigError, DataError
from jaxasr.nn.normalize import Cmvn, GlobalMvn, UtteranceMvn, read_kaldi_mvn, write_kaldi_mvn

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
NNET = """<Nnet>
<Splice> 2 2
[ 0 ]
<AddShift> 2 2
<LearnRateCoef> 0 [ -1.5 2 ]
<Rescale> 2 2
<LearnRateCoef> 0 [ 0.25 1e-3 ]
</Nnet>
"""


@functools.partial(jax.jit, static_argnums=0)
def normalised(normalizer, x, lengths, cmvn):
    return normalizer(x, lengths, cmvn)


@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=5))
@settings(deadline=None)
def test_written_statistics_are_read_bit_for_bit(tmp_path_factory, pairs):
    path = tmp_path_factory.getbasetemp() / "round_trip.mvn"
    shift, scale = np.array(pairs, np.float32).T
    write_kaldi_mvn(path, Cmvn(shift, scale))
    found = read_kaldi_mvn(path)
    assert (found.shift.dtype, found.scale.dtype) == (np.float32, np.float32)
    assert (found.shift.tobytes(), found.scale.tobytes()) == (shift.tobytes(), scale.tobytes())


def test_reads_a_file_by_hand(tmp_path):
    path = tmp_path / "am.mvn"
    path.write_text(NNET)
    found = read_kaldi_mvn(path)
    np.testing.assert_array_equal(found.shift, np.array([-1.5, 2.0], np.float32))
    np.testing.assert_array_equal(found.scale, np.array([0.25, 1e-3], np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("-1.5", "x"), "am.mvn:5: 'x'; finite float32 between [ and ] were expected; "),
        (("-1.5", "nan"), "am.mvn:5: 'nan'; finite float32 between [ and ] were expected; "),
        (("1e-3", "1e39"), "am.mvn:7: '1e39'; finite float32 between [ and ] were expected; "),
        (("<Rescale>", "<Scale>"), "am.mvn: found ['<AddShift>']; one vector each behind <AddShift> and <Rescale>"),
        (("0.25 ", ""), "am.mvn:7: 5 words for <Rescale> 2; once '<LearnRateCoef> 0 [', as many"),
        (("<Rescale>", "<AddShift>"), "am.mvn:7: 6 words for <AddShift> 2; once '<LearnRateCoef> 0 [', as many"),
        ((NNET, ""), "am.mvn: found no statistics; "),
    ],
)
def test_faults_of_a_file(tmp_path, change, message):
    path = tmp_path / "am.mvn"
    path.write_text(NNET.replace(*change))
    with pytest.raises(DataError, match=re.escape(message)):
        read_kaldi_mvn(path)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"no\.mvn: No such file or directory; a Kaldi nnet file was expected; "):
        read_kaldi_mvn(tmp_path / "no.mvn")
    (tmp_path / "binary.mvn").write_bytes(b"\0B<Nnet> \xff")
    with pytest.raises(DataError, match=r"binary\.mvn: 'utf-8' codec .*; a Kaldi nnet text file was expected; "):
        read_kaldi_mvn(tmp_path / "binary.mvn")


def test_from_sums_gives_zero_mean_and_unit_deviation():
    x = np.random.default_rng(0).normal([-3.0, 0.0, 100.0], [0.1, 1.0, 20.0], (5000, 3))
    cmvn = Cmvn.from_sums(len(x), x.sum(axis=0), np.square(x).sum(axis=0))
    assert (cmvn.shift.dtype, cmvn.scale.dtype) == (np.float32, np.float32)
    y = normalised(GlobalMvn(), x.astype(np.float32)[None], np.array([5000]), cmvn)[0]
    np.testing.assert_allclose(np.mean(y, axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(np.std(y, axis=0), 1.0, rtol=1e-4)


def test_a_feature_that_never_changes_keeps_a_finite_scale():
    cmvn = Cmvn.from_sums(10.0, np.array([30.0]), np.array([90.0 - 1e-12]))
    assert (cmvn.shift.item(), cmvn.scale.item()) == (-3.0, np.float32(1e5))


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("variance", [True, False])
def test_mean_and_variance_can_be_chosen(mean, variance):
    x = np.random.default_rng(1).normal(size=(2, 5, 3)).astype(np.float32)
    cmvn = Cmvn(np.array([1, 2, 3], np.float32), np.array([0.5, 2, 4], np.float32))
    expected = (x + cmvn.shift if mean else x) * (cmvn.scale if variance else 1)
    found = normalised(GlobalMvn(mean, variance), x, np.array([5, 3]), cmvn)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("cmvn", "came"),
    [
        (None, "no statistics for features of width 3"),
        (Cmvn(np.zeros(2, np.float32), np.ones(2, np.float32)), "statistics of width 2 for features of width 3"),
    ],
)
def test_statistics_must_fit(cmvn, came):
    with pytest.raises(ConfigError, match=f"GlobalMvn: {came}; the widths must agree; "):
        normalised(GlobalMvn(), np.zeros((2, 5, 3), np.float32), np.array([5, 3]), cmvn)


OWN_LENGTHS = np.array([40, 23, 1, 0])


def own_sound():
    """Features whose third column stays the same through every utterance, garbage in the padding."""
    x = np.random.default_rng(2).normal([-9.0, 300.0, 0.0], [3.0, 0.5, 0.0], (4, 40, 3)) + np.log(np.finfo("f").eps)
    x = x.astype(np.float32)
    for row, length in zip(x, OWN_LENGTHS, strict=True):
        row[length:] = np.nan
    return x


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("variance", [True, False])
def test_utterance_mvn(mean, variance):
    x = own_sound()
    found = np.asarray(normalised(UtteranceMvn(mean, variance), x, OWN_LENGTHS, None))
    for y, row, length in zip(found, np.float64(x), OWN_LENGTHS, strict=True):
        own = row[:length]
        expected = own - own.mean(axis=0) if mean and length else own.copy()
        if variance and length > 1:
            expected[:, :2] /= own[:, :2].std(axis=0)  # the third is constant: not scaled
        np.testing.assert_allclose(y[:length], expected, rtol=2e-5, atol=2e-4)
        np.testing.assert_array_equal(y[length:], 0.0)
    if mean:
        np.testing.assert_array_equal(found[..., 2], 0.0)  # to the last bit
        np.testing.assert_array_equal(found[2], 0.0)  # one frame is its own mean


def test_utterance_mvn_has_a_finite_gradient():
    x = own_sound()
    slope = np.random.default_rng(3).normal(size=x.shape).astype(np.float32)

    @jax.jit
    @jax.grad
    def gradient(x):
        return jnp.sum(UtteranceMvn(variance=True)(x, OWN_LENGTHS, None) * slope)

    found = np.asarray(gradient(x))
    assert np.all(np.isfinite(found))
    for row, length in zip(found, OWN_LENGTHS, strict=True):
        assert np.any(row[:length]) == (length > 1)
        assert not np.any(row[length:])
