"""Makes `more/timestamps.npz`: when FunASR 0.8.8 says that tokens are, of weights of 20 ms frames that are drawn here.

It needs FunASR and torch, which no test does:

  PYTHONPATH=FUNASR python tests/parity/make_timestamps.py

Of each case `in/NAME` has the weights, before they are scaled to `counts/NAME` tokens, the end included; `out/NAME` has
FunASR's begins and ends of all tokens without the end, in milliseconds.
"""

import pathlib

import numpy as np
import torch
from funasr.utils.timestamp_tools import cif_wo_hidden, ts_prediction_lfr6_standard

PLACES = {
    "speech": (200, (9, 18, 27, 33, 44, 52, 60, 71, 83, 94, 100, 111, 120, 131, 142, 150, 160, 171, 180, 188)),
    "pauses": (210, (30, 41, 80, 89, 98, 150, 157, 190)),
    "at_the_end": (60, (6, 15, 26, 33, 45, 58)),
    "long_before_the_end": (150, (12, 25, 31, 40)),
    "a_long_last_token": (120, (8, 15, 27, 90)),
    "at_once": (40, (0, 1, 2, 9, 20, 31)),
    "other_counts": (120, (10, 22, 35, 41, 52, 60, 70, 81, 99, 108)),
    "one": (30, (9, 22)),
    "several_in_a_frame": (80, (9, 20, 31, 31, 31, 42, 50, 61, 70)),
}
"""Frames, and those in which a token's weight lies."""
MORE = {"other_counts": 2}
"""Tokens that weights are scaled to beyond those that are said."""


def weights(frames: int, places: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Most of a token in each place, some of it around, nearly nothing elsewhere."""
    alphas = 2e-6 * rng.random(frames)
    for place in places:
        for near, most in ((max(place - 1, 0), 0.2), (place, 0.7), (min(place + 1, frames - 1), 0.2)):
            alphas[near] += most * (0.9 + 0.1 * rng.random())
    return alphas.astype(np.float32)


def main() -> None:
    rng, found = np.random.default_rng(0), {}
    for name, (frames, places) in PLACES.items():
        alphas, said = weights(frames, places, rng), len(places) - 1
        count = said + 1 + MORE.get(name, 0)
        scaled = torch.from_numpy(alphas)[None] * (count / alphas.sum())
        peaks = cif_wo_hidden(scaled, 1.0 - 1e-4)
        _, times = ts_prediction_lfr6_standard(scaled.clone(), peaks, ["x"] * said)
        print(name, said, times)
        found |= {f"in/{name}": alphas, f"counts/{name}": np.int32(count), f"out/{name}": np.array(times, np.int32)}
    np.savez_compressed(pathlib.Path(__file__).parent / "more" / "timestamps.npz", **found)


if __name__ == "__main__":
    main()
