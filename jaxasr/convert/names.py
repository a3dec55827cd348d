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
    change: Callable[..., np.ndarray]
    """What makes one of our arrays of it, and of the one `beside`."""
    beside: str | None = None
    """The name of another tensor whose shape says how this one is laid out."""


def within(rules: Sequence[Rule], theirs: str, ours: str) -> list[Rule]:
    """The rules of a part inside a model, where its names begin with `theirs` and its paths with `ours`."""

    def moved(path: str | None) -> str | None:
        if path is None:
            return None
        inside = path.removeprefix(f"{STATS}/")  # running statistics are one branch of the whole model
        return f"{ours}/{path}" if inside == path else f"{STATS}/{ours}/{inside}"

    return [Rule(f"{theirs}.{r.theirs}", moved(r.ours), r.change, r.beside and f"{theirs}.{r.beside}") for r in rules]


def convert_params(state_dict: Mapping[str, np.ndarray], rules: Sequence[Rule]) -> Params:
    """Our parameter tree from their flat names, in float32.

    Raises:
      CheckpointError: a tensor of theirs has no rule or another shape or dtype than its rule needs, or the layers of a
        stack are not numbered 0, 1, ... or differ in shape.
    """
    patterns = [(re.compile(re.escape(r.theirs).replace(r"\{i\}", r"(\d+)") + "$"), r) for r in rules]
    placed: dict[str, dict[int, _Named]] = {}
    for name, tensor in state_dict.items():
        found = [(match, rule) for pattern, rule in patterns if (match := pattern.match(name))]
        for match, rule in found:
            if rule.ours is not None:
                number = match[1] if match.groups() else "-1"
                path = rule.ours.replace("{i}", number)
                layer = int(number) if path == rule.ours else -1
                placed.setdefault(path, {})[layer] = _Named(name, _changed(name, rule, state_dict))
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
        node[leaf] = layers[-1].array if -1 in layers else _stacked([layers[i] for i in range(len(layers))])
    return params


class _Named(NamedTuple):
    name: str
    """Theirs."""
    array: np.ndarray
    """Ours."""


def _changed(name: str, rule: Rule, state_dict: Mapping[str, np.ndarray]) -> np.ndarray:
    tensor = np.asarray(state_dict[name])
    try:
        beside = () if rule.beside is None else (np.asarray(state_dict[rule.beside]),)
        return rule.change(tensor.astype(np.float32, casting="same_kind", copy=False), *beside)
    except (ValueError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"{name}: a {tensor.dtype} tensor of shape {tensor.shape} ({error}); one that its rule can lay out as "
            "ours was expected; choose the table that fits this model."
        ) from error


def _stacked(layers: Sequence[_Named]) -> np.ndarray:
    first = layers[0]
    for layer in layers:
        if layer.array.shape != first.array.shape:
            raise CheckpointError(
                f"{layer.name}: shape {layer.array.shape} here, and {first.array.shape} of {first.name}; layers of one "
                "shape were expected, since they become one array; choose a model whose layers are alike."
            )
    return np.stack([layer.array for layer in layers])
