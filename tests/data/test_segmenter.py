import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxasr.data.segmenter import Segment, Segmenter
from jaxasr.errors import ConfigError

RATE = 8000
RNG = np.random.default_rng(0)


def noise(seconds: float, db: float) -> np.ndarray:
    return RNG.normal(scale=10 ** (db / 20), size=round(seconds * RATE)).astype(np.float32)


def bursts(*seconds: float, quiet_db: float = -60.0, loud_db: float = -20.0) -> np.ndarray:
    """Silence and speech of so many seconds in turn."""
    return np.concatenate([noise(s, loud_db if i % 2 else quiet_db) for i, s in enumerate(seconds)])


def cut(sound: np.ndarray, block: int = 5000, **choices: float) -> list[Segment]:
    blocks = (sound[i : i + block] for i in range(0, len(sound), block))
    found = list(Segmenter(**choices).segments(blocks, RATE))
    for segment in found:
        np.testing.assert_array_equal(segment.audio, sound[segment.start : segment.end])
    return found


def seconds(segments: list[Segment]) -> list[tuple[float, float]]:
    return [(s.start / RATE, s.end / RATE) for s in segments]


def test_speech_with_half_the_silence_around_it():
    found = cut(bursts(3.0, 2.0, 0.8, 1.0, 0.3, 1.0, 4.0), min_silence=0.5)
    # the pause of 0.3 s ends no segment
    np.testing.assert_allclose(seconds(found), [(2.75, 5.25), (5.55, 8.35)], atol=0.05)
    assert [s.cut for s in found] == [None, None]


@given(st.lists(st.floats(0.2, 6.0), min_size=1, max_size=9), st.integers(200, 30000), st.booleans())
@settings(max_examples=15, deadline=None)
def test_how_blocks_come_does_not_matter(lengths, block, dips):
    sound = bursts(*lengths, quiet_db=-30.0 if dips else -60.0)
    choices = {"max_segment": 4.0, "overlap": 0.6}
    first, again = cut(sound, **choices), cut(sound, block, **choices)
    assert [(s.start, s.end, s.cut) for s in first] == [(s.start, s.end, s.cut) for s in again]
    assert all(len(s.audio) <= 4.0 * RATE for s in first)
    for before, after in itertools.pairwise(first):
        if after.cut is None:
            assert before.end <= after.start
        else:
            assert (after.cut - after.start, before.end - after.cut) == (0.3 * RATE, 0.3 * RATE)


def test_long_speech_is_cut_at_its_longest_pause_and_else_with_overlap():
    sound = bursts(1.0, 14.0, 0.25, 3.0, 0.4, 40.0, 1.0)
    found = cut(sound, max_segment=20.0)
    # within the first segment's second half both pauses lie; the longer one is at 18.25 s
    np.testing.assert_allclose(seconds(found)[0], (0.75, 18.45), atol=0.05)
    assert found[1].cut is None and found[1].start == found[0].end
    assert [s.cut is not None for s in found[2:]] == [True] * (len(found) - 2) and len(found) > 3
    assert all(b.start == b.cut - RATE and a.end == b.cut + RATE for a, b in itertools.pairwise(found[1:]))
    assert found[-1].end == pytest.approx(58.9 * RATE, abs=0.1 * RATE)


def test_a_cut_through_speech_is_at_its_quietest():
    loud = bursts(1.0, 30.0, 1.0)
    dip = slice(int(16.4 * RATE), int(16.5 * RATE))
    loud[dip] *= 0.3
    first, second = cut(loud, max_segment=20.0)
    assert dip.start <= second.cut < dip.stop and first.end > second.start


@pytest.mark.parametrize("sound", [np.zeros(9 * RATE), noise(9.0, -50.0), np.zeros(3), np.zeros(0)])
def test_nothing_is_heard_in_silence(sound):
    assert cut(sound.astype(np.float32)) == []


def test_a_click_is_no_speech_and_a_loud_place_is():
    sound = noise(20.0, -60.0)
    sound[5 * RATE : 5 * RATE + 20] = 0.5
    assert cut(sound) == []
    assert len(cut(noise(40.0, -20.0))) > 1  # louder than silence may be, it is listened to


def test_the_noise_floor_follows():
    sound = np.concatenate([bursts(*[2.0, 1.0] * 15), bursts(*[2.0, 1.0] * 15, quiet_db=-45.0)])
    found = cut(sound)
    assert len(found) >= 28 and sum(len(s.audio) for s in found) < 0.7 * len(sound)


def test_segments_come_while_the_sound_does():
    read = 0

    def blocks():
        nonlocal read
        for _ in range(120):
            read += 1
            yield bursts(0.6, 0.4)

    segments = Segmenter(max_segment=5.0).segments(blocks(), RATE)
    for segment in itertools.islice(segments, 20):
        assert read < segment.end / RATE + 17


@pytest.mark.parametrize(
    "wrong", [{"max_segment": 0.5}, {"min_silence": 0.0}, {"overlap": 9.0}, {"silence_db": float("nan")}]
)
def test_choices_that_cannot_be(wrong):
    with pytest.raises(ConfigError, match=r"^--max_segment=.* --silence_db=.*; change them\.$"):
        Segmenter(**wrong).check()
