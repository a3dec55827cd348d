import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxasr.data.audio import SoundSource
from jaxasr.data.manifest import Utterance
from jaxasr.data.selection import INFEASIBLE, Measures, draw_speeds, select, select_all, split_valid
from jaxasr.data.source import Header
from jaxasr.errors import DataError

RATE = 1000
MEASURES = Measures(
    SoundSource(RATE),
    frames=lambda samples: samples // 100,
    frames_needed=lambda text: 2 * len(text.split()),
    num_tokens=lambda text: len(text.split()),
    unknown=lambda text: [word for word in text.split() if word == "?"],
)
REASONS = {"unreadable", "with empty text", "with unknown symbols", "too long", INFEASIBLE}


def corpus(*frames: int, text: str = "a b", rate: int = RATE) -> tuple[list[Utterance], dict[str, Header | DataError]]:
    """Utterances u0, u1, ... of so many frames."""
    utterances = [Utterance(f"u{i}", f"{i}.wav", "a b") for i in range(len(frames))]
    return utterances, {f"{i}.wav": Header(n, RATE, 1) for i, n in enumerate(frames)}


# What is used, and why the rest is not


@st.composite
def corpora(draw):
    """Utterances and headers, of which any may be at fault in any way."""
    utterances, infos = [], {}
    texts = st.sampled_from(["", " \t", "a", "a b", "a b c", "a ? b", "?", "a " * 30])
    for number in range(draw(st.integers(0, 25))):
        path = f"{number}.wav"
        rate = draw(st.sampled_from([500, 1000, 4410]))
        fault = DataError(f"{path}: cannot be decoded; ...; ...")
        infos[path] = draw(st.sampled_from([Header(draw(st.integers(0, 4 * rate)), rate, 1), fault]))
        start, seconds = draw(st.sampled_from([(0.0, None), (0.0, 0.5), (0.3, 0.5), (9.0, 1.0)]))
        utterances.append(Utterance(str(number), path, draw(texts), start=start, seconds=seconds))
    return utterances, infos


speed_sets = st.lists(st.sampled_from([0.5, 0.9, 1.0, 1.1, 2.0]), min_size=1, max_size=3, unique=True).map(tuple)


