"""Configurations: dataclasses built from defaults, a YAML file and flags, and written back as YAML.

A *slot* is a field that holds an entry of a registry; in YAML it is a name, or a mapping with the name under
`type`; on the command line it is `--encoder=NAME`, and the entry's own fields are `--encoder.FIELD=VALUE`.
A *flat* slot (the task) has its entry's fields beside the others, without a prefix.
"""

import dataclasses
import importlib
import pathlib
import sys
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import yaml

from jaxasr.errors import ConfigError
from jaxasr.registry import Registry, did_you_mean
from jaxasr.registry import naming_files as naming_files
from jaxasr.registry import resource as resource
from jaxasr.values import Words, coerce, says_none

ConfigT = TypeVar("ConfigT")
RECIPES = pathlib.Path(__file__).parent / "configs"


def slot(registry: Registry, default: Any, *, flat: bool = False) -> Any:
    """A dataclass field that holds an entry of `registry`; it may stay empty if its type allows None."""
    return dataclasses.field(default=default, metadata={"registry": registry, "flat": flat})


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


def named_files(config: Any) -> Iterator[str]:
    """What stands in the fields made with `naming_files`, of a configuration and of what its slots hold."""
    for name, field in option_fields(type(config)).items():
        value = getattr(config, name)
        if "names_files" in field.metadata:
            yield from [value] if isinstance(value, str) else value or ()
        elif "registry" in field.metadata and value is not None:
            yield from named_files(value)


def _flat_slot(cls: type) -> str | None:
    return next((n for n in slots(cls) if option_fields(cls)[n].metadata["flat"]), None)


def _optional(cls: type, name: str) -> bool:
    return type(None) in typing.get_args(typing.get_type_hints(cls)[name])


# --- from a mapping, and back ------------------------------------------------------------------------------------


def from_mapping(cls: type[ConfigT], mapping: Mapping[str, Any], *, where: str) -> ConfigT:
    """A `cls` from its defaults and what `mapping` says; every fault is an error that begins with `where`.

    Raises:
      ConfigError: an unknown key or choice (with the nearest known one) or a value of the wrong type.
    """
    return _build(cls(), _underscored(mapping, f"{where}: "), f"{where}: ")


