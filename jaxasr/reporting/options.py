"""Which options were chosen, apart from the many that were left as they are."""

from typing import Any

from jaxasr import config


def changed(options: Any, default: Any = None) -> dict[str, Any]:
    """The options that differ from those of `default`, as YAML has them; None for the class's own defaults.

    `config.from_mapping` makes equal options of it. What is chosen for a slot is compared with its own defaults.
    """
    default = type(options)() if default is None else default
    registries, plain, out = config.slots(type(options)), config.to_mapping(options), {}
    for name, field in config.option_fields(type(options)).items():
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
