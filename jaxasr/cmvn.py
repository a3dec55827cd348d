"""Statistics of a training set's features, estimated once before training."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.progress

from jaxasr.inputs import Inputs
from jaxasr.nn.masking import length_mask
from jaxasr.nn.normalize import Cmvn
from jaxasr.parallel import Devices
from jaxasr.typing import Array


def estimate(
    features_of: Callable[[Any], tuple[Array, Array]], inputs: Inputs, devices: Devices, console: rich.console.Console
) -> Cmvn:
    """Mean and standard deviation of every feature over the utterances of `inputs`.

    Args:
      features_of: batch to features (B, T, F) and their lengths (B,).

    Sums over a batch are taken on the devices about each batch's own mean, and added up in float64.
    """

    def sums(batch) -> tuple[Array, Array, Array]:
        features, lengths = features_of(batch)
        mask = length_mask(lengths, features.shape[1])[..., None]
        count = jnp.maximum(mask.sum(), 1)
        mean = jnp.sum(jnp.where(mask, features, 0.0), axis=(0, 1)) / count
        spread = jnp.where(mask, features - mean[None, None], 0.0)
        return mask.sum(), mean, jnp.sum(jnp.square(spread), axis=(0, 1))

    jitted = devices.compiled_for(sums, [devices.by_row], devices.replicated)
    count, total, squares = 0.0, np.zeros(()), np.zeros(())
    for host in rich.progress.track(inputs.epoch(0), "Feature statistics", console=console, transient=True):
        n, mean, spread = (np.asarray(x, np.float64) for x in jax.device_get(jitted(devices.put(host.batch))))
        count, total, squares = count + n, total + n * mean, squares + spread + n * mean**2
    return Cmvn.from_sums(float(count), total, squares)
