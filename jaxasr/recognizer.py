"""Planned batches to hypotheses by one search, in training's validation as in `jaxasr.decode`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import rich.console

from jaxasr.bars import with_bar
from jaxasr.compiled import CompiledByShape
from jaxasr.data.batch import BucketShape
from jaxasr.data.pipeline import HostBatch
from jaxasr.hypothesis import Hypothesis, hypothesis_of
from jaxasr.inputs import Inputs
from jaxasr.parallel import Devices
from jaxasr.search.choices import NO_FUSION, Fusion, Search
from jaxasr.search.hypotheses import Hypotheses
from jaxasr.tasks.base import Metrics, Task
from jaxasr.typing import Params


class Recognizer:
    """Decodes planned batches with one search; what it compiles it keeps, one executable a shape.

    Training validates with the same object as `jaxasr.decode` decodes with.
    """

    def __init__(
        self,
        task: Task,
        search: Search | str | Callable[..., Hypotheses] | None,
        devices: Devices,
        *,
        fusion: Fusion = NO_FUSION,
        loss: bool = False,
    ):
        """What `fusion` weighs may be changed between calls (`weighed`), of which no program is compiled anew.

        Args:
          search: one of the task's, or a function as `Task.decode_fn` gives it; None finds metrics, and no hypotheses.
        """
        decode = search if search is None or callable(search) else task.decode_fn(search)
        loss_fn = task.loss_fn() if loss else None

        def run(params: Params, batch: Any, fusion: Fusion) -> tuple[Any, Metrics]:
            said = None if decode is None else decode(params, batch, fusion)
            return said, {} if loss_fn is None else loss_fn(params, batch, None)[1]

        self.task = task
        self.decode = decode
        self.devices = devices
        self.fusion = devices.copied(fusion)
        self._abstract: Any = None
        self.compiled = CompiledByShape(
            devices.compiled_for(run, (devices.replicated, devices.by_row, devices.replicated), devices.replicated),
            lambda shape: (self._abstract, devices.spec(task.batch_spec(shape)), devices.abstract(self.fusion)),
        )

    def weighed(self, fusion: Fusion) -> None:
        """From now on by other weights; what weighs what must be as it was."""
        self.fusion = self.devices.copied(fusion)

    def announce(self, params: Params, shapes: Sequence[BucketShape]) -> None:
        """Compiles for `shapes` ahead of time; of `params` only shapes and places matter."""
        if self._abstract is None:
            self._abstract = self.devices.abstract(params)
        self.compiled.announce(shapes)

    def tells_times(self, params: Params) -> bool:
        """Whether hypotheses say where their tokens are."""
        spec = self.task.batch_spec(BucketShape(1, int(2 * self.task.input_rate), 1))
        assert self.decode is not None
        return jax.eval_shape(self.decode, params, spec, self.fusion).spans is not None

    def __call__(
        self, params: Params, inputs: Inputs, *, progress: rich.console.Console | None = None
    ) -> tuple[list[Hypothesis], Metrics]:
        """Every utterance's hypothesis in the order of the inputs, and the metrics added up over all of them."""
        self.announce(params, inputs.shapes_by_need())
        found: dict[int, Hypothesis] = {}
        metrics: Metrics = {}
        for indices, hypotheses, batch_metrics in self._batches(params, inputs, progress):
            if hypotheses is not None:
                found |= self._rows(inputs, indices, hypotheses)
            for name, mean in batch_metrics.items():
                metrics[name] = metrics[name] + mean if name in metrics else mean
        return [found[i] for i in range(len(found))], metrics

    def _rows(self, inputs: Inputs, indices: Any, hypotheses: Any) -> dict[int, Hypothesis]:
        """Of a batch, by the utterances' places in the inputs."""
        utterances, samples = inputs.selection.utterances, inputs.selection.plain_samples
        return {
            int(i): hypothesis_of(self.task, hypotheses, row, utterances[i].id, int(samples[i]))
            for row, i in enumerate(indices)
        }

    def _batches(self, params: Params, inputs: Inputs, progress: Any) -> Iterator[tuple[Any, Any, Metrics]]:
        loader = batches = inputs.epoch(0)
        if progress is not None:
            batches = with_bar(loader, len(loader), self.task.input_rate, progress)
        yield from self.decoded(params, batches)

    def decoded(self, params: Params, batches: Iterable[HostBatch]) -> Iterator[tuple[Any, Any, Metrics]]:
        """(indices, hypotheses, metrics) of each batch; read back while the next one runs."""
        self.announce(params, ())
        before = None
        for host in batches:
            outputs = self.compiled[host.planned.shape](params, self.devices.put(host.batch), self.fusion)
            if before is not None:
                yield before[0], *jax.device_get(before[1])
            before = (host.planned.indices, outputs)
        if before is not None:
            yield before[0], *jax.device_get(before[1])
