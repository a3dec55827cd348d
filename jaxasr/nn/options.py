"""Options of a module that are none of their choices, or that another of its options makes idle."""

import functools
import typing

from flax import linen as nn

from jaxasr.errors import ConfigError


def check_known(slot: str, module: nn.Module, name: str) -> None:
    """Raises ConfigError where the option `name`, whose type is a `Literal`, is none of its choices."""
    known = _choices(type(module), name)
    if (value := getattr(module, name)) not in known:
        raise ConfigError(f"--{slot}.{name}={value}: one of {', '.join(known)} was expected; choose one of them.")


@functools.cache
def _choices(cls: type, name: str) -> tuple[str, ...]:
    return typing.get_args(typing.get_type_hints(cls)[name])


def check_unread(slot: str, module: nn.Module, chosen: str, *names: str) -> None:
    """Raises ConfigError where one of the options `names`, which `chosen` as it is makes idle, has been changed."""
    for name in names:
        if (value := getattr(module, name)) != (default := getattr(type(module), name)):
            raise ConfigError(
                f"--{slot}.{name}={value} with --{slot}.{chosen}={getattr(module, chosen)}: it would change nothing; "
                f"{default} was expected; remove it, or change --{slot}.{chosen}."
            )
