"""CTC prefix beam search (Hannun et al., 2014, https://arxiv.org/abs/1408.2873), a whole batch frame by frame.

The probability of a prefix is that of all paths that say it so far, in two parts: of those that end in a blank and of
those that end in its last token. A frame turns the K prefixes of an utterance into candidates: each as it is, and each
with one more token. A longer one that is in the beam already adds to what is there; the K best go on.

Which prefixes are equal follows, without comparing tokens, from how those of the beam begin with one another
(`_Beam.next`), which is kept up from frame to frame. Only where a prefix comes back that a longer one of the beam once
went through, the tree of all extensions is climbed for the token behind it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from jaxasr.nn.masking import length_mask
from jaxasr.search.choices import NO_FUSION, Fusion, Search
from jaxasr.search.hypotheses import Hypotheses, NBest
from jaxasr.search.scorers import State, Sum
from jaxasr.typing import Array, Bool, Float, Int

NEVER = -jnp.inf


class _Frame(NamedTuple):
    """One frame of each row; scores are relative to that of its best symbol."""

    blank: Float[Array, "B"]
    again: Float[Array, "B K"]
    """Of each prefix's last token."""
    gap: Bool[Array, "B"]
    """Whether frames before were passed over: a blank was there."""
    ids: Int[Array, "B C"]
    """Tokens that prefixes go on with."""
    scores: Float[Array, "B C"]


class _Beam(NamedTuple):
    """Different prefixes of each row, the best first; behind them some that nothing leads to."""

    blank: Float[Array, "B K"]
    """Log-probability of the paths that end in a blank."""
    token: Float[Array, "B K"]
    """Log-probability of the paths that end in the last token."""
    fused: Float[Array, "B K"]
    """What scorers and the length bonus add, which hangs on the prefix alone."""
    last: Int[Array, "B K"]
    """The last token; -1 of no tokens."""
    length: Int[Array, "B K"]
    node: Int[Array, "B K"]
    """The last token in the tree."""
    next: Int[Array, "B K K"]
    """The token that prefix j has behind prefix i; -1 where j does not begin with i, and for i itself."""
    child: Int[Array, "B K K"]
    """The same where j has that one token more than i, -1 elsewhere."""
    state: State
    """Of the scorers, B * K rows."""


class _Tree(NamedTuple):
    """All extensions that were ever among the best, K a frame."""

    parent: Int[Array, "B T*K"]
    token: Int[Array, "B T*K"]


class _Candidates(NamedTuple):
    """Of each prefix: first itself, then with one more token."""

    keys: Float[Array, "B K C"]
    """What they are chosen by."""
    scores: Float[Array, "B K C"]
    """Log-probability of the paths that end in the last token."""
    fused: Float[Array, "B K C"]
    ids: Int[Array, "B K C"]
    """The last token."""


_Frames: TypeAlias = Callable[[Any, Int[Array, "B K"]], _Frame]
"""From a frame's number and the last tokens of the prefixes."""


