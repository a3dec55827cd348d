"""What a task is: a frozen dataclass of choices whose methods return pure functions."""

import abc
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np

from jaxasr.data.audio import SoundSource
from jaxasr.data.batch import BucketShape
from jaxasr.data.cleaners import Cleaning
from jaxasr.data.manifest import Utterance
from jaxasr.data.sounds import SoundFile
from jaxasr.data.source import Source
from jaxasr.errors import ConfigError
from jaxasr.nn.rows import sum_over_devices
from jaxasr.registry import Registry
from jaxasr.search.choices import Search
from jaxasr.search.hypotheses import Hypotheses
from jaxasr.typing import Key, Params, Scalar

BatchT = TypeVar("BatchT")
ExampleT = TypeVar("ExampleT")
TaskT = TypeVar("TaskT", bound="Task")


class Mean(NamedTuple):
    """A metric that adds up exactly over rows, devices and steps.

    >>> (Mean(6.0, 2.0) + Mean(1.0, 5.0)).value
    1.0
    """

    total: Any
    count: Any

    def __add__(self, other: "Mean") -> "Mean":  # type: ignore[override]
        return Mean(self.total + other.total, self.count + other.count)

    @property
    def value(self) -> Any:
        """The mean."""
        return self.total / self.count


Metrics = dict[str, Mean]
Counts = Mapping[str, Any]
"""The counts of metrics by name, over all batches of an update and all devices."""


def denominator(name: str, count: Any, counts: Counts | None) -> Any:
    """What a part of the loss divides its sum by, so that devices and batches add up to one; at least 1.

    Args:
      count: of this device's rows.
      counts: those of the whole update, where the batch is a part of it; None where it is all.
    """
    return jnp.maximum(sum_over_devices(count) if counts is None else counts[name], 1.0)


class Model(NamedTuple):
    """A network as two pure functions."""

    init: Callable[[Key, Any], Params]
    """(key, batch) to parameters; of the batch only shapes and types matter."""
    apply: Callable[..., Any]
    """apply(params, batch, *, key=None) to outputs; a key means training: noise is added."""


