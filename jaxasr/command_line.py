"""Configurations from a command line: defaults < what the run starts from < a recipe < flags."""

import dataclasses
import sys
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeAlias, TypeVar

import tyro

from jaxasr.config import (
    MISSING,
    build,
    entry_of,
    flat_slot,
    import_modules,
    is_optional,
    option_fields,
    read_yaml,
    refuse_unknown,
    sections,
    slots,
    to_yaml,
    underscored,
)
from jaxasr.errors import ConfigError
from jaxasr.values import Words, coerce

ConfigT = TypeVar("ConfigT")

MODULES = "Modules to import first, which register what a model names; a model's own word does not import them."
Imports: TypeAlias = Annotated[tuple[str, ...], tyro.conf.arg(name="import", help=MODULES)]
"""An option of every command that takes a model."""


def options_of(cls: type[ConfigT], argv: Sequence[str] | None, command: str) -> ConfigT:
    """The options of a command but `train`, from `argv` or else the program's own arguments.

    Raises:
      ConfigError: an option stands there twice, or there is none such.
      SystemExit: `--help` was printed, or what else is wrong with them.
    """
    argv = sys.argv[1:] if argv is None else argv
    _check_once(argv)
    known = ["help", *(name for name, _ in flags_of(cls))]
    given = [key.replace("-", "_") for key in _flags_in(argv)]
    refuse_unknown([name for name in given if name not in known], known, "--")
    return tyro.cli(cls, args=argv, prog=f"python -m jaxasr.{command}", config=(tyro.conf.FlagCreatePairsOff,))


def _check_once(argv: Sequence[str]) -> None:
    """Raises ConfigError for an option that stands there twice, of which only the last would count."""
    seen = set()
    for key in _flags_in(argv):
        if _name(key) in seen:
            raise ConfigError(f"--{key}: given twice; once was expected; several values stand behind one flag.")
        seen.add(_name(key))


def _flags_in(argv: Sequence[str]) -> list[str]:
    return [word.removeprefix("--").partition("=")[0] for word in argv if word.startswith("--")]


def flags_of(cls: type) -> Iterator[tuple[str, Any]]:
    """Names and types of a command's options as tyro takes them: a switch stands alone, and parts have no prefix.

    >>> from jaxasr.data.segmenter import Segmenter
    >>> dict(flags_of(Segmenter))["max_segment"]
    <class 'float'>
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        hint, name = hints[field.name], field.name
        if typing.get_origin(hint) is Annotated:
            hint, *marks = typing.get_args(hint)
            if tyro.conf.Positional in marks:
                continue
            name = next((mark.name for mark in marks if getattr(mark, "name", None)), name)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from flags_of(hint)
        else:
            yield f"no_{name}" if hint is bool and field.default else name, hint


def _name(key: str) -> str:
    """The field of an option, in which `-` and `_` are alike."""
    return {"import": "imports", "-h": "help"}.get(key, key.replace("-", "_"))


class Below(NamedTuple):
    """Options that stand below the recipe and the flags."""

    where: str
    """What has them."""
    mapping: dict[str, Any]
    """As `config.to_mapping` gives them, with the modules to import."""
    left_open: tuple[str, ...] = ()
    """Options of the flat slot that even a fallback's recipe stands above."""


