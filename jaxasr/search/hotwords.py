"""Words that a search is told to expect: their tokens count a bonus (Aho and Corasick, 1975, for many at once)."""

import dataclasses
import os
from collections.abc import Callable, Sequence

import flax.struct
import jax.numpy as jnp
import numpy as np

from jaxasr.data import textfile
from jaxasr.data.textfile import NUMBER, few, show
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.errors import DataError
from jaxasr.search.edges import Edges
from jaxasr.search.scorers import Scorer
from jaxasr.typing import Array, Float, Int

OPEN, CLOSED = 0, 1
"""States outside of all phrases: where a word may begin, and within a word."""
LONGEST, HEAVIEST = 100, 1e6
"""Most tokens of a phrase, whose automaton grows with their square, and most that it may weigh."""


@flax.struct.dataclass
class HotWords(Scorer):
    """A bonus for every token of a phrase, taken back where the phrase breaks off or the hypothesis ends in it.

    A state is the longest end of a hypothesis that some phrase begins with, and that begins where a word does. Once a
    phrase is said whole, its bonus stays: when the word has ended, which only the next token may tell. In a phrase
    within another each token counts once, by the larger weight; where two overlap otherwise both count.
    """

    edges: Edges
    """To states of two tokens and more."""
    nexts: Int[Array, "E"]
    firsts: Int[Array, "V"]
    """The state after a token with which a word begins, by no edge."""
    outside: Int[Array, "V"]
    """OPEN or CLOSED: whether a word has ended with the token."""
    begins: Float[Array, "V"]
    """1 where a word begins with the token, or the hypothesis ends, whatever stands before; else 0."""
    open: Int[Array, "S"]
    """Whether a word has ended with a state's last token."""
    enter: Float[Array, "S"]
    """What a state adds: bonuses that stay, and those that may be taken back."""
    leave: Float[Array, "S"]
    """What may be taken back."""
    confirm: Float[Array, "S"]
    """Of that what stays if a word begins with the next token."""

    def start(self, rows: int, max_tokens: int) -> Int[Array, "R"]:
        return jnp.full((rows,), OPEN, jnp.int32)

    def score(self, state: Int[Array, "R"], tokens: Int[Array, "R C"]) -> Float[Array, "R C"]:
        state = jnp.broadcast_to(state[:, None], tokens.shape)
        after = self.advance(state, tokens)
        return self.confirm[state] * self.begins[tokens] + self.enter[after] - self.leave[state]

    def cut_off(self, state: Int[Array, "R"]) -> Float[Array, "R"]:
        return self.confirm[state] - self.leave[state]

    def advance(self, state: Int[Array, "*R"], tokens: Int[Array, "*R"]) -> Int[Array, "*R"]:
        edge = self.edges.find(state, tokens)
        may_begin = (self.open[state] > 0) | (self.begins[tokens] > 0.0)
        default = jnp.where(may_begin, self.firsts[tokens], self.outside[tokens])
        return jnp.where(edge >= 0, self.nexts[edge], default)


def read_hotwords(
    path: str | os.PathLike[str],
    vocabulary: Vocabulary,
    split: Callable[[str], Sequence[str]],
    bounds: tuple[Sequence[bool], Sequence[bool]],
) -> HotWords:
    """The phrases of a file, one a line, and a weight other than 1 behind a tab.

    Args:
      split: a text's tokens.
      bounds: for each token whether a word begins with it, or ends with it, whatever stands beside it.

    Raises:
      DataError: the file cannot be read, or a phrase cannot be said with the vocabulary; with the line.
    """
    phrases: dict[tuple[int, ...], float] = {}
    for number, line in enumerate(textfile.lines(path), 1):
        where = f"{path}:{number}"
        phrase, tab, weight = line.partition("\t")
        if tab and not (NUMBER.fullmatch(weight.strip()) and 0.0 < float(weight.strip()) <= HEAVIEST):
            raise DataError(
                f"{where}: weight {show(weight)} of {show(phrase)}; a number above 0, up to {HEAVIEST:g}, behind "
                "a tab was expected; correct it, or remove the tab."
            )
        tokens = split(phrase.strip())
        if unknown := vocabulary.unknown(tokens):
            raise DataError(
                f"{where}: {show(phrase)} has {few(unknown)}, for which the model has no token; a phrase of its tokens "
                "was expected; spell it as the training text does, or remove it."
            )
        if not tokens:
            raise DataError(
                f"{where}: nothing is left of {show(phrase)} when it is cleaned as the training text; a phrase was "
                "expected; correct or remove it."
            )
        if len(tokens) > LONGEST:
            raise DataError(
                f"{where}: {show(phrase)} has {len(tokens)} tokens; at most {LONGEST} were expected of a phrase, for "
                "whose parts all there are bonuses; shorten or remove it."
            )
        ids = tuple(vocabulary.encode(tokens).tolist())
        phrases[ids] = max(phrases.get(ids, 0.0), float(weight.strip()) if tab else 1.0)
    return automaton(phrases, *map(np.array, bounds), eos=vocabulary.EOS)


# The automaton -----------------------------------------------------------------------------------------------


