"""N-gram language models inside a search."""

import logging
import math
import os
from collections.abc import Callable, Sequence

import flax.struct
import jax.numpy as jnp
import numpy as np

from jaxasr.data import arpa
from jaxasr.data.ngrams import NgramModel
from jaxasr.data.textfile import few, show
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.errors import ConfigError
from jaxasr.search.edges import Edges
from jaxasr.search.scorers import Scorer
from jaxasr.typing import Array, Float, Int

_LOG = logging.getLogger(__name__)
NO_WORD = -100.0
"""Log10 of the probability of `<unk>` in a model without it, as KenLM has it."""


@flax.struct.dataclass
class NgramScorer(Scorer):
    """A model that backs off. A state is the longest context that it knows of a hypothesis: 0 is none at all.

    ``log p(w | c) = log_probs[c, w]`` where there is this n-gram, else ``backoffs[c] + log p(w | shorter[c])``.
    """

    words: Int[Array, "V"]
    """The model's word for each token."""
    unigrams: Float[Array, "W+1"]
    """In nats, as the others; the last is of what is no word of the model."""
    contexts: Int[Array, "W+1"]
    """After a word that no longer n-gram ends in."""
    edges: Edges
    """Longer n-grams: from a context by a word."""
    log_probs: Float[Array, "E"]
    nexts: Int[Array, "E"]
    backoffs: Float[Array, "S"]
    shorter: Int[Array, "S"]
    """The context without its first word, or without as many as it takes to be known."""
    begin: Int[Array, ""]
    levels: int = flax.struct.field(pytree_node=False)
    """How many times a context can become shorter."""

    def start(self, rows: int, max_tokens: int) -> Int[Array, "R"]:
        return jnp.full((rows,), self.begin)

    def score(self, state: Int[Array, "R"], tokens: Int[Array, "R C"]) -> Float[Array, "R C"]:
        return self._walk(jnp.broadcast_to(state[:, None], tokens.shape), tokens)[0]

    def advance(self, state: Int[Array, "R"], tokens: Int[Array, "R"]) -> Int[Array, "R"]:
        return self._walk(state, tokens)[1]

    def _walk(self, context: Int[Array, "*R"], tokens: Int[Array, "*R"]) -> tuple[Array, Array]:
        """(score of the token, context after it)."""
        word = self.words[tokens]
        score, after, done = jnp.zeros(word.shape), self.contexts[word], jnp.zeros(word.shape, bool)
        for _ in range(self.levels):
            edge = self.edges.find(context, word)
            hit = (edge >= 0) & ~done
            score = jnp.where(done, score, score + jnp.where(hit, self.log_probs[edge], self.backoffs[context]))
            after, done = jnp.where(hit, self.nexts[edge], after), done | hit
            context = self.shorter[context]
        return jnp.where(done, score, score + self.unigrams[word]), after


def read_ngram(
    path: str | os.PathLike[str], vocabulary: Vocabulary, split: Callable[[str], Sequence[str]]
) -> NgramScorer:
    """The model of an ARPA file, for the tokens of a vocabulary.

    Args:
      split: a text's tokens.

    Raises:
      DataError: the file is not as it should be.
      ConfigError: the model is not one of these tokens.
    """
    model = arpa.read(path)
    return tables(model, words_of(os.fspath(path), model, vocabulary, split))


