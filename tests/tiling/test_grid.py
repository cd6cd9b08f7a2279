import itertools

import pytest

from sr_tile.errors import GeometryError
from sr_tile.tiling.grid import Axis, Region, TileGrid, ending_tile, equalised_tile


def axes():
    """Every axis that is allowed, over many lengths, tiles, overlaps, halos and alignments."""
    for length, tile, multiple in itertools.product(range(1, 70), (4, 8, 16, 24, 40), (1, 4, 8)):
        for overlap in range(0, tile, 3):
            for halo in {0, overlap // 4, overlap // 2}:
                if tile % multiple == 0 and (tile >= length or tile - overlap >= multiple):
                    yield Axis(length, tile, overlap, halo, multiple)


def test_tiles_cover_and_inner_regions_partition():
    count = 0
    for axis in axes():
        count += 1
        starts = axis.starts
        assert starts[0] == 0
        assert 0 <= starts[-1] - max(0, axis.length - axis.tile) < axis.multiple, axis
        assert all(a < b <= a + axis.tile - axis.overlap for a, b in itertools.pairwise(starts)), axis
        assert all(start % axis.multiple == 0 for start in starts), axis
        inner = [pixel for i in range(len(starts)) for pixel in range(*axis.inner(i))]
        assert inner == list(range(axis.length)), axis
    assert count > 10_000


def test_weight_never_reaches_into_the_halo():
    for axis in axes():
        for i, start in enumerate(axis.starts):
            first, end = axis.support(i)
            assert first >= start + (axis.halo if i else 0), axis
            assert end <= min(start + axis.tile, axis.length) - (axis.halo if i < len(axis.starts) - 1 else 0), axis


def test_number_of_tiles_is_the_least_that_covers():
    for axis in axes():
        reach = axis.tile  # a naive walk: step by step as far as the overlap and the alignment allow
        count = 1
        while reach < axis.length:
            reach += (axis.tile - axis.overlap) // axis.multiple * axis.multiple
            count += 1
        assert len(axis.starts) == count, axis


@pytest.mark.parametrize(("length", "count"), [(256, 1), (448, 2), (1024, 5), (257, 2), (449, 3)])
def test_widths_at_which_known_tools_count_a_tile_too_many(length, count):
    axis = Axis(length, 256, 64, 16)
    assert len(axis.starts) == len(set(axis.starts)) == count


def test_grid_is_the_product_of_its_axes():
    grid = TileGrid(Axis(100, 40, 10, 2), Axis(70, 40, 10, 2))
    tiles = list(grid.tiles())
    assert len(tiles) == len(grid) == grid.shape[0] * grid.shape[1]
    covered = [
        (y, x)
        for row, column, _ in tiles
        for region in [grid.inner(row, column)]
        for y in range(region.y, region.y + region.height)
        for x in range(region.x, region.x + region.width)
    ]
    assert sorted(covered) == list(itertools.product(range(100), range(70)))
    assert grid.redundancy == pytest.approx(len(grid) * 1600 / 7000)


@pytest.mark.parametrize("multiple", [1, 8, 64])
def test_equalised_tiles_need_no_more_tiles_and_waste_less(multiple):
    for length in range(1, 2000, 7):
        tile = equalised_tile(length, 256, 64, multiple)
        assert tile <= 256
        assert tile % multiple == 0
        fitted = len(Axis(length, tile, 64, 16, multiple).starts)
        full = len(Axis(length, 256, 64, 16, multiple).starts)
        assert fitted <= full
        # The next smaller tile would need one more, or be smaller than the image: nothing is left to gain.
        smaller = tile - multiple
        if fitted > 1 and smaller - 64 >= multiple:
            assert len(Axis(length, smaller, 64, 16, multiple).starts) > full


@pytest.mark.parametrize("multiple", [1, 4, 24, 64])
def test_equalised_tiles_keep_a_step_where_one_fits_and_are_as_many(multiple):
    for length in range(1, 2000, 7):
        plain = equalised_tile(length, 384, 64, multiple)
        stepped = equalised_tile(length, 384, 64, multiple, step=16)
        count = len(Axis(length, plain, 64, 16, multiple).starts)
        assert len(Axis(length, stepped, 64, 16, multiple).starts) == count
        if count > 1:
            assert stepped % 16 == stepped % multiple == 0
            assert plain <= stepped < plain + max(16, 2 * multiple)
        else:
            assert stepped == plain


def test_a_step_that_no_tile_keeps_changes_nothing():
    assert equalised_tile(700, 250, 10, 4, step=16) == equalised_tile(700, 250, 10, 4)  # all are 2 more than a multiple


@pytest.mark.parametrize("multiple", [2, 7, 16])
@pytest.mark.parametrize(("tile", "overlap"), [(112, 16), (224, 0), (112, 64), (112, 96)])
def test_tiles_that_end_where_the_image_does_start_on_the_grid_and_share_what_they_should(multiple, tile, overlap):
    for length in range(1, 500):
        largest = ending_tile(length, tile, overlap, multiple)
        for side in (largest, equalised_tile(length, largest, overlap, multiple)):
            axis = Axis(length, side, overlap, overlap // 2, multiple)
            assert side < tile + multiple
            assert axis.starts[-1] + side == length
            assert all(start % multiple == 0 for start in axis.starts)
            assert all(a + axis.whole - b >= overlap for a, b in itertools.pairwise(axis.starts))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((100, 32, 32, 0), "overlap"),
        ((100, 32, 40, 0), "overlap"),
        ((100, 32, 16, 9), "halo"),
        ((100, 32, 16, -1), "halo"),
        ((0, 32, 16, 1), "length"),
        ((100, 0, 0, 0), "tile"),
        ((300, 128, 100, 0, 64), "overlap"),
    ],
)
def test_numbers_that_do_not_fit_are_refused_by_name(arguments, word):
    with pytest.raises(GeometryError, match=word):
        Axis(*arguments)


def test_region_scales_and_indexes():
    assert Region(1, 2, 3, 4).scale(3) == Region(3, 6, 9, 12)
    assert Region(1, 2, 3, 4).slices == (slice(1, 4), slice(2, 6))
