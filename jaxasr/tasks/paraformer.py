"""Speech recognition without one token waiting for another (Gao et al., 2022, https://arxiv.org/abs/2206.08317)."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from jaxasr.config import slot
from jaxasr.data.batch import AnyAsrBatch
from jaxasr.nn.decoders import PARALLEL_DECODERS, ParaformerSanmDecoder, ParallelDecoder
from jaxasr.nn.masking import length_mask, zero_padding
from jaxasr.nn.network import SpeechOutputs
from jaxasr.nn.paraformer import ParaformerNetwork
from jaxasr.nn.predictors import PREDICTORS, CifPredictorV2, Predictor
from jaxasr.search.choices import NO_FUSION, Fusion, Search
from jaxasr.search.ctc_prefix import emissions
from jaxasr.search.greedy import parallel_greedy
from jaxasr.search.hypotheses import Hypotheses
from jaxasr.search.joint import Limits, Speaker, joint
from jaxasr.search.timestamps import spans_of_fires, spans_of_weights
from jaxasr.tasks.asr_search import BLANK, CTC_SEARCHES, EOS, SOS, by_ctc
from jaxasr.tasks.base import TASKS, Counts, Metrics
from jaxasr.tasks.loss_parts import accuracy_part, count_parts, encoder_parts, text_part, with_sos_eos
from jaxasr.tasks.paraformer_choices import check_choices
from jaxasr.tasks.paraformer_stream import LEFT_OUT, Streaming, streaming
from jaxasr.tasks.speech import SpeechTask
from jaxasr.typing import Array, Float, Int, Params, Scalar


@TASKS.register("paraformer")
@dataclasses.dataclass(frozen=True)
class ParaformerTask(SpeechTask):
    """Speech recognition of all tokens at once: FunASR's `asr` with the model `paraformer`.

    These defaults are those of FunASR's large Paraformer where they are no sizes.
    """

    predictor: Predictor = slot(PREDICTORS, CifPredictorV2())
    """How many tokens there are, and where."""
    decoder: ParallelDecoder = slot(PARALLEL_DECODERS, ParaformerSanmDecoder())
    """Decoder of all tokens at once, as wide as the encoded frames."""
    ctc_weight: float = 0.0
    """Share of the CTC loss beside that of the text; above 0 there is a CTC head."""
    predictor_weight: float = 1.0
    """Weight, beside these two, of the loss of the number of tokens; half of it of that of weights for timestamps."""
    predictor_bias: Literal[0, 1] = 1
    """1: the end is a token too, which is counted and said."""
    sampling_ratio: float = 0.75
    """Tokens that training shows the decoder for each one that it has wrong; 0 shows none."""
    share_embedding: bool = False
    """Show a token as its row of the decoder's output layer; else as one of a table of its own."""
    first_pass_loss: bool = False
    """Learn also from what the decoder says before it is shown tokens; FunASR's use_1st_decoder_loss."""
    decoder_look_back: tuple[int, ...] = ()
    """Chunks before its own that a token looks at, one number or one for each chunk size of --encoder=sanm_chunk; with
    it the model can be decoded while it listens. None given, it looks at all frames."""
    length_normalized_loss: bool = True
    """Divide the losses of text and number by the number of tokens, not of utterances."""

    def check(self) -> None:
        check_choices(self)
        super().check()

    def network(self) -> ParaformerNetwork:
        return ParaformerNetwork(
            encoder=self.encoder,
            predictor=self.predictor,
            decoder=self.decoder,
            vocab_size=len(self._vocabulary),
            has_ctc=self.ctc_weight > 0.0,
            interctc_layers=self.interctc_layers,
            conditioning=self.interctc_conditioning,
            preencoder=self.preencoder,
            postencoder=self.postencoder,
            sampling_ratio=self.sampling_ratio,
            share_embedding=self.share_embedding,
            first_learns=self.first_pass_loss,
            decoder_look_back=self.decoder_look_back,
        )

    def streaming(self) -> Streaming:
        """How it is decoded while it listens; raises ConfigError where it cannot be."""
        return streaming(self)

    def texts(self, batch: AnyAsrBatch) -> tuple[Int[Array, "B U"], Int[Array, "B"]]:
        """What the decoder should say, -1 after its end, and of how many tokens."""
        if self.predictor_bias:
            _, targets, lengths = with_sos_eos(batch.tokens, batch.token_lengths)
            return targets, lengths
        real = length_mask(batch.token_lengths, batch.tokens.shape[1])
        return jnp.where(real, batch.tokens, -1), batch.token_lengths

    @jax.named_scope("loss")
    def loss_of(
        self, outputs: SpeechOutputs, batch: AnyAsrBatch, counts: Counts | None = None, *, paired: bool = False
    ) -> tuple[Scalar, Metrics]:
        """``ctc_weight * (ctc + cr_weight * cr) + (1 - ctc_weight) * text + predictor_weight * count``, and the parts.

        Weights for timestamps count too, by half as much, where the predictor has them (FunASR's BiCifParaformer).
        Without a key no token is shown, and what is said at first is all.
        """
        assert outputs.attention_logits is not None and outputs.predicted is not None
        first = outputs.attention_logits if outputs.first_logits is None else outputs.first_logits
        targets, lengths = self.texts(batch)
        of_batch = targets, lengths, batch.weights
        options = {"label_smoothing": self.label_smoothing, "by_token": self.length_normalized_loss}
        metrics = encoder_parts(outputs, batch, interctc_layers=self.interctc_layers, paired=paired)
        metrics["loss/att"] = text_part(outputs.attention_logits, *of_batch, **options)
        if self.first_pass_loss:
            metrics["loss/first"] = text_part(first, *of_batch, **options)
        known = {"lengths": lengths, "weights": batch.weights, "by_token": self.length_normalized_loss}
        metrics["loss/count"], metrics["error/count"] = count_parts(outputs.predicted.counts, **known)
        if outputs.predicted.fine_alphas is not None:
            metrics["loss/fine_count"], _ = count_parts(jnp.sum(outputs.predicted.fine_alphas, axis=1), **known)
        metrics["acc/token"] = accuracy_part(first, *of_batch)
        return self.weighed(metrics, batch, counts)

    def shares(self) -> dict[str, float]:
        text = 1.0 - self.ctc_weight
        count = self.predictor_weight
        shares = {"loss/att": text, "loss/count": count, "loss/fine_count": 0.5 * count}
        return self.ctc_shares() | shares | ({"loss/first": text} if self.first_pass_loss else {})

    def searches(self) -> tuple[str, ...]:
        return ("parallel_greedy", "ctc_greedy") if self.ctc_weight > 0.0 else ("parallel_greedy",)

    def beam_searches(self) -> tuple[str, ...]:
        return ("ctc_beam", "joint") if self.ctc_weight > 0.0 else ("joint",)

    def idle_options(self, search: str) -> tuple[str, ...]:
        counted = ("maxlenratio", "minlenratio")  # the predictor says how many tokens there are
        return counted if self.ctc_weight > 0.0 else (*counted, "ctc_weight")

    def decoding(self, search: Search) -> Callable[..., Hypotheses]:
        def of_ctc(params: Params, batch: AnyAsrBatch, fusion: Fusion = NO_FUSION) -> Hypotheses:
            outputs: Any = self.heard(params, batch, "encode")
            return self.timed(search, by_ctc(outputs, search, fusion), outputs)

        def at_once(params: Params, batch: AnyAsrBatch, fusion: Fusion = NO_FUSION) -> Hypotheses:
            outputs: Any = self.heard(params, batch, "recognize")
            logits, predicted = outputs.attention_logits, outputs.predicted
            spans = spans_of_weights(predicted.alphas, outputs.lengths, logits.shape[1])
            found = parallel_greedy(logits, predicted.counts.astype(jnp.int32), spans, left_out=LEFT_OUT)
            return found if predicted.fine_alphas is None else found._replace(spans=self._fine_spans(outputs, found))

        def jointly(params: Params, batch: AnyAsrBatch, fusion: Fusion = NO_FUSION) -> Hypotheses:
            return self._jointly(self.heard(params, batch, "recognize"), search, fusion)

        if search.name in CTC_SEARCHES:
            return of_ctc
        return jointly if search.name == "joint" else at_once

    def _jointly(self, outputs: SpeechOutputs, search: Search, fusion: Fusion) -> Hypotheses:
        """FunASR's `BeamSearchPara`: what the decoder says of each token counts in full, beside CTC and scorers."""
        logits, predicted = outputs.attention_logits, outputs.predicted
        assert logits is not None and predicted is not None
        counts, room = predicted.counts.astype(jnp.int32), logits.shape[1]

        def say(tokens: Array, cache: Any, position: Any) -> tuple[Array, Any]:
            return lax.dynamic_slice_in_dim(logits, position, 1, axis=1), cache

        emitted = None if outputs.ctc_logits is None else emissions(outputs.ctc_logits, outputs.lengths, blank_id=BLANK)
        bounds = Limits(counts, jnp.zeros_like(counts), room)
        found = joint(
            Speaker(logits[:, 0], (), say, 1.0), emitted, bounds, search, fusion, eos=EOS, forbidden=(BLANK, SOS)
        )
        if predicted.fine_alphas is not None:
            return found._replace(spans=self._fine_spans(outputs, found))
        spans = spans_of_weights(predicted.alphas, outputs.lengths, room)
        return found._replace(spans=zero_padding(spans, found.lengths))

    def _fine_spans(self, outputs: SpeechOutputs, found: Hypotheses) -> Float[Array, "B U 2"]:
        """Where the tokens found are, by the weights that the predictor has for it."""
        assert outputs.predicted is not None and outputs.predicted.fine_alphas is not None
        fine = outputs.predicted.fine_alphas
        times = max(fine.shape[1] // max(outputs.encoded.shape[1], 1), 1)  # as many in an encoded frame
        options = found.lengths, found.tokens.shape[1], self.frame_ms / times
        return spans_of_fires(fine, outputs.lengths * times, *options) / times
