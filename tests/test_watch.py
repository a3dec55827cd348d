import re
import time

import pytest

from jaxasr.data import reading
from jaxasr.watch import Watch


@pytest.fixture
def watched():
    said = []
    watch = Watch(said.append, seconds=0.1)
    yield watch, said
    watch.close()


def test_a_silent_program_says_where_it_is_less_and_less_often(watched):
    _, said = watched
    next(reading.in_order(time.sleep, [0.9], threads=1, ahead=0))
    assert 1 <= len(said) <= 4  # after 0.1 s, 0.2, 0.4, 0.8
    assert all(re.search(r"for [01] s; the program is at reading\.py:\d+ in _result$", line) for line in said)


def test_one_of_which_something_is_heard_is_left_alone(watched):
    watch, said = watched
    for _ in range(15):
        time.sleep(0.02)
        watch.beat()
    assert said == []
