"""Weights of tiles and their sum: finished rows leave, memory stays.

Along one direction, `rise(i)` climbs from 0 to 1 over the ramp before tile `i`; the first tile has no rise (it is 1
everywhere) and behind the last comes 0. The weight of tile `i` is `rise(i) - rise(i + 1)`, so that the weights of all
tiles add up to 1 at every pixel by telescoping, however many tiles overlap there: nothing is clamped and nothing is ever
divided. Ramp values are multiples of 1/4096, so products of two directions and their sums are exact in float32.
"""

from collections.abc import Iterator

import numpy as np

from sr_tile.errors import CoverageError
from sr_tile.tiling.grid import Axis, TileGrid
from sr_tile.types import Array, Float32

_STEPS = 4096
_BLOCK_VALUES = 2**20  # finished rows leave in blocks, so that rounding them takes little memory


def axis_weights(axis: Axis, index: int, scale: int) -> Float32[Array, " n"]:
    """Weights of tile `index` over its support, in output pixels: (n,), float32, range [0, 1].

    Args:
        axis: the tiles along one direction.
        index: which of them.
        scale: output pixels per input pixel; the support is `axis.support(index)` times it.
    """
    first, end = (edge * scale for edge in axis.support(index))
    weights = np.ones(end - first, np.float32)
    for cut, sign in ((index - 1, 1), (index, -1)):
        if not 0 <= cut < len(axis.cuts):
            continue
        ramp_first, ramp_end = (edge * scale for edge in axis.ramp(cut))
        width = ramp_end - ramp_first
        ramp = np.rint((np.arange(width) + 0.5) * (_STEPS / max(width, 1))).astype(np.float32) / _STEPS
        rise = np.ones(end - first, np.float32) if sign > 0 else np.zeros(end - first, np.float32)
        # The other tile's ramp may begin before or end behind this support where three tiles overlap.
        low, high = max(ramp_first, first), min(ramp_end, end)
        rise[low - first : high - first] = ramp[low - ramp_first : high - ramp_first]
        if sign > 0:
            rise[: max(0, low - first)] = 0
            weights = rise
        else:
            rise[max(0, high - first) :] = 1
            weights = weights - rise
    return weights


def _thirds(weights: Float32[Array, " n"]) -> tuple[slice, slice, slice]:
    """The pixels of a tile before, in and behind its middle, where its weight is 1 and that of all others therefore 0."""
    inside = np.flatnonzero(weights == 1)
    first, end = (inside[0], inside[-1] + 1) if inside.size else (len(weights), len(weights))
    return slice(0, first), slice(first, end), slice(end, len(weights))