def words_of(path: str, model: NgramModel, vocabulary: Vocabulary, split: Callable[[str], Sequence[str]]) -> np.ndarray:
    """The number of the model's word for each token, int32 (V,).

    One that it does not know is its `<unk>`, which is told; where it has none either, one more than its words.

    Raises:
      ConfigError: the model's words are several tokens each, or it lacks what cannot be left out.
    """
    ours = {*vocabulary.tokens, NgramModel.UNK, NgramModel.BEGIN, NgramModel.END}
    for word in model.words:
        if word not in ours and len(tokens := split(word)) > 1:
            raise ConfigError(
                f"--ngram={path}: its word {show(word)} is {len(tokens)} tokens of this model ({few(tokens)}); an "
                "n-gram model of the model's own tokens was expected; make one by python -m jaxasr.ngram TEXT "
                "--model=DIR."
            )
    end = vocabulary.tokens[vocabulary.EOS]
    needed = vocabulary.tokens[vocabulary.EOS + 1 : -1]
    unknown = [token for token in (end, *needed) if token not in model.ids]
    if NgramModel.END in unknown or len(unknown) >= len(needed):
        raise ConfigError(
            f"--ngram={path}: knows {len(needed) + 1 - len(unknown)} of this model's {len(needed) + 1} tokens, and not "
            f"{few(unknown)}; an n-gram model of these tokens was expected; make one by python -m jaxasr.ngram TEXT "
            "--model=DIR."
        )
    if unknown and NgramModel.UNK not in model.ids:
        raise ConfigError(
            f"--ngram={path}: has no word <unk>, nor {few(unknown)}, which are tokens of this model; all of them, or "
            "<unk>, were expected; make one by python -m jaxasr.ngram TEXT --model=DIR."
        )
    if unknown:
        _LOG.warning(
            "--ngram=%s: %d of this model's %d tokens are not in it and count as its <unk>: %s",
            *(path, len(unknown), len(needed) + 1, few(unknown)),
        )
    unk = model.ids.get(NgramModel.UNK, len(model.words))
    return np.array([model.ids.get(token, unk) for token in vocabulary.tokens])


def tables(model: NgramModel, words: np.ndarray) -> NgramScorer:
    """What a search needs of a model, with its word for each token, (V,)."""
    sizes = [len(order.words) for order in model.orders]
    ends = np.cumsum([1, *sizes[:-1]])  # of the contexts of each length, behind which those of the next begin
    num_words, num_states = sizes[0], int(ends[-1])
    longer = list(zip(ends[:-1], model.orders[1:], strict=True))
    states = _joined([first + order.prefixes for first, order in longer])
    labels = _joined([order.words for _, order in longer])
    keys = states * num_words + labels
    own = 1 + num_words + np.arange(len(keys))  # an n-gram's context; it is none in the highest order
    unigrams = 1 + np.arange(num_words) if len(sizes) > 1 else np.zeros(num_words, np.int64)
    shorter = np.zeros(num_states, np.int64)
    nexts = np.zeros(len(keys), np.int64)
    done = 0
    for _, order in longer:
        these = slice(done, done := done + len(order.words))
        after = _after(shorter[states[these]], labels[these], keys, own, unigrams, shorter)
        is_context = own[these] < num_states
        shorter[own[these][is_context]] = after[is_context]
        nexts[these] = np.where(is_context, own[these], after)
    nats = math.log(10.0)
    backoffs = np.concatenate([[0.0], *(order.log10_backoffs for order in model.orders[:-1])])
    log_probs = np.concatenate([[0.0], *(order.log10_probs for _, order in longer)])[1:] if longer else np.zeros(1)
    return NgramScorer(
        words=jnp.asarray(words, jnp.int32),
        unigrams=jnp.asarray(nats * np.append(model.orders[0].log10_probs, NO_WORD), jnp.float32),
        contexts=jnp.asarray(np.append(unigrams, 0), jnp.int32),
        edges=Edges.of(states, labels, num_states),
        log_probs=jnp.asarray(nats * log_probs, jnp.float32),
        nexts=jnp.asarray(nexts if longer else np.zeros(1), jnp.int32),
        backoffs=jnp.asarray(nats * backoffs, jnp.float32),
        shorter=jnp.asarray(shorter, jnp.int32),
        begin=jnp.asarray(unigrams[model.ids[model.BEGIN]] if model.BEGIN in model.ids else 0, jnp.int32),
        levels=len(sizes) - 1,
    )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _after(
    contexts: np.ndarray,
    words: np.ndarray,
    keys: np.ndarray,
    own: np.ndarray,
    unigrams: np.ndarray,
    shorter: np.ndarray,
) -> np.ndarray:
    """The longest context that each of these and a word ends in; all of them are shorter than the longest."""
    contexts, after, left = contexts.copy(), np.zeros(len(words), np.int64), np.arange(len(words))
    while len(left):
        wanted = contexts[left] * len(unigrams) + words[left]
        found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        hit = keys[found] == wanted
        after[left] = np.where(hit, own[found], unigrams[words[left]])
        left = left[~hit & (contexts[left] > 0)]
        contexts[left] = shorter[contexts[left]]
    return after
