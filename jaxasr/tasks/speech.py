"""What tasks of speech recognition have in common: sound or features in, tokens out, an encoder, a CTC head or none."""

import abc
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxasr.config import beside, naming_files, resource, slot
from jaxasr.convert.bert import read_blocks
from jaxasr.data.audio import SoundSource
from jaxasr.data.batch import AnyAsrBatch, AnyAsrExample, BucketShape, Collate, layout
from jaxasr.data.features import FeatureSource
from jaxasr.data.manifest import Utterance
from jaxasr.data.perturb import PREPROCESSORS, CommonPreprocessor, Perturber
from jaxasr.data.preprocess import Preprocess
from jaxasr.data.sounds import SoundFile
from jaxasr.data.source import FileSource
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.nn.batch_norm import MOMENTS, STATS, gathered, variables_of, with_stats
from jaxasr.nn.encoders import ENCODERS, Encoder, SanmEncoder
from jaxasr.nn.frontends import FRONTENDS, Frontend, WavFrontend
from jaxasr.nn.initialization import Initialization, initialized
from jaxasr.nn.network import SpeechNetwork, SpeechOutputs
from jaxasr.nn.normalize import NORMALIZERS, Cmvn, GlobalMvn, Normalizer, read_mvn
from jaxasr.nn.postencoders import POSTENCODERS, PostEncoder, TransformerPostEncoder
from jaxasr.nn.preencoders import PREENCODERS, PreEncoder
from jaxasr.nn.rows import repeat_rows
from jaxasr.nn.specaug import SPECAUGS, SpecAugment, SpecAugmenter
from jaxasr.search.alignment import ctc_align, with_spans
from jaxasr.search.choices import NO_FUSION, Fusion, Search
from jaxasr.search.hypotheses import Hypotheses
from jaxasr.tasks import resources
from jaxasr.tasks.base import Counts, Mean, Metrics, Model, denominator
from jaxasr.tasks.loss_parts import views_of
from jaxasr.tasks.speech_choices import LONG, check_choices
from jaxasr.tasks.tokens import TokensTask, toy_vocabulary
from jaxasr.typing import Array, Float, Int, Key, Params, Scalar

MANY = 10**9
"""Frames of features that tell how many encoded frames there are for one, the ends of the sound aside."""


