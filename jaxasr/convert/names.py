"""From flat names of tensors to our tree of parameters and back, by tables of rules."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxasr import paths
from jaxasr.errors import CheckpointError, ConfigError
from jaxasr.nn.batch_norm import STATS
from jaxasr.typing import Params

MOST_NAMED = 10
"""Names that an error lists; it counts the others."""


class Layout(NamedTuple):
    """How the numbers of a tensor of theirs lie in one of ours; each function gives a view where there is one."""

    ours: Callable[[np.ndarray], np.ndarray] | None
    """Of their tensor; None where nothing of ours is made of it."""
    theirs: Callable[[np.ndarray], np.ndarray]
    """Of our array; its inverse, where nothing is lost."""


def _same(x: np.ndarray) -> np.ndarray:
    return x


SAME = Layout(_same, _same)


class Rule(NamedTuple):
    """Where a tensor of theirs belongs; several rules with one name have a part of it each, in their order."""

    theirs: str
    """Its name, with ``{i}`` where a layer's number stands."""
    ours: str | None
    """Its path, with ``[i]`` behind the last part where layers are stacked for `nn.scan`, or ``{i}`` where each has a
    name; None for what the network has not and is left out."""
    layout: Layout = SAME


def within(rules: Sequence[Rule], theirs: str, ours: str) -> list[Rule]:
    """The rules of a part inside a model, where its names begin with `theirs` and its paths with `ours`.

    >>> within([Rule("linear.weight", "out/kernel")], "encoder.embed", "encoder/embed")[0][:2]
    ('encoder.embed.linear.weight', 'encoder/embed/out/kernel')
    """

    def moved(path: str | None) -> str | None:
        if path is None:
            return None
        inside = path.removeprefix(f"{STATS}/")  # running statistics are one branch of the whole model
        return f"{ours}/{path}" if inside == path else f"{STATS}/{ours}/{inside}"

    return [Rule(f"{theirs}.{rule.theirs}", moved(rule.ours), rule.layout) for rule in rules]


def exactly(rules: Sequence[Rule], shapes: Params) -> list[Rule]:
    """The rules of what is in this tree of parameters, and those of what is left out of any.

    Args:
      shapes: the tree, of arrays or of their shapes.

    Raises:
      ConfigError: there is a parameter without a rule.

    >>> rules = [Rule("a.weight", "a/kernel"), Rule("b.weight", "b/kernel"), Rule("c.weight", None)]
    >>> [rule.theirs for rule in exactly(rules, {"a": {"kernel": np.ones(2)}})]
    ['a.weight', 'c.weight']
    """
    leaves = dict(paths.leaves(shapes))
    kept = [rule for rule in rules if rule.ours is None or _places(rule, leaves)]
    placed = {path for rule in kept for path, _ in _places(rule, leaves)}
    if without := [path for path in leaves if path not in placed]:
        raise ConfigError(
            f"{without[0]}: a parameter that they have no name for ({len(without)} in all: {_named(without)}); parts "
            "and options that theirs have too were expected; choose others, docs/from-funasr.md says which there are."
        )
    return kept


def left_out(tensors: Iterable[str], rules: Sequence[Rule]) -> list[str]:
    """Of these names of theirs, those that the rules know and the network has not.

    >>> left_out(["a.weight", "c.weight"], [Rule("a.weight", "a/kernel"), Rule("c.weight", None)])
    ['c.weight']
    """
    patterns = [_pattern(rule.theirs) for rule in rules if rule.ours is None]
    return [name for name in tensors if any(pattern.fullmatch(name) for pattern in patterns)]


# --- theirs to ours --------------------------------------------------------------------------------------------------


class _Found(NamedTuple):
    """A tensor of theirs with the rule that places it."""

    name: str
    tensor: np.ndarray
    rule: Rule

    def laid_out(self) -> np.ndarray:
        assert self.rule.layout.ours is not None
        try:
            np.zeros((), self.tensor.dtype).astype(np.float32, casting="same_kind")  # refuses complex numbers
            return self.rule.layout.ours(self.tensor)
        except (ValueError, LookupError, TypeError) as error:
            raise CheckpointError(
                f"{self.name}: a {self.tensor.dtype} tensor of shape {self.tensor.shape} ({error}); one that its rule "
                "can lay out as ours was expected; choose the table that fits this model."
            ) from error


def convert_params(tensors: Mapping[str, np.ndarray], rules: Sequence[Rule], shapes: Params | None = None) -> Params:
    """Our parameter tree from their tensors, of any shapes.

    The arrays are new, in float32, which half precision does not come back from.

    Args:
      shapes: of the network that they are for, of its vocabulary too; given, each parameter is there, in its shape.

    Raises:
      CheckpointError: a tensor of theirs has no rule, or another shape or dtype than its rule needs; the layers of a
        stack are not numbered 0, 1, ... or differ in shape; with `shapes`, anything is missing or of another shape.

    >>> tensors = {"layers.0.bias": np.zeros(2), "layers.1.bias": np.ones(2)}
    >>> convert_params(tensors, [Rule("layers.{i}.bias", "blocks/bias[i]")])["blocks"]["bias"].tolist()
    [[0.0, 0.0], [1.0, 1.0]]
    """
    if shapes is not None:
        _check(tensors, rules, shapes)
    patterns = [(_pattern(rule.theirs), rule) for rule in rules]
    placed: dict[str, dict[int, _Found]] = {}
    strangers = []
    for name, tensor in tensors.items():
        found = [(match, rule) for pattern, rule in patterns if (match := pattern.fullmatch(name))]
        strangers += [] if found else [name]
        for match, rule in found:
            if rule.ours is not None and rule.layout.ours is not None:
                number = match[1] if match.groups() else "-1"
                path = rule.ours.replace("{i}", number)
                layer = int(number) if path == rule.ours else -1
                placed.setdefault(path, {})[layer] = _Found(name, np.asarray(tensor), rule)
    _refuse({"without a place": [f"{name} {np.shape(tensors[name])}" for name in strangers]})
    return paths.unflatten({path.removesuffix("[i]"): _array(path, layers) for path, layers in placed.items()})


