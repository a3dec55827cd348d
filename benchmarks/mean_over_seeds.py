"""Word error rate of one recipe trained with several seeds: of each, and their mean with its interval.

  python benchmarks/mean_over_seeds.py CORPORA/an4/test exp/an4_0/test/ctc_greedy exp/an4_1/test/ctc_greedy ...

The interval is that of the mean of these very runs over test sets: utterances are drawn, each with its errors in all of
them.
"""

import dataclasses
from typing import Annotated

import numpy as np
import tyro

from jaxasr.errors import exit_with_message
from jaxasr.evaluate import read_texts
from jaxasr.scoring import ErrorCounts, bootstrap_interval, score


@dataclasses.dataclass(frozen=True)
class Options:
    """Prints the word error rate of each folder of hypotheses, and of all together."""

    reference: Annotated[str, tyro.conf.Positional]
    """Folder or file with the reference texts."""
    hypotheses: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders or files with what was recognised, one for each seed."""


def compare(options: Options) -> None:
    reference = read_texts(options.reference)
    scores = [score(reference, read_texts(path)) for path in options.hypotheses]
    for path, found in zip(options.hypotheses, scores, strict=True):
        low, high = found.wer_interval
        print(f"{100 * found.wer.rate:.2f} % ({100 * low:.2f} - {100 * high:.2f})  {path}")
    rates = [found.wer.rate for found in scores]
    per_utterance = zip(*([u.words for u in found.utterances] for found in scores), strict=True)
    low, high = bootstrap_interval([ErrorCounts(*np.sum(counts, axis=0).tolist()) for counts in per_utterance])
    spread = f", standard deviation {100 * np.std(rates, ddof=1):.2f}" if len(rates) > 1 else ""
    print(f"mean of {len(rates)}: {100 * np.mean(rates):.2f} % ({100 * low:.2f} - {100 * high:.2f}){spread}")


if __name__ == "__main__":
    exit_with_message(compare, tyro.cli(Options))