def parse(
    cls: type[ConfigT],
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    fallback: Callable[[Mapping[str, Sequence[str]]], str] | None = None,
    below: Callable[[ConfigT], Below | None] | None = None,
) -> ConfigT | None:
    """A `cls` from the YAML of `--config` and the flags over it; None when `--print_config` printed it.

    Args:
      fallback: from the flags, and the words behind each, to the recipe that is used where neither `--config` nor
        `--train` is given; what `below` has counts as flags.
      below: from what is said apart from all slots, to the options of the slots that the others stand above; of the
        fallback's recipe those of the flat slot are then left out.

    Raises:
      ConfigError: a fault in the YAML file or the flags, with the nearest option or choice that there is.
      SystemExit: `--help` was asked for and printed.
    """
    flags = _flags(argv)
    helping, printing = (coerce(flags.pop(n, Words(["false"])), bool, f"--{n}") for n in ("help", "print_config"))
    name = "" if "train" in flags or fallback is None else fallback(flags)
    chosen = "config" in flags
    if chosen:
        name = coerce(flags.pop("config"), str, "--config") or "."
    mapping = underscored(read_yaml(name), f"{name}: ") if name else {}
    imports = coerce(mapping.get("imports") or (), tuple[str, ...], f"{name}: imports")
    import_modules(imports, f"{name}: imports")
    import_modules(flags.get("imports", ()), "--import")
    base = below(_apart(cls, mapping, flags, name)) if below else None
    if base is not None and fallback is not None and name and not chosen:
        name = fallback(_words(base.mapping) | flags)
        mapping = {n: v for n, v in read_yaml(name).items() if n in (*_own(cls), *base.left_open)}
        base = below(_apart(cls, mapping, flags, name)) if below else None  # it may have another workdir
    if base is not None:
        imports = (*base.mapping.pop("imports", ()), *imports)
        mapping, name = _over(cls(), base, mapping), f"{base.where}, {name}" if name else base.where
    if imports := tuple(dict.fromkeys([*imports, *flags.pop("imports", ())])):
        mapping["imports"] = list(imports)
    default = build(cls(), _with_choices(cls(), mapping, flags, f"{name}: "), f"{name}: ")
    if helping:
        _print_help(default, prog, description, name)
    config = build(default, _nested(flags), "--")
    text = to_yaml(config)  # not only to print it: what cannot be saved is refused before any data is read
    if not printing:
        return config
    print(text, end="")
    return None


def _words(mapping: Mapping[str, Any]) -> dict[str, Words]:
    """The options of a mapping as flags; of sections what is chosen there."""
    said = {n: v.get("type") if isinstance(v, Mapping) else v for n, v in mapping.items()}
    return {name: Words([str(value)]) for name, value in said.items() if value is not None}


def _own(cls: type) -> list[str]:
    """The names of options that are not a flat slot's."""
    return [name for name in option_fields(cls) if name != flat_slot(cls)]


def _apart(cls: type[ConfigT], mapping: Mapping[str, Any], flags: Mapping[str, Words], name: str) -> ConfigT:
    """A `cls` with what is said of the options that stand in no slot."""
    names = option_fields(cls).keys() - slots(cls).keys()
    config = build(cls(), {n: v for n, v in mapping.items() if n in names}, f"{name}: ")
    return build(config, {n: v for n, v in _nested(flags).items() if n in names}, "--")


def _over(default: Any, base: Below, mapping: dict[str, Any]) -> dict[str, Any]:
    """`mapping` over those of `base`, of which another choice keeps the options that mean the same."""
    flat = flat_slot(type(default))
    registries = dict(slots(type(default)))
    if flat is not None:
        chosen = str(mapping.get(flat, base.mapping[flat]))
        registries |= slots(registries[flat][chosen]) if chosen in registries[flat] else {}
    said = {n: v.get("type") if isinstance(v, Mapping) else v for n, v in mapping.items() if n in registries}
    choices = {n: Words([v]) for n, v in said.items() if isinstance(v, str) and v in registries[n]}
    return _merged(_with_choices(default, base.mapping, choices, f"{base.where}: "), mapping)


