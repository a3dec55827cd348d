"""Rules of single layers, between torch's layouts and ours; ``*`` in our path is the parameter's name."""

from typing import Any

import numpy as np

from jaxasr.convert.names import SAME, Layout, Rule
from jaxasr.errors import ConfigError
from jaxasr.nn.batch_norm import STATS


def check_option(slot: str, part: Any, option: str, *theirs: Any) -> None:
    """Raises ConfigError unless the part's option is one of those that theirs has."""
    if (value := getattr(part, option)) not in theirs:
        raise ConfigError(
            f"--{slot}.{option}={value}: theirs has no such option; {' or '.join(map(str, theirs))} was expected, to "
            "convert it; change it."
        )


TURNED = Layout(np.transpose, np.transpose)
"""A dense layer (D, C) as (C, D); a bias stays as it is."""
FILTERS = Layout(lambda x: x[:, 0, :].T, lambda x: x.T[:, None, :])
"""A depthwise filter (D, 1, K) as (K, D)."""
WINDOWS = Layout(
    lambda x: x.transpose(2, 1, 0).reshape(-1, x.shape[0]),
    lambda x: x.reshape(-1, x.shape[1], x.shape[1]).transpose(2, 1, 0),
)
"""A convolution over time, (D, D, K), as a dense layer over K frames side by side."""
POINTWISE = Layout(lambda x: x[:, :, 0].T, lambda x: x.T[:, :, None])
"""A convolution over one frame, (D, C, 1), as a dense layer (C, D)."""
BY_HEAD = Layout(lambda x: x[:, None, :], lambda x: x[:, 0, :])
"""One vector a head, (H, K), as (H, 1, K)."""
COUNTED = Layout(None, lambda x: np.zeros((), np.int64))
"""How many batches a running mean has seen, which with its fixed momentum changes nothing."""


def half(part: int) -> Layout:
    """One of two that lie behind each other in a dense layer's weight (2 D, C) or bias (2 D,).

    >>> half(1).ours(np.arange(4)).tolist()
    [2, 3]
    """
    return Layout(lambda x: np.split(x, 2)[part].T, np.transpose)


def _weighed(theirs: str, ours: str, layout: Layout) -> list[Rule]:
    return [
        Rule(f"{theirs}.weight", ours.replace("*", "kernel"), layout),
        Rule(f"{theirs}.bias", ours.replace("*", "bias")),
    ]


def dense(theirs: str, ours: str) -> list[Rule]:
    """A `torch.nn.Linear`.

    >>> [rule[:2] for rule in dense("linear", "out/*")]
    [('linear.weight', 'out/kernel'), ('linear.bias', 'out/bias')]
    """
    return _weighed(theirs, ours, TURNED)


def pointwise(theirs: str, ours: str) -> list[Rule]:
    """A `torch.nn.Conv1d` over one frame.

    >>> pointwise("conv", "out/*")[0].layout.ours(np.ones((2, 3, 1))).shape
    (3, 2)
    """
    return _weighed(theirs, ours, POINTWISE)


def depthwise(theirs: str, ours: str) -> list[Rule]:
    """A `torch.nn.Conv1d` with as many groups as channels.

    >>> depthwise("conv", "filter/*")[0].layout.ours(np.ones((4, 1, 11))).shape
    (11, 4)
    """
    return _weighed(theirs, ours, FILTERS)


def conv1d(theirs: str, ours: str) -> list[Rule]:
    """A `torch.nn.Conv1d` over several frames.

    >>> conv1d("conv", "window/*")[0].layout.ours(np.ones((4, 4, 3))).shape
    (12, 4)
    """
    return _weighed(theirs, ours, WINDOWS)


def norm(theirs: str, ours: str) -> list[Rule]:
    """A `torch.nn.LayerNorm`.

    >>> [rule[:2] for rule in norm("norm1", "ff_norm/*")]
    [('norm1.weight', 'ff_norm/scale'), ('norm1.bias', 'ff_norm/bias')]
    """
    return [
        Rule(f"{theirs}.weight", ours.replace("*", "scale")),
        Rule(f"{theirs}.bias", ours.replace("*", "bias")),
    ]