def ctc_beam(
    logits: Float[Array, "B T V"],
    lengths: Int[Array, "B"],
    search: Search,
    fusion: Fusion = NO_FUSION,
    *,
    blank_id: int = 0,
    eos: int = 2,
    left_out: tuple[int, ...] = (),
) -> Hypotheses:
    """The likeliest tokens, the paths that say them added up, and what is fused with that.

    The score is ``log P(tokens) + length_bonus * len(tokens) + scorers(tokens, eos)``, of paths that the beam kept.
    Where blank is likelier than `blank_skip` a frame is passed over: it is a blank, with its probability. With
    `token_beam` a prefix goes on with a frame's that many best tokens, or with its own last one; without, with any.

    Args:
      eos: what scorers know the end by.
      left_out: tokens that are never said, such as sos and eos.

    >>> logits = jnp.array([[[9.0, 0.0], [0.0, 9.0], [9.0, 0.0]]])
    >>> found = jax.jit(ctc_beam, static_argnums=2)(logits, jnp.array([3]), Search("ctc_beam", beam=2))
    >>> found.tokens.tolist()
    [[1, -1, -1]]
    """
    rows, T, V = logits.shape
    K, scorer = search.beam, Sum(fusion.scorers)
    most = search.token_beam or V
    if not fusion.scorers:
        most = min(most, K + 1)  # tokens rank alike after every prefix, but for its own last one
    frames, count, certain = _frames(logits, lengths, most, (blank_id, *left_out), fusion.blank_skip)

    def step(n: Any, beam: _Beam, tree: _Tree) -> tuple[Any, _Beam, _Tree]:
        frame = frames(n, beam.last)
        total, gap = jnp.logaddexp(beam.blank, beam.token), frame.gap[:, None]
        beam = beam._replace(blank=jnp.where(gap, total, beam.blank), token=jnp.where(gap, NEVER, beam.token))
        candidates = _candidates(beam, total, frame, scorer, fusion.length_bonus)
        return n + 1, *_advanced(n, beam, tree, candidates, total + frame.blank[:, None], scorer)

    tree = _Tree(*(jnp.zeros((rows, T * K), jnp.int32) for _ in _Tree._fields))
    start = jnp.zeros((), jnp.int32), _start(rows, K, T, scorer), tree
    _, beam, tree = lax.while_loop(lambda s: s[0] < count, lambda s: step(*s), start)
    ends = scorer.score(beam.state, jnp.full((rows * K, 1), eos, jnp.int32)).reshape(rows, K)
    scores = jnp.logaddexp(beam.blank, beam.token) + beam.fused + ends
    nbest = _nbest(scores, beam, tree, search.nbest, T)
    nbest = nbest._replace(scores=nbest.scores + certain[:, None])
    return Hypotheses(nbest.tokens[:, 0], nbest.lengths[:, 0], nbest.scores[:, 0], nbest=nbest)


def _frames(
    logits: Float[Array, "B T V"], lengths: Int[Array, "B"], most: int, silent: tuple[int, ...], blank_skip: Any
) -> tuple[_Frames, Int[Array, ""], Float[Array, "B"]]:
    """The frames that are not passed over, how many the longest row has, and what all of its prefixes share.

    A row's frames come first; those behind are blanks, with probability 1.
    """
    V = logits.shape[2]
    mask = length_mask(lengths, logits.shape[1])
    peak = jnp.max(logits, axis=2).astype(jnp.float32)
    log_sum = jnp.log(jnp.sum(jnp.exp(logits.astype(jnp.float32) - peak[:, :, None]), axis=2))
    blank = logits[:, :, silent[0]].astype(jnp.float32) - peak
    passed = mask & (jnp.exp(blank - log_sum) > blank_skip)
    certain = jnp.sum(jnp.where(mask, jnp.where(passed, blank, 0.0) - log_sum, 0.0), axis=1)
    order = jnp.argsort(passed | ~mask, axis=1, stable=True)
    counts = jnp.sum(mask & ~passed, axis=1)
    gaps = jnp.pad(passed, ((0, 0), (1, 0)))[:, :-1]
    said = ~jnp.isin(jnp.arange(V), jnp.asarray(silent))[None]

    def frame(n: Any, last: Int[Array, "B K"]) -> _Frame:
        place = lax.dynamic_slice_in_dim(order, n, 1, axis=1)  # (B, 1)
        real = (n < counts)[:, None]
        its = jnp.take_along_axis(logits, place[:, :, None], axis=1)[:, 0].astype(jnp.float32)
        its = jnp.where(real, its - jnp.take_along_axis(peak, place, axis=1), NEVER)
        again = jnp.where(last >= 0, jnp.take_along_axis(its, jnp.maximum(last, 0), axis=1), NEVER)
        blank = jnp.where(real[:, 0], its[:, silent[0]], 0.0)
        gap = real[:, 0] & jnp.take_along_axis(gaps, place, axis=1)[:, 0]
        its = jnp.where(said, its, NEVER)
        ids = jnp.broadcast_to(jnp.arange(V)[None], its.shape)
        scores, ids = lax.top_k(its, most) if most < V else (its, ids)
        return _Frame(blank, again, gap, ids, scores)

    return frame, jnp.max(counts), certain


