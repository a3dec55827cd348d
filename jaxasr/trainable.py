"""What of a network learns: all that no pattern freezes, or an adapter and what is named beside it."""

import dataclasses
import math
import zlib

import jax

from jaxasr.adapters import Adapter
from jaxasr.errors import ConfigError
from jaxasr.paths import check_patterns, leaves, matches, picked
from jaxasr.typing import Key, Params

ADAPTER = "adapter"
"""The branch of a state's parameters that holds an adapter's."""


@dataclasses.dataclass(frozen=True)
class Trainable:
    """Tells the parameters that learn from those that stay, and with an adapter a state's from a network's."""

    freeze: tuple[str, ...] = ()
    adapter: Adapter | None = None

    def check(self) -> None:
        """Raises ConfigError where the choices do not go together."""
        if self.adapter is None:
            return
        if self.freeze:
            raise ConfigError(
                f"--freeze {' '.join(self.freeze)} with --adapter: all but the adapter stays as it is already; one of "
                "the two was expected; name in --adapter.train what is to learn beside it."
            )
        self.adapter.check()

    def check_params(self, params: Params, *, sizes_known: bool = True) -> None:
        """Raises ConfigError where a pattern names nothing, or nothing is left to learn; see `Adapter.check_params`."""
        check_patterns(params, self.freeze, "--freeze")
        if not self.learning(params) and self.adapter is None:
            raise ConfigError(
                f"--freeze {' '.join(self.freeze)}: all parameters of this network; some that learn were expected; "
                "freeze fewer."
            )
        if self.adapter is not None and ADAPTER in params:
            raise ConfigError(
                f"--adapter: the network has a part `{ADAPTER}`, where the adapter's parameters would stand; another "
                "name was expected; give that part one."
            )
        if self.adapter is not None:
            self.adapter.check_params(params, sizes_known=sizes_known)

    def begun(self, key: Key, params: Params) -> Params:
        """The parameters of a state: the network's, and beside them the adapter's."""
        if self.adapter is None:
            return params
        own = jax.random.fold_in(key, zlib.crc32(ADAPTER.encode()))
        return {**params, ADAPTER: self.adapter.init(own, params)}

    def merged(self, params: Params) -> Params:
        """The network's parameters, from those of a state."""
        if self.adapter is None:
            return params
        network = {name: branch for name, branch in params.items() if name != ADAPTER}
        return self.adapter.merged(network, params[ADAPTER])

    def learning(self, params: Params) -> Params:
        """The part that learns, of parameters or running statistics, in branches of the same names."""
        return picked(params, self.learns)

    def learns(self, path: str) -> bool:
        """Whether a state's parameter does."""
        if self.adapter is None:
            return not matches(path, self.freeze)
        return path.startswith(f"{ADAPTER}/") or matches(path, self.adapter.train)

    def summary(self, params: Params) -> str:
        """How many of a state's parameters learn, in a line; nothing where all of them do."""
        if self.adapter is None and not self.freeze:
            return ""
        frozen = ", ".join(self.freeze)
        if self.adapter is not None:
            frozen = f"all but {', '.join(['the adapter', *self.adapter.train])}"
        learns, total = (sum(math.prod(p.shape) for _, p in leaves(t)) for t in (self.learning(params), params))
        return f"learning {learns:,} of {total:,} parameters (frozen: {frozen})"
