"""Strips of one image: rows of tiles that can be computed apart, with exactly the pixels of the whole.

A strip is some rows of tiles that follow each other, from `first` to before `stop`, and the rows of pixels that these
finish: those from where row `first` begins to have weight to where row `stop` does. At its upper edge rows of tiles above
`first` have weight as well, so they are computed twice, once for each strip; below, nothing is::

    tile row first - 1   [==========|~~~~]              computed for this strip again, its upper rows are dropped
    tile row first               [~~~~|==========|~~~~]
    tile row stop - 1                         [~~~~|==========|~~~~]
    tile row stop                                          [~~~~|==========]    not needed
    rows of the strip              |-----------------------|

Each row of pixels is the sum of the same tiles, with the same weights, in the same order, whichever strip it is in.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from sr_tile.errors import GeometryError
from sr_tile.tiling.grid import TileGrid


@dataclass(frozen=True)
class Strip:
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
            raise GeometryError(f"rows of tiles {self.first} to {self.stop} are no strip of the {count} there are")

    @property
    def rows(self) -> tuple[int, int]:
        """(first, end) of the finished rows, in input pixels; strips that follow each other partition the image."""
        return edge(self.grid, self.first), edge(self.grid, self.stop)

    @cached_property
    def tiles(self) -> range:
        """The rows of tiles to compute: the strip's, and those above that reach into it."""
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
        """Rows, in input pixels, that come before the strip's own and are not finished."""
        return self.rows[0] - edge(self.grid, self.tiles.start)


def edge(grid: TileGrid, row: int) -> int:
    """The first row of pixels, of the input, that row `row` of tiles touches; the image's height behind the last."""
    return grid.y.length if row == len(grid.y.starts) else grid.y.support(row)[0]


def split(grid: TileGrid, rows: range, most: int) -> Iterator[Strip]:
    """Strips that cover some rows of tiles, of at most `most` each, as even as can be."""
    count = -(-len(rows) // most)
    edges = [rows.start + len(rows) * i // count for i in range(count + 1)] if count else []
    for first, stop in itertools.pairwise(edges):
        yield Strip(grid, first, stop)