def _start(rows: int, K: int, T: int, scorer: Sum) -> _Beam:
    """Of each row the empty prefix alone."""
    none, pairs = jnp.full((rows, K), -1, jnp.int32), jnp.full((rows, K, K), -1, jnp.int32)
    never = jnp.full((rows, K), NEVER)
    certain = jnp.where(jnp.arange(K)[None] == 0, 0.0, never)
    return _Beam(
        certain, never, jnp.zeros((rows, K)), none, none + 1, none + 1, pairs, pairs, scorer.start(rows * K, T)
    )


def _candidates(beam: _Beam, total: Float[Array, "B K"], frame: _Frame, scorer: Sum, length_bonus: Any) -> _Candidates:
    """What a frame makes of the prefixes; those that are in the beam as they are cannot be chosen once more."""
    K, last = total.shape[1], beam.last[:, :, None]
    ids, new = _extensions(beam, total, frame)
    fused = scorer.score(beam.state, ids.reshape(-1, ids.shape[2])).reshape(ids.shape)
    fused = fused + beam.fused[:, :, None] + length_bonus
    if ids.shape[2] > 2 * K + 1:  # the K best of each prefix suffice; of those known, the prefix in the beam is better
        _, best = lax.top_k(new + fused, K)
        ids, new, fused = (jnp.take_along_axis(x, best, axis=2) for x in (ids, new, fused))
    known = jnp.any(beam.child[:, :, None, :] == ids[:, :, :, None], axis=3)
    before = jnp.where(last == beam.last[:, None, :], beam.blank[:, :, None], total[:, :, None])
    joining = jnp.max(jnp.where(beam.child >= 0, before, NEVER), axis=1)  # at most one is the parent
    token = jnp.logaddexp(beam.token, joining) + frame.again
    both = jnp.logaddexp(token, total + frame.blank[:, None])

    def with_itself(itself: Any, longer: Any) -> Any:
        return jnp.concatenate([itself[:, :, None], longer], axis=2)

    return _Candidates(
        with_itself(both + beam.fused, jnp.where(known, NEVER, new + fused)),
        with_itself(token, new),
        with_itself(beam.fused, fused),
        with_itself(beam.last, ids),
    )


def _extensions(
    beam: _Beam, total: Float[Array, "B K"], frame: _Frame
) -> tuple[Int[jax.Array, "B K C+1"], Float[jax.Array, "B K C+1"]]:
    """Each prefix's next tokens, its own last one behind the others, and the log-probabilities of ending so.

    Only a blank comes between two equal tokens.
    """
    last = beam.last[:, :, None]
    ids = jnp.broadcast_to(frame.ids[:, None], (*last.shape[:2], frame.ids.shape[1]))
    scores = jnp.where(ids == last, NEVER, total[:, :, None] + frame.scores[:, None])
    twice = (beam.blank + frame.again)[:, :, None]
    return jnp.concatenate([ids, jnp.maximum(last, 0)], axis=2), jnp.concatenate([scores, twice], axis=2)


