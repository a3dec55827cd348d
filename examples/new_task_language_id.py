"""A task of one's own: which language, or speaker, or other label an utterance has; its transcript is the label.

The script labels the bundled digits by speaker and learns from them; `--import` makes the task one of any command.

    python examples/new_task_language_id.py --epochs=10
    PYTHONPATH=examples python -m jaxasr.train --import=new_task_language_id --task=language_id --sample_rate=8000 \
        --data_root=exp/speakers --train=train.jsonl --valid=valid.jsonl --test=test.jsonl --frontend.lfr_n=4 \
        --encoder.num_layers=2 --encoder.d_model=64 --encoder.d_ff=128 --epochs=10 --workdir=exp/speakers/run
    PYTHONPATH=examples python -m jaxasr.decode --import=new_task_language_id --model=exp/speakers/run \
        exp/speakers/test.jsonl
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import tyro

from jaxasr import Utterance, corpora
from jaxasr.config import no_option, slot
from jaxasr.data import manifest
from jaxasr.data.tokenizer import TOKENIZERS, Tokenizer, WordTokenizer
from jaxasr.errors import ConfigError
from jaxasr.nn.layers import Head
from jaxasr.nn.masking import zero_padding
from jaxasr.nn.network import SpeechNetwork, SpeechOutputs
from jaxasr.search.greedy import parallel_greedy
from jaxasr.tasks import TASKS, SpeechTask
from jaxasr.tasks.loss_parts import accuracy_part, encoder_parts, text_part


class LabelNetwork(SpeechNetwork):
    """An encoder, the mean of its frames, and one score for each label."""

    def setup(self):
        super().setup()
        self.label = Head(self.vocab_size)

    def __call__(self, features, lengths, *, train: bool) -> SpeechOutputs:
        out = self.encode(features, lengths, train=train)
        mean = jnp.sum(zero_padding(out.encoded, out.lengths), axis=1) / jnp.maximum(out.lengths, 1)[:, None]  # (B, D)
        return out._replace(attention_logits=self.label(mean)[:, None])  # (B, 1, V): one token an utterance


@TASKS.register("language_id")
@dataclasses.dataclass(frozen=True)
class LanguageIdTask(SpeechTask):
    """One label an utterance; what reads sound and encodes it is that of speech recognition."""

    tokenizer: Tokenizer = slot(TOKENIZERS, WordTokenizer())
    """Label to token."""
    # there is neither CTC nor a decoder, so what is about them is no option here
    decoder: None = no_option(None)
    ctc_weight: float = no_option(0.0)
    interctc_layers: tuple[int, ...] = no_option(())
    interctc_weight: float = no_option(0.3)
    interctc_conditioning: bool = no_option(False)
    cr_weight: float = no_option(0.0)
    length_normalized_loss: bool = no_option(False)

    def check(self) -> None:
        super().check()
        if not isinstance(self.tokenizer, WordTokenizer):
            raise ConfigError("--tokenizer: a label is one token; --tokenizer=word was expected; remove the option.")

    def unknown(self, text: str) -> list[str]:
        return super().unknown(text) if self.num_tokens(text) == 1 else [text]  # no label, or several

    def network(self) -> LabelNetwork:
        around = {"preencoder": self.preencoder, "postencoder": self.postencoder}
        return LabelNetwork(self.encoder, None, len(self._vocabulary), has_ctc=False, **around)

    def texts(self, batch: Any) -> tuple[()]:
        return ()

    def loss_of(self, outputs: SpeechOutputs, batch: Any, counts: Any = None, *, paired: bool = False) -> Any:
        said = outputs.attention_logits, batch.tokens[:, :1], jnp.minimum(batch.token_lengths, 1), batch.weights
        metrics = encoder_parts(outputs, batch, interctc_layers=(), paired=paired)  # what batch norms are to learn
        metrics["loss/label"] = text_part(*said, label_smoothing=self.label_smoothing, by_token=False)
        metrics["acc/label"] = accuracy_part(*said)
        return self.weighed(metrics, batch, counts)

    def shares(self) -> dict[str, float]:
        return {"loss/label": 1.0}

    def searches(self) -> tuple[str, ...]:
        return ("best_label",)

    def decoding(self, search: Any) -> Callable[..., Any]:
        return self.best_label

    def best_label(self, params: Any, batch: Any, fusion: Any = None) -> Any:
        out = self.heard(params, batch, "__call__")
        return parallel_greedy(out.attention_logits.at[..., :3].set(-jnp.inf), jnp.minimum(out.lengths, 1))  # no <s>


def speakers(folder: pathlib.Path) -> list[list[Utterance]]:
    """Training and validation utterances of new manifests in `folder`: the digits, with their speakers as text."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train", "valid", "test"):
        with (folder / f"{name}.jsonl").open("w") as file:
            for u in manifest.read(corpora.digits() / name):
                place = {"audio_filepath": u.audio, "offset": u.start, "duration": u.seconds}
                print(json.dumps({"id": u.id, "text": u.speaker} | place), file=file)
    return [manifest.read(folder / f"{name}.jsonl") for name in ("train", "valid")]


def main(epochs: int = 10, folder: pathlib.Path = pathlib.Path("exp/speakers")) -> None:
    from train_loop_by_hand import digits_task, fit, inputs_of

    parts = {name: getattr(digits_task(), name) for name in ("sample_rate", "frontend", "normalizer", "encoder")}
    fit(*inputs_of(LanguageIdTask(**parts), *speakers(folder)), epochs)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
