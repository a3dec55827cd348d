"""Mean and variance normalisation of features."""

import abc
import contextlib
import dataclasses
import hashlib
import io
import pathlib
import zipfile
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxasr.errors import ConfigError, DataError, show
from jaxasr.nn.masking import zero_padding
from jaxasr.registry import Registry
from jaxasr.typing import Array, Float, Int


class Cmvn(NamedTuple):
    """Statistics of a training set's features in Kaldi's form: y = (x + shift) * scale."""

    shift: Float[np.ndarray, "F"]
    scale: Float[np.ndarray, "F"]

    @classmethod
    def from_sums(cls, count: float, total: np.ndarray, squares: np.ndarray) -> "Cmvn":
        """From the number of frames, their sum and the sum of their squares (F,), in float64.

        >>> Cmvn.from_sums(2, np.array([2.0]), np.array([10.0]))  # of the frames -1 and 3
        Cmvn(shift=array([-1.], dtype=float32), scale=array([0.5], dtype=float32))
        """
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 1e-20))
        return cls((-mean).astype(np.float32), (1.0 / np.maximum(std, 1e-5)).astype(np.float32))

    @property
    def hash(self) -> str:
        """The SHA-256 of shift and scale in float32, in hexadecimal."""
        return hashlib.sha256(np.asarray(self, "<f4").tobytes()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Normalizer(abc.ABC):
    """Features in, features of the same shape out."""

    @property
    @abc.abstractmethod
    def needs_statistics(self) -> bool:
        """Whether it uses the training set's statistics, which are then estimated before training."""

    def check(self) -> None:  # noqa: B027 (some have nothing to check)
        """Raises ConfigError where an option means nothing."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], cmvn: Cmvn | None) -> Float[Array, "B T F"]:
        """Normalised `x`; `cmvn` is None where `needs_statistics` is False."""


NORMALIZERS: Registry[Normalizer] = Registry("normalizer", Normalizer, ("__call__", "needs_statistics"))


@dataclasses.dataclass(frozen=True)
class MeanVariance(Normalizer):
    """Shifts, scales, or both."""

    mean: bool = True
    """Subtract the mean."""
    variance: bool = True
    """Divide by the standard deviation."""

    def check(self) -> None:
        if not (self.mean or self.variance):
            raise ConfigError(
                "--normalizer.mean=false --normalizer.variance=false: nothing is left to normalise; give "
                "--normalizer=none, or leave one of the two."
            )


@NORMALIZERS.register("global_mvn")
@dataclasses.dataclass(frozen=True)
class GlobalMvn(MeanVariance):
    """Shifts and scales every feature by the training set's mean and standard deviation."""

    @property
    def needs_statistics(self) -> bool:
        return True

    def __call__(self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], cmvn: Cmvn | None) -> Float[Array, "B T F"]:
        if cmvn is None or cmvn.shift.shape != x.shape[-1:]:
            came = "no statistics" if cmvn is None else f"statistics of width {cmvn.shift.shape[0]}"
            raise ConfigError(
                f"GlobalMvn: {came} for features of width {x.shape[-1]}; the widths must agree; give "
                "task.with_resources(cmvn=...) statistics made with the same frontend."
            )
        x = x + jnp.asarray(cmvn.shift)[None, None] if self.mean else x
        return x * jnp.asarray(cmvn.scale)[None, None] if self.variance else x


@NORMALIZERS.register("utterance_mvn")
@dataclasses.dataclass(frozen=True)
class UtteranceMvn(MeanVariance):
    """Shifts and scales every feature by the utterance's own mean and standard deviation, over its real frames.

    A feature that stays the same through the utterance is not scaled. Zeros in the padding.
    """

    variance: bool = False
    """Divide by the standard deviation."""

    @property
    def needs_statistics(self) -> bool:
        return False

    def __call__(self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], cmvn: Cmvn | None) -> Float[Array, "B T F"]:
        x = zero_padding(x, lengths)
        centred = zero_padding(x - x[:, :1], lengths)  # a feature that stays the same becomes 0 to the last bit
        centred = zero_padding(centred - _mean(centred, lengths), lengths)
        y = centred if self.mean else x
        if not self.variance:
            return y
        variance = _mean(jnp.square(centred), lengths)
        return y / jnp.sqrt(jnp.where(variance > 1e-10, variance, 1.0))


def _mean(x: Float[Array, "B T F"], lengths: Int[Array, "B"]) -> Float[Array, "B 1 F"]:
    """Over the frames of `x`, which is 0 in the padding."""
    return jnp.sum(x, axis=1, keepdims=True) / jnp.maximum(lengths, 1)[:, None, None]