class TileBlender:
    """Adds up the weighted tiles of one image, row of tiles by row of tiles, and hands out finished rows.

    Tiles come in any order within a row of tiles, rows in order. Memory holds the rows that one row of tiles touches:
    at most `tile height * scale` rows of the output, float32.

    Args:
        grid: the tiles of the image, or a strip of them: rows come from where the strip's first row of tiles has weight
            to where the row behind its last has some.
        scale: output pixels per input pixel.
        channels: channels of the output image.
        parts: how often each tile is added (an RGB image through a one-channel model comes in three parts).
    """

    def __init__(self, grid: TileGrid, scale: int, channels: int, parts: int = 1) -> None:
        self._grid, self._scale, self._parts = grid, scale, parts
        self._x_weights = [axis_weights(grid.x, i, scale) for i in range(len(grid.x.starts))]
        supports = [grid.y.support(i) for i in grid.rows]
        height = max((end - first for first, end in supports), default=0) * scale
        self._rows = np.zeros((channels, height, grid.x.length * scale), np.float32)
        self._row = grid.rows.start  # the row of tiles under way
        self._top = supports[0][0] * scale if supports else 0  # the output row that self._rows begins with
        self._added = 0

    @property
    def done(self) -> bool:
        """True once the last row has been handed out."""
        return self._row == self._grid.rows.stop

    def add(
        self, row: int, column: int, tile_chw: Float32[Array, "c h w"], channels: slice = slice(None)
    ) -> Iterator[Float32[Array, "C n W"]]:
        """Add one tile's output; exhaust what comes back, the rows that it finished, before the next.

        Args:
            row: the row of tiles, never later than the first unfinished one.
            column: the column of tiles.
            tile_chw: (c, tile height * scale, tile width * scale), float32. It is used as scratch space.
            channels: the `c` channels of the image that this part fills.

        Returns:
            Blocks of rows, (channels, n, image width * scale), float32, top to bottom; each is valid until the next.

        Raises:
            CoverageError: the tile belongs to another row of tiles than the one under way.
        """
        if row != self._row:
            raise CoverageError(f"tile ({row}, {column}) came while row {self._row} of tiles lacks some of its tiles")
        scale, y, x = self._scale, self._grid.y, self._grid.x
        (top, bottom), (left, right) = (
            tuple(edge * scale for edge in axis.support(i)) for axis, i in ((y, row), (x, column))
        )
        offset_y, offset_x = y.starts[row] * scale, x.starts[column] * scale
        tile = tile_chw[:, top - offset_y : bottom - offset_y, left - offset_x : right - offset_x]
        rows = self._rows[channels, top - self._top : bottom - self._top, left:right]
        weights = axis_weights(y, row, scale)
        before, alone, behind = _thirds(weights)
        for part in (before, behind):
            tile[:, part] *= weights[part, None]
        self._add_rows(rows, tile, column, before, alone=False)
        self._add_rows(rows, tile, column, alone, alone=True)
        self._add_rows(rows, tile, column, behind, alone=False)
        self._added += 1
        return self._finish_row() if self._added == len(x.starts) * self._parts else iter(())

    def _add_rows(self, rows: np.ndarray, tile: np.ndarray, column: int, part: slice, *, alone: bool) -> None:
        """Weigh rows of a tile along x and add them; where it is alone there is nothing to add to."""
        weights = self._x_weights[column]
        before, inside, behind = _thirds(weights)
        for ramp in (before, behind):
            tile[:, part, ramp] *= weights[ramp]
            rows[:, part, ramp] += tile[:, part, ramp]
        if alone:
            rows[:, part, inside] = tile[:, part, inside]
        else:
            rows[:, part, inside] += tile[:, part, inside]

    def _finish_row(self) -> Iterator[Float32[Array, "C n W"]]:
        """Hand out what no later tile touches, keep the rest, go to the next row of tiles."""
        last = self._row == len(self._grid.y.starts) - 1
        end = (self._grid.y.length if last else self._grid.y.support(self._row + 1)[0]) * self._scale
        finished = end - self._top
        step = max(1, _BLOCK_VALUES // (self._rows.shape[0] * self._rows.shape[2]))
        for first in range(0, finished, step):
            yield self._rows[:, first : min(first + step, finished)]
        kept = 0 if last else self._grid.y.support(self._row)[1] * self._scale - end
        self._rows[:, :kept] = self._rows[:, finished : finished + kept].copy()
        self._rows[:, kept:] = 0
        self._top, self._row, self._added = end, self._row + 1, 0


def largest_value(dtype: np.dtype) -> int:
    """White: of integers the largest one, of floats 1."""
    return 1 if dtype == np.float32 else int(np.iinfo(dtype).max)


def to_unit(pixels_hwc: np.ndarray) -> Float32[Array, "C h w"]:
    """Pixels of a file to floats of range [0, 1]; the inverse of `quantise`."""
    largest = np.float32(largest_value(pixels_hwc.dtype))
    return np.divide(pixels_hwc.transpose(2, 0, 1), largest, dtype=np.float32, order="C")


def to_range(unit: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Floats of range [0, 1] to those of a model's range, (black, white); the same array where that is [0, 1]."""
    low, high = value_range
    return unit if (low, high) == (0.0, 1.0) else unit * np.float32(high - low) + np.float32(low)


def from_range(values: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """The inverse of `to_range`; values beyond black and white stay beyond."""
    low, high = value_range
    return values if (low, high) == (0.0, 1.0) else (values - np.float32(low)) / np.float32(high - low)


def quantise(rows_chw: Float32[Array, "C n W"], dtype: np.dtype) -> np.ndarray:
    """Float rows to the pixels of a file: clipped once, rounded half to even once.

    Args:
        rows_chw: (channels, n, width), float32, range [0, 1]; it is used as scratch space.
        dtype: uint8 or uint16, range 0 to its largest value, or float32, range [0, 1].

    Returns:
        (n, width, channels) of `dtype`, contiguous.
    """
    rows = rows_chw
    if dtype != np.float32:
        rows *= largest_value(dtype)
        np.rint(rows, out=rows)
    np.clip(rows, 0, largest_value(dtype), out=rows)
    pixels = np.empty((*rows.shape[1:], rows.shape[0]), dtype)
    for channel in range(rows.shape[0]):
        pixels[..., channel] = rows[channel]
    return pixels