def batch_norm(theirs: str, ours: str) -> list[Rule]:
    """A `torch.nn.BatchNorm1d`, its running statistics with it.

    >>> [rule.ours for rule in batch_norm("norm", "norm/*")]
    ['norm/scale', 'norm/bias', 'batch_stats/norm/mean', 'batch_stats/norm/var', 'batch_stats/norm/mean']
    """
    mean, var = (f"{STATS}/{ours.replace('*', name)}" for name in ("mean", "var"))
    return [
        *norm(theirs, ours),
        Rule(f"{theirs}.running_mean", mean),
        Rule(f"{theirs}.running_var", var),
        Rule(f"{theirs}.num_batches_tracked", mean, COUNTED),
    ]


def attention(theirs: str, ours: str, stacked: str = "[i]") -> list[Rule]:
    """A MultiHeadedAttention of FunASR and ESPnet.

    >>> attention("self_attn", "attention")[0][:2]
    ('self_attn.linear_q.weight', 'attention/q/kernel[i]')
    """
    return [rule for o in ("q", "k", "v", "out") for rule in dense(f"{theirs}.linear_{o}", f"{ours}/{o}/*{stacked}")]


def relative_attention(theirs: str, ours: str) -> list[Rule]:
    """A RelPositionMultiHeadedAttention of FunASR and ESPnet.

    >>> relative_attention("self_attn", "attention")[-1][:2]
    ('self_attn.pos_bias_v', 'attention/position_bias[i]')
    """
    return [
        *attention(theirs, ours),
        Rule(f"{theirs}.linear_pos.weight", f"{ours}/positions/kernel[i]", TURNED),
        Rule(f"{theirs}.pos_bias_u", f"{ours}/content_bias[i]", BY_HEAD),
        Rule(f"{theirs}.pos_bias_v", f"{ours}/position_bias[i]", BY_HEAD),
    ]


def feed_forward(theirs: str, ours: str, stacked: str = "[i]") -> list[Rule]:
    """A PositionwiseFeedForward of FunASR and ESPnet.

    >>> [rule[:2] for rule in feed_forward("feed_forward", "ff", stacked="")][::2]
    [('feed_forward.w_1.weight', 'ff/in/kernel'), ('feed_forward.w_2.weight', 'ff/out/kernel')]
    """
    return [*dense(f"{theirs}.w_1", f"{ours}/in/*{stacked}"), *dense(f"{theirs}.w_2", f"{ours}/out/*{stacked}")]


def recurrent(theirs: str, ours: str, layer: str = "l0") -> list[Rule]:
    """A layer of torch's LSTM or GRU, in one direction or both.

    >>> [rule[:2] for rule in recurrent("lstm", "lstm0")][::4]
    [('lstm.weight_ih_l0', 'lstm0/forward_in/kernel'), ('lstm.weight_ih_l0_reverse', 'lstm0/backward_in/kernel')]
    """
    return [
        rule
        for direction, suffix in (("forward", ""), ("backward", "_reverse"))
        for rule in cell(theirs, f"{ours}/{direction}", f"_{layer}{suffix}")
    ]


def cell(theirs: str, ours: str, suffix: str = "") -> list[Rule]:
    """What an LSTM or a GRU makes of its input and of its last state.

    >>> [rule[:2] for rule in cell("lstm", "lstm")][::2]
    [('lstm.weight_ih', 'lstm_in/kernel'), ('lstm.weight_hh', 'lstm/recurrent/kernel')]
    """
    return [
        Rule(f"{theirs}.{kind}_{part}{suffix}", f"{ours}{place}/{leaf}", layout)
        for part, place in (("ih", "_in"), ("hh", "/recurrent"))
        for kind, leaf, layout in (("weight", "kernel", TURNED), ("bias", "bias", SAME))
    ]
