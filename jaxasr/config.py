"""Configurations: dataclasses built from defaults, a YAML file and flags, and written back as YAML.

A *slot* is a field that holds an entry of a registry; in YAML it is a name, or a mapping with the name under
`type`; on the command line it is `--encoder=NAME`, and the entry's own fields are `--encoder.FIELD=VALUE`.
A *flat* slot (the task) has its entry's fields beside the others, without a prefix.
"""

import dataclasses
import importlib
import pathlib
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import yaml

from jaxasr.errors import ConfigError
from jaxasr.registry import Registry, did_you_mean

ConfigT = TypeVar("ConfigT")
RECIPES = pathlib.Path(__file__).parent / "configs"


def slot(registry: Registry, default: Any, *, flat: bool = False) -> Any:
    """A dataclass field that holds an entry of `registry`; `default` None where it may stay empty."""
    return dataclasses.field(default=default, metadata={"registry": registry, "flat": flat})


def resource() -> Any:
    """A dataclass field for what only data can tell: no option, no part of equality or hash."""
    return dataclasses.field(default=None, compare=False, repr=False, metadata={"resource": True})


def option_fields(cls: type) -> dict[str, dataclasses.Field]:
    """The fields that a user may set: all but resources and Flax's own two."""
    return {
        f.name: f
        for f in dataclasses.fields(cls)
        if f.init and f.name not in ("parent", "name") and "resource" not in f.metadata
    }


def slots(cls: type) -> dict[str, Registry]:
    """The slots among the fields of `cls`, by name."""
    return {n: f.metadata["registry"] for n, f in option_fields(cls).items() if "registry" in f.metadata}


# --- from a mapping, and back ------------------------------------------------------------------------------------


def from_mapping(cls: type[ConfigT], mapping: Mapping[str, Any], *, where: str) -> ConfigT:
    """A `cls` from its defaults and what `mapping` says; every fault is an error that begins with `where`.

    Raises:
      ConfigError: an unknown key or choice (with the nearest known one) or a value of the wrong type.
    """
    return _build(cls(), dict(mapping), where, "")


def _build(default: Any, mapping: dict[str, Any], where: str, prefix: str) -> Any:
    cls = type(default)
    fields, registries = option_fields(cls), slots(cls)
    hints = typing.get_type_hints(cls)
    mapping = {str(k).replace("-", "_"): v for k, v in mapping.items()}
    flat = next((n for n in registries if fields[n].metadata["flat"]), None)
    changes: dict[str, Any] = {}
    if flat is not None:
        entry = _entry(registries[flat], getattr(default, flat), mapping.pop(flat, _MISSING), where, flat)
        inner = option_fields(type(entry))
        _refuse_unknown([k for k in mapping if k not in fields and k not in inner], [*fields, *inner], where, prefix)
        own = {k: mapping.pop(k) for k in list(mapping) if k in inner}
        changes[flat] = _build(entry, own, where, prefix)
    _refuse_unknown([k for k in mapping if k not in fields], list(fields), where, prefix)
    for name, value in mapping.items():
        path = prefix + name
        if name in registries:
            changes[name] = _slot_value(registries[name], getattr(default, name), value, where, path)
        else:
            changes[name] = coerce(value, hints[name], f"{where}: {path}")
    return dataclasses.replace(default, **changes)


_MISSING: Any = object()


def _slot_value(registry: Registry, default: Any, value: Any, where: str, path: str) -> Any:
    section = dict(value) if isinstance(value, Mapping) else {"type": value}
    entry = _entry(registry, default, section.pop("type", _MISSING), where, path)
    if entry is None:
        _refuse_unknown(list(section), [], where, path + ".")
        return None
    return _build(entry, section, where, path + ".")


def _entry(registry: Registry, default: Any, name: Any, where: str, path: str) -> Any:
    """The default instance of a slot's choice; `default` itself where the choice is the same or missing."""
    if name is _MISSING:
        return default
    if name is None or str(name).lower() == "none":
        return None
    try:
        cls = registry[str(name)]
    except ConfigError as error:
        raise ConfigError(f"{where}: {path}: {error}") from None
    return default if type(default) is cls else cls()