def _underscored(mapping: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """`mapping` with `_` for every `-` in its keys and its sections' keys."""
    out: dict[str, Any] = {}
    for key, value in mapping.items():
        name = str(key).replace("-", "_")
        if name in out:
            raise ConfigError(f"{where}{name}: given twice, with - and with _; once was expected; remove one.")
        out[name] = _underscored(value, f"{where}{name}.") if isinstance(value, Mapping) else value
    return out


def _build(default: Any, mapping: dict[str, Any], where: str) -> Any:
    """`default` with what `mapping` says changed; `where` stands before an option's name in errors."""
    cls, mapping, changes = type(default), dict(mapping), {}
    known, flat = list(option_fields(cls)), _flat_slot(cls)
    if flat is not None:
        entry = _entry(default, flat, mapping.pop(flat, _MISSING), where)
        inner = option_fields(type(entry))
        changes[flat] = _build(entry, {k: mapping.pop(k) for k in inner if k in mapping}, where)
        known += inner
    _refuse_unknown([k for k in mapping if k not in known], known, default, where)
    hints, registries = typing.get_type_hints(cls), slots(cls)
    for name, value in mapping.items():
        if name in registries:
            changes[name] = _slot_value(default, name, value, where)
        else:
            changes[name] = coerce(value, hints[name], where + name)
    return dataclasses.replace(default, **changes)


_MISSING: Any = object()


def _slot_value(default: Any, name: str, value: Any, where: str) -> Any:
    section = dict(value) if isinstance(value, Mapping) else {"type": value}
    entry = _entry(default, name, section.pop("type", _MISSING), where)
    if entry is not None:
        return _build(entry, section, f"{where}{name}.")
    if section:
        raise ConfigError(
            f"{where}{name}.{next(iter(section))}: {name} is none; one of "
            f"{', '.join(slots(type(default))[name])} was expected; choose one of them, or remove the option."
        )
    return None


def _entry(default: Any, name: str, choice: Any, where: str) -> Any:
    """The default instance of a slot's choice; what `default` has where the choice is the same or missing."""
    now, registry = getattr(default, name), slots(type(default))[name]
    if choice is _MISSING:
        return now
    if isinstance(choice, Mapping):
        raise ConfigError(f"{where}{name}: a section; a name was expected; write its options beside it, not below it.")
    choice = " ".join(choice) if isinstance(choice, Words) else choice
    if says_none(choice):
        if _optional(type(default), name):
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


def _refuse_unknown(names: Sequence[str], known: Sequence[str], default: Any, where: str) -> None:
    if names:
        deeper = [path for path in _paths(default) if path.endswith(f".{names[0]}")]
        near = f" Did you mean {' or '.join(map(repr, deeper))}?" if deeper else did_you_mean(names[0], known)
        there = f"there are {', '.join(sorted(known)) or 'none here'}; "
        raise ConfigError(f"{where}{names[0]}: no such option; {'' if near else there}correct or remove it.{near}")


def _paths(config: Any, prefix: str = "") -> Iterator[str]:
    """The name of every option, `encoder.num_layers` and the like."""
    flat, registries = _flat_slot(type(config)), slots(type(config))
    for name in option_fields(type(config)):
        yield prefix + name
        value = getattr(config, name)
        if name in registries and value is not None:
            yield from _paths(value, prefix if name == flat else f"{prefix}{name}.")


# --- as YAML -----------------------------------------------------------------------------------------------------


def to_mapping(config: Any) -> dict[str, Any]:
    """What `from_mapping` reads back as an equal configuration."""
    registries, out = slots(type(config)), {}
    for name, field in option_fields(type(config)).items():
        value = getattr(config, name)
        if name not in registries:
            out[name] = _plain(value, f"{type(config).__qualname__}.{name}")
        elif value is None:
            out[name] = None
        elif field.metadata["flat"]:
            out = {name: registries[name].name_of(type(value))} | to_mapping(value) | out
        else:
            out[name] = {"type": registries[name].name_of(type(value))} | to_mapping(value)
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
    """`to_mapping` as text."""
    return yaml.dump(to_mapping(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Quotes text with control characters; SafeDumper writes some of them, such as U+0085, so that they are lost."""


_Dumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, "" if text.isprintable() else '"')
)


def read_yaml(path: str | pathlib.Path) -> dict[str, Any]:
    """The mapping in a YAML file; a bare NAME is also looked for among the recipes that come with jaxasr."""
    path = pathlib.Path(path)
    try:
        mapping = _Loader(_found(path).read_text(encoding="utf-8")).get_single_data()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError(f"{path}:{line}: {error.problem}; a file of YAML was expected; correct it.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}; a file of YAML was expected; correct it.") from None
    if mapping is not None and not isinstance(mapping, dict):
        raise ConfigError(
            f"{path}: holds a {type(mapping).__name__}; a mapping was expected; write one `option: value` a line."
        )
    return mapping or {}


def _found(path: pathlib.Path) -> pathlib.Path:
    """The file itself, or the recipe of that name."""
    recipes = {p.stem: p for p in sorted(RECIPES.glob("*.yaml"))}
    bare = path.parent in (pathlib.Path("."), pathlib.Path("configs")) and path.suffix in ("", ".yaml")
    if not path.is_file() and bare and path.stem in recipes:
        return recipes[path.stem]
    if not path.exists():
        raise ConfigError(
            f"{path}: no such file; a YAML file or one of the recipes {', '.join(recipes)} was expected; "
            f"check the path.{did_you_mean(path.stem, recipes)}"
        )
    return path


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which YAML would keep the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                problem = f"{key.value!r} for the second time"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


# --- from a command line -----------------------------------------------------------------------------------------


def import_modules(names: Sequence[str], where: str) -> None:
    """Imports modules that register entries of their own."""
    if "" not in sys.path:
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


def parse(
    cls: type[ConfigT],
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    fallback: Callable[[Mapping[str, Sequence[str]]], str] | None = None,
) -> ConfigT | None:
    """A `cls` from the YAML of `--config` and the flags over it; None when `--print_config` printed it.

    Args:
      fallback: from the flags, and the words behind each, to the recipe that is used where neither `--config` nor
        `--train` is given.

    Raises:
      ConfigError: a fault in the YAML file or the flags, with the nearest option or choice that there is.
      SystemExit: `--help` was asked for and printed.
    """
    flags = _flags(argv)
    helping, printing = (coerce(flags.pop(n, Words(["false"])), bool, f"--{n}") for n in ("help", "print_config"))
    name = "" if "train" in flags or fallback is None else fallback(flags)
    if "config" in flags:
        name = coerce(flags.pop("config"), str, "--config") or "."
    mapping = _underscored(read_yaml(name), f"{name}: ") if name else {}
    imports = coerce(mapping.get("imports") or (), tuple[str, ...], f"{name}: imports")
    import_modules(imports, f"{name}: imports")
    if "imports" in flags:
        import_modules(flags["imports"], "--import")
        flags["imports"] = Words(dict.fromkeys([*imports, *flags["imports"]]))
    default = from_mapping(cls, _with_choices(cls(), mapping, flags, f"{name}: "), where=name)
    if helping:
        _print_help(default, prog, description, name)
    config = _build(default, _nested(flags), "--")
    text = to_yaml(config)  # not only to print it: what cannot be saved is refused before any data is read
    if not printing:
        return config
    print(text, end="")
    return None


def _flags(argv: Sequence[str]) -> dict[str, Words]:
    """Options to the words behind them; in their names `-` and `_` are alike."""
    flags: dict[str, Words] = {}
    name = ""
    for word in argv:
        if word.startswith("--") or word == "-h":
            key, equals, value = word.removeprefix("--").partition("=")
            name = {"import": "imports", "-h": "help"}.get(key, key.replace("-", "_"))
            if name in flags:
                raise ConfigError(f"--{key}: given twice; once was expected; several values stand behind one flag.")
            flags[name] = Words([value] if equals else [])
        elif name:
            flags[name] = Words([*flags[name], word])
        else:
            raise ConfigError(f"{word}: stands before any option; --OPTION=VALUE was expected; correct or remove it.")
    return flags


def _nested(flags: Mapping[str, Words]) -> dict[str, Any]:
    """`{"encoder": {"type": ..., "num_layers": ...}}` from `{"encoder": ..., "encoder.num_layers": ...}`."""
    out: dict[str, Any] = {}
    for name in sorted(flags, key=lambda n: n.split(".")):  # a slot's choice before the options of what it chooses
        *sections, last = name.split(".")
        inner = out
        for section in sections:
            if isinstance(inner.get(section), Words):
                inner[section] = {"type": inner[section]}
            inner = inner.setdefault(section, {})
        inner[last] = flags[name]
    return out


def _with_choices(default: Any, mapping: dict[str, Any], flags: Mapping[str, Words], where: str) -> dict[str, Any]:
    """`mapping` with the slots that flags choose; of another's options those stay that mean the same."""
    cls, flat = type(default), _flat_slot(type(default))
    if flat is not None:
        before = _entry(default, flat, mapping.get(flat, _MISSING), where)
        entry = _entry(default, flat, flags[flat], "--") if flat in flags else before
        mapping = _without_lost(mapping, before, entry, option_fields(cls), f"{where}--{flat}")
        mapping[flat] = slots(cls)[flat].name_of(type(entry))
        mapping |= _with_choices(entry, mapping, flags, where)
    for name in (n for n in slots(cls) if n in flags and n != flat):
        new, section = _entry(default, name, flags[name], "--"), mapping.get(name)
        if new is not None and isinstance(section, Mapping):
            before = _entry(default, name, section.get("type", _MISSING), where)
            kept = _without_lost(section, before, new, ("type",), f"{where}--{name}")
            mapping = mapping | {name: kept | {"type": slots(cls)[name].name_of(type(new))}}
        else:
            mapping = mapping | {name: " ".join(flags[name])}
    return mapping


def _without_lost(
    section: Mapping[str, Any], before: Any, new: Any, others: Collection[str], where: str
) -> dict[str, Any]:
    """`section` without the options of `before` that `new` lacks or means otherwise, which are named on stderr.

    Options of one name mean the same where their defaults do: a width does, another optimizer's learning rate does not.
    A slot means the same where it holds the same kind of part.
    """
    old, fields = {} if before is None else option_fields(type(before)), option_fields(type(new))

    def same(name: str) -> bool:
        kinds = [field[name].metadata.get("registry") for field in (old, fields)]
        return kinds[0] is kinds[1] and (kinds[0] is not None or old[name].default == fields[name].default)

    mine = [name for name in section if name in old and name not in others]
    lacking = [name for name in mine if name not in fields]
    own = [name for name in mine if name in fields and not same(name)]
    parts = [f"{has} {', '.join(names)}" for has, names in (("has no", lacking), ("has its own", own)) if names]
    if parts:
        print(f"note: {where}: {type(new).__name__} {' and '.join(parts)}; left out.", file=sys.stderr)
    return {name: value for name, value in section.items() if name not in (*lacking, *own)}


def _print_help(default: Any, prog: str, description: str, recipe: str) -> None:
    """Ends the program when it has printed it."""
    import tyro

    lines = ["Choices (their own options are listed below, those of what is chosen now):", *_choices(default), ""]
    lines += [f"Defaults are those of {recipe}.", ""] if recipe else []
    lines += ["Also: --config=FILE.yaml (flags stand above it), --print_config, --import=MODULE ..."]
    marks = (
        tyro.conf.AvoidSubcommands,
        tyro.conf.SuppressFixed,
        tyro.conf.HelptextFromCommentsOff,
        tyro.conf.FlagConversionOff,
    )
    description = "\n".join([description, "", *lines])
    tyro.cli(type(default), prog=prog, description=description, args=["--help"], default=default, config=marks)


def _choices(config: Any) -> Iterator[str]:
    """`--encoder {...}  (now: sanm)` for every slot."""
    cls = type(config)
    for name, registry in slots(cls).items():
        value = getattr(config, name)
        names = [*registry, "none"] if _optional(cls, name) else list(registry)
        now = "none" if value is None else registry.name_of(type(value))
        yield f"  --{name} {{{','.join(names)}}}  (now: {now})"
        if name == _flat_slot(cls):
            yield from _choices(value)
