"""Options of a module that another of its options makes idle."""

from flax import linen as nn

from jaxasr.errors import ConfigError


def check_unread(slot: str, module: nn.Module, chosen: str, *names: str) -> None:
    """Raises ConfigError where one of the options `names`, which `chosen` as it is makes idle, has been changed."""
    for name in names:
        if (value := getattr(module, name)) != (default := getattr(type(module), name)):
            raise ConfigError(
                f"--{slot}.{name}={value} with --{slot}.{chosen}={getattr(module, chosen)}: it would change nothing; "
                f"{default} was expected; remove it, or change --{slot}.{chosen}."
            )
