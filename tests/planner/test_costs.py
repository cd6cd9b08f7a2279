"""Seconds and bytes of calls that were not measured."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.planning import SHAPES, costs_of

from sr_tile.planner import Plan
from sr_tile.planner.choose_tile_and_batch import MAX_EXTRAPOLATION
from sr_tile.planner.costs import Costs, Point


@pytest.mark.parametrize(
    "formula",
    [
        lambda n: 2e-6 * n,
        lambda n: 0.01 + 2e-6 * n,
        lambda n: n * (1e-6 + 1e-7 * math.log2(n)),
        lambda n: n * (4e-6 - 1e-7 * math.log2(n)),
    ],
)
def test_the_formula_is_found_again(formula):
    costs = costs_of(formula)
    for pixels in (100_000, 400_000, 2_000_000):
        assert costs.seconds(pixels) == pytest.approx(formula(pixels), rel=1e-6)


@given(st.lists(st.floats(1e-3, 10), min_size=1, max_size=6))
def test_whatever_was_measured_more_pixels_never_take_less_time(seconds):
    shapes = [*SHAPES, (1, 512, 512), (1, 1024, 1024), (4, 1024, 1024)]
    costs = Costs([Point(*shape, time, 1.0) for shape, time in zip(shapes, seconds, strict=False)])
    # Tiles of small pictures lie below what was measured, and large ones beyond it.
    times = [costs.seconds(pixels) for pixels in range(1, MAX_EXTRAPOLATION * costs.largest + 1, 9973)]
    assert times[0] > 0
    assert times == sorted(times)


def test_a_price_that_falls_with_size_is_not_carried_on_to_less_than_nothing():
    most = 4 * 1024 * 1024
    costs = costs_of(lambda n: 1e-9 * n * (1 - math.log2(n) / (math.log2(most) + 1.6)))
    assert costs.seconds(MAX_EXTRAPOLATION * most) > costs.seconds(most) > 0


def test_the_time_of_an_image_is_that_of_its_calls():
    costs = costs_of(lambda n: 0.5 + 1e-6 * n)
    grid = Plan((256, 256), 0, 0, 1).grid(512, 1280)
    assert costs.seconds_of(grid, 4) == pytest.approx(3 * 0.5 + 10 * 256**2 * 1e-6)
