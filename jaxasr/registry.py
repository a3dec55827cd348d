"""Names for the classes that a command line or a YAML file chooses between."""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from jaxasr.errors import ConfigError

T = TypeVar("T")
ClassT = TypeVar("ClassT", bound=type)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?``, or an empty string where nothing known is near `name`.

    >>> did_you_mean("confomer", ["sanm", "conformer"])
    " Did you mean 'conformer'?"
    >>> did_you_mean("xyz", ["sanm", "conformer"])
    ''
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def resource(default: Any = None) -> Any:
    """A dataclass field for what only data can tell: no option, no part of equality or hash.

    >>> resource().compare
    False
    """
    return dataclasses.field(default=default, compare=False, repr=False, kw_only=True, metadata={"resource": True})


def beside(name: str, default: Any) -> Any:
    """A dataclass field with an option that changes nothing but beside the option `name`.

    >>> beside("beam", 10).metadata["beside"]
    'beam'
    """
    return dataclasses.field(default=default, metadata={"beside": name})


def no_option(value: Any) -> Any:
    """A dataclass field that has this value and no flag: one of a base class that changes nothing in this class.

    >>> no_option(3).init
    False
    """
    return dataclasses.field(default=value, init=False)


def naming_files(default: Any = None) -> Any:
    """A field, of a dataclass or a Linen module, that names files which a run goes on with only as they were.

    >>> naming_files().metadata["names_files"]
    True
    """
    return dataclasses.field(default=default, metadata={"names_files": True})


def _anew(before: type, now: Any) -> bool:
    """Whether `now` is the class `before` defined once more: by a notebook's cell that runs again, or `reload`."""
    places = {(getattr(cls, "__module__", None), getattr(cls, "__qualname__", None)) for cls in (before, now)}
    return before is not now and len(places) == 1


class Registry(Generic[T]):
    """A mapping from short names to classes of one kind.

    A class is checked when it is registered: it must derive from `base` and define every method named in
    `protocol` itself or inherit it from something other than `base`. One that is defined anew, as when a notebook's
    cell runs again, takes its own place.
    """

    def __init__(self, kind: str, base: type[T], protocol: tuple[str, ...] = ()):
        self.kind = kind
        self.base = base
        self.protocol = protocol
        self._entries: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[ClassT], ClassT]:
        """A class decorator: `@ENCODERS.register("sanm")`.

        Raises:
          ConfigError: the name is taken, or the class lacks the base or a method.
        """

        def add(cls: ClassT) -> ClassT:
            taken = self._entries.get(name)
            if taken is not None and not _anew(taken, cls):
                raise ConfigError(
                    f"{self.kind} {name!r}: already registered by {taken.__module__}.{taken.__qualname__}; "
                    "names are used once; choose another name."
                )
            if not (isinstance(cls, type) and issubclass(cls, self.base)):
                raise ConfigError(
                    f"{self.kind} {name!r}: {cls!r} does not derive from {self.base.__qualname__}; "
                    f"every {self.kind} does; make it a subclass."
                )
            missing = [m for m in self.protocol if getattr(cls, m, None) is getattr(self.base, m, None)]
            if missing:
                raise ConfigError(
                    f"{self.kind} {name!r}: {cls.__qualname__} does not define {', '.join(missing)}; "
                    f"every {self.kind} defines {', '.join(self.protocol)}; add what is missing."
                )
            self._entries[name] = cls
            return cls  # pyright: ignore[reportReturnType]

        return add

    def __getitem__(self, name: str) -> type[T]:
        if name not in self._entries:
            raise ConfigError(
                f"{self.kind} {name!r}: not known; there are {', '.join(sorted(self._entries))}; "
                f"choose one of them, or load your own with --import=MODULE.{did_you_mean(name, self._entries)}"
            )
        return self._entries[name]

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def name_of(self, cls: type) -> str:
        """The name that `cls` was registered under.

        Raises:
          ConfigError: it was not registered.
        """
        for name, entry in self._entries.items():
            if entry is cls:
                return name
        raise ConfigError(
            f"{self.kind}: {cls.__qualname__} is not registered; only registered classes can be named in a "
            f"config; decorate it with the registry's .register(NAME)."
        )
