"""Training without `jaxasr.train`: buckets, epochs, one jitted update and the error rate, in a page.

A task gives pure functions; what is done with them is here, to be changed at will. It trains a CTC model on the
bundled digits and says after every few epochs how it does on those held out.

    python examples/train_loop_by_hand.py --epochs=30
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
import tyro

from jaxasr import AsrTask, Utterance, corpora, evaluation_inputs, score, training_inputs
from jaxasr.data import manifest
from jaxasr.data.perturb import CommonPreprocessor
from jaxasr.data.tokenizer import WordTokenizer
from jaxasr.inputs import Inputs
from jaxasr.nn.encoders import SanmEncoder
from jaxasr.nn.frontends import WavFrontend
from jaxasr.nn.normalize import UtteranceMvn
from jaxasr.nn.specaug import SpecAugment
from jaxasr.tasks import Task


def digits_task() -> AsrTask:
    """Words of 8 kHz sound by CTC alone; the token list is still to come, by `prepared`."""
    return AsrTask(
        sample_rate=8000,
        preprocess=CommonPreprocessor(speeds=(0.9, 1.0, 1.1), volume_db=10.0),
        frontend=WavFrontend(num_mels=40, lfr_m=7, lfr_n=4),
        normalizer=UtteranceMvn(),
        specaug=SpecAugment(num_freq_masks=2, max_freq_width=6, num_time_masks=1, max_time_width=2),
        encoder=SanmEncoder(num_layers=4, d_model=128, num_heads=4, d_ff=256),
        decoder=None,
        ctc_weight=1.0,
        tokenizer=WordTokenizer(),
    )


def digits() -> list[list[Utterance]]:
    """Training and validation utterances."""
    return [manifest.read(corpora.digits() / name) for name in ("train", "valid")]


def inputs_of(task: Task, train: list[Utterance], valid: list[Utterance]) -> tuple[Inputs, Inputs]:
    """What gives the batches of any epoch, in a few shapes of which each is compiled once."""
    task = task.prepared(train)  # the token list comes from the data
    return (
        training_inputs(task, train, batch_seconds=18.0, max_buckets=2, max_seconds=1.1),
        evaluation_inputs(task, valid, batch_seconds=60.0, max_buckets=1),
    )


def adam(steps: int, learning_rate: float = 2e-3) -> optax.GradientTransformation:
    rate = optax.warmup_cosine_decay_schedule(0.0, learning_rate, min(200, steps // 4), steps)
    return optax.chain(optax.clip_by_global_norm(5.0), optax.adamw(rate, b2=0.98, weight_decay=0.01))


def update_of(loss_fn: Callable[..., Any], optimizer: optax.GradientTransformation) -> Callable[..., Any]:
    """(params, optimizer's state, batch, key) to the next two and the loss."""

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(params, opt_state, batch, key):
        (loss, _), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, batch, key)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    return update


def error_rate(decode: Callable[..., Any], params: Any, valid: Inputs) -> float:
    """The word error rate of a jitted `task.decode_fn`."""
    said = {}
    for host in valid.epoch(0):
        found = jax.device_get(decode(params, host.batch))
        for name, tokens, length in zip(host.ids, found.tokens, found.lengths):  # noqa: B905 (rows may be filler)
            said[name] = valid.task.text(tokens[:length])
    return score({u.id: u.text for u in valid.selection.utterances}, said).wer.rate


def fit(train: Inputs, valid: Inputs, epochs: int, loss_fn: Callable[..., Any] | None = None, seed: int = 0) -> Any:
    """The parameters after so many epochs; `loss_fn` is the task's, unless another is given."""
    task, steps = train.task, sum(train.num_batches(epoch) for epoch in range(epochs))
    optimizer, decode = adam(steps), jax.jit(task.decode_fn(task.usual_search()))
    update = update_of(loss_fn or task.loss_fn(), optimizer)
    init_key, noise_key = jax.random.split(jax.random.key(seed))
    params = jax.jit(task.model().init)(init_key, task.batch_spec(train.shapes[0]))
    opt_state = optimizer.init(params)
    step = 0
    for epoch in range(epochs):
        losses = []
        for host in train.epoch(epoch):  # read ahead in threads; a shape's first batch compiles its update
            key = jax.random.fold_in(noise_key, step)
            params, opt_state, loss = update(params, opt_state, host.batch, key)
            losses.append(loss)
            step += 1
        if (epoch + 1) % 5 == 0 or epoch + 1 == epochs:
            mean, wer = np.mean(jax.device_get(losses)), error_rate(decode, params, valid)
            print(f"epoch {epoch + 1:3}  step {step:5}  loss {mean:.3f}  valid WER {100 * wer:.2f} %", flush=True)
    return params


def main(epochs: int = 30) -> None:
    train, valid = inputs_of(digits_task(), *digits())
    for rows, samples, tokens in train.shapes:
        print(f"bucket: {rows} rows of {samples / train.task.input_rate:.2f} s and {tokens} token")
    fit(train, valid, epochs)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