def _merged(under: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` above `under`; so in sections of the same type, too."""
    out = dict(under)
    for name, value in over.items():
        before: Any = under.get(name)
        section = value if isinstance(value, Mapping) else {"type": value}
        same = isinstance(before, dict) and section.get("type", before.get("type")) == before.get("type")
        out[name] = _merged(before, section) if same else value
    return out


def _flags(argv: Sequence[str]) -> dict[str, Words]:
    """Options to the words behind them; in their names `-` and `_` are alike."""
    _check_once(argv)
    flags: dict[str, Words] = {}
    name = ""
    for word in argv:
        if word.startswith("--") or word == "-h":
            key, equals, value = word.removeprefix("--").partition("=")
            name = _name(key)
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
        *above, last = name.split(".")
        inner = out
        for section in above:
            if isinstance(inner.get(section), Words):
                inner[section] = {"type": inner[section]}
            inner = inner.setdefault(section, {})
        inner[last] = flags[name]
    return out


def _with_choices(default: Any, mapping: dict[str, Any], flags: Mapping[str, Words], where: str) -> dict[str, Any]:
    """`mapping` with the slots that flags choose; of another's options those stay that mean the same."""
    cls, flat = type(default), flat_slot(type(default))
    if flat is not None:
        before = entry_of(default, flat, mapping.get(flat, MISSING), where)
        entry = entry_of(default, flat, flags[flat], "--") if flat in flags else before
        mapping = _without_lost(mapping, before, entry, option_fields(cls), f"{where}--{flat}")
        mapping[flat] = slots(cls)[flat].name_of(type(entry))
        mapping |= _with_choices(entry, mapping, flags, where)
    for name in (n for n in slots(cls) if n in flags and n != flat):
        new, section = entry_of(default, name, flags[name], "--"), mapping.get(name)
        if new is not None and isinstance(section, Mapping):
            before = entry_of(default, name, section.get("type", MISSING), where)
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
    A slot means the same where it holds the same kind of part, and an option that stands beside another (`beside`)
    where that does, too. Of a part of another kind its own options that mean the same stay.
    """
    old, fields = {} if before is None else option_fields(type(before)), option_fields(type(new))

    def same(name: str) -> bool:
        if name not in fields:
            return False
        kinds = [field[name].metadata.get("registry") for field in (old, fields)]
        alike = kinds[0] is kinds[1] and (kinds[0] is not None or old[name].default == fields[name].default)
        needed = fields[name].metadata.get("beside")
        return alike and (needed is None or same(needed))

    lost = [name for name in section if name in old and name not in others and not same(name)]
    lacking, own = [n for n in lost if n not in fields], [n for n in lost if n in fields]
    parts = [f"{has} {', '.join(names)}" for has, names in (("has no", lacking), ("has its own", own)) if names]
    if parts:
        print(f"note: {where}: {type(new).__name__} {' and '.join(parts)}; left out.", file=sys.stderr)
    return {name: value for name, value in section.items() if name not in lost} | _of_another_kind(
        {name: section[name] for name in own if name in slots(type(new))}, before, new, where
    )


def _of_another_kind(sections: Mapping[str, Any], before: Any, new: Any, where: str) -> dict[str, Any]:
    """For slots of `new`, filled as it fills them, what stays of the sections that `before` has for other kinds."""
    kept: dict[str, Any] = {}
    for name, section in sections.items():
        part, registry = getattr(new, name), slots(type(new))[name]
        if isinstance(section, Mapping) and part is not None:
            old = entry_of(before, name, section.get("type", MISSING), f"{where}: ")
            kept[name] = _without_lost(section, old, part, ("type",), f"{where}: {name}")
            kept[name]["type"] = registry.name_of(type(part))
    return kept


def _print_help(default: Any, prog: str, description: str, recipe: str) -> None:
    """Ends the program when it has printed it."""
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
    missing = {n: cls() for n, cls in sections(type(default)).items() if getattr(default, n) is None}
    default = dataclasses.replace(default, **missing)  # or their options would not be listed
    tyro.cli(type(default), prog=prog, description=description, args=["--help"], default=default, config=marks)


def _choices(config: Any) -> Iterator[str]:
    """`--encoder {...}  (now: sanm)` for every slot."""
    cls = type(config)
    for name, registry in slots(cls).items():
        value = getattr(config, name)
        names = [*registry, "none"] if is_optional(cls, name) else list(registry)
        now = "none" if value is None else registry.name_of(type(value))
        yield f"  --{name} {{{','.join(names)}}}  (now: {now})"
        if name == flat_slot(cls):
            yield from _choices(value)
    for name in sections(cls):
        yield f"  --{name}={option_fields(cls)[name].metadata['bare'].upper()}"
