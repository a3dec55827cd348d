"""What annotations need; docs/glossary.md says what the letters in shapes mean."""

from typing import Any, TypeAlias, TypeVar

import jax
import numpy as np
from jaxtyping import Bool as Bool
from jaxtyping import Float as Float
from jaxtyping import Int as Int
from jaxtyping import Int16 as Int16
from jaxtyping import UInt32 as UInt32

Array: TypeAlias = jax.Array | np.ndarray
Key: TypeAlias = jax.Array
PyTree: TypeAlias = Any
Params: TypeAlias = PyTree
Scalar: TypeAlias = Float[Array, ""] | Float[np.generic, ""]
LengthsT = TypeVar("LengthsT", int, Array)
"""Lengths as one whole number or as an array of them."""
