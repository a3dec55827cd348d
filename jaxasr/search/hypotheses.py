"""What a search returns."""

from typing import NamedTuple

from jaxasr.typing import Array, Float, Int


class Hypotheses(NamedTuple):
    """What a search found, one row an utterance."""

    tokens: Int[Array, "B N"]
    """Ids without blank, sos and eos; -1 after the end."""
    lengths: Int[Array, "B"]
    scores: Float[Array, "B"]
    """Log-probability of the hypothesis in nats, as the search scored it."""
