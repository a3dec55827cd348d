"""Configurations: dataclasses built from defaults, a YAML file and flags, and written back as YAML.

A *slot* is a field that holds an entry of a registry; in YAML it is a name, or a mapping with the name under
`type`; on the command line it is `--encoder=NAME`, and the entry's own fields are `--encoder.FIELD=VALUE`.
A *flat* slot (the task) has its entry's fields beside the others, without a prefix. A *section* is a field that holds
a dataclass of options, or none; what stands alone behind its name is one of them.
"""

import dataclasses
import importlib
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import yaml

from jaxasr.errors import ConfigError
from jaxasr.recipes import read_yaml as read_yaml
from jaxasr.registry import Registry, did_you_mean
from jaxasr.registry import beside as beside
from jaxasr.registry import naming_files as naming_files
from jaxasr.registry import no_option as no_option
from jaxasr.registry import resource as resource
from jaxasr.values import Words, coerce, says_none

ConfigT = TypeVar("ConfigT")


def slot(registry: Registry, default: Any, *, flat: bool = False) -> Any:
    """A dataclass field that holds an entry of `registry`; it may stay empty if its type allows None."""
    return dataclasses.field(default=default, metadata={"registry": registry, "flat": flat})


def section(cls: type, bare: str) -> Any:
    """A dataclass field that holds a `cls`, or None; its value alone is that of the field `bare`, which it needs."""
    return dataclasses.field(default=None, metadata={"section": cls, "bare": bare})


def option_fields(cls: type) -> dict[str, dataclasses.Field]:
    """The fields that a user may set: all but resources and Flax's own two.

    >>> from jaxasr.fsdp import Fsdp
    >>> list(option_fields(Fsdp))
    ['devices', 'min_size', 'rules']
    """
    return {
        f.name: f
        for f in dataclasses.fields(cls)
        if f.init and f.name not in ("parent", "name") and "resource" not in f.metadata
    }


def slots(cls: type) -> dict[str, Registry]:
    """The slots among the fields of `cls`, by name.

    >>> from jaxasr.train_config import TrainConfig
    >>> list(slots(TrainConfig))
    ['task', 'optimizer', 'schedule', 'average', 'adapter']
    """
    return {n: f.metadata["registry"] for n, f in option_fields(cls).items() if "registry" in f.metadata}


def sections(cls: type) -> dict[str, type]:
    """The sections among the fields of `cls`, by name."""
    return {n: f.metadata["section"] for n, f in option_fields(cls).items() if "section" in f.metadata}


def named_files(config: Any) -> Iterator[str]:
    """What stands in the fields made with `naming_files`, of a configuration and of what its slots hold.

    >>> from jaxasr.data.tokenizer import BpeTokenizer
    >>> list(named_files(BpeTokenizer(model="bpe.model")))
    ['bpe.model']
    """
    for name, field in option_fields(type(config)).items():
        value = getattr(config, name)
        if "names_files" in field.metadata:
            yield from [value] if isinstance(value, str) else value or ()
        elif "registry" in field.metadata and value is not None:
            yield from named_files(value)


def flat_slot(cls: type) -> str | None:
    """The slot whose options stand beside it and not below it, if there is one.

    >>> from jaxasr.train_config import TrainConfig
    >>> flat_slot(TrainConfig)
    'task'
    """
    return next((n for n in slots(cls) if option_fields(cls)[n].metadata["flat"]), None)


def is_optional(cls: type, name: str) -> bool:
    """Whether the option may be none.

    >>> from jaxasr.train_config import TrainConfig
    >>> is_optional(TrainConfig, "fsdp"), is_optional(TrainConfig, "seed")
    (True, False)
    """
    return type(None) in typing.get_args(typing.get_type_hints(cls)[name])


# --- from a mapping, and back ------------------------------------------------------------------------------------


def from_mapping(cls: type[ConfigT], mapping: Mapping[str, Any], *, where: str) -> ConfigT:
    """A `cls` from its defaults and what `mapping` says; every fault is an error that begins with `where`.

    Raises:
      ConfigError: an unknown key or choice (with the nearest known one) or a value of the wrong type.
    """
    return build(cls(), underscored(mapping, f"{where}: "), f"{where}: ")


