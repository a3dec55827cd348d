"""Values of options: what YAML or a command line gives, as the types that dataclass fields have."""

import contextlib
import math
import re
import types
import typing
from typing import Any, Literal

from jaxasr.errors import ConfigError, show
from jaxasr.registry import did_you_mean


class Words(tuple[str, ...]):
    """What stands behind a flag: text, whatever type the option has."""


def coerce(value: Any, hint: Any, where: str) -> Any:
    """`value`, as YAML, JSON or the command line gives it, as the type `hint`; 1e-3, text in YAML, is a number.

    Raises:
      ConfigError: it is none.

    >>> coerce("1e-3", float, "--learning_rate")
    0.001
    >>> coerce([1, 2], tuple[int, ...], "--sizes")
    (1, 2)
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _coerce_union(value, args, where)
    if origin is tuple:
        return _coerce_tuple(value, args, where)
    if isinstance(value, Words):
        value = _one(value, hint, where)
    if origin is Literal:
        if value in args and type(value) in {type(a) for a in args}:
            return value
        near = did_you_mean(str(value), map(str, args))
        raise ConfigError(f"{where}: {show(value)}; one of {_type_name(hint)} was expected; choose one of them.{near}")
    if hint is float and type(value) in (int, str):
        with contextlib.suppress(ValueError, OverflowError):
            value = float(value)
    if type(value) is hint and (hint is not float or math.isfinite(value)):
        return value
    raise ConfigError(f"{where}: {show(value)}; {_type_name(hint)} was expected; correct it.")


def _coerce_union(value: Any, args: tuple[Any, ...], where: str) -> Any:
    """The value as the first type of a union that takes it; `none` is None wherever None is one of them."""
    if type(None) in args and says_none(value[0] if isinstance(value, Words) and len(value) == 1 else value):
        return None
    kinds = [a for a in args if a is not type(None)]
    if len(kinds) == 1:
        return coerce(value, kinds[0], where)
    for kind in kinds:
        with contextlib.suppress(ConfigError):
            return coerce(value, kind, where)
    said = " ".join(value) if isinstance(value, Words) else value
    raise ConfigError(f"{where}: {show(said)}; {' or '.join(map(_type_name, kinds))} was expected; correct it.")


def _coerce_tuple(value: Any, args: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if isinstance(value, Words):
        items: list[Any] = [Words([word]) for word in value]
    else:
        items = list(value) if isinstance(value, list | tuple) else [value]
    kinds = [args[0]] * len(items) if args[1:] == (...,) else list(args)
    if len(items) != len(kinds):
        raise ConfigError(f"{where}: {len(items)} values; {len(kinds)} were expected; correct it.")
    return tuple(coerce(item, kind, where) for item, kind in zip(items, kinds, strict=True))


def _one(words: Words, hint: Any, where: str) -> Any:
    """The single word behind a flag as YAML would have read it for this type; a switch needs none."""
    if not words and hint is bool:
        return True
    if len(words) != 1:
        came = f"{len(words)} values ({' '.join(words)})" if words else "no value"
        raise ConfigError(f"{where}: {came}; {_type_name(hint)} was expected; write {where}=VALUE.")
    word = words[0]
    if hint is bool:
        return {"true": True, "false": False}.get(word.lower(), word)
    if hint is int:
        return int(word) if re.fullmatch(r"[+-]?[0-9]{1,30}", word) else word
    return next((choice for choice in typing.get_args(hint) if str(choice) == word), word)


def says_none(value: Any) -> bool:
    """Whether a value is None or the word for it.

    >>> says_none("none")
    True
    """
    return value is None or (isinstance(value, str) and value.lower() in ("none", "null"))


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return ", ".join(map(str, typing.get_args(hint)))
    return {float: "a finite number", int: "a whole number", str: "text", bool: "true or false"}.get(hint, str(hint))
