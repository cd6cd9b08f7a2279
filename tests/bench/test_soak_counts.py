"""The soak tells memory that comes and goes from memory that does not come back."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

from soak_counts import PARTS, REST_SECONDS, growth, rest_of


def samples(seconds, leak, seed, slow_to_return=4.0):
    """One a second: 400 MiB, up to 800 more of what is under way, `leak` more at the end."""
    dice = np.random.default_rng(seed)
    found, since = [], 0.0
    for passed in np.arange(1.0, seconds):
        since = since + 1 if rest_of(passed, seconds) is not None else 0.0
        under_way = 0.0 if since > slow_to_return else dice.gamma(2.0, 150.0)
        buffers = 80 * min(1.0, PARTS * passed / seconds)
        found.append((passed, 320 + buffers + min(800, under_way) + leak * passed / seconds + dice.normal(0, 1)))
    return found


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("seconds", [180, 600, 3600])
def test_what_comes_and_goes_is_no_growth_and_a_leak_is(seconds, seed):
    assert abs(growth(samples(seconds, 0, seed), seconds)[0]) < 10
    for leak in (60, 200):
        assert growth(samples(seconds, leak, seed), seconds)[0] == pytest.approx(leak / 2, rel=0.2, abs=5)


def test_memory_that_falls_is_no_growth():
    assert growth(samples(600, -100, 0), 600)[0] < 0


def test_each_rest_is_told():
    shown, rests = growth(samples(600, 300, 0), 600)
    assert len(rests) == PARTS
    assert rests == sorted(rests)
    assert shown > 100


@pytest.mark.parametrize("taken", [[], [(1.0, 5.0)], [(0.5 + second, 5.0) for second in range(3)]])
def test_what_is_too_short_shows_nothing(taken):
    assert growth(taken, 3.0)[0] == 0.0


def test_rests_are_at_the_end_of_each_part():
    moments = np.arange(0, 600, 0.5)
    resting = [rest_of(moment, 600) for moment in moments]
    assert sorted({number for number in resting if number is not None}) == list(range(PARTS))
    assert sum(number is not None for number in resting) == pytest.approx(PARTS * REST_SECONDS * 2, abs=PARTS)
    assert rest_of(0, 600) is None
    assert rest_of(600, 600) is None