def _array(path: str, layers: Mapping[int, _Found]) -> np.ndarray:
    if sorted(layers) not in ([-1], list(range(len(layers)))):
        raise CheckpointError(
            f"{path}: layers {sorted(layers)}; numbers from 0 without a gap were expected; take the whole file."
        )
    if -1 in layers:
        return np.array(layers[-1].laid_out(), np.float32, order="C")
    first = layers[0].laid_out()
    stacked = np.empty((len(layers), *first.shape), np.float32)
    for layer, found in layers.items():
        array = found.laid_out()
        if array.shape != first.shape:
            raise CheckpointError(
                f"{found.name}: shape {array.shape} here, and {first.shape} of {layers[0].name}; layers of one shape "
                "were expected, since they become one array; choose a model whose layers are alike."
            )
        stacked[layer] = array
    return stacked


def _check(tensors: Mapping[str, np.ndarray], rules: Sequence[Rule], shapes: Params) -> None:
    """Raises unless these are the tensors of a network of these shapes, but for what nothing of ours is made of."""
    empty = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0.0), leaf.shape), shapes)
    known = {name: x.shape for name, x in theirs_of(empty, rules).items()}
    needed = theirs_of(empty, [rule for rule in rules if rule.layout.ours is not None])
    found = {name: np.shape(x) for name, x in tensors.items()}
    strangers = found.keys() - known.keys() - set(left_out(found, rules))
    wrong = [name for name, shape in found.items() if name in known and known[name] != shape]
    _refuse(
        {
            "without a place": [f"{name} {found[name]}" for name in found if name in strangers],
            "missing": [f"{name} {known[name]}" for name in needed if name not in found],
            "of another shape": [f"{name} {found[name]}, not {known[name]}" for name in wrong],
        }
    )


def _refuse(problems: Mapping[str, Sequence[str]]) -> None:
    """Raises CheckpointError if there are any."""
    if any(problems.values()):
        told = "; ".join(f"{len(names)} {kind}: {_named(names)}" for kind, names in problems.items() if names)
        raise CheckpointError(
            f"Tensors: {told}; exactly those of the network were expected; give the options that the model was made "
            "with, or the file that belongs to them."
        )


# --- ours to theirs --------------------------------------------------------------------------------------------------


def theirs_of(params: Params, rules: Sequence[Rule]) -> dict[str, np.ndarray]:
    """Their flat names with our parameters, of any shapes: views where there are, in the dtype of ours, so float32.

    What nothing of ours says is as in a new model of theirs: taps of a causal filter that would see the future and
    counts of batches are 0. What is left out (rules without a path of ours) is not there.

    Raises:
      CheckpointError: there is a parameter without a rule, or a rule without one.

    >>> params = {"blocks": {"bias": np.array([[0.0, 0.0], [1.0, 1.0]])}}
    >>> theirs_of(params, [Rule("layers.{i}.bias", "blocks/bias[i]")])["layers.1.bias"].tolist()
    [1.0, 1.0]
    """
    leaves = dict(paths.leaves(params))
    parts: dict[str, list[np.ndarray]] = {}
    placed: set[str] = set()
    missing = []
    for rule in rules:
        places = _places(rule, leaves)
        missing += [rule.theirs] if rule.ours is not None and not places else []
        for path, number in places:
            placed.add(path)
            array = np.asarray(leaves[path])
            stacked = rule.ours is not None and rule.ours.endswith("[i]")
            for layer, x in enumerate(array) if stacked else [(number, array)]:
                parts.setdefault(rule.theirs.replace("{i}", str(layer)), []).append(rule.layout.theirs(x))
    strangers = [path for path in leaves if path not in placed]
    if missing or strangers:
        raise CheckpointError(
            f"Parameters: {len(missing)} missing of which theirs are made: {_named(missing)}; {len(strangers)} without "
            f"a rule: {_named(strangers)}; exactly those of the rules' network were expected; take rules and "
            "parameters of one model."
        )
    return {name: found[0] if len(found) == 1 else np.concatenate(found) for name, found in parts.items()}


# --- names and paths -------------------------------------------------------------------------------------------------


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\{i\}", r"(\d+)"))


def _places(rule: Rule, leaves: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The paths among `leaves` that a rule means, and the number in each that has one."""
    if rule.ours is None:
        return []
    path = rule.ours.removesuffix("[i]")
    if "{i}" not in path:
        return [(path, "")] if path in leaves else []
    pattern = _pattern(path)
    return [(leaf, match[1]) for leaf in leaves if (match := pattern.fullmatch(leaf))]


def _named(names: Sequence[str]) -> str:
    more = [f"and {len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join([*names[:MOST_NAMED], *more]) or "none"