def _refuse_unknown(names: Sequence[str], known: Sequence[str], where: str, prefix: str) -> None:
    if names:
        hint = did_you_mean(names[0], known)
        there = f"there are {', '.join(sorted(known))}" if known else "there is none here"
        raise ConfigError(f"{where}: unknown option {prefix + names[0]!r}; {there}; correct or remove it.{hint}")


def coerce(value: Any, hint: Any, where: str) -> Any:
    """`value`, as YAML or JSON reads it, as the type `hint`; numbers that YAML takes for text (1e-3) are numbers."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return coerce(value, next(a for a in args if a is not type(None)), where)
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(coerce(v, args[0], where) for v in items)
    if origin is Literal:
        if value in args and type(value) in {type(a) for a in args}:
            return value
        choices = ", ".join(map(str, args))
        raise ConfigError(
            f"{where}: {value!r}; one of {choices} was expected.{did_you_mean(str(value), map(str, args))}"
        )
    if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise ConfigError(f"{where}: {value!r} is of type {type(value).__name__}; {_type_name(hint)} was expected.")


def _type_name(hint: Any) -> str:
    return {float: "a number", int: "a whole number", str: "text", bool: "true or false"}.get(hint, str(hint))


def to_mapping(config: Any) -> dict[str, Any]:
    """What `from_mapping` reads back as an equal configuration."""
    registries, out = slots(type(config)), {}
    for name, field in option_fields(type(config)).items():
        value = getattr(config, name)
        if name not in registries:
            out[name] = list(value) if isinstance(value, tuple) else value
        elif value is None:
            out[name] = None
        elif field.metadata["flat"]:
            out = {name: registries[name].name_of(type(value))} | to_mapping(value) | out
        else:
            out[name] = {"type": registries[name].name_of(type(value))} | to_mapping(value)
    return out


def to_yaml(config: Any) -> str:
    return yaml.safe_dump(to_mapping(config), sort_keys=False, allow_unicode=True, width=110)


def read_yaml(path: str | pathlib.Path) -> dict[str, Any]:
    """The mapping in a YAML file; a bare NAME is also looked for among the recipes that come with jaxasr."""
    path = pathlib.Path(path)
    if not path.exists() and path.parent in (pathlib.Path("."), pathlib.Path("configs")):
        path = RECIPES / path.with_suffix(".yaml").name
    try:
        mapping = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        recipes = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
        raise ConfigError(
            f"--config: {' '.join(str(error).split())}; a YAML file or one of the recipes {recipes} was expected."
        ) from None
    if mapping is not None and not isinstance(mapping, dict):
        raise ConfigError(f"{path}: holds a {type(mapping).__name__}; a mapping of option to value was expected.")
    return mapping or {}


# --- from a command line -----------------------------------------------------------------------------------------


class _Arguments(NamedTuple):
    """A command line taken apart: what decides which options there are, and the rest for the second stage."""

    choices: dict[str, str]
    config: str | None
    print_config: bool
    rest: list[str]


def import_modules(names: Sequence[str], where: str) -> None:
    """Imports modules that register entries of their own."""
    if "" not in sys.path:
        sys.path.insert(0, "")  # a module beside the caller, as `python -m` finds it and a script does not
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"{where}: module {name!r}: {error}; a module that can be imported was expected; run from the "
                "folder that holds it, or put that folder on PYTHONPATH."
            ) from None


def parse(
    cls: type[ConfigT], argv: Sequence[str], *, prog: str, description: str, fallback: str = ""
) -> ConfigT | None:
    """A `cls` from the YAML of `--config` and the flags over it; None when `--print_config` printed it.

    Args:
      fallback: the recipe that is used where neither `--config` nor `--train` is given; empty for none.

    A wrong option ends the program with status 2 and names the nearest one; `--help` ends it with 0.
    """
    arguments = _first_stage(cls, argv)
    name = arguments.config or (fallback if not any(a.startswith("--train") for a in argv) else "")
    mapping = read_yaml(name) if name else {}
    import_modules(mapping.get("imports", ()) or (), f"{name}: imports")
    where = name or "the command line"
    default = from_mapping(cls, _with_choices(cls, mapping, arguments.choices, where), where=where)
    config = _second_stage(default, arguments, prog, description)
    if arguments.print_config:
        print(to_yaml(config), end="")
        return None
    return config


def _first_stage(cls: type, argv: Sequence[str]) -> _Arguments:
    """Takes `--config`, `--print_config`, `--imports` and the slots out of `argv`."""
    names = slots(cls) | {n: r for s in _flat_entries(cls) for n, r in slots(s).items()}
    taken, rest, seen = {}, [], set()
    words = list(argv)
    while words:
        word = words.pop(0)
        key, equals, value = word.partition("=")
        key = key.replace("-", "_") if key.startswith("--") else key
        option = key.lstrip("_") if key.startswith("__") else ""
        if option and option in seen:
            raise ConfigError(f"--{option}: given twice; give it once (several values stand behind one flag).")
        seen.add(option or None)
        if option == "import":
            option = "imports"
        if option == "print_config":
            taken[option] = value or "true"
        elif option == "config" or option in names:
            if not equals and (not words or words[0].startswith("--")):
                raise ConfigError(f"--{option}: no value; a name was expected; write --{option}=NAME.")
            taken[option] = value if equals else words.pop(0)
        elif option == "imports":
            modules = [value] if equals else []
            while not equals and words and not words[0].startswith("-"):
                modules.append(words.pop(0))
            import_modules(modules, "--import")
            rest += ["--imports", *modules]
        else:
            rest.append(f"{word.partition('=')[0]}={'None' if value.lower() == 'none' else value}" if equals else word)
    choices = {n: v for n, v in taken.items() if n in names}
    printing = taken.get("print_config", "false").lower() in ("true", "1", "yes")
    return _Arguments(choices, taken.get("config"), printing, rest)


def _flat_entries(cls: type) -> list[type]:
    """Every entry a flat slot can hold: their slots are options too, whichever is chosen."""
    return [
        registry[name]
        for slot_name, registry in slots(cls).items()
        if option_fields(cls)[slot_name].metadata["flat"]
        for name in registry
    ]


def _with_choices(cls: type, mapping: dict[str, Any], choices: dict[str, str], where: str) -> dict[str, Any]:
    """`mapping` with slots chosen by flags; of another choice's options those stay that the new one has too."""
    mapping = {k.replace("-", "_"): v for k, v in mapping.items()}
    registries = slots(cls) | {n: r for s in _flat_entries(cls) for n, r in slots(s).items()}
    for name, choice in choices.items():
        section = mapping.get(name)
        if not isinstance(section, Mapping) or choice.lower() == "none":
            mapping[name] = choice
            continue
        known = option_fields(registries[name][choice])
        dropped = [k for k in section if k not in known and k != "type"]
        if dropped:
            print(f"note: {where}: {name}={choice} has no {', '.join(dropped)}; left out.", file=sys.stderr)
        mapping[name] = {k: v for k, v in section.items() if k in known} | {"type": choice}
    return mapping


