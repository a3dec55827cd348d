"""Language models over tokens, trained on text alone."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxasr.config import slot
from jaxasr.data.batch import BucketShape, TextBatch, TextExample, collate_text, text_layout
from jaxasr.data.manifest import Utterance
from jaxasr.data.preprocess import PreprocessText
from jaxasr.data.source import TextSource
from jaxasr.nn.lms import LMS, LanguageModel, TransformerLm
from jaxasr.nn.losses import label_smoothing_loss
from jaxasr.tasks.base import TASKS, Counts, Mean, Metrics, Model, denominator
from jaxasr.tasks.loss_parts import with_sos_eos
from jaxasr.tasks.tokens import TokensTask, toy_vocabulary
from jaxasr.typing import Key, Params, Scalar


@TASKS.register("lm")
@dataclasses.dataclass(frozen=True)
class LmTask(TokensTask[TextExample, TextBatch]):
    """Neural language model: FunASR's and ESPnet's `lm` task.

    Its loss is cross-entropy in nats a token, `</s>` among them; what it is trained for is to be a search's `--lm`.
    """

    lm: LanguageModel = slot(LMS, TransformerLm())
    """Tokens so far to the next."""

    # --- data ------------------------------------------------------------------------------------------------

    @property
    def source(self) -> TextSource:
        return TextSource(self.num_tokens)

    def preprocess_fn(self, *, train: bool) -> Callable[[Utterance, np.random.Generator], TextExample]:
        return PreprocessText(self._tokenizer, self._vocabulary)

    def collate_fn(self) -> Callable[[Sequence[TextExample], BucketShape], TextBatch]:
        return collate_text

    def batch_spec(self, shape: BucketShape) -> TextBatch:
        return TextBatch(*(jax.ShapeDtypeStruct(*array) for array in text_layout(shape)))

    def frames(self, samples: Any) -> Any:
        return samples

    def frames_needed(self, text: str) -> int:
        return 0

    def training_speeds(self) -> tuple[float, ...]:
        return (1.0,)

    # --- network and loss ------------------------------------------------------------------------------------

    def check(self) -> None:
        super().check()
        self.parameter_shapes()

    def _shapes_with(self, num_tokens: int) -> Params:
        task = dataclasses.replace(self, vocabulary=toy_vocabulary(num_tokens))
        return jax.eval_shape(task.model().init, jax.random.key(0), task.batch_spec(BucketShape(1, 1, 1)))

    def model(self) -> Model:
        run = functools.partial(self.lm.apply, vocab_size=len(self._vocabulary))

        def read(batch: TextBatch) -> Any:
            return with_sos_eos(batch.tokens, batch.token_lengths)[0]

        def init(key: Key, batch: TextBatch) -> Params:
            tokens = jnp.zeros((1, batch.tokens.shape[1] + 1), jnp.int32)
            return self.lm.init(key, tokens, vocab_size=len(self._vocabulary), train=False)["params"]

        def apply(params: Params, batch: TextBatch, *, key: Key | None = None) -> Any:
            rngs = None if key is None else {"dropout": key}
            logits, _ = run({"params": params}, read(batch), train=key is not None, rngs=rngs)  # type: ignore[misc]
            return logits

        return Model(init, apply)

    def loss_fn(self) -> Callable[..., tuple[Scalar, Metrics]]:
        apply = self.model().apply

        def loss_fn(
            params: Params, batch: TextBatch, key: Key | None = None, counts: Counts | None = None
        ) -> tuple[Scalar, Metrics]:
            _, said, lengths = with_sos_eos(batch.tokens, batch.token_lengths)
            nats = label_smoothing_loss(apply(params, batch, key=key), said, lengths, 0.0)
            loss = Mean(jnp.sum(nats * batch.weights), jnp.sum(lengths * batch.weights))
            return loss.total / denominator("loss", loss.count, counts), {"loss": loss}

        return loss_fn

    def values(self, metrics: Metrics) -> dict[str, float]:
        found = super().values(metrics)
        return found | ({"perplexity": float(np.exp(found["loss"]))} if "loss" in found else {})
