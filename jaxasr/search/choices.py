"""What a search is told: the choices that its program is compiled for, and the numbers that it takes as arguments."""

import dataclasses
from typing import Any, NamedTuple

from jaxasr.search.scorers import Weighted

EVERY = 2**31 - 1
"""As a number of tokens to go on with: all that there are."""


@dataclasses.dataclass(frozen=True)
class Search:
    """A search by its name, with the choices that change its program."""

    name: str
    beam: int = 10
    """Hypotheses kept at a time."""
    nbest: int = 1
    """Hypotheses returned, at most `beam`."""
    maxlenratio: float = 0.0
    """Most tokens for each encoded frame; 0 for as many as frames, ended by `end_detected`; below 0 that many tokens
    (as ESPnet)."""
    minlenratio: float = 0.0
    """Fewest tokens for each encoded frame; below 0 that many tokens."""
    token_beam: int = 0
    """Tokens that a beam goes on with: of a frame by CTC's scores, 0 for all; of a step by all but CTC's, 0 for 1.5
    times the beam (ESPnet's pre-beam)."""
    times: bool = False
    """Find where tokens are by CTC alignment, where the search does not know and the model has a CTC head."""

    @classmethod
    def named(cls, search: "Search | str") -> "Search":
        """The search itself, or one of this name."""
        return cls(search) if isinstance(search, str) else search


class Fusion(NamedTuple):
    """What counts beside the model's heads, and how much; arrays, so that other weights compile nothing."""

    ctc_weight: Any = 0.3
    """Share of CTC's score where a decoder scores as well."""
    length_bonus: Any = 0.0
    """Nats for every token (ESPnet's penalty)."""
    blank_skip: Any = 1.0
    """Probability of blank above which prefix beam search passes over a frame; 1 passes over none."""
    scorers: tuple[Weighted, ...] = ()


NO_FUSION = Fusion()