class Task(abc.ABC, Generic[ExampleT, BatchT]):
    """Abstract; every concrete task is a frozen dataclass and is not derived from further.

    What only the data can tell (token list, statistics) is no field of the configuration: it enters by
    `prepared` and `with_statistics`, or by a task's own `with_resources`, and is saved beside the model.
    """

    sample_rate: int
    """Samples of sound a second."""

    @property
    def source(self) -> Source:
        """What utterances are read from; by default sound."""
        return SoundSource(self.sample_rate)

    @property
    def input_rate(self) -> float:
        """Samples of sound, or frames of features, a second: the unit of a bucket shape's `samples`."""
        return self.source.rate

    @abc.abstractmethod
    def check(self) -> None:
        """Raises ConfigError where the choices do not go together; reads no data."""

    def parameter_shapes(self, num_tokens: int = 4) -> Params | None:
        """The parameters' shapes with a token list of any such size; None where they cannot be told without data.

        How they differ between two sizes tells which parameters have a row for each token.
        """
        del num_tokens
        return None

    @abc.abstractmethod
    def prepared(self: TaskT, utterances: Sequence[Utterance]) -> TaskT:
        """This task with every resource that it still lacks made from its files or from the training set."""

    def with_statistics(self: TaskT, estimate: Callable[[Callable[[Any], Any]], Any]) -> TaskT:
        """This task with the feature statistics that it still lacks, if any.

        Args:
          estimate: from a function of a batch to (features, lengths), to their `Cmvn` over the training set.
        """
        del estimate
        return self

    @abc.abstractmethod
    def save_resources(self, folder: pathlib.Path) -> None:
        """Writes the resources into `folder`, each as a file that other tools can read."""

    @abc.abstractmethod
    def load_resources(self: TaskT, folder: pathlib.Path) -> TaskT:
        """This task with the resources that `save_resources` wrote."""

    @abc.abstractmethod
    def resources_hash(self) -> str:
        """A fingerprint of the resources that texts become tokens by, which must not change within a workdir."""

    def statistics_hash(self) -> str | None:
        """A fingerprint of the feature statistics, which must not change either; None where there are none."""
        return None

    @abc.abstractmethod
    def preprocess_fn(self, *, train: bool) -> Callable[[Utterance, np.random.Generator], ExampleT]:
        """From an utterance to an example; NumPy only, so that it can run in a worker."""

    @abc.abstractmethod
    def collate_fn(self) -> Callable[[Sequence[ExampleT], BucketShape], BatchT]:
        """From examples to a batch of exactly the given shape."""

    @abc.abstractmethod
    def batch_spec(self, shape: BucketShape) -> BatchT:
        """A batch of `jax.ShapeDtypeStruct`s."""

    @abc.abstractmethod
    def frames(self, samples: Any) -> Any:
        """Encoder frames that so many samples (frames of features) give; works on an int and on an array."""

    @abc.abstractmethod
    def frames_needed(self, text: str) -> int:
        """The fewest encoder frames that the loss can align `text` with."""

    @abc.abstractmethod
    def num_tokens(self, text: str) -> int:
        """Tokens of the transcript."""

    @abc.abstractmethod
    def unknown(self, text: str) -> list[str]:
        """Symbols of the transcript that the token list lacks."""

    @property
    def cleaning(self) -> Cleaning:
        """What is done to transcripts before they become tokens, and before errors are counted in them."""
        return Cleaning()

    @property
    def frame_ms(self) -> float | None:
        """Milliseconds of sound in one encoder frame; None where there is no sound."""
        return None

    @abc.abstractmethod
    def training_speeds(self) -> tuple[float, ...]:
        """Speed factors that training draws from."""

    def sounds_drawn_from(self) -> Sequence[SoundFile]:
        """Files beside the utterances that training draws from, such as noises; a run goes on only with them."""
        return ()

    @abc.abstractmethod
    def leaves_out_unknown(self) -> bool:
        """Whether training leaves out transcripts with unknown symbols."""

    @abc.abstractmethod
    def model(self) -> Model:
        """The network; the resources must be there (`prepared`)."""

    def given_params(self, say: Callable[[str], None]) -> Params:
        """Parameters that a new run starts from as files have them, at their places; `say` is told of the files.

        It needs no resources, so that files that do not fit are refused before data is read. A run that goes on reads
        none of them.
        """
        del say
        return {}

    def given_parts(self) -> tuple[str, ...]:
        """The network's parts, by the names of their parameters, that have some in `given_params`."""
        return ()

    @abc.abstractmethod
    def loss_fn(self) -> Callable[..., tuple[Scalar, Metrics]]:
        """(params, batch, key or None, counts=None) to the loss over the global batch and its parts.

        With `counts`, those of all batches of one update, the losses of the batches add up to the loss of one batch
        with all their rows; so do metrics. The counts themselves must depend on the data alone. Only `--accumulate` and
        `--microbatches` give them: a loss function without this argument works where both are 1. Noise is to be drawn
        by a row's place in the batch (`nn.noise`), so that parts of a batch draw what the whole would.
        """

    def values(self, metrics: Metrics) -> dict[str, float]:
        """What metrics that were added up come to; one that counted nothing is left out.

        A task whose loss weighs parts that count different things composes it of theirs: only sums and counts of the
        parts add up over batches.
        """
        return {name: float(np.asarray(mean.value)) for name, mean in metrics.items() if np.any(mean.count)}

    def searches(self) -> tuple[str, ...]:
        """Names of the quick searches this model can be decoded with, the usual one first; a run is tested by each.

        None where there is nothing to decode; the run is then tested by its loss.
        """
        return ()

    def usual_search(self) -> str:
        """The first of `searches`; raises ConfigError where there is none."""
        for name in self.searches():
            return name
        raise ConfigError(
            f"--model: a {type(self).__name__}, which decodes nothing; a model that hears speech was expected; give "
            "one, and a language model as its --lm."
        )

    def beam_searches(self) -> tuple[str, ...]:
        """Names of the searches that keep several hypotheses at a time."""
        return ()

    def check_search(self, name: str) -> None:
        """Raises ConfigError where it has no search of this name."""
        self.usual_search()
        if name not in (names := (*self.searches(), *self.beam_searches())):
            raise ConfigError(f"--search={name}: this model has {', '.join(names)}; choose one of them.")

    def idle_options(self, search: str) -> tuple[str, ...]:
        """Options of a search of this name, as `jaxasr.decode` has them, that change nothing with this model."""
        del search
        return ()

    def decode_fn(self, search: Search | str) -> Callable[..., Hypotheses]:
        """(params, batch, fusion=NO_FUSION) to hypotheses, by one of the searches."""
        raise NotImplementedError(f"{type(self).__name__} has no search {search}")

    def align_fn(self) -> Callable[..., Hypotheses]:
        """As `decode_fn`, to the batch's own tokens and where they are in its sound.

        Raises:
          ConfigError: the model has no CTC head to find them by.
        """
        raise ConfigError(
            f"{type(self).__name__}: no CTC head; one was expected, which says where known text is in the sound; take "
            "a model of speech recognition that was trained with --ctc_weight above 0."
        )

    @abc.abstractmethod
    def text(self, tokens: Sequence[int]) -> str:
        """The text of a hypothesis."""


TASKS: Registry[Task] = Registry("task", Task, ("model", "loss_fn", "preprocess_fn", "collate_fn"))
