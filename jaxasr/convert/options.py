"""FunASR's and ESPnet's options against ours: what a table of a part says, and how it is read in both directions.

Both sides are plain mappings, as YAML has them: theirs a part's `*_conf`, ours what `config.to_mapping` gives.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxasr.errors import ConfigError
from jaxasr.registry import did_you_mean


class Option(NamedTuple):
    """Keys of theirs that say what fields of ours say."""

    theirs: Mapping[str, Any]
    """Their keys, and what they are where a configuration lacks them."""
    read: Callable[..., Mapping[str, Any]]
    """From their values, in the order of the keys, to our fields."""
    write: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    """From our fields to their values."""
    ours: tuple[str, ...] = ()
    """The fields."""
    like: str | None = None
    """Of a key that says nothing here: another one, whose value it is expected to have."""


class Part(NamedTuple):
    """A part of a model: what it is called on both sides, and its options."""

    ours: str
    """Its name in our registry."""
    theirs: tuple[str, ...]
    """Its names there: the class first, as FunASR 1.x and we write it; then those of the registries."""
    options: tuple[Option, ...] = ()
    of_task: tuple[Option, ...] = ()
    """Of what is not the part's here, but the task's."""
    unread: tuple[tuple[str, Any, tuple[str, ...]], ...] = ()
    """(field, value, others): with this value the other fields are idle, and stay at their defaults."""
    training: tuple[str, ...] = ()
    """Fields that change no trained model, which theirs may lack."""

    def with_options(self, *options: Option, drop: Sequence[str] = (), theirs: tuple[str, ...] = ()) -> "Part":
        """This part of a toolkit that has these options instead of those for the same keys, and none of `drop`."""
        new = {key for option in options for key in option.theirs} | {*drop}
        kept = tuple(option for option in self.options if not new & option.theirs.keys())
        return self._replace(options=(*kept, *options), theirs=theirs or self.theirs)

    def is_called(self, name: str) -> bool:
        """Whether it is one of their names for the part, in capitals or not."""
        return name.lower() in (known.lower() for known in self.theirs)


class UnlikeOursError(Exception):
    """A value that ours cannot have."""

    def __init__(self, key: str, value: Any, expected: str):
        super().__init__(key, value, expected)
        self.key, self.value, self.expected = key, value, expected


# --- kinds of options --------------------------------------------------------------------------------------------


def same(theirs: str, ours: str, default: Any, values: Mapping[Any, Any] | None = None) -> Option:
    """One key, one field; `values` has their values' names here, where not all are the same. The first is written.

    >>> same("normalize_before", "norm", True, {True: "pre", False: "post"}).read(False)
    {'norm': 'post'}
    """

    def read(value: Any) -> dict[str, Any]:
        if values is None:
            return {ours: value}
        if isinstance(value, list | dict) or value not in values:
            raise UnlikeOursError(theirs, value, f"one of {_listed(values)}")
        return {ours: values[value]}

    def write(fields: Mapping[str, Any]) -> dict[str, Any]:
        value = fields[ours]
        if values is None:
            return {theirs: value}
        found = [key for key, named in values.items() if named == value]
        if not found:
            raise UnlikeOursError(ours, value, f"one of {_listed(set(values.values()))}")
        return {theirs: found[0]}

    return Option({theirs: default}, read, write, (ours,))


def fixed(theirs: str, default: Any, *values: Any) -> Option:
    """A key that must be what ours always does: `default`, or one of `values` where those are given.

    The first is written, where it is not the default.

    >>> fixed("activation", "swish", "swish", "silu").read("silu")
    {}
    """
    allowed = values or (default,)

    def read(value: Any) -> dict[str, Any]:
        if value not in allowed:
            raise UnlikeOursError(theirs, value, _listed(allowed))
        return {}

    return Option({theirs: default}, read, lambda _: {} if allowed[0] == default else {theirs: allowed[0]})


def idle(theirs: str, default: Any = ...) -> Option:
    """A key that changes nothing in a trained model, or is read elsewhere, or told by the shapes of tensors.

    With a `default` it is told where it is another.

    >>> idle("ctc_type", "builtin").theirs
    {'ctc_type': 'builtin'}
    """
    return Option({theirs: default}, lambda _: {}, lambda _: {})


def equal(theirs: str, ours: str, default: Any, *others: str) -> tuple[Option, ...]:
    """Keys that are one field: the first one's value counts, the others say the same, or are left out.

    >>> [option.read(4) for option in equal("heads", "num_heads", 4, "src_heads")]
    [{'num_heads': 4}, {}]
    """

    def alike(key: str) -> Option:
        return Option({key: default}, lambda _: {}, lambda fields: {key: fields[ours]}, like=theirs)

    return (same(theirs, ours, default), *map(alike, others))


def _listed(values: Any) -> str:
    return " or ".join(sorted(map(repr, values)))


def section(theirs: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    """The options of a part in a configuration of theirs, none where it has no `{name}_conf`.

    Raises:
      ConfigError: they are no mapping.

    >>> section({"encoder": "sanm", "encoder_conf": {"num_blocks": 50}}, "encoder", "config.yaml: ")
    {'num_blocks': 50}
    """
    conf = theirs.get(f"{name}_conf") or {}
    if not isinstance(conf, Mapping):
        raise ConfigError(
            f"{where}{name}_conf: {conf!r}; a section of options was expected; copy the model's configuration anew."
        )
    return conf


# --- both directions ---------------------------------------------------------------------------------------------


def read_options(options: Sequence[Option], conf: Mapping[str, Any], where: str, left_out: list[str]) -> dict[str, Any]:
    """Our fields of their `conf`, whose keys are named with `where` before them; `left_out` gets what is idle here.

    Raises:
      ConfigError: a key is unknown, or has a value that ours cannot do.

    >>> read_options([same("n_head", "num_heads", 4), idle("seed")], {"n_head": 8, "seed": 1}, "config.yaml: ", [])
    {'num_heads': 8}
    """
    known = {key: value for option in options for key, value in option.theirs.items()}
    for key in conf:
        if key not in known:
            raise ConfigError(
                f"{where}{key}: no option of this part that is known here; {', '.join(sorted(known)) or 'none'} were "
                f"expected; remove it, if the trained model does not depend on it.{did_you_mean(str(key), known)}"
            )
    found: dict[str, Any] = {}
    for option in options:
        values = [conf.get(key, default) for key, default in option.theirs.items()]
        try:
            found |= option.read(*values)
        except UnlikeOursError as error:
            raise ConfigError(
                f"{where}{error.key}: {error.value!r}; {error.expected} was expected, which is all that jaxasr has; "
                "such a model cannot be converted."
            ) from None
        except (TypeError, ValueError, LookupError) as error:
            keys = ", ".join(option.theirs)
            raise ConfigError(
                f"{where}{keys}: {', '.join(map(repr, values))}; values of their kind were expected; correct them."
            ) from error
        if not option.ours:
            left_out += [f"{where}{key}={conf[key]}" for key in option.theirs if _is_lost(option, key, conf, known)]
    return found


def _is_lost(option: Option, key: str, conf: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Whether a key that has no field says something."""
    usual = known[key] if option.like is None else conf.get(option.like, known[option.like])
    return key in conf and usual is not ... and conf[key] != usual