def read_mvn(path: str | pathlib.Path) -> Cmvn:
    """Statistics from Kaldi's nnet text (FunASR's am.mvn), or from sums (ESPnet's feats_stats.npz) by their suffix.

    Raises:
      DataError: the file holds neither.
    """
    return read_sums(path) if str(path).endswith(".npz") else read_kaldi_mvn(path)


def read_sums(path: str | pathlib.Path) -> Cmvn:
    """Statistics from the `count`, `sum` and `sum_square` of frames in a NumPy archive (ESPnet's feats_stats.npz).

    Raises:
      DataError: the file is no such archive, or its numbers are no statistics.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            count, total, squares = (_array(archive, f"{name}.npy") for name in ("count", "sum", "sum_square"))
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror or error}; a NumPy archive of sums was expected; check the path."
        ) from None
    except Exception as error:  # what a broken archive makes zipfile and NumPy raise is anybody's guess
        raise DataError(
            f"{path}: {' '.join(str(error).split())[:200]}; a NumPy archive of count, sum and sum_square was expected, "
            "as ESPnet's feats_stats.npz; give such a file, or a Kaldi nnet text."
        ) from None
    if count.size == 1 and count.item() > 0.0 and total.ndim == 1 and total.shape == squares.shape != (0,):
        with np.errstate(all="ignore"):
            cmvn = Cmvn.from_sums(float(count.item()), total, squares)
        if np.isfinite([*total, *squares, *cmvn.shift, *cmvn.scale]).all():
            return cmvn
    raise DataError(
        f"{path}: count, sum and sum_square of the shapes {count.shape}, {total.shape}, {squares.shape}; one "
        "number above 0 and two finite vectors of the same length were expected; make the file anew."
    )


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """A member, of which no more is unpacked than the sums of a million features take."""
    with archive.open(name) as member:
        if len(content := member.read(2**23 + 1)) > 2**23:
            raise ValueError(f"{name} has more than {2**23} bytes")
    return np.asarray(np.load(io.BytesIO(content), allow_pickle=False), np.float64)


def read_kaldi_mvn(path: str | pathlib.Path) -> Cmvn:
    """Statistics from a Kaldi nnet text file (FunASR's am.mvn): the vectors of <AddShift> and <Rescale>.

    Raises:
      DataError: the file is no such text, or has no statistics.
    """
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; a Kaldi nnet file was expected; check the path.") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: {error}; a Kaldi nnet text file was expected; copy it with nnet-copy --binary=false."
        ) from None
    vectors: dict[str, np.ndarray] = {}
    layer, width = "", []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if words and words[0] in ("<AddShift>", "<Rescale>"):
            layer, width = words[0], words[1:2]
        elif layer and words and words[0] == "<LearnRateCoef>":
            if layer in vectors or [*words[2:3], *words[-1:]] != ["[", "]"] or width != [str(len(words) - 4)]:
                raise DataError(
                    f"{path}:{number}: {len(words)} words for {layer} {' '.join(width)[:20]}; once '<LearnRateCoef> 0 "
                    "[', as many numbers as it says, and ']' were expected; copy the file anew."
                )
            vectors[layer] = np.array([_finite(f"{path}:{number}", word) for word in words[3:-1]], np.float32)
            layer = ""
    widths = {len(vector) for vector in vectors.values()}
    if set(vectors) != {"<AddShift>", "<Rescale>"} or len(widths) != 1 or 0 in widths:
        raise DataError(
            f"{path}: found {sorted(vectors) or 'no statistics'}; one vector each behind <AddShift> and <Rescale>, of "
            "the same length, were expected; give a Kaldi nnet file such as FunASR's am.mvn."
        )
    return Cmvn(vectors["<AddShift>"], vectors["<Rescale>"])


def _finite(where: str, word: str) -> np.float32:
    value = np.float32(np.nan)
    with contextlib.suppress(ValueError), np.errstate(over="ignore"):
        value = np.float32(float(word))
    if not np.isfinite(value):
        raise DataError(f"{where}: {show(word)}; finite float32 between [ and ] were expected; correct the line.")
    return value


def write_kaldi_mvn(path: str | pathlib.Path, cmvn: Cmvn) -> None:
    """Writes what `read_kaldi_mvn` reads, every float32 digit kept."""
    width = len(cmvn.shift)

    def vector(values):
        return "<LearnRateCoef> 0 [ " + " ".join(f"{v:.9g}" for v in np.asarray(values, np.float32)) + " ]"

    lines = ["<Nnet>", f"<Splice> {width} {width}", "[ 0 ]", f"<AddShift> {width} {width}", vector(cmvn.shift)]
    lines += [f"<Rescale> {width} {width}", vector(cmvn.scale), "</Nnet>"]
    pathlib.Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
