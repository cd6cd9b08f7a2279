import numpy as np
import pytest

from sr_tile.errors import CoverageError
from sr_tile.tiling.blending import TileBlender, axis_weights, from_range, quantise, to_range
from sr_tile.tiling.grid import Axis, TileGrid

AXES = [
    Axis(length, tile, overlap, halo, multiple)
    for length in (1, 5, 31, 64, 100, 129)
    for tile, multiple in ((8, 1), (16, 4), (32, 8), (64, 16))
    for overlap in (0, 1, 4, 7)
    for halo in {0, overlap // 4, overlap // 2}
] + [Axis(65, 64, 48, 0, 16), Axis(65, 128, 64, 0, 64), Axis(100, 32, 31, 0), Axis(100, 32, 30, 1)]


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_weights_add_up_to_exactly_one_and_never_leave_0_to_1(scale):
    for axis in AXES:
        total = np.zeros(axis.length * scale, np.float32)
        for i in range(len(axis.starts)):
            first, end = axis.support(i)
            weights = axis_weights(axis, i, scale)
            assert weights.min() >= 0
            assert weights.max() <= 1
            total[first * scale : end * scale] += weights
        assert (total == 1).all(), axis


def test_no_ramp_at_the_border_of_the_image():
    axis = Axis(100, 32, 16, 2)
    assert axis_weights(axis, 0, 1)[0] == 1
    assert axis_weights(axis, len(axis.starts) - 1, 1)[-1] == 1


def blend(grid, scale, channels, tiles, parts=1):
    accumulator = TileBlender(grid, scale, channels, parts)
    blocks = [b.copy() for row, column, _ in grid.tiles() for b in accumulator.add(row, column, tiles(row, column))]
    assert accumulator.done
    return np.concatenate(blocks, axis=1)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize(("overlap", "halo"), [(0, 0), (6, 0), (6, 3), (10, 2), (15, 0)])
def test_blend_equals_a_naive_weighted_sum_over_the_whole_image(scale, overlap, halo):
    rng = np.random.default_rng(1)
    grid = TileGrid(Axis(50, 16, overlap, halo), Axis(37, 20, overlap, halo))
    tiles = {(r, c): rng.random((2, 16 * scale, 20 * scale), np.float32) for r, c, _ in grid.tiles()}
    naive = np.zeros((2, 50 * scale, 37 * scale))
    for row, column, outer in grid.tiles():
        weights = np.outer(axis_weights(grid.y, row, scale), axis_weights(grid.x, column, scale)).astype(np.float64)
        (top, bottom), (left, right) = grid.y.support(row), grid.x.support(column)
        y, x = (top - outer.y) * scale, (left - outer.x) * scale
        piece = tiles[row, column][:, y : y + weights.shape[0], x : x + weights.shape[1]]
        naive[:, top * scale : bottom * scale, left * scale : right * scale] += weights * piece
    result = blend(grid, scale, 2, lambda r, c: tiles[r, c].copy())
    np.testing.assert_allclose(result, naive, atol=1e-6)


def test_parts_fill_their_own_channels():
    grid = TileGrid(Axis(20, 16, 4, 0), Axis(16, 16, 4, 0))
    accumulator = TileBlender(grid, 1, 2, parts=2)
    rows = []
    for row, column, _ in grid.tiles():
        for channel in (0, 1):
            tile = np.full((1, 16, 16), channel + 0.25, np.float32)
            rows += [b.copy() for b in accumulator.add(row, column, tile, slice(channel, channel + 1))]
    result = np.concatenate(rows, axis=1)
    assert (result[0] == 0.25).all()
    assert (result[1] == 1.25).all()


def test_a_tile_out_of_its_row_raises():
    accumulator = TileBlender(TileGrid(Axis(40, 16, 4, 0), Axis(16, 16, 4, 0)), 1, 1)
    with pytest.raises(CoverageError, match=r"\(1, 0\)"):
        accumulator.add(1, 0, np.zeros((1, 16, 16), np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_quantise_rounds_half_to_even_and_clips(dtype):
    largest = np.iinfo(dtype).max
    halves = np.arange(2000, dtype=np.float32) % largest + np.float32(0.5)
    values = halves / np.float32(largest)
    exact = values * np.float32(largest) == halves  # a half survives the division for some values only
    assert exact.sum() > 100
    values, halves = values[exact], halves[exact]
    result = quantise(values.copy()[None, None], np.dtype(dtype)).ravel()
    assert (result % 2 == 0).all()
    assert (np.abs(result - halves) == 0.5).all()
    outside = np.array([-1.0, -0.0, 1.0, 2.0], np.float32)
    assert quantise(outside[None, None], np.dtype(dtype)).ravel().tolist() == [0, 0, largest, largest]


def test_quantise_keeps_every_integer():
    for dtype in (np.uint8, np.uint16):
        every = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
        unit = (every / np.float32(every[-1])).astype(np.float32)
        assert (quantise(unit[None, None].copy(), np.dtype(dtype)).ravel() == every).all()


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (0.0, 255.0), (-1.0, 1.0), (16.0, 235.0)])
def test_a_models_range_of_values_and_back(value_range):
    unit = np.linspace(0, 1, 256, dtype=np.float32)
    values = to_range(unit, value_range)
    np.testing.assert_allclose(values, np.linspace(*value_range, 256), atol=2e-5)
    np.testing.assert_allclose(from_range(values, value_range), unit, atol=2e-7)
    assert values.dtype == from_range(values, value_range).dtype == np.float32
