"""A task without the training loop: from sound files to a gradient step, in pure functions.

It is the first of these scripts to read; train_loop_by_hand.py goes on from here.

    python examples/compose.py
"""

import dataclasses

import jax
import numpy as np

from jaxasr import AsrTask, BucketShape, corpora
from jaxasr.data import manifest
from jaxasr.data.tokenizer import WordTokenizer
from jaxasr.nn.decoders import TransformerDecoder
from jaxasr.nn.encoders import SanmEncoder
from jaxasr.nn.frontends import WavFrontend


def main() -> list[float]:
    utterances = manifest.read(corpora.digits() / "train")[:8]

    # A task is a frozen dataclass of choices; a Linen module that is not bound yet is one of them.
    task = AsrTask(
        sample_rate=8000,
        frontend=WavFrontend(num_mels=40, lfr_m=7, lfr_n=6),
        normalizer=None,
        encoder=SanmEncoder(num_layers=2, d_model=32, num_heads=2, d_ff=64),
        decoder=TransformerDecoder(num_layers=1, d_model=32, num_heads=2, d_ff=64),
        tokenizer=WordTokenizer(),
    ).prepared(utterances)  # the token list comes from the data

    # Data: NumPy only.
    preprocess, collate = task.preprocess_fn(train=True), task.collate_fn()
    examples = [preprocess(u, np.random.default_rng(i)) for i, u in enumerate(utterances)]
    longest = max(len(example.audio) for example in examples)
    batch = collate(examples, BucketShape(rows=8, samples=longest, tokens=1))

    # Network and loss: pure functions, to be jitted, differentiated and mapped as any other.
    model, loss_fn = task.model(), task.loss_fn()
    params = jax.jit(model.init)(jax.random.key(0), batch)
    outputs = jax.jit(model.apply)(params, batch)
    print("encoded frames", outputs.encoded.shape, "CTC logits", outputs.ctc_logits.shape)

    @jax.jit
    def update(params, key):
        (loss, _), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, batch, key)
        return jax.tree.map(lambda p, g: p - 0.02 * g, params, grads), loss

    losses = []
    for step in range(30):
        params, loss = update(params, jax.random.key(step))
        losses.append(float(loss))
    print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}")

    hypotheses = jax.jit(task.decode_fn("ctc_greedy"))(params, batch)
    for row, utterance in enumerate(utterances[:3]):
        tokens = np.asarray(hypotheses.tokens[row, : hypotheses.lengths[row]])
        print(f"{utterance.text:6} {task.text(tokens)}")

    # A changed task is a new value; nothing else changes.
    print("without a decoder:", dataclasses.replace(task, decoder=None, ctc_weight=1.0).searches())
    return losses


if __name__ == "__main__":
    main()
