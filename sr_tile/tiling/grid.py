"""Where tiles lie: integers only, no pixels.

One direction of an image that is cut into three tiles (the other direction is the same)::

    image      |0 ------------------------------------------------------- length|
    tile 0     [================|~~~~~~~]                                  outer = what the network reads
    tile 1                  [~~~~~~~|=============|~~~~~~~]
    tile 2                                    [~~~~~~~|===================]
    overlap                 <--------->           <---->                   shared by two neighbours, at least `overlap`
    cut                             ^                 ^                    the inner regions meet in the middle of it
    ramp                         [ / ]             [ / ]                   `overlap - 2 * halo` wide: blended
    halo                    <--->                                          real context, read and discarded

Three kinds of pixels around a tile, three words: **halo** is real context that the network reads and we discard;
**overlap** is what two tiles share, of which the halo goes and the rest is blended; **padding** is what we invent because
the image has no pixel there: where the image is smaller than the tile, or its length no multiple of the alignment; see
`padding` for how, and `ending_tile` for where nobody can. Every tile starts on the alignment, or a network with strides
or windows would see the last one through another grid.

The number of tiles is the least that covers, and they are spread evenly, as nnU-Net does with its steps (Isensee et al.,
Nature Methods 2021). All of this is (y, x) and (height, width), in input pixels; only `scale` crosses to output pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from sr_tile.errors import GeometryError


def round_up(value: int, multiple: int) -> int:
    """The least multiple that is not below the value."""
    return -(-value // multiple) * multiple


@dataclass(frozen=True)
class Region:
    """A rectangle of pixels: top-left corner and size.

    >>> Region(8, 0, 4, 6).scale(2)
    Region(y=16, x=0, height=8, width=12)
    """

    y: int
    x: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, ready to index an array whose first two axes are (height, width)."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    def scale(self, factor: int) -> "Region":
        """The same rectangle in output pixels."""
        return Region(self.y * factor, self.x * factor, self.height * factor, self.width * factor)


@dataclass(frozen=True)
class Axis:
    """The tiles along one direction of an image.

    Args:
        length: pixels of the image in this direction, at least 1.
        tile: pixels of a tile, at least 1; where it is larger than `length`, the rest of the one tile is padding. Of a
            tile that is no multiple of `multiple` only the whole ones count, but for the last tile.
        overlap: pixels that two neighbouring tiles share at least, from 0 to `tile - multiple`.
        halo: pixels discarded at each tile's edge inside the image, at most half of `overlap`.
        multiple: starts of tiles are multiples of it; the last tile ends at the image's edge, or, where that is not
            aligned, fewer than `multiple` pixels beyond it.

    Raises:
        GeometryError: the numbers do not fit together.
    """

    length: int
    tile: int
    overlap: int
    halo: int
    multiple: int = 1

    def __post_init__(self) -> None:
        if self.length < 1 or self.tile < 1 or self.multiple < 1:
            raise GeometryError(
                f"length {self.length}, tile {self.tile} and multiple {self.multiple} must each be 1 or more"
            )
        if not 0 <= 2 * self.halo <= self.overlap:
            raise GeometryError(
                f"halo {self.halo} does not fit overlap {self.overlap}: two tiles discard 2 x halo of what they share; "
                f"use a halo from 0 to {self.overlap // 2}, or an overlap of {2 * self.halo} or more"
            )
        if self.tile < self.length and self.stride < self.multiple:
            raise GeometryError(
                f"overlap {self.overlap} is too large for tile {self.tile}: tiles advance in steps of {self.multiple}; "
                f"use an overlap of at most {max(0, self.tile - self.multiple)}, or a larger tile"
            )

    @property
    def whole(self) -> int:
        """Pixels of a tile up to the end of its last whole cell of the grid: behind it the network pads."""
        return self.tile // self.multiple * self.multiple

    @property
    def stride(self) -> int:
        """The longest step between two tiles that keeps the overlap and the alignment."""
        return (self.whole - self.overlap) // self.multiple * self.multiple

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First pixel of each tile: rising, the first 0, the last `length - tile` rounded up to the multiple, or 0."""
        room = self.length - self.tile
        if room <= 0:
            return (0,)
        steps = -(-room // self.stride)
        aligned_room = -(-room // self.multiple)
        return tuple(i * aligned_room // steps * self.multiple for i in range(steps + 1))

    @cached_property
    def cuts(self) -> tuple[int, ...]:
        """Where neighbouring inner regions meet: the middle of what the two tiles share; one less than tiles."""
        return tuple(
            (after + before + self.whole) // 2 for before, after in zip(self.starts, self.starts[1:], strict=False)
        )

    @property
    def blend(self) -> int:
        """Width of the ramp around each cut, in input pixels; 0 is a hard cut."""
        return self.overlap - 2 * self.halo

    def inner(self, index: int) -> tuple[int, int]:
        """(first, end) of the pixels that belong to tile `index`: these partition the image."""
        edges = (0, *self.cuts, self.length)
        return edges[index], edges[index + 1]

    def ramp(self, index: int) -> tuple[int, int]:
        """(first, end) of the ramp between tile `index` and the next."""
        first = self.cuts[index] - self.blend // 2
        return first, first + self.blend

    def support(self, index: int) -> tuple[int, int]:
        """(first, end) of the pixels at which tile `index` has weight."""
        first = 0 if index == 0 else self.ramp(index - 1)[0]
        end = self.length if index == len(self.starts) - 1 else self.ramp(index)[1]
        return first, end


@dataclass(frozen=True)
class TileGrid:
    """The tiles of one image: a column `y` of tile rows times a row `x` of tile columns, one shape for all.

    Args:
        y: the rows of tiles.
        x: the columns of tiles.
        strip: the rows of tiles that are computed, numbered as in the whole image; None is all of them.

    >>> grid = TileGrid(Axis(448, 256, 64, 16), Axis(256, 256, 64, 16))
    >>> [tile.y for _, _, tile in grid.tiles()]
    [0, 192]
    """

    y: Axis
    x: Axis
    strip: range | None = None

    @property
    def rows(self) -> range:
        """The rows of tiles that are computed: all, or those of the strip."""
        return range(len(self.y.starts)) if self.strip is None else self.strip

    @property
    def tile(self) -> tuple[int, int]:
        """(height, width) of every tile, padding included."""
        return self.y.tile, self.x.tile

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of tiles."""
        return len(self.rows), len(self.x.starts)

    def __len__(self) -> int:
        return len(self.rows) * len(self.x.starts)

    def tiles(self) -> Iterator[tuple[int, int, Region]]:
        """Each tile as (row, column, outer region), row by row from the top; a region may leave a small image."""
        for row in self.rows:
            for column, x in enumerate(self.x.starts):
                yield row, column, Region(self.y.starts[row], x, self.y.tile, self.x.tile)

    def inner(self, row: int, column: int) -> Region:
        """The pixels that belong to one tile; over all tiles these partition the image."""
        (top, bottom), (left, right) = self.y.inner(row), self.x.inner(column)
        return Region(top, left, bottom - top, right - left)

    def support(self, row: int, column: int) -> Region:
        """The pixels of one tile that have weight, counted from its corner."""
        (top, bottom), (left, right) = self.y.support(row), self.x.support(column)
        return Region(top - self.y.starts[row], left - self.x.starts[column], bottom - top, right - left)

    @property
    def redundancy(self) -> float:
        """Pixels computed over pixels of the whole image: 1.0 where nothing is computed twice."""
        return len(self) * self.y.tile * self.x.tile / (self.y.length * self.x.length)


def ending_tile(length: int, tile: int, overlap: int, multiple: int) -> int:
    """The largest tile up to `tile` that starts on the grid and whose last one ends where the image does, unpadded.

    For networks that pad what is no multiple in a way that nobody else can imitate: all tiles have one shape, and each but
    the last one loses less than `multiple` pixels to that padding.

    >>> ending_tile(331, 96, 16, 8)
    91
    """
    if length <= tile:
        return length
    found = tile - (tile - length) % multiple
    return found if found // multiple * multiple - overlap >= multiple else found + multiple


def equalised_tile(length: int, tile: int, overlap: int, multiple: int = 1, step: int = 1) -> int:
    """The smallest tile that needs no more tiles than `tile` does, so that nothing is computed for nothing.

    Where the image is smaller than `tile`, that is the image's length rounded up to `multiple`. The idea is chaiNNer's
    equalised tile count. All arguments are pixels of one direction; what comes back is off the grid
    by as much as `tile` is, and where there are several tiles a multiple of `step`, if one fits.

    >>> equalised_tile(4000, 512, 32)  # 9 tiles either way, but these compute 6 % twice, not 15 %
    473
    >>> equalised_tile(4000, 512, 32, step=16)
    480
    """
    if length <= tile:
        return min(tile, round_up(length, multiple))
    count = len(Axis(length, tile, overlap, 0, multiple).starts)
    smallest = -(-(length + (count - 1) * overlap) // count)
    enough = (
        candidate
        for candidate in range(smallest + (tile - smallest) % multiple, tile, multiple)
        if candidate // multiple * multiple - overlap >= multiple
        and len(Axis(length, candidate, overlap, 0, multiple).starts) <= count
    )
    least = next(enough, tile)
    return next((candidate for candidate in chain([least], enough, [tile]) if candidate % step == 0), least)