def read_part(part: Part, conf: Mapping[str, Any], where: str, left_out: list[str]) -> tuple[dict, dict]:
    """The fields of our part, with its name as `type`, and those of the task; see `read_options`."""
    conf = conf or {}
    of_task = {key for option in part.of_task for key in option.theirs}
    own = {key: value for key, value in conf.items() if key not in of_task}
    others = {key: value for key, value in conf.items() if key in of_task}
    fields = read_options(part.options, own, where, left_out)
    for name, value, unread in part.unread:
        if fields.get(name) == value:
            fields = {key: value for key, value in fields.items() if key not in unread}
    return {"type": part.ours} | fields, read_options(part.of_task, others, where, left_out)


def write_part(
    part: Part, fields: Mapping[str, Any], defaults: Mapping[str, Any], task: Mapping[str, Any], left_out: list[str]
) -> dict[str, Any]:
    """Their `conf` of our part's `fields`, of which `defaults` are those of a new one, and of the `task`'s.

    What is not read of it as it was is left out, where it is for training alone.

    Raises:
      ConfigError: a field is not what theirs does.
    """
    conf = _written(part, part.options, fields)
    again, _ = read_part(part, conf, "", [])
    elsewhere = {name for option in part.options if not option.theirs for name in option.ours}
    for name in sorted(fields.keys() - elsewhere):
        if fields[name] == (usual := again.get(name, defaults.get(name))):
            continue
        if name not in part.training:
            raise ConfigError(
                f"--{name} of {part.ours} is {fields[name]!r}: {part.theirs[0]} has no such option; {usual!r}, which "
                "is what it does, was expected; such a model cannot be converted."
            )
        left_out.append(f"{part.ours}.{name}={fields[name]}")
    return conf | _written(part, part.of_task, task)


def _written(part: Part, options: Sequence[Option], fields: Mapping[str, Any]) -> dict[str, Any]:
    conf: dict[str, Any] = {}
    for option in options:
        try:
            conf |= option.write(fields)
        except UnlikeOursError as error:
            raise ConfigError(
                f"--{error.key} of {part.ours} is {error.value!r}: {part.theirs[0]} has {error.expected}; one of "
                "these was expected; such a model cannot be converted."
            ) from None
    return conf


def part_called(parts: Sequence[Part], name: Any, where: str) -> Part:
    """The one of the parts that goes by a name of theirs.

    Raises:
      ConfigError: there is none.
    """
    for part in parts:
        if part.is_called(str(name)):
            return part
    known = [called for part in parts for called in part.theirs]
    raise ConfigError(
        f"{where}: {name!r}; {', '.join(known) or 'none'} was expected, which is what jaxasr has; such a model cannot "
        f"be converted.{did_you_mean(str(name), known)}"
    )


def part_of_ours(parts: Sequence[Part], name: str, where: str) -> Part:
    """The one of the parts that we call so.

    Raises:
      ConfigError: there is none.
    """
    for part in parts:
        if part.ours == name:
            return part
    raise ConfigError(
        f"--{where}={name}: theirs has no such part; one of {', '.join(part.ours for part in parts)} was expected; "
        "such a model cannot be converted."
    )
