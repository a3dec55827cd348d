"""Beam search by decoder, CTC and language models at once (Watanabe et al., 2017, section III-C and algorithm 1).

https://doi.org/10.1109/JSTSP.2017.2763455. The one-pass scoring of ESPnet's and FunASR's `BeamSearch`, for all
utterances of a batch and all their hypotheses in one loop over tokens.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxasr.search.choices import Fusion, Search
from jaxasr.search.ctc_prefix import LOG_ZERO, Emissions, Prefixes, extended, no_tokens, prefix_scores
from jaxasr.search.hypotheses import Hypotheses, NBest
from jaxasr.search.scorers import State, Sum
from jaxasr.typing import Array, Bool, Float, Int, PyTree

END_MARGIN = -10.0
"""Nats by which what ends is worse than the best when the search is over; ESPnet's D_end."""
END_STEPS = 3
"""Steps in a row at which it must be; ESPnet's M."""
END_DELAY = 2
"""Steps that ESPnet waits before it looks at what has ended."""
PRE_BEAM = 1.5
"""Tokens that go on from a hypothesis, for each hypothesis of the beam; ESPnet's `pre_beam_ratio`."""


class Speaker(NamedTuple):
    """A decoder that has read sos, for one hypothesis an utterance."""

    first: Float[Array, "B V"]
    """Logits of the first token."""
    cache: PyTree
    """What it remembers of the tokens, each array with the rows at axis 1."""
    say: Callable[[Int[Array, "B U"], Any, Any], tuple[Float[Array, "B U V"], Any]]
    """(tokens, cache, position of the first of them) to (logits of the token after each, cache)."""
    weight: Any
    """What its log-probabilities are multiplied by."""


class Limits(NamedTuple):
    """Tokens that a hypothesis of each row may have."""

    most: Int[Array, "B"]
    least: Int[Array, "B"]
    room: int
    """The most of all rows."""


def limits(search: Search, lengths: Int[Array, "B"], frames: int) -> Limits:
    """ESPnet's: a ratio of a row's own encoded frames, or below 0 a number.

    >>> search, lengths = Search("joint", maxlenratio=0.5), jnp.array([4, 10])
    >>> jax.jit(limits, static_argnums=(0, 2))(search, lengths, 10).most.tolist()
    [2, 5]
    """

    def least_of(length: int) -> int:
        return int(search.minlenratio * length) if search.minlenratio >= 0.0 else -int(search.minlenratio)

    def most_of(length: int) -> int:
        if search.maxlenratio == 0.0:
            return length
        return max(1, int(search.maxlenratio * length)) if search.maxlenratio > 0.0 else -int(search.maxlenratio)

    # looked up: in float32 a product may fall short of the whole number that Python gets
    most = np.array([0, *(most_of(n) for n in range(1, frames + 1))], np.int32)
    least = np.array([min(least_of(n), int(most[n])) for n in range(frames + 1)], np.int32)
    return Limits(jnp.asarray(most)[lengths], jnp.asarray(least)[lengths], max(1, int(most.max())))


def joint(
    speaker: Speaker,
    emitted: Emissions | None,
    bounds: Limits,
    search: Search,
    fusion: Fusion,
    *,
    eos: int,
    forbidden: tuple[int, ...] = (),
) -> Hypotheses:
    """The best hypotheses by the weighted sum of what all say of them.

    A hypothesis of as many tokens as it may have ends without eos, which is not scored then; `length_bonus` counts eos
    where it is. An utterance of which nothing has ended, since CTC cannot align that many tokens, gets the hypotheses
    that were left. The log-probabilities of tokens are those of the decoder.

    Args:
      emitted: what CTC says of the frames; None does without.
      forbidden: tokens that are never said.
    """
    run = _Joint(speaker, emitted, bounds, search, fusion, eos, forbidden)
    state = lax.while_loop(lambda s: (s.position < bounds.room) & ~jnp.all(s.done), run.step, run.start())
    return run.found(state)


class Running(NamedTuple):
    """The beam of each utterance; a hypothesis that scores -inf is none."""

    tokens: Int[Array, "B K N"]
    log_probs: Float[Array, "B K N"]
    scores: Float[Array, "B K"]
    others: Float[Array, "B K"]
    """What of the scores is not CTC's."""
    by_ctc: Float[Array, "B K"]


class Reach(NamedTuple):
    """What hypotheses are gone on from."""

    logits: Float[Array, "B K V"]
    cache: PyTree
    """Hypotheses at axis 1, utterances at axis 2."""
    prefixes: Prefixes | None
    judges: State


class Ended(NamedTuple):
    """The best that have ended, in falling order."""

    tokens: Int[Array, "B P N"]
    log_probs: Float[Array, "B P N"]
    scores: Float[Array, "B P"]
    by_step: Float[Array, "B S"]
    """The best that ended at each step, of which the first stands behind as many as the end is looked for in."""


