import gc
import weakref

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


def blend(grid, scale, channels, tiles, parts=1, dtype=np.float32):
    accumulator = TileBlender(grid, scale, channels, np.dtype(dtype), parts)
    blocks = [b for row, column, _ in grid.tiles() for b in accumulator.add(row, column, tiles(row, column))]
    assert accumulator.done
    return np.concatenate(blocks).transpose(2, 0, 1)


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


def naive_pixels(grid, scale, channels, tiles, dtype):
    """All tiles added up over the whole image in float32, in their order, and rounded."""
    total = np.zeros((channels, grid.y.length * scale, grid.x.length * scale), np.float32)
    for row, column, outer in grid.tiles():
        weights = [axis_weights(axis, i, scale) for axis, i in ((grid.y, row), (grid.x, column))]
        (top, bottom), (left, right) = grid.y.support(row), grid.x.support(column)
        y, x = (top - outer.y) * scale, (left - outer.x) * scale
        tile = tiles(row, column)[:, y : y + len(weights[0]), x : x + len(weights[1])]
        unit = tile / np.float32(np.iinfo(dtype).max) if tile.dtype == dtype else tile
        total[:, top * scale : bottom * scale, left * scale : right * scale] += unit * weights[0][:, None] * weights[1]
    return quantise(total, np.dtype(dtype)).transpose(2, 0, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("in_pixels", [True, False])
@pytest.mark.parametrize(
    "axes",
    [
        (Axis(50, 16, 6, 0), Axis(37, 20, 4, 1)),
        (Axis(50, 16, 6, 3), Axis(37, 20, 6, 3)),  # hard cuts
        (Axis(50, 16, 12, 1), Axis(37, 20, 13, 0)),  # three tiles at one place: nothing is settled
        (Axis(50, 16, 4, 0), Axis(37, 20, 16, 0)),
        (Axis(9, 16, 4, 0), Axis(37, 20, 4, 0)),
    ],
)
def test_pixels_are_those_of_the_sum_of_all_tiles_rounded_once(axes, in_pixels, dtype, monkeypatch):
    monkeypatch.setattr("sr_tile.tiling.blending._BLOCK_VALUES", 3 * 74 * 5)  # rows leave by fives
    rng, grid = np.random.default_rng(2), TileGrid(*axes)
    shape, white = (3, axes[0].tile * 2, axes[1].tile * 2), np.iinfo(dtype).max
    tiles = {(r, c): rng.integers(0, white + 1, shape).astype(dtype) for r, c, _ in grid.tiles()}
    if not in_pixels:
        tiles = {place: rng.random(shape, np.float32) * np.float32(1.2) - np.float32(0.1) for place in tiles}
    wanted = naive_pixels(grid, 2, 3, lambda r, c: tiles[r, c], dtype)
    for place, tile in tiles.items():
        tile.flags.writeable = not in_pixels  # pixels are nobody's scratch space
        if sum(place) % 2:  # channels last in memory
            tiles[place] = np.ascontiguousarray(tile.transpose(1, 2, 0)).transpose(2, 0, 1)
    assert (blend(grid, 2, 3, lambda r, c: tiles[r, c], dtype=dtype) == wanted).all()


def test_parts_fill_their_own_channels():
    grid = TileGrid(Axis(20, 16, 4, 0), Axis(16, 16, 4, 0))
    accumulator = TileBlender(grid, 1, 2, np.dtype(np.float32), parts=2)
    rows = []
    for row, column, _ in grid.tiles():
        for channel in (0, 1):
            tile = np.full((1, 16, 16), channel / 2 + 0.25, np.float32)
            rows += accumulator.add(row, column, tile, slice(channel, channel + 1))
    result = np.concatenate(rows).transpose(2, 0, 1)
    assert (result[0] == 0.25).all()
    assert (result[1] == 0.75).all()


def test_nothing_keeps_rows_once_a_blender_is_dropped():
    accumulator = TileBlender(TileGrid(Axis(40, 16, 4, 0), Axis(16, 16, 4, 0)), 1, 1, np.dtype(np.uint8))
    accumulator.add(0, 0, np.zeros((1, 16, 16), np.uint8))
    gone = weakref.ref(accumulator)
    gc.disable()
    try:
        del accumulator
        assert gone() is None
    finally:
        gc.enable()


def test_a_tile_out_of_its_row_raises():
    accumulator = TileBlender(TileGrid(Axis(40, 16, 4, 0), Axis(16, 16, 4, 0)), 1, 1, np.dtype(np.uint8))
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
