"""Folders of ESPnet."""

import pathlib
import shutil
from collections.abc import Callable

import numpy as np

from jaxasr.convert import espnet
from jaxasr.convert.espnet_tokens import in_our_order, read_tokens
from tests.errors.files import write
from tests.parity.fixtures import HERE as PARITY


def copied(name: str = "espnet_conformer") -> pathlib.Path:
    """A model's folder; its experiment's lies beneath."""
    return pathlib.Path(shutil.copytree(PARITY / "release" / name, "recipe"))


def without_files(pattern: str) -> None:
    folder = copied()
    for path in folder.rglob(pattern):
        path.unlink()
    espnet.read(folder, print)


def several_averages() -> None:
    [path] = copied().rglob("*.pth")
    shutil.copy(path, path.with_name("valid.acc.ave_5best.pth"))
    espnet.read(pathlib.Path("recipe"), print)


def without_statistics() -> None:
    """A model of another normalisation, whose configuration says global_mvn."""
    file = copied("espnet_transformer") / "config.yaml"
    write(str(file), file.read_text().replace("normalize: utterance_mvn", "normalize: global_mvn"))
    espnet.read(file.parent, print)


def other_tokens() -> None:
    in_our_order({"ctc.ctc_lo.bias": np.zeros(4)}, read_tokens(["<blank>", "<unk>", "<sos/eos>"], ""), "model.pth")


CASES: dict[str, Callable[[], object]] = {
    "no configuration": lambda: without_files("config.yaml"),
    "several files of parameters": several_averages,
    "no sub-words": lambda: without_files("bpe.model"),
    "no statistics": without_statistics,
    "another order of tokens": lambda: read_tokens(["<unk>", "<blank>", "<sos/eos>"], "config.yaml"),
    "tokens of another model": other_tokens,
}
