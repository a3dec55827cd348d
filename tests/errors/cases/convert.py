"""Folders of FunASR, and models of ours as FunASR's."""

import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import yaml

from jaxasr.checkpoint import PARAMS_FILE
from jaxasr.convert import folders, funasr
from jaxasr.convert.__main__ import ConvertOptions, convert
from jaxasr.convert.feature_options import FRONTENDS
from jaxasr.convert.funasr_texts import Texts, write_texts
from jaxasr.convert.model_options import FUNASR, read_model, write_model
from jaxasr.convert.options import part_of_ours
from jaxasr.data.lexicon import PhoneTokenizer
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.nn.encoders import ConformerEncoder, SanmEncoder
from jaxasr.nn.frontends import StftFrontend
from jaxasr.nn.normalize import GlobalMvn
from jaxasr.tasks import AsrTask
from tests.errors.files import write
from tests.parity.fixtures import HERE as PARITY

FOLDER = pathlib.Path("theirs")


def read(name: str = "asr_1x", *, without: str | None = None, model_file: str | None = None, **changes: Any) -> None:
    """Of a folder without one of its files, and with other options: in sections given ones, and whole ones."""
    shutil.copytree(PARITY / "release" / name, FOLDER)
    if without is not None:
        (FOLDER / without).unlink()
    if changes:
        file = FOLDER / "config.yaml"
        options = yaml.safe_load(file.read_text())
        for key, value in changes.items():
            options[key] = options.get(key, {}) | value if isinstance(value, dict) else value
        file.write_text(yaml.safe_dump(options))
    funasr.read(FOLDER, print, model_file=model_file)


def no_list_of_files() -> None:
    write("theirs/configuration.json", "[]")
    funasr.is_model(FOLDER)


def of_options(**theirs: Any) -> Callable[[], object]:
    return lambda: read_model(FUNASR, {"model": "asr", **theirs}, [], where="config.yaml: ", statistics=False)


def written(**ours: Any) -> Callable[[], object]:
    return lambda: write_model(FUNASR, AsrTask(**ours), [])


def taken() -> None:
    write("model/notes.txt", "mine")
    folders.to_funasr("none", "model")


def ours_already() -> None:
    write(f"model/{PARAMS_FILE}", "")
    folders.read(pathlib.Path("model"), print)


def of_phones() -> None:
    write("lexicon.txt", "a a\n")
    tokenizer = PhoneTokenizer(file="lexicon.txt").prepared(())
    write_texts(pathlib.Path(), Texts(Vocabulary(("<blank>", "<s>", "</s>", "<unk>")), tokenizer))


def no_place() -> None:
    write("file", "")
    folders.to_funasr("none", "file/model")


CASES: dict[str, Callable[[], object]] = {
    "no folder": lambda: folders.read(pathlib.Path("none"), print),
    "a model of ours": ours_already,
    "a folder of something else": lambda: folders.read(pathlib.Path(write("theirs/notes.txt")).parent, print),
    "a folder that is not new": taken,
    "a folder in no folder": no_place,
    "a file of parameters on the way back": lambda: convert(ConvertOptions("a", "b", to="funasr", model_file="c")),
    "no configuration": lambda: read(without="config.yaml"),
    "no list of files": no_list_of_files,
    "no parameters": lambda: read(without="model.pt"),
    "other parameters": lambda: read(model_file="model.pt.ep3"),
    "no statistics": lambda: read(
        without="am.mvn", frontend="DefaultFrontend", frontend_conf=None, normalize="GlobalMVN"
    ),
    "no token list": lambda: read(without="tokens.json"),
    "no sub-words": lambda: read(tokenizer="SentencepiecesTokenizer"),
    "another tokenizer": lambda: read(tokenizer="WhisperTokenizer"),
    "another kind of tokens": lambda: read("asr_0x", split_with_space=False, token_type="phn", g2p="g2p_en"),
    "a tokenizer of ours": of_phones,
    "an unknown model": of_options(model="SenseVoiceSmall"),
    "an unknown option": of_options(model_conf={"ctc_wight": 0.3}),
    "a value that is not ours": of_options(model_conf={"ignore_id": 0}),
    "values of another kind": of_options(frontend="default", frontend_conf={"hop_length": "ten"}),
    "no section": of_options(model_conf="none"),
    "no inputs": of_options(encoder="transformer", decoder="rnn"),
    "no encoder": of_options(frontend="default", decoder="rnn"),
    "two normalisations": lambda: read(normalize="GlobalMVN"),
    "a part of ours": lambda: part_of_ours(FRONTENDS, "features", "frontend"),
    "an option of ours": written(encoder=ConformerEncoder(conv_norm="layer")),
    "a value of ours": written(encoder=SanmEncoder(subsampling="conv2d")),
    "two widths": written(encoder=SanmEncoder(d_model=128)),
    "a normalisation of ours": written(normalizer=GlobalMvn(variance=False)),
    "statistics elsewhere": written(frontend=StftFrontend(lfr_m=1, lfr_n=1)),
}
