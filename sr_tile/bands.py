"""Bands of one image: rows of tiles that can be computed apart, with exactly the pixels of the whole.

A band is some rows of tiles that follow each other, from `first` to before `stop`, and the rows of pixels that these
finish: those from where row `first` begins to have weight to where row `stop` does. At its upper edge rows of tiles above
`first` have weight as well, so they are computed twice, once for each band; below, nothing is::

    tile row first - 1   [==========|~~~~]              computed for this band again, its upper rows are dropped
    tile row first               [~~~~|==========|~~~~]
    tile row stop - 1                         [~~~~|==========|~~~~]
    tile row stop                                          [~~~~|==========]    not needed
    rows of the band              |-----------------------|

Each row of pixels is the sum of the same tiles, with the same weights, in the same order, whichever band it is in.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sr_tile.channels import Alpha
from sr_tile.errors import GeometryError
from sr_tile.geometry import TileGrid
from sr_tile.images import ImageInfo
from sr_tile.planner import Plan
from sr_tile.work import Sink, Source

_DROP_ROWS = 256


@dataclass(frozen=True)
class Band:
    """Some rows of tiles that follow each other, and the rows of pixels that they finish.

    Args:
        grid: the tiles of the whole image.
        first: first row of tiles.
        stop: the row of tiles behind the last.

    Raises:
        GeometryError: there are no such rows of tiles.
    """

    grid: TileGrid
    first: int
    stop: int

    def __post_init__(self) -> None:
        count = len(self.grid.y.starts)
        if not 0 <= self.first < self.stop <= count:
            raise GeometryError(f"rows of tiles {self.first} to {self.stop} are no band of the {count} there are")

    @property
    def rows(self) -> tuple[int, int]:
        """(first, end) of the finished rows, in input pixels; bands that follow each other partition the image."""
        return edge(self.grid, self.first), edge(self.grid, self.stop)

    @cached_property
    def tiles(self) -> range:
        """The rows of tiles to compute: the band's, and those above that reach into it."""
        top = self.rows[0]
        above = (row for row in range(self.first) if self.grid.y.support(row)[1] > top)
        return range(next(above, self.first), self.stop)

    @property
    def reads(self) -> tuple[int, int]:
        """(first, end) of the rows that the tiles read, in input pixels."""
        axis = self.grid.y
        return axis.starts[self.tiles.start], min(axis.starts[self.stop - 1] + axis.tile, axis.length)

    @property
    def dropped(self) -> int:
        """Rows, in input pixels, that come before the band's own and are not finished."""
        return self.rows[0] - edge(self.grid, self.tiles.start)


def grid_of(plan: Plan, info: ImageInfo, scale: int, alpha: Alpha) -> TileGrid:
    """The tiles of one image.

    Raises:
        OutOfMemoryError: it is so wide that not even the smallest tiles fit.
    """
    if info.has_alpha and alpha == "bicubic" and scale > 1:
        # Bicubic interpolation looks two pixels around: the same context for every tile, or alpha would show seams.
        plan = plan.with_halo(2)
    return plan.grid_for(info.height, info.width, info.channels, scale)


def edge(grid: TileGrid, row: int) -> int:
    """The first row of pixels, of the input, that row `row` of tiles touches; the image's height behind the last."""
    return grid.y.length if row == len(grid.y.starts) else grid.y.support(row)[0]


def split(grid: TileGrid, rows: range, most: int) -> Iterator[Band]:
    """Bands that cover some rows of tiles, of at most `most` each, as even as can be."""
    count = -(-len(rows) // most)
    edges = [rows.start + len(rows) * i // count for i in range(count + 1)] if count else []
    for first, stop in itertools.pairwise(edges):
        yield Band(grid, first, stop)


class SkippingSource:
    """A source whose first rows are read and dropped, before the first that is wanted."""

    def __init__(self, source: Source, skip: int = 0) -> None:
        self._source, self.skip = source, skip
        self.info: ImageInfo = source.info

    def read_rows(self, count: int) -> np.ndarray:
        """See `Source.read_rows`."""
        while self.skip > 0:
            dropped = len(self._source.read_rows(min(self.skip, _DROP_ROWS)))
            self.skip -= dropped or self.skip  # a source that ends here says so below
        return self._source.read_rows(count)

    def close(self) -> None:
        """See `Source.close`."""
        self._source.close()


class CroppingSink:
    """Passes a band's own rows on and drops those before them, which lack the tiles above."""

    def __init__(self, sink: Sink, drop: int) -> None:
        self.sink, self._drop = sink, drop
        self.dtype = sink.dtype

    def write_rows(self, rows_hwc: np.ndarray) -> None:
        """See `Sink.write_rows`."""
        dropped = min(self._drop, len(rows_hwc))
        self._drop -= dropped
        if dropped < len(rows_hwc):
            self.sink.write_rows(rows_hwc[dropped:])

    def close(self) -> None:
        """See `Sink.close`."""
        self.sink.close()

    def abort(self) -> None:
        """See `Sink.abort`."""
        self.sink.abort()
