import functools
import itertools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.search.choices import Fusion, Search
from jaxasr.search.ctc_prefix import emissions
from jaxasr.search.greedy import attention_greedy
from jaxasr.search.hotwords import automaton
from jaxasr.search.hypotheses import NBest
from jaxasr.search.joint import Speaker, joint, limits
from jaxasr.search.rescore import rescore
from jaxasr.search.scorers import Scorer, Weighted
from tests.search.alignments import texts_of

BLANK, SOS, EOS = 0, 1, 2
WORDS = (3, 4, 5)
V, D, T = 6, 5, 5


@flax.struct.dataclass
class Pairs(Scorer):
    """Scores a token by the one before it."""

    table: jax.Array

    def start(self, rows, max_tokens):
        return jnp.full(rows, SOS)

    def score(self, state, tokens):
        return self.table[state[:, None], tokens]

    def advance(self, state, tokens):
        return tokens


def toy(rows, seed=0):
    """Arrays of a decoder that remembers all tokens, a CTC head, and a table of pairs."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    ctc = 2.0 * normal(rows, T, V)
    ctc[:, :, [SOS, EOS]] = -1e4
    return {"embed": normal(V, D), "out": 2.0 * normal(rows, D, V), "ctc": ctc, "pairs": normal(V, V)}


def speaker_of(arrays, weight):
    rows = arrays["out"].shape[0]

    def say(tokens, cache, position):
        def one(state, token):
            state = jnp.tanh(0.5 * state + arrays["embed"][token])
            return state, state

        state, states = jax.lax.scan(one, cache[0][0], tokens.T)
        return jnp.einsum("ubd,bdv->buv", states, arrays["out"]), [state[None]]

    logits, cache = say(jnp.full((rows, 1), SOS), [jnp.zeros((1, rows, D))], 0)
    return Speaker(logits[:, 0], cache, say, weight)


def fusion_of(arrays, ctc_weight=0.3, length_bonus=0.0, pairs=0.0):
    return Fusion(ctc_weight, length_bonus, scorers=(Weighted(Pairs(arrays["pairs"]), pairs),) if pairs else ())


@functools.partial(jax.jit, static_argnames=("search", "with_ctc"))
def run(arrays, lengths, fusion, search, with_ctc=True):
    emitted = emissions(arrays["ctc"], lengths) if with_ctc else None
    speaker = speaker_of(arrays, 1.0 - fusion.ctc_weight if with_ctc else 1.0)
    bounds = limits(search, lengths, arrays["ctc"].shape[1])
    return joint(speaker, emitted, bounds, search, fusion, eos=EOS, forbidden=(BLANK, SOS))


def log_softmax(x):
    return x - np.logaddexp.reduce(x, axis=-1, keepdims=True)


def all_scored(arrays, row, length, fusion, most, least=0):
    """Every text with its score, the best first; one of `most` tokens ends without eos."""
    texts = texts_of(np.float64(arrays["ctc"][row, :length]))
    pairs = arrays["pairs"] * (fusion.scorers[0].weight if fusion.scorers else 0.0)
    found = []
    for text in itertools.chain(*(itertools.product(WORDS, repeat=n) for n in range(least, most + 1))):
        state, total, said = np.zeros(D), 0.0, text if len(text) == most else (*text, EOS)
        for before, token in zip((SOS, *text), said, strict=False):
            state = np.tanh(0.5 * state + arrays["embed"][before])
            total += (1.0 - fusion.ctc_weight) * log_softmax(state @ np.float64(arrays["out"][row]))[token]
            total += pairs[before, token] + fusion.length_bonus
        heard = sum(p for its, p in texts.items() if (its[:most] if len(text) == most else its) == text)
        if fusion.ctc_weight:
            total = total + fusion.ctc_weight * np.log(heard) if heard > 0.0 else -np.inf
        found.append((total, text))
    return sorted(found, reverse=True)


def listed(nbest, row):
    return [
        (float(score), tuple(tokens[:length].tolist()))
        for tokens, length, score in zip(nbest.tokens[row], nbest.lengths[row], nbest.scores[row], strict=True)
        if score > -np.inf
    ]


def assert_same(found, expected, **tolerance):
    assert [text for _, text in found] == [text for _, text in expected]
    np.testing.assert_allclose(
        [s for s, _ in found], [s for s, _ in expected], **{"rtol": 1e-5, "atol": 1e-5} | tolerance
    )


@pytest.mark.parametrize(
    ("ctc_weight", "length_bonus", "pairs"), [(0.3, 0.0, 0.0), (0.0, 0.5, 0.0), (1.0, 0.0, 0.0), (0.5, 0.2, 0.7)]
)
def test_a_wide_beam_finds_the_best_of_all_texts(ctc_weight, length_bonus, pairs):
    """Nothing is left out where the beam has room for all of them."""
    arrays, lengths = toy(2), np.array([5, 3])
    fusion = fusion_of(arrays, ctc_weight, length_bonus, pairs)
    search = Search("joint", beam=90, nbest=30, maxlenratio=-4, token_beam=V)
    found = jax.device_get(run(arrays, lengths, fusion, search))
    for row, length in enumerate(lengths):
        expected = [e for e in all_scored(arrays, row, length, fusion, 4) if e[0] > -np.inf][:30]
        assert_same(listed(found.nbest, row), expected)
        assert found.tokens[row].tolist() == found.nbest.tokens[row, 0].tolist()


def test_no_text_is_shorter_than_it_may_be():
    arrays, lengths = toy(2, 1), np.array([5, 4])
    fusion = fusion_of(arrays)
    search = Search("joint", beam=90, nbest=10, maxlenratio=0.8, minlenratio=0.6, token_beam=V)
    found = jax.device_get(run(arrays, lengths, fusion, search))
    for row, (most, least) in enumerate(((4, 3), (3, 2))):
        assert_same(listed(found.nbest, row), all_scored(arrays, row, lengths[row], fusion, most, least)[:10])


def test_what_cannot_be_aligned_is_not_found():
    """Of four tokens that CTC cannot put into two frames the hypothesis has as many as it can."""
    arrays, lengths = toy(2, 2), np.array([2, 0])
    found = jax.device_get(
        run(arrays, lengths, fusion_of(arrays), Search("joint", 3, 3, maxlenratio=-4, minlenratio=-4))
    )
    assert found.lengths.tolist() == [2, 0]
    assert found.scores[1] == 0.0  # filler
    assert np.all(np.isfinite(found.scores))


@pytest.mark.parametrize("seed", range(3))
def test_one_hypothesis_by_the_decoder_alone_is_greedy_search(seed):
    arrays, lengths = toy(6, seed), np.array([T, T, 2, 1, 0, T])
    found = run(arrays, lengths, fusion_of(arrays), Search("joint", beam=1), with_ctc=False)

    @jax.jit
    def greedily(arrays):
        speaker = speaker_of(arrays, 1.0)

        def step(last, cache, position):
            logits, cache = speaker.say(last[:, None], cache, position)
            return logits[:, 0], cache

        options = {"max_tokens": T, "sos": SOS, "eos": EOS, "forbidden": (BLANK, SOS)}
        return attention_greedy(step, [jnp.zeros((1, 6, D))], jnp.asarray(lengths), **options)

    greedy = greedily(arrays)
    np.testing.assert_array_equal(found.tokens, greedy.tokens)
    np.testing.assert_allclose(found.scores, greedy.scores, rtol=1e-5)
    np.testing.assert_allclose(found.log_probs, greedy.log_probs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 7])
def test_rows_and_padding_change_nothing(rows):
    arrays, lengths = toy(32, 4), np.random.default_rng(4).integers(0, T + 1, 32)
    search, fusion = Search("joint", beam=4, nbest=3), fusion_of(arrays, 0.3, 0.3, 0.2)
    whole = jax.device_get(run(arrays, lengths, fusion, search)).nbest
    some = arrays | {"out": arrays["out"][-rows:], "ctc": arrays["ctc"][-rows:]}
    garbage = np.full((rows, 3, V), np.nan, np.float32)
    some["ctc"] = np.concatenate([some["ctc"], garbage], axis=1)
    alone = jax.device_get(run(some, lengths[-rows:], fusion, search)).nbest
    for row in range(rows):
        assert_same(listed(alone, row), listed(whole, 32 - rows + row))


def test_a_hot_word_that_is_cut_off_counts_nothing():
    arrays, every = toy(1, 7), np.ones(V, bool)
    scorers = (Weighted(automaton({(3, 4, 5): 1.0, (5, 3): 1.0}, every, every, eos=EOS), 4.0),)
    arrays["out"], arrays["ctc"] = np.zeros_like(arrays["out"]), np.zeros_like(arrays["ctc"])
    search = Search("joint", beam=9, nbest=9, maxlenratio=-2, minlenratio=-2)
    found = jax.device_get(run(arrays, np.array([5]), Fusion(0.0, scorers=scorers), search))
    alike = -2.0 * np.log(V)
    assert found.tokens.tolist() == [[5, 3]]
    np.testing.assert_allclose(found.nbest.scores[0], [alike + 8.0] + 8 * [alike], rtol=1e-5)


def test_the_end_is_seen():
    """As ESPnet's end_detect: three steps in a row at which what ended is 10 nats worse than the best."""
    arrays = toy(1, 5)
    arrays["out"] = np.zeros_like(arrays["out"])
    arrays["out"][:, :, EOS] = 1e-9
    arrays["ctc"] = np.zeros((1, 40, V), np.float32)
    fusion = fusion_of(arrays, 0.0, -15.0)  # every token costs 15 nats
    calls = []

    def count(position):
        calls.append(int(position))

    def counted(arrays):
        speaker = speaker_of(arrays, 1.0)

        def say(tokens, cache, position):
            jax.debug.callback(count, position)
            return speaker.say(tokens, cache, position)

        search = Search("joint", beam=4)
        bounds = limits(search, jnp.array([40]), 40)
        return joint(speaker._replace(say=say), None, bounds, search, fusion, eos=EOS, forbidden=(BLANK, SOS))

    found = jax.jit(counted)(arrays)
    jax.effects_barrier()
    assert found.lengths.tolist() == [0]
    assert max(calls) == 6  # what ended at steps 1, 2 and 3 is seen after the sixth


