"""What a search returns."""

from typing import NamedTuple

from jaxasr.typing import Array, Float, Int


class NBest(NamedTuple):
    """The hypotheses of each utterance, the best first; where there are fewer than K the others score -inf."""

    tokens: Int[Array, "B K N"]
    """Ids without blank, sos and eos; -1 after the end."""
    lengths: Int[Array, "B K"]
    scores: Float[Array, "B K"]
    """As the search scored them, in nats, in falling order."""


class Hypotheses(NamedTuple):
    """What a search found, one row an utterance; what it cannot say of tokens is None."""

    tokens: Int[Array, "B N"]
    """Ids without blank, sos and eos; -1 after the end."""
    lengths: Int[Array, "B"]
    scores: Float[Array, "B"]
    """Log-probability of the hypothesis in nats, as the search scored it."""
    log_probs: Float[Array, "B N"] | None = None
    """Log-probability of each token in nats, at most 0; 0 after the end."""
    spans: Float[Array, "B N 2"] | None = None
    """Where each token begins and ends, in encoded frames from the start of the sound; zeros after the end.

    NaN in a row whose tokens CTC was asked to find and cannot (`ctc_align`)."""
    nbest: NBest | None = None
    """All that a beam kept in the end, this one first."""
