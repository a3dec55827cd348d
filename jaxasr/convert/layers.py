"""Rules of single layers, from torch's layouts to ours; ``*`` in our path is the parameter's name."""

import numpy as np

from jaxasr.convert.names import Rule
from jaxasr.nn.batch_norm import STATS


def same(x: np.ndarray) -> np.ndarray:
    return x


def filters(x: np.ndarray) -> np.ndarray:
    """A depthwise filter (D, 1, K) as (K, D)."""
    return x[:, 0, :].T


def windows(x: np.ndarray) -> np.ndarray:
    """A convolution over time, (D, C, K), as a dense layer over K frames side by side."""
    return x.transpose(2, 1, 0).reshape(-1, x.shape[0])


def dense(theirs: str, ours: str) -> list[Rule]:
    return [
        Rule(f"{theirs}.weight", ours.replace("*", "kernel"), np.transpose),
        Rule(f"{theirs}.bias", ours.replace("*", "bias"), same),
    ]


def norm(theirs: str, ours: str) -> list[Rule]:
    return [
        Rule(f"{theirs}.weight", ours.replace("*", "scale"), same),
        Rule(f"{theirs}.bias", ours.replace("*", "bias"), same),
    ]


def batch_norm(theirs: str, ours: str) -> list[Rule]:
    return [
        *norm(theirs, ours),
        Rule(f"{theirs}.running_mean", f"{STATS}/{ours.replace('*', 'mean')}", same),
        Rule(f"{theirs}.running_var", f"{STATS}/{ours.replace('*', 'var')}", same),
        Rule(f"{theirs}.num_batches_tracked", None, same),
    ]


def pointwise(theirs: str, ours: str) -> list[Rule]:
    """A convolution over one frame, (D, C, 1), as a dense layer."""
    return [
        Rule(f"{theirs}.weight", ours.replace("*", "kernel"), lambda x: x[:, :, 0].T),
        Rule(f"{theirs}.bias", ours.replace("*", "bias"), same),
    ]


def depthwise(theirs: str, ours: str) -> list[Rule]:
    return [
        Rule(f"{theirs}.weight", ours.replace("*", "kernel"), filters),
        Rule(f"{theirs}.bias", ours.replace("*", "bias"), same),
    ]


def conv1d(theirs: str, ours: str) -> list[Rule]:
    return [
        Rule(f"{theirs}.weight", ours.replace("*", "kernel"), windows),
        Rule(f"{theirs}.bias", ours.replace("*", "bias"), same),
    ]


def attention(theirs: str, ours: str, stacked: str = "[i]") -> list[Rule]:
    return [rule for o in ("q", "k", "v", "out") for rule in dense(f"{theirs}.linear_{o}", f"{ours}/{o}/*{stacked}")]


def relative_attention(theirs: str, ours: str) -> list[Rule]:
    def by_head(x: np.ndarray) -> np.ndarray:
        """One vector a head, (H, K), as (H, 1, K)."""
        return x[:, None, :]

    return [
        *attention(theirs, ours),
        Rule(f"{theirs}.linear_pos.weight", f"{ours}/positions/kernel[i]", np.transpose),
        Rule(f"{theirs}.pos_bias_u", f"{ours}/content_bias[i]", by_head),
        Rule(f"{theirs}.pos_bias_v", f"{ours}/position_bias[i]", by_head),
    ]


def feed_forward(theirs: str, ours: str, stacked: str = "[i]") -> list[Rule]:
    return [*dense(f"{theirs}.w_1", f"{ours}/in/*{stacked}"), *dense(f"{theirs}.w_2", f"{ours}/out/*{stacked}")]


def recurrent(theirs: str, ours: str, layer: str = "l0") -> list[Rule]:
    """A layer of torch's LSTM or GRU, in one direction or both."""
    return [
        rule
        for direction, suffix in (("forward", ""), ("backward", "_reverse"))
        for rule in cell(theirs, f"{ours}/{direction}", f"_{layer}{suffix}")
    ]


def cell(theirs: str, ours: str, suffix: str = "") -> list[Rule]:
    """What an LSTM or a GRU makes of its input and of its last state."""
    return [
        Rule(f"{theirs}.{kind}_{part}{suffix}", f"{ours}{place}/{leaf}", change)
        for part, place in (("ih", "_in"), ("hh", "/recurrent"))
        for kind, leaf, change in (("weight", "kernel", np.transpose), ("bias", "bias", same))
    ]
