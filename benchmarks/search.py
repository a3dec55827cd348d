"""Beam searches: CTC's over logits, and the joint one from sound to tokens, beam 10, with random weights."""

import functools
from collections.abc import Iterator

import numpy as np

from benchmarks import sizes
from benchmarks.measure import Case, Options, Row, measured
from jaxasr.search.choices import Fusion, Search
from jaxasr.search.ctc_beam import ctc_beam

BEAM = 10
SEARCHES = {
    "all tokens": (Search("ctc_beam", BEAM), Fusion()),
    "10 a frame": (Search("ctc_beam", BEAM, token_beam=10), Fusion()),
    "blank_skip 0.99": (Search("ctc_beam", BEAM), Fusion(blank_skip=0.99)),
}


def groups(options: Options) -> Iterator[list[Case]]:
    for size in options.sizes():
        for rows in (1, 2 * size.rows):
            for posteriors in ("peaked", "flat"):
                yield list(ctc_cases(size, rows, posteriors))
        for rows in (1, size.rows):
            yield list(joint_cases(size, rows))


def ctc_cases(size: sizes.Size, rows: int, posteriors: str) -> Iterator[Case]:
    frames = int(40 * size.seconds)
    logits = random_logits(rows, frames, size.symbols, posteriors)
    name = f"ctc_beam {rows},{frames},{size.symbols} {posteriors}"
    for how, (search, fusion) in SEARCHES.items():
        function = functools.partial(ctc_beam, search=search, fusion=fusion)
        yield Case(f"{name}, {how}", function, (logits, np.full(rows, frames, np.int32)), rows, "utterances")


def random_logits(rows: int, frames: int, symbols: int, posteriors: str) -> np.ndarray:
    """Noise; where it is peaked a token, in a fifth of the frames, or else blank stands out of it."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(rows, frames, symbols)).astype(np.float32)
    if posteriors == "peaked":
        said = np.where(rng.random((rows, frames)) < 0.2, rng.integers(1, symbols, (rows, frames)), 0)
        surest = 14.0 + 2.0 * rng.normal(size=(rows, frames, 1)).astype(np.float32)
        np.put_along_axis(logits, said[:, :, None], surest, axis=2)
    return logits


def joint_cases(size: sizes.Size, rows: int) -> Iterator[Case]:
    """As many steps as there are tokens in the mean utterance; greedy CTC beside it is what the encoder takes."""
    task, steps = sizes.task(size, sizes.sanm(size), sound=True), int(sizes.TOKENS_PER_S * size.seconds)
    batch = sizes.sound_batch(size, rows)
    params = sizes.params_of(task, sizes.sound_batch(size, 1))
    forced = Search("joint", BEAM, maxlenratio=-steps, minlenratio=-steps)
    for name, search in {f"joint, {steps} tokens": forced, "ctc_greedy": Search("ctc_greedy")}.items():
        arguments = params, batch
        yield Case(f"{name}, SAN-M {size.name}, {rows} rows", task.decode_fn(search), arguments, rows, "utterances")


def measure(options: Options) -> list[Row]:
    return measured(groups(options), options)
