"""A small corpus of real digits and a small task, for tests of whole runs."""

import dataclasses
import pathlib

from jaxasr import corpora
from jaxasr.data import manifest
from jaxasr.data.perturb import CommonPreprocessor
from jaxasr.data.tokenizer import WordTokenizer
from jaxasr.nn.decoders import TransformerDecoder
from jaxasr.nn.encoders import SanmEncoder
from jaxasr.nn.frontends import WavFrontend
from jaxasr.optim import AdamW
from jaxasr.schedules import WarmupLinear
from jaxasr.tasks import AsrTask
from jaxasr.train_config import TrainConfig

TASK = AsrTask(
    sample_rate=8000,
    preprocess=CommonPreprocessor(volume_db=3.0),
    frontend=WavFrontend(num_mels=16, lfr_m=5, lfr_n=3),
    encoder=SanmEncoder(num_layers=2, d_model=16, num_heads=2, d_ff=32, kernel_size=5),
    decoder=TransformerDecoder(num_layers=1, d_model=16, num_heads=2, d_ff=32),
    tokenizer=WordTokenizer(),
)
"""Dropout, SpecAugment, speed and volume are on: what is promised is promised with them."""
CTC_TASK = dataclasses.replace(TASK, encoder=TASK.encoder.clone(num_layers=1), decoder=None, ctc_weight=1.0)
"""With the same noise and a quarter of the compiling, for what does not depend on the network."""
TOKENS = ("<blank>", "<s>", "</s>", "a", "<unk>")


def corpus(folder: pathlib.Path, split: str, every: int) -> str:
    """A Kaldi folder with every so many utterances of a split of the bundled digits."""
    folder.mkdir(parents=True, exist_ok=True)
    utterances = manifest.read(corpora.digits() / split)[::every]
    files = {u.audio: pathlib.Path(u.audio).stem for u in utterances}
    (folder / "wav.scp").write_text("".join(f"{name} {path}\n" for path, name in sorted(files.items())))
    lines = [f"{u.id} {files[u.audio]} {u.start:.6f} {u.start + (u.seconds or 0):.6f}\n" for u in utterances]
    (folder / "segments").write_text("".join(lines))
    (folder / "text").write_text("".join(f"{u.id} {u.text}\n" for u in utterances))
    (folder / "utt2spk").write_text("".join(f"{u.id} {u.speaker}\n" for u in utterances))
    return str(folder)


def config(folder: pathlib.Path, **changes) -> TrainConfig:
    """Two epochs of a few batches; `folder` gets the corpus and the workdir."""
    options = {
        "task": CTC_TASK,
        "optimizer": AdamW(learning_rate=5e-3),
        "schedule": WarmupLinear(warmup_steps=3),
        "train": (corpus(folder / "train", "train", 20),),
        "valid": (corpus(folder / "valid", "valid", 12),),
        "test": (corpus(folder / "test", "test", 25),),
        "workdir": str(folder / "run"),
        "epochs": 2,
        "batch_seconds": 9.0,
        "max_buckets": 1,  # each shape costs seconds to compile
        "keep_best": 2,
        "log_steps": 1,
        "report": False,
    }
    return TrainConfig(**(options | changes))