def _second_stage(default: ConfigT, arguments: _Arguments, prog: str, description: str) -> ConfigT:
    import tyro

    marks = (
        tyro.conf.AvoidSubcommands,
        tyro.conf.SuppressFixed,
        tyro.conf.HelptextFromCommentsOff,
        tyro.conf.FlagCreatePairsOff,
    )
    return tyro.cli(
        type(default), prog=prog, description=_described(default, description), args=arguments.rest, default=default,
        config=marks,
    )  # fmt: skip


def _described(default: Any, description: str) -> str:
    """The description with the choices of every slot, which are options of the first stage."""
    lines = ["", "Choices (their own options are listed below, those of what is chosen now):"]

    def add(config: Any) -> None:
        for name, registry in slots(type(config)).items():
            value, field = getattr(config, name), option_fields(type(config))[name]
            chosen = "none" if value is None else registry.name_of(type(value))
            may_be_empty = "" if field.default is not None and not _optional(type(config), name) else ",none"
            lines.append(f"  --{name} {{{','.join(registry)}{may_be_empty}}}  (now: {chosen})")
            if field.metadata["flat"]:
                add(value)

    add(default)
    lines += ["", "Also: --config=FILE.yaml (flags stand above it), --print_config, --import=MODULE ..."]
    return description + "\n".join(lines)


def _optional(cls: type, name: str) -> bool:
    return type(None) in typing.get_args(typing.get_type_hints(cls)[name])
