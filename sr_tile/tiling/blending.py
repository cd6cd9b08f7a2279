"""Weights of tiles and their sum: finished rows leave, memory stays.

Along one direction, `rise(i)` climbs from 0 to 1 over the ramp before tile `i`; the first tile has no rise (it is 1
everywhere) and behind the last comes 0. The weight of tile `i` is `rise(i) - rise(i + 1)`, so that the weights of all
tiles add up to 1 at every pixel by telescoping, however many tiles overlap there: nothing is clamped and nothing is ever
divided. Ramp values are multiples of 1/4096, so products of two directions and their sums are exact in float32.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from sr_tile.errors import CoverageError
from sr_tile.tiling.grid import Axis, TileGrid
from sr_tile.types import Array, Float32, Pixels

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


def _alone(axis: Axis, index: int) -> tuple[int, int]:
    """(first, end) of the pixels at which tile `index` alone has weight, which is 1 there; empty where there are none."""
    first, end = axis.support(index)
    if index > 0:
        first = max(first, axis.support(index - 1)[1])
    if index < len(axis.starts) - 1:
        end = min(end, axis.support(index + 1)[0])
    return first, max(first, end)


def _seams(axis: Axis) -> list[tuple[int, int]]:
    """(first, end) of the pixels at which several tiles have weight."""
    spans = [span for index in range(len(axis.starts)) if (span := _alone(axis, index))[0] < span[1]]
    edges = [0, *(edge for span in spans for edge in span), axis.length]
    return [(first, end) for first, end in zip(edges[::2], edges[1::2], strict=True) if first < end]


def _one_by_one(task: Callable[[Any], None], items: Iterable[Any]) -> None:
    for item in items:
        task(item)


class TileBlender:
    """Joins the tiles of one image, row of tiles by row of tiles, and hands out finished rows.

    What one tile alone has weight at is final: it goes into the rows of the result at once, as what these hold. Where tiles
    overlap they are weighed and added up in float32, and rounded when the last of them is there.

    Tiles come in any order within a row of tiles, rows in order. Memory holds the rows that one row of tiles touches: at
    most `tile height * scale` rows of the output, float32.

    Args:
        grid: the tiles of the image, or a strip of them: rows come from where the strip's first row of tiles has weight
            to where the row behind its last has some.
        scale: output pixels per input pixel.
        channels: channels of the output image.
        dtype: of the result, see `quantise`.
        parts: how often each tile is added (an RGB image through a one-channel model comes in three parts).
        each: calls a function with each of some items, in any order or side by side, and waits for all.
        room: gives the array that rows are made in, by the first of them and the one behind the last, counted in the whole
            output; None makes new ones.
    """

    def __init__(
        self,
        grid: TileGrid,
        scale: int,
        channels: int,
        dtype: np.dtype,
        parts: int = 1,
        each: Callable[[Callable[[Any], None], Sequence[Any]], None] = _one_by_one,
        room: Callable[[int, int], np.ndarray] | None = None,
    ) -> None:
        self._grid, self._scale, self._parts, self._each = grid, scale, parts, each
        self._dtype, self._channels, self._width = np.dtype(dtype), channels, (width := grid.x.length * scale)
        self._room = room or (lambda first, end: np.empty((end - first, width, channels), dtype))
        self._x_weights = [axis_weights(grid.x, i, scale) for i in range(len(grid.x.starts))]
        self._seams = [slice(first * scale, end * scale) for first, end in _seams(grid.x)]
        places = list(itertools.accumulate((seam.stop - seam.start for seam in self._seams), initial=0))
        # Among the columns of all seams.
        self._places = [slice(first, end) for first, end in itertools.pairwise(places)]
        # Of floats nothing is gained by it, and next to nothing where most columns are in seams.
        self._settles = self._dtype.kind == "u" and 2 * places[-1] <= self._width
        self._row = grid.rows.start  # the row of tiles under way
        self._sums = np.empty((channels, 0, self._width), np.float32)
        self._begin_row()

    @property
    def done(self) -> bool:
        """True once the last row has been handed out."""
        return self._row == self._grid.rows.stop

    def _begin_row(self) -> None:
        """Make room for a row of tiles: `_blocks` and `_seam_sums` for the rows that are its own, `_sums` for all others.

        What `_sums` holds are those of its first rows, to which the tiles above were added.
        """
        if self.done:
            return
        self._top, self._bottom = (edge * self._scale for edge in self._grid.y.support(self._row))
        first, end = (edge * self._scale for edge in _alone(self._grid.y, self._row))
        self._own = slice(first, end) if self._settles and first < end else slice(self._bottom, self._bottom)
        height = self._own.stop - self._own.start
        kept = self._sums
        self._sums = np.zeros((self._channels, self._bottom - self._top - height, self._width), np.float32)
        self._sums[:, : kept.shape[1]] = kept
        columns = self._places[-1].stop if self._places else 0
        self._seam_sums = np.zeros((self._channels, height, columns), np.float32)
        step = max(1, _BLOCK_VALUES // (self._channels * self._width))
        last = self._own.stop
        self._blocks = [self._room(row, min(row + step, last)) for row in range(self._own.start, last, step)]
        self._step, self._added = step, 0

    def add(
        self, row: int, column: int, tile_chw: Pixels[Array, "c h w"], channels: slice = slice(None)
    ) -> Iterator[Pixels[Array, "n W C"]]:
        """Add one tile's output; exhaust what comes back, the rows that it finished, before the next.

        Args:
            row: the row of tiles, never later than the first unfinished one.
            column: the column of tiles.
            tile_chw: (c, tile height * scale, tile width * scale), of the result's number type, or float32, range [0, 1],
                which is used as scratch space.
            channels: the `c` channels of the image that this part fills.

        Returns:
            Blocks of rows, (n, image width * scale, channels), of the result's number type, top to bottom.

        Raises:
            CoverageError: the tile belongs to another row of tiles than the one under way.
        """
        if row != self._row:
            raise CoverageError(f"tile ({row}, {column}) came while row {self._row} of tiles lacks some of its tiles")
        left, right = (edge * self._scale for edge in self._grid.x.support(column))
        y, x = self._grid.y.starts[row] * self._scale, self._grid.x.starts[column] * self._scale
        tile = tile_chw[:, self._top - y : self._bottom - y, left - x : right - x]
        own = slice(self._own.start - self._top, self._own.stop - self._top)
        self._settle(tile[:, own], column, left, channels)
        weights, sums = axis_weights(self._grid.y, row, self._scale), self._sums[channels, :, left:right]
        for part, rows in (
            (slice(0, own.start), slice(0, own.start)),
            (slice(own.stop, None), slice(own.start, None)),
        ):
            values = _weighed(tile[:, part], weights[part, None])
            for inside, _ in self._ramps(left, right):
                values[..., inside] *= self._x_weights[column][inside]
            sums[:, rows] += values
        self._added += 1
        return self._finish_row() if self._added == len(self._x_weights) * self._parts else iter(())

    def _ramps(self, left: int, right: int) -> Iterator[tuple[slice, slice]]:
        """The columns of a tile, from `left` to `right`, that lie in seams: counted from `left`, and among those of all."""
        for seam, place in zip(self._seams, self._places, strict=True):
            low, high = max(left, seam.start), min(right, seam.stop)
            if low < high:
                yield slice(low - left, high - left), slice(*(x - seam.start + place.start for x in (low, high)))

    def _settle(self, tile: np.ndarray, column: int, left: int, channels: slice) -> None:
        """Rows to which no other row of tiles is added: pixels that are final, and sums of neighbouring columns."""
        if not self._blocks:
            return
        first, end = (edge * self._scale - left for edge in _alone(self._grid.x, column))
        place = channels.indices(self._channels)[0]
        if first < end:
            alone = functools.partial(self._copy_alone, tile[:, :, first:end], left + first, place)
            self._each(alone, range(len(self._blocks)))
        for inside, among in self._ramps(left, left + tile.shape[2]):
            self._seam_sums[channels, :, among] += _weighed(tile[..., inside], self._x_weights[column][inside])

    def _copy_alone(self, tile: np.ndarray, left: int, place: int, number: int) -> None:
        """The pixels of a block that this tile alone decides."""
        block = self._blocks[number]
        rows = slice(number * self._step, number * self._step + len(block))
        quantise(tile[:, rows], self._dtype, block[:, left : left + tile.shape[2], place:])

    def _finish_row(self) -> Iterator[Pixels[Array, "n W C"]]:
        """Hand out what no later tile touches, keep the rest, go to the next row of tiles."""
        last = self._row == len(self._grid.y.starts) - 1
        end = (self._grid.y.length if last else self._grid.y.support(self._row + 1)[0]) * self._scale
        summed = end - self._top - sum(len(block) for block in self._blocks)
        for first in range(0, summed, self._step):
            rows = slice(first, min(first + self._step, summed))
            room = self._room(self._top + rows.start, self._top + rows.stop)
            yield quantise(self._sums[:, rows], self._dtype, room)
        row = 0
        while self._blocks:
            block = self._blocks.pop(0)
            for seam, place in zip(self._seams, self._places, strict=True):
                quantise(self._seam_sums[:, row : row + len(block), place], self._dtype, block[:, seam])
            row += len(block)
            yield block
        self._sums = self._sums[:, summed:].copy()
        self._row += 1
        self._begin_row()


def _weighed(tile: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A tile in floats of range [0, 1], times weights; in place where it comes in these."""
    if tile.dtype.kind == "u":
        tile = np.divide(tile, np.float32(largest_value(tile.dtype)), dtype=np.float32)
    tile *= weights
    return tile


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


def quantise(rows_chw: Pixels[Array, "C n W"], dtype: np.dtype, out_hwc: np.ndarray | None = None) -> np.ndarray:
    """Float rows to the pixels of a file: clipped once, rounded half to even once.

    Args:
        rows_chw: (channels, n, width), float32, range [0, 1], which is used as scratch space; or of `dtype` already.
        dtype: uint8 or uint16, range 0 to its largest value, or float32, range [0, 1].
        out_hwc: where they go, (n, width, channels or more) of `dtype`; None makes an array.

    Returns:
        (n, width, channels) of `dtype`, contiguous where it was made.
    """
    rows = rows_chw
    if rows.dtype == np.float32:
        if dtype != np.float32:
            rows *= largest_value(dtype)
            np.rint(rows, out=rows)
        np.clip(rows, 0, largest_value(dtype), out=rows)
    pixels = np.empty((*rows.shape[1:], rows.shape[0]), dtype) if out_hwc is None else out_hwc
    if rows.strides[0] == rows.itemsize and pixels.shape[2] == rows.shape[0]:  # in memory channels come last already
        pixels[...] = rows.transpose(1, 2, 0)
        return pixels
    for channel in range(rows.shape[0]):
        pixels[..., channel] = rows[channel]
    return pixels