def test_rescoring_gives_what_the_joint_search_gives():
    arrays, lengths = toy(2, 6), np.array([5, 4])
    fusion = fusion_of(arrays, 0.4, 0.2, 0.5)
    texts = [(3,), (), (4, 5), (3, 3, 4), (5, 4, 3)]
    tokens = np.full((2, 6, 18), -1, np.int32)
    for k, text in enumerate(texts):
        tokens[:, k, : len(text)] = text
    scores = np.full((2, 6), -1.0, np.float32)
    scores[:, 5] = -np.inf
    nbest = NBest(tokens, np.sum(tokens >= 0, axis=2), scores)

    @jax.jit
    def again(arrays, nbest, fusion):
        speaker = speaker_of(arrays, 1.0 - fusion.ctc_weight)
        return rescore(nbest, speaker, arrays["ctc"], lengths, fusion, nbest_out=6, eos=EOS)

    found = jax.device_get(again(arrays, nbest, fusion))
    for row, length in enumerate(lengths):
        expected = [e for e in all_scored(arrays, row, length, fusion, 4) if e[1] in texts and e[0] > -np.inf]
        assert_same(listed(found.nbest, row)[: len(expected)], expected)
        assert len(listed(found.nbest, row)) == 5
    best = found.nbest.tokens[:, 0]
    assert np.all((found.log_probs < 0.0) == (best >= 0))