@dataclasses.dataclass
class _Node:
    """A beginning of a phrase."""

    token: int
    parent: int
    depth: int
    weight: float = 0.0
    """Of the phrase, where it is a whole one."""
    through: float = 0.0
    """The largest of the phrases that begin so."""
    fail: int = OPEN
    covered: list[float] = dataclasses.field(default_factory=list)
    """The weight of each token by the phrases in it that end before the last token."""
    ended: list[float] = dataclasses.field(default_factory=list)
    """The same with those that end with the last token."""


def automaton(phrases: dict[tuple[int, ...], float], begins: np.ndarray, ends: np.ndarray, *, eos: int) -> HotWords:
    """The scorer of phrases and their weights.

    Args:
      begins, ends: bool (V,), for each token whether a word begins with it, or ends with it, whatever stands beside it.
      eos: the token that ends a hypothesis, and with it a word.

    >>> anywhere = np.ones(8, bool)
    >>> automaton({(5, 6): 2.0}, anywhere, anywhere, eos=2).enter.tolist()
    [0.0, 0.0, 2.0, 4.0]
    """
    begins = begins.copy()
    begins[eos] = True
    nodes, children = _trie(phrases)
    edges = _linked(nodes, children, begins, ends)
    firsts = np.where(ends, OPEN, CLOSED)
    firsts[[token for parent, token in children if parent == OPEN]] = [
        node for (parent, _), node in children.items() if parent == OPEN
    ]
    pairs = sorted((state, token, after) for state, of in enumerate(edges) for token, after in of.items())
    states, tokens, nexts = np.array(pairs or [(0, -1, 0)], np.int64).T
    stays, may_go, confirm = np.array([_bonuses(node, ends) for node in nodes]).T
    last = np.array([True, False, *(ends[node.token] for node in nodes[2:])])
    return HotWords(
        edges=Edges.of(states, tokens, len(nodes)),
        nexts=jnp.asarray(nexts, jnp.int32),
        firsts=jnp.asarray(firsts, jnp.int32),
        outside=jnp.asarray(np.where(ends, OPEN, CLOSED), jnp.int32),
        begins=jnp.asarray(begins, jnp.float32),
        open=jnp.asarray(last, jnp.int32),
        enter=jnp.asarray(stays + may_go, jnp.float32),
        leave=jnp.asarray(may_go, jnp.float32),
        confirm=jnp.asarray(confirm, jnp.float32),
    )


def _trie(phrases: dict[tuple[int, ...], float]) -> tuple[list[_Node], dict[tuple[int, int], int]]:
    """The nodes behind OPEN and CLOSED, shorter ones first, and (node, token) to the node that follows."""
    nodes = [_Node(-1, -1, 0), _Node(-1, -1, 0)]
    children: dict[tuple[int, int], int] = {}
    starts: dict[tuple[int, ...], float] = {}
    for phrase, weight in phrases.items():
        for length in range(1, len(phrase) + 1):
            starts[phrase[:length]] = max(starts.get(phrase[:length], 0.0), weight)
    numbers: dict[tuple[int, ...], int] = {(): OPEN}
    for start in sorted(starts, key=lambda start: (len(start), start)):
        parent = numbers[start[:-1]]
        numbers[start] = children[parent, start[-1]] = len(nodes)
        nodes.append(_Node(start[-1], parent, len(start), phrases.get(start, 0.0), starts[start]))
    return nodes, children


def _linked(
    nodes: list[_Node], children: dict[tuple[int, int], int], begins: np.ndarray, ends: np.ndarray
) -> list[dict[int, int]]:
    """The edges of each state to states of two tokens and more; fills in `fail`, `covered` and `ended`."""
    edges: list[dict[int, int]] = [{} for _ in nodes]
    of: list[dict[int, int]] = [{} for _ in nodes]
    for (parent, token), node in children.items():
        of[parent][token] = node

    def after(state: int, token: int) -> int:
        if token in edges[state]:
            return edges[state][token]
        is_open = state == OPEN or (state != CLOSED and ends[nodes[state].token])
        outside = OPEN if ends[token] else CLOSED
        return of[OPEN].get(token, outside) if is_open or begins[token] else outside

    for number, node in enumerate(nodes[2:], 2):
        outside = OPEN if ends[node.token] else CLOSED
        node.fail = outside if node.parent == OPEN else after(nodes[node.parent].fail, node.token)
        edges[number] = edges[node.fail] | of[number]
        _cover(nodes, node, begins, ends)
    return edges


def _cover(nodes: list[_Node], node: _Node, begins: np.ndarray, ends: np.ndarray) -> None:
    before = nodes[node.parent]
    word_ended = node.depth > 1 and (ends[before.token] or begins[node.token])
    node.covered = [*(before.ended if word_ended else before.covered), 0.0]
    node.ended = list(node.covered)
    suffix = node
    while suffix.depth:
        for place in range(node.depth - suffix.depth, node.depth):
            node.ended[place] = max(node.ended[place], suffix.weight)
        suffix = nodes[suffix.fail]


def _bonuses(node: _Node, ends: np.ndarray) -> tuple[float, float, float]:
    """(what stays, what may be taken back, what of that stays if a word begins with the next token)."""
    if not node.depth:
        return 0.0, 0.0, 0.0
    sure = node.ended if ends[node.token] else node.covered
    stays, pending = sum(sure) - sum(node.covered), sum(node.ended) - sum(sure)
    return stays, sum(max(0.0, node.through - weight) for weight in sure), pending
