"""Adapters: few parameters that are learnt in place of a network's many, and merged into them to be used."""

import abc
import dataclasses
import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxasr.errors import ConfigError
from jaxasr.nn.initialization import FILTERS, is_stacked
from jaxasr.paths import check_patterns, leaves, matches, unflatten, with_given
from jaxasr.registry import Registry
from jaxasr.typing import Key, Params


@dataclasses.dataclass(frozen=True)
class Adapter(abc.ABC):
    """Parameters of its own that change what a network's say; these stay as they are."""

    train: tuple[str, ...] = ()
    """What of the network learns too, by any part of a parameter's path, such as ctc or decoder/output."""

    def check(self) -> None:  # noqa: B027 (some have nothing to check)
        """Raises ConfigError where an option means nothing."""

    def check_params(self, params: Params, *, sizes_known: bool) -> None:
        """Raises ConfigError where it does not suit a network of these parameters.

        Args:
          sizes_known: whether sides that are as long as the vocabulary have their length already, or less.
        """
        del sizes_known
        check_patterns(params, self.train, "--adapter.train")

    @abc.abstractmethod
    def init(self, key: Key, params: Params) -> Params:
        """Its own parameters for a network's; merged, they change nothing yet."""

    @abc.abstractmethod
    def merged(self, params: Params, own: Params) -> Params:
        """The network's parameters as they are to be used."""


ADAPTERS: Registry[Adapter] = Registry("adapter", Adapter, ("init", "merged"))
PROJECTIONS = ("*attention/[qkv]", "*attention/qkv", "*attention/out")


@ADAPTERS.register("lora")
@dataclasses.dataclass(frozen=True)
class Lora(Adapter):
    """Low-rank changes of dense kernels (Hu et al., 2021, https://arxiv.org/abs/2106.09685).

    A kernel W (in, out) becomes ``W + alpha / rank * A B``, A (in, rank) drawn as loralib draws it and B (rank, out)
    zeros; every layer of a stack (L, in, out) by itself. Queries, keys and values that are one kernel have one A and
    one B, as PEFT has it.
    """

    rank: int = 8
    """Columns of A and rows of B."""
    alpha: float = 16.0
    """The product of A and B counts ``alpha / rank`` times."""
    targets: tuple[str, ...] = PROJECTIONS
    """Kernels to change, by any part of their path, such as encoder or ff/in; by default attention's projections."""

    def check(self) -> None:
        if self.rank < 1 or not 0.0 < self.alpha < math.inf:
            raise ConfigError(
                f"--adapter: rank={self.rank}, alpha={self.alpha}; a rank of 1 or more and a positive alpha were "
                "expected; change them."
            )

    def check_params(self, params: Params, *, sizes_known: bool) -> None:
        super().check_params(params, sizes_known=sizes_known)
        check_patterns(params, self.targets, "--adapter.targets", usual=PROJECTIONS)
        for pattern in self.targets:
            if pattern not in PROJECTIONS:
                self._expect_kernels(params, (pattern,))
        self._expect_kernels(params, self.targets)
        side = min if sizes_known else max
        for path, kernel in kernels(params, self.targets):
            if self.rank >= (limit := side(kernel.shape[-2:])):
                raise ConfigError(
                    f"--adapter.rank={self.rank}: {path} has the shape {kernel.shape}; a rank below {limit} was "
                    "expected; give a smaller one, or name other --adapter.targets."
                )

    def _expect_kernels(self, params: Params, patterns: tuple[str, ...]) -> None:
        if not any(kernels(params, patterns)):
            raise ConfigError(
                f"--adapter.targets: {' '.join(patterns) or 'none'}: no dense kernel of this network is meant; such as "
                f"{next((path for path, _ in kernels(params, ('*',))), 'none')} was expected; name others."
            )

    def init(self, key: Key, params: Params) -> Params:
        own: dict[str, Any] = {}
        for path, kernel in kernels(params, self.targets):
            *layers, inside, outside = kernel.shape
            limit = inside**-0.5  # Kaiming's with a slope of sqrt(5)
            drawn = jax.random.fold_in(key, zlib.crc32(path.encode()))
            a = jax.random.uniform(drawn, (*layers, inside, self.rank), kernel.dtype, -limit, limit)
            b = jnp.zeros((*layers, self.rank, outside), kernel.dtype)
            own |= {_part(path, "a"): a, _part(path, "b"): b}
        return unflatten(own)

    def merged(self, params: Params, own: Params) -> Params:
        factors, scale = dict(leaves(own)), self.alpha / self.rank
        changed: dict[str, Any] = {}
        for path, kernel in kernels(params, self.targets):
            a, b = (factors[_part(path, name)] for name in ("a", "b"))
            changed[path] = kernel + scale * jnp.matmul(a, b, precision="highest")
        return with_given(params, unflatten(changed))


def kernels(params: Params, patterns: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """The dense kernels that the patterns name, behind their paths.

    >>> [path for path, _ in kernels({"ff": {"in": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}}, ["ff"])]
    ['ff/in/kernel']
    """
    return ((path, array) for path, array in leaves(params) if is_matrix(path, array) and matches(path, patterns))


def is_matrix(path: str, array: Any) -> bool:
    """Whether this is the kernel of a dense layer, or of a stack of them, of more than one column; no filter is.

    >>> is_matrix("encoder/input/kernel", jnp.ones((80, 256)))
    True
    """
    *modules, name = path.split("/")
    dense = name == "kernel" and array.ndim == 2 + is_stacked(path) and min(array.shape[-2:]) > 1
    return dense and not set(modules[-1:]) & set(FILTERS)


def _part(path: str, name: str) -> str:
    """Where a kernel's factor stands: `encoder/blocks/ff/in/a` for `encoder/blocks/ff/in/kernel`."""
    return path.removesuffix("kernel") + name