@settings(max_examples=150, deadline=None)
@given(data=corpora(), speeds=speed_sets, max_seconds=st.sampled_from([0.4, 1.0, math.inf]), unknown=st.booleans())
def test_in_equals_used_plus_left_out(data, speeds, max_seconds, unknown):
    utterances, infos = data
    options = {"speeds": speeds, "max_seconds": max_seconds, "leave_out_unknown": unknown}
    selection = select(utterances, infos, MEASURES, **options)

    out = [name for names in selection.left_out.values() for name in names]
    assert sorted([*out, *(u.id for u in selection.utterances)], key=int) == [u.id for u in utterances]
    assert selection.total == len(utterances)
    assert selection.left_out.keys() <= REASONS
    assert all(selection.left_out.values())
    assert selection.samples.shape == selection.usable.shape == (len(selection.utterances), len(speeds))
    assert selection.usable.any(axis=1).all()
    for row, utterance in enumerate(selection.utterances):
        needed = max(MEASURES.frames_needed(utterance.text), 1)
        samples = selection.samples[row]
        expected = (samples // 100 >= needed) & (samples <= max_seconds * RATE)
        np.testing.assert_array_equal(selection.usable[row], expected)
        assert selection.tokens[row] == len(utterance.text.split())
        assert utterance.text.strip() and not (unknown and "?" in utterance.text)
        assert isinstance(infos[utterance.audio], Header)
    line = selection.accounting()
    assert line.startswith(f"{len(utterances)} in = {len(selection.utterances)} used")
    assert sum(int(part.split()[0]) for part in line.partition(" = ")[2].split(" + ")) == len(utterances)


def test_every_reason():
    utterances, infos = corpus(1000, 1000, 1000, 1000, 300, 9000, 50)
    infos |= {"0.wav": DataError("0.wav: gone; a file; restore it")}
    texts = ["a", " ", "a ?", "a b", "a b", "a b", "a"]
    utterances = [Utterance(u.id, u.audio, text) for u, text in zip(utterances, texts, strict=True)]
    selection = select(utterances, infos, MEASURES, max_seconds=5)
    assert [u.id for u in selection.utterances] == ["u3"]
    assert selection.left_out == {
        "unreadable": ["u0"],
        "with empty text": ["u1"],
        "with unknown symbols": ["u2"],
        "too long": ["u5"],
        INFEASIBLE: ["u4", "u6"],
    }
    assert selection.accounting() == (
        "7 in = 1 used + 1 unreadable (u0) + 1 with empty text (u1) + 1 with unknown symbols '?' (u2) + "
        "2 with fewer frames than CTC needs (u4, u6) + 1 too long (u5)"
    )
    assert [row["id"] for row in selection.left_out_rows()] == ["u0", "u1", "u2", "u4", "u6", "u5"]
    assert list(selection.left_out_rows())[:3] == [
        {"id": "u0", "reason": "unreadable", "fault": "0.wav (utterance u0): gone; a file; restore it"},
        {"id": "u1", "reason": "with empty text"},
        {"id": "u2", "reason": "with unknown symbols", "symbols": ["?"]},
    ]
    assert select(utterances, infos, MEASURES, leave_out_unknown=False).left_out.keys() == {
        "unreadable", "with empty text", INFEASIBLE
    }  # fmt: skip


def test_only_the_first_ids_of_a_reason_are_told():
    selection = select(*corpus(*[10] * 5), MEASURES)
    assert selection.accounting() == "5 in = 0 used + 5 with fewer frames than CTC needs (u0, u1, u2, ...)"
    assert select([], {}, MEASURES).accounting() == "0 in = 0 used"


def test_a_segment_outside_its_file_is_unreadable():
    _, infos = corpus(1000)
    outside = Utterance("u", "0.wav", "a", start=2.0, seconds=1.0)
    assert select([outside], infos, MEASURES).left_out == {"unreadable": ["u"]}


# Speeds


def test_a_speed_that_leaves_too_few_frames_is_not_used():
    # four frames are needed: 400 samples. 420 at 1.1 are 382; 380 only fit when slowed down
    selection = select(*corpus(500, 420, 380), MEASURES, speeds=(0.9, 1.0, 1.1))
    np.testing.assert_array_equal(selection.samples, [[556, 500, 455], [467, 420, 382], [422, 380, 345]])
    np.testing.assert_array_equal(selection.usable, [[1, 1, 1], [1, 1, 0], [1, 0, 0]])
    drawn = np.array([draw_speeds(selection, 0, epoch) for epoch in range(60)])
    assert [set(column) for column in drawn.T] == [{0, 1, 2}, {0, 1}, {0}]


def test_a_speed_that_makes_it_too_long_is_not_used():
    selection = select(*corpus(950), MEASURES, speeds=(0.9, 1.0), max_seconds=1.0)
    assert selection.usable.tolist() == [[False, True]]
    assert {int(draw_speeds(selection, 0, epoch)[0]) for epoch in range(20)} == {1}


def test_plain_samples_are_those_at_speed_1():
    assert select(*corpus(500, 600), MEASURES, speeds=(0.9, 1.0)).plain_samples.tolist() == [500, 600]
    assert select(*corpus(1000, 800), MEASURES, speeds=(2.0, 0.5)).plain_samples.tolist() == [500, 400]


@settings(max_examples=40, deadline=None)
@given(
    frames=st.lists(st.integers(360, 1000), min_size=1, max_size=20),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 1000),
    order=st.randoms(use_true_random=False),
)
def test_a_speed_is_a_function_of_seed_epoch_and_id(frames, seed, epoch, order):
    utterances, infos = corpus(*frames)
    speeds = (0.9, 1.0, 1.1)

    def drawn(chosen: list[Utterance]) -> dict[str, int]:
        selection = select(chosen, infos, MEASURES, speeds=speeds)
        index = draw_speeds(selection, seed, epoch)
        assert selection.usable[np.arange(len(index)), index].all()
        return dict(zip((u.id for u in selection.utterances), index.tolist(), strict=True))

    everyone = drawn(utterances)
    shuffled = order.sample(utterances, len(utterances))
    assert drawn(shuffled) == everyone
    some = shuffled[: len(shuffled) // 2 + 1]
    assert drawn(some) == {u.id: everyone[u.id] for u in some if u.id in everyone}


def test_speeds_are_even_and_change_with_epoch_and_seed():
    selection = select(*corpus(*[900] * 3000), MEASURES, speeds=(0.9, 1.0, 1.1))
    draws = {key: draw_speeds(selection, *key) for key in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]}
    for index in draws.values():
        assert np.abs(np.bincount(index, minlength=3) - 1000).max() < 120  # 4.6 standard deviations
    keys = list(draws)
    for a, b in ((a, b) for i, a in enumerate(keys) for b in keys[:i]):
        assert abs(float((draws[a] == draws[b]).mean()) - 1 / 3) < 0.045  # 5 standard deviations
    over_epochs = np.array([draw_speeds(selection, 0, epoch)[:300] for epoch in range(100)])
    shares = np.stack([(over_epochs == k).mean(axis=0) for k in range(3)])
    assert shares.min() > 0.1 and shares.max() < 0.6  # of every single utterance


