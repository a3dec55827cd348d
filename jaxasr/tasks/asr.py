"""Speech recognition by joint CTC and attention (Watanabe et al., 2017, https://doi.org/10.1109/JSTSP.2017.2763455)."""

import dataclasses
from collections.abc import Callable

import jax

from jaxasr.config import slot
from jaxasr.data.batch import AnyAsrBatch
from jaxasr.nn.decoders import DECODERS, Decoder, TransformerDecoder
from jaxasr.nn.network import AsrNetwork, SpeechOutputs
from jaxasr.search.choices import Search
from jaxasr.search.hypotheses import Hypotheses
from jaxasr.tasks.asr_choices import check_choices
from jaxasr.tasks.asr_search import decoding
from jaxasr.tasks.base import TASKS, Counts, Metrics
from jaxasr.tasks.loss_parts import accuracy_part, encoder_parts, text_part, with_sos_eos
from jaxasr.tasks.speech import SpeechTask
from jaxasr.typing import Array, Scalar


@TASKS.register("asr")
@dataclasses.dataclass(frozen=True)
class AsrTask(SpeechTask):
    """Joint CTC and attention speech recognition: FunASR's and ESPnet's `asr` task.

    These defaults are those of plain `--task=asr`.
    """

    decoder: Decoder | None = slot(DECODERS, TransformerDecoder())
    """Attention decoder; none for a pure CTC model, with ctc_weight 1."""

    def check(self) -> None:
        check_choices(self)
        super().check()

    def network(self) -> AsrNetwork:
        return AsrNetwork(
            self.encoder,
            self.decoder,
            len(self._vocabulary),
            self.ctc_weight > 0.0,
            self.interctc_layers,
            self.interctc_conditioning,
            self.preencoder,
            self.postencoder,
        )

    def texts(self, batch: AnyAsrBatch) -> tuple[Array, ...]:
        tokens_in, _, _ = with_sos_eos(batch.tokens, batch.token_lengths)
        return (tokens_in,)

    @jax.named_scope("loss")
    def loss_of(
        self, outputs: SpeechOutputs, batch: AnyAsrBatch, counts: Counts | None = None, *, paired: bool = False
    ) -> tuple[Scalar, Metrics]:
        """``ctc_weight * (ctc + cr_weight * cr) + (1 - ctc_weight) * attention``, and the parts."""
        metrics = encoder_parts(outputs, batch, interctc_layers=self.interctc_layers, paired=paired)
        if outputs.attention_logits is not None:
            _, targets, lengths = with_sos_eos(batch.tokens, batch.token_lengths)
            said = outputs.attention_logits, targets, lengths, batch.weights
            options = {"label_smoothing": self.label_smoothing, "by_token": self.length_normalized_loss}
            metrics["loss/att"], metrics["acc/token"] = text_part(*said, **options), accuracy_part(*said)
        return self.weighed(metrics, batch, counts)

    def shares(self) -> dict[str, float]:
        return self.ctc_shares() | {"loss/att": 1.0 - self.ctc_weight}

    def searches(self) -> tuple[str, ...]:
        names = ("ctc_greedy",) if self.ctc_weight > 0.0 else ()
        return names if self.decoder is None else (*names, "attention_greedy")

    def beam_searches(self) -> tuple[str, ...]:
        ctc = ("ctc_beam",) if self.ctc_weight > 0.0 else ()
        if self.decoder is None:
            return ctc
        return (*ctc, "joint", "rescore") if ctc else ("joint",)

    def idle_options(self, search: str) -> tuple[str, ...]:
        del search
        return () if self.ctc_weight > 0.0 else ("ctc_weight",)

    def decoding(self, search: Search) -> Callable[..., Hypotheses]:
        return decoding(self, search)
