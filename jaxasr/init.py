"""What a run may start from: a model, and which of its parameters go where."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, Self

from jaxasr.errors import ConfigError
from jaxasr.nn.batch_norm import STATS
from jaxasr.registry import did_you_mean

Shapes = Mapping[str, tuple[int, ...]]
"""Of parameters, by their paths."""


@dataclasses.dataclass(frozen=True)
class Init:
    """A model that a new run takes options, token list, statistics and parameters from."""

    folder: str = ""
    """Workdir of a run, or its model folder; --init=DIR says it as well."""
    map: tuple[str, ...] = ()
    """Which parameters are taken, by rules SRC:DST:EXCLUDE,EXCLUDE; without any all of them, and all must fit.

    A rule takes those below the path SRC (encoder, encoder/blocks; none: all) to below DST (none: SRC), but for those
    below EXCLUDE; what is missing behind it may be left out. Parameters that no rule fills are drawn."""
    tokens: Literal["model", "new"] = "model"
    """Token list and tokenizer: the model's, or as in any new run; then the rows of tokens that both have are taken."""


def under(path: str, prefix: str) -> bool:
    """Whether a parameter stands below a path of whole names; so do the running statistics of the modules there.

    >>> under("encoder/blocks/ff/in/kernel", "encoder/blocks")
    True
    """
    return not prefix or f"{path.removeprefix(STATS + '/')}/".startswith(f"{prefix}/")


@dataclasses.dataclass(frozen=True)
class Rule:
    """FunASR's `init_param` without the file."""

    text: str
    source: str
    target: str
    excluded: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """A rule as options spell it: `SRC:DST:EXCLUDE[,EXCLUDE...]`, of which all but SRC may be missing.

        Raises:
          ConfigError: it has more parts.

        >>> Rule.parse("encoder::encoder/positions").excluded
        ('encoder/positions',)
        """
        parts = text.split(":")
        if len(parts) > 3:
            raise ConfigError(
                f"--init.map: {text!r} has {len(parts)} parts; SRC:DST:EXCLUDE[,EXCLUDE...] was expected; such as "
                "encoder, or ::ctc,decoder."
            )
        source, target, excluded = (*(part.strip("/") for part in parts), "", "")[:3]
        return cls(text, source, target or source, tuple(name.strip("/") for name in excluded.split(",") if name))

    def taken(self, model: Iterable[str]) -> list[str]:
        """The model's parameters that it takes.

        Raises:
          ConfigError: a path of it has none below it, or none are left.

        >>> Rule.parse("encoder").taken(["encoder/input/bias", "ctc/bias"])
        ['encoder/input/bias']
        """
        paths = list(model)
        inside = [path for path in paths if under(path, self.source)]
        if not inside:
            raise ConfigError(
                f"--init.map: {self.text!r}: the model has no parameters below {self.source!r}; a path of whole names "
                f"was expected; correct it.{did_you_mean(self.source, _prefixes(paths))}"
            )
        for name in self.excluded:
            if not any(under(path, name) for path in inside):
                raise ConfigError(
                    f"--init.map: {self.text!r} excludes nothing by {name!r}; a path of whole names below "
                    f"{self.source!r} was expected; correct or remove it.{did_you_mean(name, _prefixes(inside))}"
                )
        taken = [path for path in inside if not any(under(path, name) for name in self.excluded)]
        if not taken:
            raise ConfigError(
                f"--init.map: {self.text!r} takes nothing, since all below {self.source!r} is excluded; some "
                "parameters were expected; exclude fewer, or remove the rule."
            )
        return taken

    def place(self, path: str) -> str:
        """Where a parameter goes that it takes.

        >>> Rule.parse("encoder:teacher").place("encoder/input/bias")
        'teacher/input/bias'
        """
        bare = path.removeprefix(STATS + "/")
        inside = f"{self.target}/{bare[len(self.source) :].strip('/')}".strip("/")
        return inside if bare == path else f"{STATS}/{inside}"


def _prefixes(paths: Iterable[str]) -> list[str]:
    names = [path.removeprefix(STATS + "/").split("/") for path in paths]
    return list(dict.fromkeys("/".join(parts[:n]) for parts in names for n in range(1, len(parts) + 1)))


class Plan(NamedTuple):
    """Where a new network's parameters come from."""

    sources: dict[str, str]
    """Their paths to those of the model's."""
    drawn: list[str]
    """Those that the model fills none of."""
    left_out: list[str]
    """The model's that are not taken."""


def planned(init: Init, model: Shapes, network: Shapes) -> Plan:
    """What the rules make of a model's parameters and a network's.

    Raises:
      ConfigError: a parameter has no place, two have one, one has another shape than its place, or, where there are no
        rules, one is missing.

    >>> model, network = {"encoder/bias": (4,), "ctc/bias": (9,)}, {"encoder/bias": (4,), "ctc/bias": (7,)}
    >>> planned(Init("exp/a", map=("encoder:",)), model, network)
    Plan(sources={'encoder/bias': 'encoder/bias'}, drawn=['ctc/bias'], left_out=['ctc/bias'])
    """
    sources = _mapped(init, model, network) if init.map else _same(init, model, network)
    differing = [target for target, source in sources.items() if model[source] != network[target]]
    if differing:
        target = differing[0]
        raise ConfigError(
            f"--init={init.folder}: {sources[target]} has shape {model[sources[target]]}; {target} of shape "
            f"{network[target]} was expected ({len(differing)} parameters differ); leave the options as the model has "
            "them, or exclude it by --init.map."
        )
    taken = set(sources.values())
    return Plan(sources, [p for p in network if p not in sources], [p for p in model if p not in taken])


def _same(init: Init, model: Shapes, network: Shapes) -> dict[str, str]:
    """Every parameter in the place of its path."""
    lost, missing = ([path for path in a if path not in b] for a, b in ((model, network), (network, model)))
    if lost:
        raise ConfigError(
            f"--init={init.folder}: the network of this run has no {lost[0]} ({len(lost)} of the model's parameters "
            "have no place); places for all were expected; leave the options as the model has them, or exclude them by "
            "--init.map."
        )
    if missing:
        raise ConfigError(
            f"--init={init.folder}: the model has no {missing[0]} ({len(missing)} of this run's parameters are "
            "missing); all were expected; leave the options as the model has them, or have the others drawn by "
            "--init.map."
        )
    return {path: path for path in network}


def _mapped(init: Init, model: Shapes, network: Shapes) -> dict[str, str]:
    sources: dict[str, str] = {}
    for rule in map(Rule.parse, init.map):
        for path in rule.taken(model):
            place = rule.place(path)
            if place not in network:
                raise ConfigError(
                    f"--init.map: {rule.text!r} takes {path} to {place}; a parameter of this run's network was "
                    f"expected; correct DST, or exclude it.{did_you_mean(place, network)}"
                )
            if place in sources:
                raise ConfigError(
                    f"--init.map: {rule.text!r} takes {path} to {place}, which {sources[place]} fills; one of the two "
                    "was expected; exclude the other."
                )
            sources[place] = path
    return sources
