"""Parameters by their paths, such as `encoder/blocks/attention/q/kernel`, and by patterns of them."""

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxasr.errors import ConfigError
from jaxasr.registry import did_you_mean
from jaxasr.typing import Params, PyTree


def path_of(keys: Any) -> str:
    """A parameter's place in the tree, `encoder/blocks/ff_norm/scale`.

    >>> path_of((jax.tree_util.DictKey("ctc"), jax.tree_util.DictKey("bias")))
    'ctc/bias'
    """
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def leaves(params: Params) -> Iterator[tuple[str, Any]]:
    """Every parameter behind its path.

    >>> dict(leaves({"a": {"b": 1}}))
    {'a/b': 1}
    """
    return ((path_of(keys), leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(params))


def unflatten(flat: Mapping[str, Any]) -> Params:
    """The tree of parameters behind their paths.

    >>> unflatten({"a/b": 1, "a/c": 2})
    {'a': {'b': 1, 'c': 2}}
    """
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns is the path, or whole names out of it that follow each other; * is any text.

    Slashes around a pattern mean nothing.

    >>> matches("encoder/blocks/attention/q/kernel", ["attention", "*_norm"])
    True
    """
    return any(fnmatch.fnmatchcase(f"/{path}/", f"*/{pattern.strip('/')}/*") for pattern in patterns)


def matching(params: Params, patterns: Sequence[str]) -> PyTree:
    """For every parameter whether its path `matches`.

    >>> matching({"encoder": 1, "ctc": 2}, ["enc*"])
    {'ctc': False, 'encoder': True}
    """
    return jax.tree_util.tree_map_with_path(lambda keys, _: matches(path_of(keys), patterns), params)


def check_patterns(params: Params, patterns: Sequence[str], option: str, *, usual: Sequence[str] = ()) -> None:
    """Raises ConfigError where a pattern, which is none of the `usual` ones, matches no parameter."""
    paths = [path for path, _ in leaves(params)]
    for pattern in patterns:
        if pattern not in usual and not any(matches(path, [pattern]) for path in paths):
            names = {name for path in paths for name in path.split("/")}
            raise ConfigError(
                f"{option}: {pattern!r} matches no parameter; a name or a path such as {paths[0]} was expected; "
                f"correct or remove it.{did_you_mean(pattern, sorted(names) + paths)}"
            )


def picked(params: Params, takes: Callable[[str], bool], prefix: str = "") -> Params:
    """The parameters whose paths are taken, in the branches that lead to them; no branch stays empty."""
    found: dict[str, Any] = {}
    for name, branch in params.items():
        if not isinstance(branch, Mapping):
            found |= {name: branch} if takes(prefix + name) else {}
        elif inner := picked(branch, takes, f"{prefix}{name}/"):
            found[name] = inner
    return found


class Known(NamedTuple):
    """A parameter of which some numbers are given."""

    values: Any
    known: Any
    """Which; it has the axes of `values`, some of them of size 1."""


def with_given(params: Any, given: Any) -> Any:
    """`params` with those of `given` in their places.

    >>> with_given({"ctc": 0, "encoder": {"a": 0, "b": 0}}, {"encoder": {"b": 1}})
    {'ctc': 0, 'encoder': {'a': 0, 'b': 1}}
    """
    if isinstance(params, Mapping):
        return {name: with_given(branch, given[name]) if name in given else branch for name, branch in params.items()}
    return jnp.where(given.known, given.values, params) if isinstance(given, Known) else given
