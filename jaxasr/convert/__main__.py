"""Models of FunASR and ESPnet as models of jaxasr, and the way back: `python -m jaxasr.convert SRC DST`."""

import dataclasses
import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import rich.table
import rich.text
import tyro

from jaxasr import config, consoles, info
from jaxasr.command_line import Imports, options_of
from jaxasr.convert import folders
from jaxasr.errors import ConfigError, exit_with_message

GENTLY = "--optimizer.learning_rate=2e-4 --schedule=warmup_linear"
"""How to train on: by the rate of FunASR's fine-tuning recipes, which a short run reaches too."""


@dataclasses.dataclass(frozen=True)
class ConvertOptions:
    """A model folder of another toolkit as one that jaxasr decodes with and trains on, or ours as FunASR's.

    FunASR's folders are those that it releases and trains: model.pb or model.pt, config.yaml, tokens.json, am.mvn,
    seg_dict or bpe.model. ESPnet's are a recipe's exp/asr_train_... and those of its model zoo: config.yaml with
    valid.acc.ave.pth beside it, and bpe.model. Nothing that is in the files is run, and torch is not needed. What
    jaxasr cannot do is an error that names it; what changes no trained model is left out, and said.

      python -m jaxasr.convert speech_paraformer-large_asr_nat-zh-cn-16k/ models/paraformer
      python -m jaxasr.convert exp/asr_train_asr_conformer_raw_en_bpe5000/ models/conformer
      python -m jaxasr.decode --model=models/paraformer sound.wav
      python -m jaxasr.convert --to=funasr models/paraformer back/
    """

    src: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")]
    """The folder to convert; with --to=funasr a model folder or a workdir of jaxasr's."""
    dst: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DST")]
    """The folder to write, which must be new."""
    to: Literal["jaxasr", "funasr"] = "jaxasr"
    """What DST becomes: a model of jaxasr's, or of FunASR 1.x."""
    model_file: str | None = None
    """The file in SRC that has the parameters, where it is none of these: model.pt.avg10, valid.loss.best.pth."""
    imports: Imports = ()


def convert(options: ConvertOptions) -> tuple[list[tuple[str, str]], list[str]]:
    """Does what the command line says; what there is to say of what came out, by names, and commands that use it."""
    config.import_modules(options.imports, "--import")
    return _to_funasr(options) if options.to == "funasr" else _to_jaxasr(options)


def _to_jaxasr(options: ConvertOptions) -> tuple[list[tuple[str, str]], list[str]]:
    read: list[str] = []
    foreign = folders.to_jaxasr(options.src, options.dst, read.append, model_file=options.model_file)
    rows = [
        ("from", f"{foreign.toolkit}; {'; '.join(read)}"),
        *info.lines(info.describe(options.dst)),
        ("left out", "; ".join((*folders.lost(foreign), *foreign.left_out)) or "nothing"),
    ]
    dst = shlex.quote(options.dst)
    return rows, [
        f"python -m jaxasr.decode --model={dst} SOUND.wav",
        f"python -m jaxasr.train --init={dst} --train=TRAIN --valid=VALID --workdir=WORKDIR \\\n      {GENTLY}",
    ]


def _to_funasr(options: ConvertOptions) -> tuple[list[tuple[str, str]], list[str]]:
    if options.model_file is not None:
        raise ConfigError(
            f"--model_file={options.model_file} with --to=funasr: a model of ours has one file of parameters; no such "
            "option was expected; remove it."
        )
    left_out = folders.to_funasr(options.src, options.dst)
    files = sorted(pathlib.Path(options.dst).iterdir())
    sizes = ", ".join(f"{file.name} {file.stat().st_size / 1e6:.2f} MB" for file in files)
    rows = [("model", f"{options.dst}: {sizes}"), ("left out", "; ".join(left_out) or "nothing")]
    load = f"AutoModel(model={options.dst!r}).generate(input='SOUND.wav')"
    return rows, [f'python -c "from funasr import AutoModel; print({load})"']


@exit_with_message
def main(argv: Sequence[str] | None = None) -> None:
    """The command line: `argv`, or else the program's own arguments."""
    options = options_of(ConvertOptions, argv, "convert")
    show(*convert(options))


def show(rows: Sequence[tuple[str, str]], commands: Sequence[str]) -> None:
    """Prints what was converted, and the commands that come next."""
    table = rich.table.Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(rich.text.Text(name), rich.text.Text(value))
    consoles.console().print(table)
    print("\nNext:", *commands, sep="\n  ")


if __name__ == "__main__":
    main(sys.argv[1:])