class Steps(NamedTuple):
    """Where the loop stands: what runs, how far it has read, and what ended; `done` rows need no more."""

    position: Int[Array, ""]
    done: Bool[Array, "B"]
    running: Running
    reach: Reach
    ended: Ended


class Next(NamedTuple):
    """Tokens that may come next."""

    tokens: Int[Array, "B K C"]
    log_probs: Float[Array, "B K C"]
    others: Float[Array, "B K C"]
    by_ctc: Float[Array, "B K C"]
    scores: Float[Array, "B K C"]


@dataclasses.dataclass(frozen=True)
class _Joint:
    speaker: Speaker
    emitted: Emissions | None
    bounds: Limits
    search: Search
    fusion: Fusion
    eos: int
    forbidden: tuple[int, ...]

    @property
    def judges(self) -> Sum:
        return Sum(self.fusion.scorers)

    @property
    def shape(self) -> tuple[int, int]:
        return self.speaker.first.shape[0], self.search.beam

    def start(self) -> Steps:
        (B, K), N = self.shape, self.bounds.room
        zeros = jnp.zeros((B, K), jnp.float32)
        one = jnp.where(jnp.arange(K)[None] == 0, zeros, -jnp.inf)
        nothing, silence = jnp.full((B, K, N), -1, jnp.int32), jnp.zeros((B, K, N), jnp.float32)
        reach = Reach(
            jnp.repeat(self.speaker.first[:, None], K, axis=1),
            jax.tree.map(lambda x: jnp.repeat(x[:, None], K, axis=1), self.speaker.cache),
            None if self.emitted is None else no_tokens(self.emitted, K),
            self.judges.start(B * K, N),
        )
        P = self.search.nbest
        by_step = jnp.full((B, END_DELAY + END_STEPS - 1 + N), -jnp.inf)
        ended = Ended(nothing[:, :P], silence[:, :P], jnp.full((B, P), -jnp.inf), by_step)
        running = Running(nothing, silence, one, one, zeros)
        return Steps(jnp.zeros((), jnp.int32), self.bounds.most <= 0, running, reach, ended)

    def step(self, state: Steps) -> Steps:
        """One more token."""
        position, running = state.position, state.running
        after = self._next(running, state.reach, position)
        scores, place = lax.top_k(after.scores.reshape(*self.shape[:1], -1), self.search.beam)
        parents = place // after.tokens.shape[2]
        last, log_probs, others, by_ctc = (
            jnp.take_along_axis(x.reshape(*self.shape[:1], -1), place, axis=1) for x in after[:4]
        )
        reach = self._gone_on(state.reach, parents, last, position)
        stops, full = last == self.eos, (position + 1 >= self.bounds.most)[:, None]
        cut_off = jnp.broadcast_to(self.judges.cut_off(reach.judges), scores.size).reshape(scores.shape)
        scores = scores + jnp.where(full & ~stops, cut_off, 0.0)
        chosen = Running(
            _written(running.tokens, parents, jnp.where(stops, -1, last), position),
            _written(running.log_probs, parents, jnp.where(stops, 0.0, log_probs), position),
            scores,
            others,
            by_ctc,
        )
        goes_on = ~state.done & (scores[:, 0] > -jnp.inf)
        stops = stops | full
        ended = self._with_ended(state.ended, chosen, stops & goes_on[:, None], position)
        chosen = chosen._replace(scores=jnp.where(stops, -jnp.inf, scores), others=jnp.where(stops, -jnp.inf, others))
        over = jnp.all(chosen.scores == -jnp.inf, axis=1) | self._over(ended, position)
        kept = jax.tree.map(lambda new, old: jnp.where(_like(goes_on, new), new, old), chosen, running)
        return Steps(position + 1, ~goes_on | over, kept, reach, ended)

    def _next(self, running: Running, reach: Reach, position: Int[Array, ""]) -> Next:
        """Those that the full scores prefer, and what they come to with CTC."""
        log_probs = jax.nn.log_softmax(reach.logits.astype(jnp.float32))
        B, K, V = log_probs.shape
        every = jnp.arange(V, dtype=jnp.int32)
        judged = self.judges.score(reach.judges, jnp.broadcast_to(every[None], (B * K, V))).reshape(B, K, V)
        others = self.speaker.weight * log_probs + self.fusion.length_bonus + judged
        tokens = jnp.broadcast_to(every[None, None], (B, K, V))
        enough = max(int(PRE_BEAM * K), K + len(self.forbidden))
        if (wanted := self.search.token_beam or enough) < V:
            # one that a decoder without a weight says nothing of is no better than another
            _, tokens = lax.top_k(jnp.where(self.speaker.weight == 0.0, others + log_probs, others), wanted)
            log_probs, others = (jnp.take_along_axis(x, tokens, axis=2) for x in (log_probs, others))
        early = (tokens == self.eos) & (position < self.bounds.least)[:, None, None]
        unsaid = early | jnp.isin(tokens, np.array(self.forbidden, np.int32))
        others = jnp.where(unsaid, -jnp.inf, others)
        others = running.others[:, :, None] + others
        if reach.prefixes is None or self.emitted is None:
            return Next(tokens, log_probs, others, jnp.zeros_like(others), others)
        by_ctc, weight = prefix_scores(reach.prefixes, self.emitted, tokens, eos=self.eos), self.fusion.ctc_weight
        possible = (by_ctc > LOG_ZERO / 2) | (jnp.asarray(weight) == 0.0)
        return Next(tokens, log_probs, others, by_ctc, jnp.where(possible, others + weight * by_ctc, -jnp.inf))

    def _gone_on(self, reach: Reach, parents: Array, last: Array, position: Int[Array, ""]) -> Reach:
        """After these tokens of the hypotheses picked."""
        cache = jax.tree.map(lambda x: _picked(x, parents), reach.cache)
        say = jax.vmap(lambda of, its: self.speaker.say(of[:, None], its, position + 1), in_axes=1, out_axes=1)
        logits, cache = say(last, cache)
        prefixes = None
        if reach.prefixes is not None and self.emitted is not None:
            prefixes = extended(reach.prefixes, self.emitted, parents, last)
        B, K = self.shape
        rows = (jnp.arange(B)[:, None] * K + parents).reshape(-1)
        said = jnp.where(last == self.eos, 0, last).reshape(-1)
        judges = self.judges.advance(self.judges.take(reach.judges, rows), said)
        return Reach(logits[:, :, 0], cache, prefixes, judges)

    def _with_ended(self, ended: Ended, chosen: Running, stops: Bool[Array, "B K"], position: Int[Array, ""]) -> Ended:
        scores = jnp.where(stops, chosen.scores, -jnp.inf)
        both = jnp.concatenate([ended.scores, scores], axis=1)
        best, place = lax.top_k(both, ended.scores.shape[1])
        tokens, log_probs = (
            jnp.take_along_axis(jnp.concatenate(pair, axis=1), place[:, :, None], axis=1)
            for pair in ((ended.tokens, chosen.tokens), (ended.log_probs, chosen.log_probs))
        )
        of_step = jnp.max(scores, axis=1, keepdims=True)
        at = position + ended.by_step.shape[1] - self.bounds.room
        return Ended(tokens, log_probs, best, lax.dynamic_update_slice_in_dim(ended.by_step, of_step, at, axis=1))

    def _over(self, ended: Ended, position: Int[Array, ""]) -> Bool[Array, "B"]:
        """Whether at each of the last steps something ended that is far worse than the best (equation 50)."""
        if self.search.maxlenratio != 0.0:
            return jnp.zeros(self.shape[0], bool)
        last = lax.dynamic_slice_in_dim(ended.by_step, position, END_STEPS, axis=1)
        return jnp.all((last > -jnp.inf) & (last - ended.scores[:, :1] < END_MARGIN), axis=1)

    def found(self, state: Steps) -> Hypotheses:
        running, ended = state.running, state.ended
        left, place = lax.top_k(running.scores, self.search.nbest)
        nothing = ended.scores[:, 0] == -jnp.inf
        scores = jnp.where(nothing[:, None], left, ended.scores)
        tokens, log_probs = (
            jnp.where(_like(nothing, x), jnp.take_along_axis(y, place[:, :, None], axis=1), x)
            for x, y in ((ended.tokens, running.tokens), (ended.log_probs, running.log_probs))
        )
        lengths = jnp.sum(tokens >= 0, axis=2, dtype=jnp.int32)
        return best_of(NBest(tokens, lengths, scores), log_probs)


def best_of(nbest: NBest, log_probs: Float[Array, "B K N"]) -> Hypotheses:
    """The first of each row, with all of them behind it."""
    return Hypotheses(
        nbest.tokens[:, 0], nbest.lengths[:, 0], nbest.scores[:, 0], log_probs[:, 0], spans=None, nbest=nbest
    )


def _picked(x: Array, parents: Int[Array, "B K"]) -> Array:
    """Of (L, K, B, ...), the hypotheses of each row."""
    return jax.vmap(lambda of_row, ids: of_row[:, ids], in_axes=(2, 0), out_axes=2)(x, parents)


def _written(x: Array, parents: Int[Array, "B K"], new: Array, position: Int[Array, ""]) -> Array:
    """Of (B, K, N), the rows picked with something new at a position."""
    x = jnp.take_along_axis(x, parents[:, :, None], axis=1)
    return lax.dynamic_update_slice_in_dim(x, new[:, :, None].astype(x.dtype), position, axis=2)


def _like(rows: Bool[Array, "B"], x: Array) -> Array:
    return rows.reshape(-1, *(1,) * (x.ndim - 1))
