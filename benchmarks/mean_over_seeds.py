"""Error rate of one recipe trained with several seeds: of each, and their mean with its interval.

  python benchmarks/mean_over_seeds.py CORPORA/an4/test exp/an4_0/test/ctc_greedy exp/an4_1/test/ctc_greedy ...

The interval is that of the mean of these very runs over test sets: utterances are drawn, each with its errors in all of
them.
"""

import dataclasses
from typing import Annotated, Literal

import numpy as np
import tyro

from jaxasr.errors import exit_with_message
from jaxasr.evaluate import read_texts
from jaxasr.scoring import ErrorCounts, bootstrap_interval, score


@dataclasses.dataclass(frozen=True)
class Options:
    """Prints the error rate of each folder of hypotheses, and of all together."""

    reference: Annotated[str, tyro.conf.Positional]
    """Folder or file with the reference texts."""
    hypotheses: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders or files with what was recognised, one for each seed."""
    unit: Literal["words", "characters"] = "words"
    """What errors are counted in."""


def compare(options: Options) -> None:
    reference = read_texts(options.reference)
    scores = [score(reference, read_texts(path)) for path in options.hypotheses]
    errors = [[getattr(utterance, options.unit) for utterance in found.utterances] for found in scores]
    rates = []
    for path, counts in zip(options.hypotheses, errors, strict=True):
        rates.append(ErrorCounts(*np.sum(counts, axis=0).tolist()).rate)
        low, high = bootstrap_interval(counts)
        print(f"{100 * rates[-1]:.2f} % ({100 * low:.2f} - {100 * high:.2f})  {path}")
    together = [ErrorCounts(*np.sum(counts, axis=0).tolist()) for counts in zip(*errors, strict=True)]
    low, high = bootstrap_interval(together)
    spread = f", standard deviation {100 * np.std(rates, ddof=1):.2f}" if len(rates) > 1 else ""
    print(f"mean of {len(rates)}: {100 * np.mean(rates):.2f} % ({100 * low:.2f} - {100 * high:.2f}){spread}")


if __name__ == "__main__":
    exit_with_message(compare, tyro.cli(Options))