@dataclasses.dataclass(frozen=True)
class SpeechTask(TokensTask[AnyAsrExample, AnyAsrBatch]):
    """Abstract: what a concrete task adds is its network behind the encoder, its losses and its searches.

    These defaults are those of `--task=asr`.
    """

    sample_rate: int = 16_000
    """Samples per second that the network works at; sound at any other rate is resampled."""
    channel: int | None = None
    """Channel of the sound, from 0; None takes the mean of all."""
    preprocess: Perturber | None = slot(PREPROCESSORS, CommonPreprocessor())
    """What training does to sound; none takes it as it is."""
    frontend: Frontend = slot(FRONTENDS, WavFrontend())
    """Waveform to features; or `features`, which are given instead of sound."""
    normalizer: Normalizer | None = slot(NORMALIZERS, GlobalMvn())
    """Normalisation of the features."""
    specaug: SpecAugmenter | None = slot(SPECAUGS, SpecAugment())
    """Parts of the features hidden while training."""
    preencoder: PreEncoder | None = slot(PREENCODERS, None)
    """What features go through before the encoder; after SpecAugment and normalisation."""
    encoder: Encoder = slot(ENCODERS, SanmEncoder())
    """Frames to encoded frames."""
    postencoder: PostEncoder | None = slot(POSTENCODERS, None)
    """What encoded frames go through before CTC head and decoder."""
    decoder: nn.Module | None = None
    """A slot of each concrete task: frames to tokens."""
    cmvn_file: str | None = naming_files()
    """Statistics: Kaldi's (FunASR's am.mvn) or ESPnet's feats_stats.npz; None estimates them on the training set."""
    ctc_weight: float = 0.3
    """Share of the CTC loss; the rest is the attention loss."""
    interctc_layers: tuple[int, ...] = beside("ctc_weight", ())
    """Encoder layers, counted from 1, after which CTC is learnt as well, such as 3 6 9."""
    interctc_weight: float = beside("interctc_layers", 0.3)
    """Share of those layers in the CTC loss."""
    interctc_conditioning: bool = beside("interctc_layers", False)
    """Give the encoder what CTC says after those layers (self-conditioned CTC)."""
    cr_weight: float = 0.0
    """Weight, beside the CTC loss, of how much two SpecAugment views of an utterance differ (CR-CTC, there 0.2).

    Above 0 every training batch is computed twice."""
    label_smoothing: float = 0.1
    """Probability that the attention loss spreads over wrong tokens."""
    length_normalized_loss: bool = False
    """Divide the attention loss by the number of tokens, not of utterances."""
    initialization: Initialization | None = None
    """Draw all weights by one rule, with biases 0, as FunASR's and ESPnet's init; none leaves it to each module."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What encoder and decoder compute in; parameters, norms, softmax, logits and losses stay float32."""
    cmvn: Cmvn | None = resource()
    """Statistics that features are normalized by."""

    # --- resources -------------------------------------------------------------------------------------------

    def with_resources(self, *, vocabulary: Vocabulary | None = None, cmvn: Cmvn | None = None) -> Self:
        """This task with what only data can tell; None leaves a resource as it is."""
        return dataclasses.replace(self, vocabulary=vocabulary or self.vocabulary, cmvn=cmvn or self.cmvn)

    def prepared(self, utterances: Sequence[Utterance]) -> Self:
        task = super().prepared(utterances)
        if task.cmvn is None and self.cmvn_file:
            task = task.with_resources(cmvn=read_mvn(self.cmvn_file))
        return task

    def with_statistics(self, estimate: Callable[[Callable[[AnyAsrBatch], Any]], Cmvn]) -> Self:
        if self.cmvn is not None or not self._needs_statistics:
            return self
        return self.with_resources(cmvn=estimate(functools.partial(self.features, normalize=False)))

    @property
    def _needs_statistics(self) -> bool:
        return self.normalizer is not None and self.normalizer.needs_statistics

    def save_resources(self, folder: pathlib.Path) -> None:
        super().save_resources(folder)
        resources.save_statistics(folder, self.cmvn)

    def load_resources(self, folder: pathlib.Path) -> Self:
        cmvn = resources.load_statistics(folder, needed=self._needs_statistics)
        return super().load_resources(folder).with_resources(cmvn=cmvn)

    def statistics_hash(self) -> str | None:
        return None if self.cmvn is None else self.cmvn.hash

    # --- data ------------------------------------------------------------------------------------------------

    @property
    def source(self) -> FileSource:
        given = self.frontend.input_frames
        return SoundSource(self.sample_rate, self.channel) if given is None else FeatureSource(*given)

    def preprocess_fn(self, *, train: bool) -> Callable[[Utterance, np.random.Generator], AnyAsrExample]:
        perturb = self.preprocess.perturb_fn(self.sample_rate) if train and self.preprocess else None
        return Preprocess(self.source, self._tokenizer, self.vocabulary, perturb)

    def collate_fn(self) -> Callable[[Sequence[AnyAsrExample], BucketShape], AnyAsrBatch]:
        return Collate(float_pad_value=0.0, int_pad_value=-1, width=self.source.width)

    def batch_spec(self, shape: BucketShape) -> AnyAsrBatch:
        planned = layout(shape, self.source.width)
        return type(planned)(*(jax.ShapeDtypeStruct(*array) for array in planned))

    def frames(self, samples: Any) -> Any:
        return self.encoded(self._frontend.output_lengths(samples, self.sample_rate))

    def encoded(self, frames: Any) -> Any:
        """How many frames come out of the encoder, and of what follows it, for so many features."""
        frames = self.encoder.output_lengths(frames)
        return frames if self.postencoder is None else self.postencoder.output_lengths(frames)

    def frames_needed(self, text: str) -> int:
        if self.ctc_weight == 0.0:
            return 1
        ids = self._vocabulary.encode(self.tokens(text))
        return len(ids) + int(np.count_nonzero(ids[1:] == ids[:-1]))

    def word_bounds(self) -> tuple[list[bool], list[bool]]:
        """For each token whether a word begins with it, or ends with it, whatever stands beside it."""
        return self._tokenizer.bounds(self._vocabulary.tokens)

    def training_speeds(self) -> tuple[float, ...]:
        return self.preprocess.speeds if self.preprocess else (1.0,)

    def sounds_drawn_from(self) -> Sequence[SoundFile]:
        return self.preprocess.files(self.sample_rate) if self.preprocess else ()

    # --- network and loss ------------------------------------------------------------------------------------

    def check(self) -> None:
        super().check()
        check_choices(self)
        for part in (self.preprocess, self.normalizer, self.specaug):
            if part is not None:
                part.check()
        self.parameter_shapes()

    def _shapes_with(self, num_tokens: int) -> Params:
        """With a toy vocabulary: what the network's parts refuse, they refuse before data is read."""
        width = self._frontend.output_width
        task = self.with_resources(
            vocabulary=toy_vocabulary(num_tokens),
            cmvn=Cmvn(np.zeros(width, np.float32), np.ones(width, np.float32)),
        )
        spec = task.batch_spec(BucketShape(1, int(2 * self.input_rate), 1))
        return jax.eval_shape(task.model().init, jax.random.key(0), spec)

    @property
    def _frontend(self) -> Frontend:
        """The frontend, what it leaves open chosen to suit the encoder's frame rate."""
        return self.frontend.for_encoder(round(LONG / self.encoder.output_lengths(LONG)))

    @property
    def frame_ms(self) -> float:
        """Milliseconds of sound in one encoder frame."""
        return self._frontend.frame_ms() * MANY / self.encoded(MANY)

    @jax.named_scope("features")
    def features(
        self, batch: AnyAsrBatch, *, key: Key | None = None, normalize: bool = True, views: int = 1
    ) -> tuple[Float[Array, "B T F"], Int[Array, "B"]]:
        """Features of a batch and their lengths; with a key dithered and through SpecAugment, in so many `views`."""
        frontend = self._frontend
        dither_key, specaug_key = (None, None) if key is None else jax.random.split(key)
        features, lengths = frontend(batch.inputs, batch.input_lengths, sample_rate=self.sample_rate, key=dither_key)
        if self.normalizer is not None and normalize:
            features = self.normalizer(features, lengths, self.cmvn)
        if self.specaug is None or specaug_key is None:
            features = repeat_rows(features, views)
        else:
            several = {"views": views} if views > 1 else {}
            with jax.named_scope("specaug"):
                features = self.specaug(features, lengths, num_bands=frontend.num_bands, key=specaug_key, **several)
        return features, repeat_rows(lengths, views)

    @abc.abstractmethod
    def network(self) -> SpeechNetwork:
        """Features, their lengths and `texts` in, `SpeechOutputs` out."""

    @abc.abstractmethod
    def texts(self, batch: AnyAsrBatch) -> tuple[Array, ...]:
        """What the network reads of a batch's tokens: ids (B, U), lengths (B,)."""

    def model(self) -> Model:
        network = self.network()

        def inputs(batch: AnyAsrBatch, key: Key | None, views: int = 1):
            features, lengths = self.features(batch, key=key, views=views)
            return features.astype(self.dtype), lengths, *self.texts(views_of(batch, views))

        def init(key: Key, batch: AnyAsrBatch) -> Params:
            blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), batch)
            variables = network.init(key, *inputs(blank, None), train=False)
            params = variables["params"]
            params = params if self.initialization is None else initialized(params, key, self.initialization)
            return with_stats(params, variables.get(STATS))

        def apply(params: Params, batch: AnyAsrBatch, *, key: Key | None = None, views: int = 1) -> SpeechOutputs:
            feature_key, dropout_key = (None, None) if key is None else jax.random.split(key)
            given = inputs(batch, feature_key, views)
            outputs: Any
            if dropout_key is None:
                return network.apply(variables_of(params), *given, train=False)  # type: ignore[return-value]
            rngs = {"dropout": dropout_key}
            outputs, left = network.apply(variables_of(params), *given, train=True, rngs=rngs, mutable=[MOMENTS])
            return outputs._replace(moments=gathered(left))

        return Model(init, apply)

    def given_parts(self) -> tuple[str, ...]:
        given = isinstance(self.postencoder, TransformerPostEncoder) and self.postencoder.weights is not None
        return ("postencoder",) if given else ()

    def given_params(self, say: Callable[[str], None]) -> Params:
        if not self.given_parts():
            return {}
        assert isinstance(self.postencoder, TransformerPostEncoder)
        return {"postencoder": read_blocks(self.postencoder, self.parameter_shapes()["postencoder"], say)}

    def loss_fn(self) -> Callable[..., tuple[Scalar, Metrics]]:
        apply = self.model().apply

        def loss_fn(
            params: Params, batch: AnyAsrBatch, key: Key | None = None, counts: Counts | None = None
        ) -> tuple[Scalar, Metrics]:
            if key is None or self.cr_weight == 0.0:
                return self.loss_of(apply(params, batch, key=key), batch, counts)
            return self.loss_of(apply(params, batch, key=key, views=2), views_of(batch, 2), counts, paired=True)

        return loss_fn

    @abc.abstractmethod
    def loss_of(
        self, outputs: SpeechOutputs, batch: AnyAsrBatch, counts: Counts | None = None, *, paired: bool = False
    ) -> tuple[Scalar, Metrics]:
        """The loss and its parts; of the batch without its inputs.

        Args:
          paired: rows 2b and 2b + 1 are views of one utterance, which `cr_weight` makes agree.
        """

    @abc.abstractmethod
    def shares(self) -> dict[str, float]:
        """What each part of the loss, a metric's name, is weighed by."""

    def ctc_shares(self) -> dict[str, float]:
        """Of these, those of the CTC head's losses."""
        early = self.ctc_weight * self.interctc_weight if self.interctc_layers else 0.0
        shares = {f"loss/ctc_layer{layer}": early / len(self.interctc_layers) for layer in self.interctc_layers}
        return shares | {"loss/ctc": self.ctc_weight - early, "loss/cr": self.ctc_weight * self.cr_weight}

    def weighed(self, metrics: Metrics, batch: AnyAsrBatch, counts: Counts | None) -> tuple[Scalar, Metrics]:
        """The loss, which is made of its parts by `shares`, and the metrics with it."""
        loss: Any = sum(
            share * metrics[name].total / denominator(name, metrics[name].count, counts)
            for name, share in self.shares().items()
            if share > 0.0 and name in metrics
        )
        rows = jnp.sum(batch.weights)
        return loss, {"loss": Mean(loss * denominator("loss", rows, counts), rows)} | metrics

    def values(self, metrics: Metrics) -> dict[str, float]:
        found = super().values(metrics)
        parts = [share * found[name] for name, share in self.shares().items() if share > 0.0 and name in found]
        return found | {"loss": sum(parts) if parts else float("nan")}

    # --- search ----------------------------------------------------------------------------------------------

    def decode_fn(self, search: Search | str) -> Callable[..., Hypotheses]:
        search = Search.named(search)
        self.check_search(search.name)
        return self.decoding(search)

    @abc.abstractmethod
    def decoding(self, search: Search) -> Callable[..., Hypotheses]:
        """`decode_fn` of a search that there is."""

    def timed(self, search: Search, found: Hypotheses, outputs: SpeechOutputs) -> Hypotheses:
        """What was found, with times where they are wanted and CTC can tell them."""
        if not search.times or outputs.ctc_logits is None:
            return found
        return with_spans(found, outputs.ctc_logits, outputs.lengths, blank_id=Vocabulary.BLANK)

    def align_fn(self) -> Callable[..., Hypotheses]:
        if self.ctc_weight == 0.0:
            return super().align_fn()

        def align(params: Params, batch: AnyAsrBatch, fusion: Fusion = NO_FUSION) -> Hypotheses:
            outputs: Any = self.heard(params, batch, "encode")
            of_batch = outputs.lengths, batch.tokens, batch.token_lengths
            return ctc_align(outputs.ctc_logits, *of_batch, blank_id=Vocabulary.BLANK)

        return align

    def heard(self, params: Params, batch: AnyAsrBatch, method: str) -> SpeechOutputs:
        """What a method of the network makes of a batch's features."""
        features, lengths = self.features(batch)
        inputs = features.astype(self.dtype), lengths
        return self.network().apply(variables_of(params), *inputs, train=False, method=method)  # type: ignore[return-value]
