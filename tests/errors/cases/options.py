"""Options, YAML files and registries."""

import dataclasses
import io
from typing import Any

from jaxasr import command_line, completion, config
from jaxasr.__main__ import known_command
from jaxasr.errors import Printed
from jaxasr.registry import Registry
from jaxasr.train_config import TrainConfig
from tests.errors.files import write


class Part:
    """What the toy registry holds."""

    def run(self) -> None: ...


PARTS: Registry[Part] = Registry("part", Part, ("run",))


@PARTS.register("whole")
@dataclasses.dataclass(frozen=True)
class Whole(Part):
    pair: tuple[int, int] = (1, 2)
    fn: Any = None

    def run(self) -> None: ...


@PARTS.register("unfinished")
@dataclasses.dataclass(frozen=True)
class Unfinished(Whole):
    width: int = dataclasses.field(kw_only=True)


@dataclasses.dataclass(frozen=True)
class Toy:
    part: Part = config.slot(PARTS, Whole())


@dataclasses.dataclass(frozen=True)
class Single(Whole):
    pair: tuple[int, int] = config.no_option((1, 1))


class Unnamed(Whole):
    """Not registered."""


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def parse(*argv: str, cls: type = TrainConfig) -> None:
    command_line.parse(cls, argv, prog="prog", description="")


def yaml(content: str) -> None:
    parse("--config=" + write("c.yaml", content))


CASES = {
    "a command that does not exist": lambda: known_command("trian"),
    "a shell that has no script": lambda: completion.script("bsh", {}),
    "stdout on a full disk": lambda: Printed(Full()).write("a"),
    "stdout in Latin-1": lambda: Printed(io.TextIOWrapper(io.BytesIO(), "latin-1")).write("三"),
    "a word before any flag": lambda: parse("sanm"),
    "a flag twice": lambda: parse("--seed=1", "--seed=2"),
    "an option twice, with - and with _": lambda: yaml("batch-seconds: 1\nbatch_seconds: 2\n"),
    "an option that a part is without": lambda: config.from_mapping(Single, {"pair": (1, 2)}, where="c.yaml"),
    "a misspelt option": lambda: parse("--ctc_wieght=1"),
    "an unknown option": lambda: parse("--qqqq=1"),
    "an unknown choice": lambda: parse("--encoder=sann"),
    "an unknown name in a registry": lambda: PARTS["hole"],
    "none where a part is needed": lambda: parse("--encoder=none"),
    "an option of a part that is none": lambda: parse("--decoder=none", "--decoder.num_layers=3"),
    "a choice written as a section": lambda: parse("--task.ctc_weight=1"),
    "a choice in words": lambda: parse("--parallel=pmp"),
    "a value of another type": lambda: parse("--seed=1.5"),
    "a value of none of two types": lambda: parse("--encoder.remat=dot"),
    "a flag without its value": lambda: parse("--workdir"),
    "too few values": lambda: parse("--part.pair=1", cls=Toy),
    "a module that is not there": lambda: parse("--import=no_such_module"),
    "a YAML file that is not there": lambda: parse("--config=digit"),
    "a folder for a YAML file": lambda: parse("--config=."),
    "a file that is no YAML": lambda: yaml("a: [1\n"),
    "a YAML file of 8 MiB": lambda: yaml("#" * 2**23 + "\n"),
    "a YAML file that is a list": lambda: yaml("- a\n- b\n"),
    "a class without defaults": lambda: parse("--part=unfinished", cls=Toy),
    "a value that YAML cannot hold": lambda: config.to_yaml(Toy(Whole(fn=len))),
    "a name registered twice": lambda: PARTS.register("whole")(Unnamed),
    "a class of another kind registered": lambda: PARTS.register("new")(dict),
    "a class without a method registered": lambda: PARTS.register("new")(type("Idle", (Part,), {})),
    "a class that is not registered": lambda: config.to_yaml(Toy(Unnamed())),
}