def underscored(mapping: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """`mapping` with `_` for every `-` in its keys and its sections' keys.

    Raises:
      ConfigError: a key is there with both.

    >>> underscored({"batch-seconds": 60}, "")
    {'batch_seconds': 60}
    """
    out: dict[str, Any] = {}
    for key, value in mapping.items():
        name = str(key).replace("-", "_")
        if name in out:
            raise ConfigError(f"{where}{name}: given twice, with - and with _; once was expected; remove one.")
        out[name] = underscored(value, f"{where}{name}.") if isinstance(value, Mapping) else value
    return out


def build(default: Any, mapping: dict[str, Any], where: str) -> Any:
    """`default` with what `mapping` says changed; `where` stands before an option's name in errors.

    >>> from jaxasr.fsdp import Fsdp
    >>> build(Fsdp(), {"devices": 4}, "")
    Fsdp(devices=4, min_size=65536, rules=())
    """
    cls, mapping, changes = type(default), dict(mapping), {}
    _refuse_withheld(default, mapping, where)
    known, flat = list(option_fields(cls)), flat_slot(cls)
    if flat is not None:
        entry = entry_of(default, flat, mapping.pop(flat, MISSING), where)
        _refuse_withheld(entry, mapping, where)
        inner = option_fields(type(entry))
        changes[flat] = build(entry, {k: mapping.pop(k) for k in inner if k in mapping}, where)
        known += inner
    refuse_unknown([k for k in mapping if k not in known], known, where, default)
    hints, registries = typing.get_type_hints(cls), slots(cls)
    for name, value in mapping.items():
        if name in registries:
            changes[name] = _slot_value(default, name, value, where)
        elif name in sections(cls):
            changes[name] = _section_value(default, name, value, where)
        else:
            changes[name] = coerce(value, hints[name], where + name)
    return dataclasses.replace(default, **changes)


MISSING: Any = object()


def _slot_value(default: Any, name: str, value: Any, where: str) -> Any:
    section = dict(value) if isinstance(value, Mapping) else {"type": value}
    entry = entry_of(default, name, section.pop("type", MISSING), where)
    if entry is not None:
        return build(entry, section, f"{where}{name}.")
    if section:
        raise ConfigError(
            f"{where}{name}.{next(iter(section))}: {name} is none; one of "
            f"{', '.join(slots(type(default))[name])} was expected; choose one of them, or remove the option."
        )
    return None


def _section_value(default: Any, name: str, value: Any, where: str) -> Any:
    field, options = option_fields(type(default))[name], dict(value) if isinstance(value, Mapping) else {"type": value}
    cls, bare, now = field.metadata["section"], field.metadata["bare"], getattr(default, name)
    if "type" in options and bare in options:
        raise ConfigError(f"{where}{name}: given twice, alone and as {name}.{bare}; once was expected; remove one.")
    if "type" in options:
        options[bare] = options.pop("type")
    alone = options.get(bare, now)
    if says_none(" ".join(alone) if isinstance(alone, Words) else alone):
        options.pop(bare, None)
        known = list(option_fields(cls))
        refuse_unknown([option for option in options if option not in known], known, f"{where}{name}.", cls())
        if options:
            raise ConfigError(
                f"{where}{name}.{next(iter(options))}: {name} is none; {where}{name}={bare.upper()} was expected "
                "beside it; give it, or remove the option."
            )
        return None
    return build(cls() if now is None else now, options, f"{where}{name}.")


def entry_of(default: Any, name: str, choice: Any, where: str) -> Any:
    """The default instance of a slot's choice; what `default` has where the choice is the same or missing.

    Raises:
      ConfigError: the choice is no name of the registry, is none where that is not allowed, or cannot be made from its
        defaults.

    >>> from jaxasr.train_config import TrainConfig
    >>> type(entry_of(TrainConfig(), "optimizer", "sgd", "--")).__name__
    'Sgd'
    """
    now, registry = getattr(default, name), slots(type(default))[name]
    if choice is MISSING:
        return now
    if isinstance(choice, Mapping):
        raise ConfigError(f"{where}{name}: a section; a name was expected; write its options beside it, not below it.")
    choice = " ".join(choice) if isinstance(choice, Words) else choice
    if says_none(choice):
        if is_optional(type(default), name):
            return None
        raise ConfigError(f"{where}{name}: none; one of {', '.join(registry)} was expected; choose one of them.")
    try:
        chosen = registry[str(choice)]
    except ConfigError as error:
        raise ConfigError(f"{where}{name}: {error}") from None
    try:
        return now if type(now) is chosen else chosen()
    except TypeError as error:
        raise ConfigError(
            f"{where}{name}: {chosen.__name__} cannot be made from its defaults: {error}; every option has one; add it."
        ) from error


def _refuse_withheld(part: Any, mapping: Mapping[str, Any], where: str) -> None:
    """Raises ConfigError for an option that the part's base class has and itself has not (`no_option`)."""
    for field in dataclasses.fields(part):
        if field.name in mapping and not field.init:
            raise ConfigError(
                f"{where}{field.name}: {type(part).__name__} has no such option; it was expected to be left out, since "
                "it changes nothing there; remove it."
            )


def refuse_unknown(names: Sequence[str], known: Sequence[str], where: str, default: Any = None) -> None:
    """Raises ConfigError where there are names that are not known, with the nearest that is, or inside of `default`."""
    if names:
        inside = () if default is None else paths(default)
        deeper = [path for path in inside if path.endswith(f".{names[0]}")]
        near = f" Did you mean {' or '.join(map(repr, deeper))}?" if deeper else did_you_mean(names[0], known)
        there = f"there are {', '.join(sorted(known)) or 'none here'}; "
        raise ConfigError(f"{where}{names[0]}: no such option; {'' if near else there}correct or remove it.{near}")


def paths(config: Any, prefix: str = "") -> Iterator[str]:
    """The name of every option, `encoder.num_layers` and the like.

    >>> from jaxasr.fsdp import Fsdp
    >>> list(paths(Fsdp(), "fsdp."))
    ['fsdp.devices', 'fsdp.min_size', 'fsdp.rules']
    """
    flat, registries = flat_slot(type(config)), slots(type(config))
    for name in option_fields(type(config)):
        yield prefix + name
        value = getattr(config, name)
        if name in registries and value is not None:
            yield from paths(value, prefix if name == flat else f"{prefix}{name}.")
        elif name in sections(type(config)):
            yield from paths(sections(type(config))[name](), f"{prefix}{name}.")


# --- as YAML -----------------------------------------------------------------------------------------------------


def to_mapping(config: Any) -> dict[str, Any]:
    """What `from_mapping` reads back as an equal configuration.

    >>> from jaxasr.fsdp import Fsdp
    >>> to_mapping(Fsdp(devices=4))
    {'devices': 4, 'min_size': 65536, 'rules': []}
    """
    registries, out = slots(type(config)), {}
    for name, field in option_fields(type(config)).items():
        value = getattr(config, name)
        if name in sections(type(config)):
            out[name] = None if value is None else to_mapping(value)
        elif name not in registries:
            out[name] = _plain(value, f"{type(config).__qualname__}.{name}")
        elif value is None:
            out[name] = None
        elif field.metadata["flat"]:
            out = {name: registries[name].name_of(type(value))} | to_mapping(value) | out
        else:
            out[name] = {"type": registries[name].name_of(type(value))} | to_mapping(value)
    return out


def changed(options: Any, default: Any = None) -> dict[str, Any]:
    """The options that differ from those of `default`, as YAML has them; None for the class's own defaults.

    `from_mapping` makes equal options of it. What is chosen for a slot is compared with its own defaults.

    >>> from jaxasr.fsdp import Fsdp
    >>> changed(Fsdp(devices=4))
    {'devices': 4}
    """
    default = type(options)() if default is None else default
    registries, plain, out = slots(type(options)), to_mapping(options), {}
    for name, field in option_fields(type(options)).items():
        value, before = getattr(options, name), getattr(default, name)
        if name not in registries or value is None:
            out |= {name: plain[name]} if value != before else {}
            continue
        same = type(value) is type(before)
        inner, chosen = changed(value, before if same else None), registries[name].name_of(type(value))
        if field.metadata["flat"]:
            out = {name: chosen} | inner | out
        elif inner or not same:
            out[name] = {"type": chosen} | inner
    return out


def _plain(value: Any, where: str) -> Any:
    """The value as YAML can hold it."""
    if isinstance(value, tuple | list):
        return [_plain(item, where) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise ConfigError(
        f"{where}: {value!r}; an option is a number, text, true or false, or a tuple of these, so that YAML can hold "
        "it; give the field a name to choose by instead."
    )


def to_yaml(config: Any) -> str:
    """`to_mapping` as text.

    >>> from jaxasr.fsdp import Fsdp
    >>> print(to_yaml(Fsdp(devices=4)), end="")
    devices: 4
    min_size: 65536
    rules: []
    """
    return yaml.dump(to_mapping(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Quotes text with control characters; SafeDumper writes some of them, such as U+0085, so that they are lost."""


_Dumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, "" if text.isprintable() else '"')
)


# --- modules from outside ---------------------------------------------------------------------------------------------


def import_modules(names: Sequence[str], where: str) -> None:
    """Imports modules that register entries of their own.

    Raises:
      ConfigError: one cannot be imported.
    """
    if names and "" not in sys.path:
        sys.path.insert(0, "")  # a module beside the caller, as `python -m` finds it and a script does not
    for name in names:
        try:
            if not all(part.isidentifier() for part in name.split(".")):
                raise ImportError("not the name of a module, such as my_folder.my_file")
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"{where}: {name}: {error}; a module that can be imported was expected; run from the "
                "folder that holds it, or put that folder on PYTHONPATH."
            ) from error


def check_imported(mapping: Mapping[str, Any], where: str) -> None:
    """Raises ConfigError where a module is not imported yet that options from elsewhere name under `imports`.

    A module runs when it is imported, so that whoever gives a model away must not choose which.
    """
    names = coerce(mapping.get("imports") or (), tuple[str, ...], f"{where}: imports")
    if missing := [name for name in names if name not in sys.modules]:
        raise ConfigError(
            f"{where}: imports: it needs {' '.join(missing)}; modules that you name were expected, since what a module "
            f"holds is run; look at it, and if you trust it give --import={' '.join(missing)} (in Python, import it)."
        )
