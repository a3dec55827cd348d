"""Writes docs/parts.md from the registries: `python docs/parts.py`."""

import dataclasses
import pathlib
from collections.abc import Iterator

import jaxasr.tasks  # noqa: F401 (which registers every part)
from jaxasr.adapters import ADAPTERS
from jaxasr.averages import AVERAGES
from jaxasr.data.cleaners import CLEANERS
from jaxasr.data.perturb import PREPROCESSORS
from jaxasr.data.tokenizer import TOKENIZERS
from jaxasr.nn.decoders import DECODERS, PARALLEL_DECODERS
from jaxasr.nn.encoders import ENCODERS
from jaxasr.nn.frontends import FRONTENDS
from jaxasr.nn.lms import LMS
from jaxasr.nn.normalize import NORMALIZERS
from jaxasr.nn.postencoders import POSTENCODERS
from jaxasr.nn.predictors import PREDICTORS
from jaxasr.nn.preencoders import PREENCODERS
from jaxasr.nn.specaug import SPECAUGS
from jaxasr.optim import OPTIMIZERS
from jaxasr.registry import Registry
from jaxasr.schedules import SCHEDULES

PAGE = pathlib.Path(__file__).with_name("parts.md")
SLOTS = {
    "`--preprocess`": PREPROCESSORS,
    "`--tokenizer`": TOKENIZERS,
    "`--cleaners`": CLEANERS,
    "`--frontend`": FRONTENDS,
    "`--normalizer`": NORMALIZERS,
    "`--specaug`": SPECAUGS,
    "`--preencoder`": PREENCODERS,
    "`--encoder`": ENCODERS,
    "`--postencoder`": POSTENCODERS,
    "`--decoder`": DECODERS,
    "`--decoder` of `--task=paraformer`": PARALLEL_DECODERS,
    "`--predictor` of `--task=paraformer`": PREDICTORS,
    "`--lm` of `--task=lm`": LMS,
    "`--optimizer`": OPTIMIZERS,
    "`--schedule`": SCHEDULES,
    "`--average`": AVERAGES,
    "`--adapter`": ADAPTERS,
}
HEAD = """# Every part, by name

What each slot of the command line may hold, in the order in which sound and text meet them; `python docs/parts.py`
writes this page. A part's options are given as `--encoder.d_model=256`; `python -m jaxasr.train --encoder=NAME --help`
says what each of them does and its default.
"""


def options(part: type) -> str:
    inherited = {"parent", "name"}  # Linen's own
    fields = dataclasses.fields(part) if dataclasses.is_dataclass(part) else ()
    return " ".join(f"`{f.name}`" for f in fields if f.name not in inherited and not f.metadata.get("resource"))


def table(title: str, registry: Registry) -> Iterator[str]:
    yield from (f"\n## {title}\n", "| name | what | options |", "|---|---|---|")
    for name in registry:
        part = registry[name]
        what = " ".join((part.__doc__ or "").split("\n\n")[0].split()).replace("``", "`")
        yield f"| `{name}` | {what} | {options(part)} |"


def page() -> str:
    return HEAD + "\n".join(line for title, registry in SLOTS.items() for line in table(title, registry)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
