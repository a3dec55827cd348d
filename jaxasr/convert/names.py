"""From flat names of tensors to our tree of parameters, by tables of rules."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxasr.errors import CheckpointError
from jaxasr.nn.batch_norm import STATS
from jaxasr.typing import Params


class Rule(NamedTuple):
    """Where a tensor of theirs belongs."""

    theirs: str
    """Its name, with ``{i}`` where a layer's number stands."""
    ours: str | None
    """Its path, with ``[i]`` behind the last part where layers are stacked for `nn.scan`, or ``{i}`` where each has a
    name; None for what nothing here needs."""
    change: Callable[[np.ndarray], np.ndarray]
    """What makes one of our arrays of it."""


def within(rules: Sequence[Rule], theirs: str, ours: str) -> list[Rule]:
    """The rules of a part inside a model, where its names begin with `theirs` and its paths with `ours`."""

    def moved(path: str | None) -> str | None:
        if path is None:
            return None
        inside = path.removeprefix(f"{STATS}/")  # running statistics are one branch of the whole model
        return f"{ours}/{path}" if inside == path else f"{STATS}/{ours}/{inside}"

    return [Rule(f"{theirs}.{r.theirs}", moved(r.ours), r.change) for r in rules]


def convert_params(state_dict: Mapping[str, np.ndarray], rules: Sequence[Rule]) -> Params:
    """Our parameter tree from their flat names.

    Raises:
      CheckpointError: a tensor of theirs has no rule, or the layers of a stack are not numbered 0, 1, ...
    """
    patterns = [(re.compile(re.escape(r.theirs).replace(r"\{i\}", r"(\d+)") + "$"), r) for r in rules]
    placed: dict[str, dict[int, np.ndarray]] = {}
    for name, tensor in state_dict.items():
        found = [(match, rule) for pattern, rule in patterns if (match := pattern.match(name))]
        for match, rule in found:
            if rule.ours is not None:
                number = match[1] if match.groups() else "-1"
                path = rule.ours.replace("{i}", number)
                placed.setdefault(path, {})[int(number) if path == rule.ours else -1] = rule.change(np.asarray(tensor))
        if not found:
            raise CheckpointError(
                f"{name}: a tensor of shape {tensor.shape} that no rule places; every tensor must be placed; "
                "choose the table that fits this model."
            )
    params: dict[str, Any] = {}
    for path, layers in placed.items():
        if sorted(layers) not in ([-1], list(range(len(layers)))):
            raise CheckpointError(
                f"{path}: layers {sorted(layers)}; numbers from 0 without a gap were expected; take the whole file."
            )
        *parents, leaf = path.removesuffix("[i]").split("/")
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = layers[-1] if -1 in layers else np.stack([layers[i] for i in range(len(layers))])
    return params