def _advanced(
    n: Any, beam: _Beam, tree: _Tree, candidates: _Candidates, blank: Float[Array, "B K"], scorer: Sum
) -> tuple[_Beam, _Tree]:
    """The K best candidates, and the tree with them."""
    rows, K, C = candidates.keys.shape
    keys, pick = lax.top_k(candidates.keys.reshape(rows, K * C), K)
    origin, longer = (jnp.arange(K * C) // C)[pick], (jnp.arange(K * C) % C > 0)[pick]

    def taken(x: Any, index: Any) -> jax.Array:
        return jnp.take_along_axis(x.reshape(rows, -1), index, axis=1)

    last, node, length = taken(candidates.ids, pick), taken(beam.node, origin), taken(beam.length, origin)
    tree = _Tree(
        *(lax.dynamic_update_slice_in_dim(x, y, n * K, axis=1) for x, y in zip(tree, (node, last), strict=True))
    )
    goes_on = _goes_on(beam.next, tree, origin, longer, last, node, length)
    alive = keys > NEVER
    goes_on = jnp.where(alive[:, :, None] & alive[:, None, :], goes_on, -1)
    length = length + longer
    chosen = (jnp.arange(rows)[:, None] * K + origin).reshape(-1)
    state = scorer.take(beam.state, chosen)
    advanced = scorer.advance(state, jnp.maximum(last, 0).reshape(-1))
    return _Beam(
        blank=jnp.where(longer, NEVER, taken(blank, origin)),
        token=jnp.where(alive, taken(candidates.scores, pick), NEVER),
        fused=taken(candidates.fused, pick),
        last=last,
        length=length,
        node=jnp.where(longer, n * K + jnp.arange(K)[None], node),
        next=goes_on,
        child=jnp.where(length[:, None, :] == length[:, :, None] + 1, goes_on, -1),
        state=scorer.where(longer.reshape(-1), advanced, state),
    ), tree


def _goes_on(
    old: Int[Array, "B K K"],
    tree: _Tree,
    origin: Int[Array, "B K"],
    longer: Bool[Array, "B K"],
    last: Int[Array, "B K"],
    node: Int[Array, "B K"],
    length: Int[Array, "B K"],
) -> Int[jax.Array, "B K K"]:
    """`_Beam.next` of candidates.

    Args:
      old: of the beam that they come from.
      node: of the prefix that each comes from, as is its length.
    """
    rows, K = origin.shape
    pairs = (origin[:, :, None] * K + origin[:, None, :]).reshape(rows, K * K)
    old = jnp.take_along_axis(old.reshape(rows, K * K), pairs, axis=1).reshape(rows, K, K)
    own = longer[:, None, :] & (origin[:, :, None] == origin[:, None, :])
    as_it_is = jnp.where(own, last[:, None, :], old)
    back = longer[:, :, None] & (old == last[:, :, None])  # the longer one is on the way to j
    steps = jnp.where(back, length[:, None, :] - length[:, :, None] - 2, 0)
    behind = _climbed(tree, jnp.broadcast_to(node[:, None, :], old.shape).reshape(rows, -1), steps.reshape(rows, -1))
    return jnp.where(longer[:, :, None], jnp.where(back, behind.reshape(old.shape), -1), as_it_is)


def _climbed(tree: _Tree, node: Int[Array, "B N"], steps: Int[Array, "B N"]) -> Int[jax.Array, "B N"]:
    """The token so many steps above each node."""

    def up(carry: Any) -> Any:
        node, steps = carry
        return jnp.where(steps > 0, jnp.take_along_axis(tree.parent, node, axis=1), node), steps - 1

    node, _ = lax.while_loop(lambda carry: jnp.any(carry[1] > 0), up, (node, steps))
    return jnp.take_along_axis(tree.token, node, axis=1)


def _nbest(scores: Float[Array, "B K"], beam: _Beam, tree: _Tree, nbest: int, T: int) -> NBest:
    """The best prefixes; their tokens stand in the tree from the last one up."""
    scores, pick = lax.top_k(scores, nbest)
    node, lengths = (jnp.take_along_axis(x, pick, axis=1) for x in (beam.node, beam.length))
    lengths = jnp.where(scores > NEVER, lengths, 0)

    def up(carry: Any) -> Any:
        n, node, tokens = carry
        token = jnp.take_along_axis(tree.token, node, axis=1)
        tokens = lax.dynamic_update_slice_in_dim(tokens, token[:, :, None], n, axis=2)
        return n + 1, jnp.take_along_axis(tree.parent, node, axis=1), tokens

    start = jnp.zeros((), jnp.int32), node, jnp.zeros((*node.shape, T), jnp.int32)
    _, _, reversed_ = lax.while_loop(lambda carry: carry[0] < jnp.max(lengths), up, start)
    place = lengths[:, :, None] - 1 - jnp.arange(T)[None, None]
    tokens = jnp.take_along_axis(reversed_, jnp.maximum(place, 0), axis=2)
    return NBest(jnp.where(place >= 0, tokens, -1), lengths, scores)