def test_one_speed_is_always_the_same():
    assert not draw_speeds(select(*corpus(900, 900), MEASURES), 3, 5).any()


# For evaluation


def test_select_all_leaves_nothing_out():
    utterances, infos = corpus(10, 50_000, 0)
    utterances.append(Utterance("empty", "0.wav", ""))
    selection = select_all(utterances, infos, MEASURES)
    assert selection.utterances == utterances
    assert selection.samples[:, 0].tolist() == [10, 50_000, 0, 10]
    assert selection.tokens.tolist() == [2, 2, 2, 0]
    assert selection.usable.all()
    assert select_all([], {}, MEASURES).samples.shape == (0, 1)


def test_select_all_raises_what_is_unreadable():
    utterances, infos = corpus(10, 10)
    with pytest.raises(DataError, match=r"^1\.wav \(utterance u1\): gone; a file"):
        select_all(utterances, {**infos, "1.wav": DataError("1.wav: gone; a file; restore it")}, MEASURES)


# Held-out utterances


def speakers(*counts: int) -> list[Utterance]:
    return [Utterance(f"s{s}-{i}", "a.wav", "a", speaker=f"s{s}") for s, n in enumerate(counts) for i in range(n)]


def test_split_is_by_speaker_and_about_5_percent():
    utterances = speakers(*[20] * 40)
    train, valid, how = split_valid(utterances)
    assert len(valid) == 40
    assert how == "2 of 40 speakers"
    assert not {u.speaker for u in train} & {u.speaker for u in valid}
    assert sorted(train + valid, key=lambda u: u.id) == sorted(utterances, key=lambda u: u.id)
    assert split_valid(utterances) == (train, valid, how)
    assert {u.id for u in split_valid(utterances[::-1])[1]} == {u.id for u in valid}


def test_split_without_speakers_or_with_few_is_by_utterance():
    nobody = [Utterance(f"u{i}", "a.wav", "a") for i in range(200)]
    for utterances in (nobody, speakers(100, 100), [*speakers(*[10] * 20), nobody[0]]):
        train, valid, how = split_valid(utterances)
        assert how == "single utterances"
        assert len(valid) == round(0.05 * len(utterances))
        assert len(train) + len(valid) == len(utterances)


@settings(max_examples=100, deadline=None)
@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=20), named=st.booleans())
def test_split_leaves_something_on_both_sides(counts, named):
    utterances = speakers(*counts) if named else [Utterance(f"u{i}", "a", "a") for i in range(sum(counts))]
    if len(utterances) < 2:
        with pytest.raises(DataError, match="--train: 1 utterances; at least two were expected"):
            split_valid(utterances)
        return
    train, valid, _ = split_valid(utterances)
    assert train and valid
    assert len(train) + len(valid) == len(utterances)
    assert len(valid) <= max(2 * round(0.05 * len(utterances)), 2)
    held_out = {u.id for u in valid}
    assert train == [u for u in utterances if u.id not in held_out]
