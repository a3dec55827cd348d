"""Parameters drawn anew, all by one rule, in place of each module's own."""

import math
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp

from jaxasr.typing import Array, Key, Params

Initialization: TypeAlias = Literal["xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal"]

DEVIATIONS: Mapping[str, Callable[[int, int], float]] = {
    "xavier": lambda fan_in, fan_out: math.sqrt(2.0 / (fan_in + fan_out)),
    "kaiming": lambda fan_in, fan_out: math.sqrt(2.0 / fan_in),
}
"""Standard deviation of a weight by how many numbers go in and come out (Glorot, 2010; He, 2015, for ReLUs)."""

KEPT = ("scale", "embedding", "bands", "position_scale")
"""Parameters that begin as their modules have them: norms, embeddings, band passes."""
KEPT_MODULES = ("gating/filter", "gating/gate")
"""Modules that do: gates, which begin open."""
FILTERS = ("memory", "filter", "merge_filter")
"""Modules whose kernel (K, D) filters each channel by itself."""
JOINED = re.compile(r"conv\d*|upsample")
"""Modules whose kernel (K * D, D) is a convolution over K frames side by side, or (D, K * D) one to K frames."""
TOKENS = "stack"
"""The module of a SAN-M decoder, whose keys and values are one matrix of theirs."""
STACKED = "blocks"
"""What the names of modules begin with whose parameters have an axis for the layers in front."""


def initialized(params: Params, key: Key, how: Initialization) -> Params:
    """`params` drawn as FunASR's and ESPnet's `init` draws them: weights by the rule `how`, biases 0.

    `KEPT` and `KEPT_MODULES` stay as they are, as theirs do.
    """
    kind, _, shape = how.partition("_")

    def draw(keys: tuple, old: Array) -> Array:
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        *modules, name = path.split("/")
        if name in KEPT or any(kept in path for kept in KEPT_MODULES):
            return old
        layer = old.shape[is_stacked(path) :]
        if len(layer) < 2:
            return jnp.zeros_like(old)
        deviation = DEVIATIONS[kind](*fans(layer, name, modules))
        own = jax.random.fold_in(key, zlib.crc32(path.encode()))
        if shape == "normal":
            return deviation * jax.random.normal(own, old.shape, old.dtype)
        limit = math.sqrt(3.0) * deviation
        return jax.random.uniform(own, old.shape, old.dtype, -limit, limit)

    return jax.tree_util.tree_map_with_path(draw, params)


def is_stacked(path: str) -> bool:
    """Whether a parameter has an axis for the layers in front.

    >>> is_stacked("encoder/blocks/ff/in/kernel")
    True
    """
    return any(name.startswith(STACKED) for name in path.split("/")[:-1])


def fans(shape: tuple[int, ...], name: str, modules: list[str]) -> tuple[int, int]:
    """How many numbers go into each that comes out, and come out of each that goes in, as torch counts them.

    But for the layer that makes a dynamic convolution's weights: theirs makes those of taps that never see as well.

    >>> fans((80, 256), "kernel", ["input"])
    (80, 256)
    """
    module = modules[-1] if modules else ""
    *window, inside, outside = shape
    if name.endswith("_bias"):  # one vector a head, (H, 1, K), is a matrix (H, K) of theirs
        return outside, math.prod(window)
    if name == "filter" and module == "convolution":  # (K // 2 + 1, groups); theirs has the taps that never see
        return 2 * inside - 1, (2 * inside - 1) * outside
    if name.endswith("filter") or module in FILTERS:  # (K, D), or (K, 1, D)
        taps = math.prod(shape[:-1])
        return taps, taps * outside
    if not window and JOINED.fullmatch(module):
        return max(inside, outside), max(inside, outside)
    if module in ("k", "v") and TOKENS in modules:
        return inside, 2 * outside
    return math.prod(window) * inside, math.prod(window) * outside
