"""The tiles of a job: which grid an image gets."""

import math
from dataclasses import dataclass, replace

from sr_tile.errors import OutOfMemoryError
from sr_tile.planner.costs import Costs
from sr_tile.system import memory
from sr_tile.tiling.grid import Axis, TileGrid, ending_tile, equalised_tile, round_up
from sr_tile.tiling.padding import Padding

SMALLEST_TILE = 32
ENCODED_BYTES = 2**25  # blocks of finished rows on their way to the encoder
TIE_TOLERANCE = 1.03  # times the best predicted time: measuring is no better than that


@dataclass(frozen=True)
class Plan:
    """Tiles of one job.

    Attributes:
        tile: (height, width) of a tile at most; with `sides`, the one for a photograph of 12 megapixels.
        fitted: tiles shrink to what the image needs; otherwise they keep their size even where the image is smaller.
        equalised: tiles also shrink where the same number of smaller ones covers.
        width_step: equalised tiles of an image that takes several have widths of its multiples, see `Engine`.
        sides: heights and widths that a tile may have as well, where `costs` says which is the fastest for an image.
        costs: of calls, measured.
        overlap: pixels two neighbouring tiles share at least.
        halo: pixels of it that each tile discards.
        multiple: tiles start at multiples of it.
        padding: what stands behind the end of the image in a tile, up to the multiple; `own` is nothing, see `ending_tile`.
        smallest: pixels a side that a tile has at least.
        batch: rows a call.
        whole: each image is one tile, which the engine cuts by itself; `tile` is what it may take at a time.
        strip_budget: bytes that one image under way may take outside the session, None for no bound.
    """

    tile: tuple[int, int]
    overlap: int
    halo: int
    multiple: int
    batch: int = 1
    strip_budget: float | None = None
    fitted: bool = True
    equalised: bool = False
    sides: tuple[int, ...] = ()
    costs: Costs | None = None
    padding: Padding = "replicate"
    smallest: int = 1
    whole: bool = False
    width_step: int = 1

    def grid(self, height: int, width: int) -> TileGrid:
        """The tiles of an image of (height, width) pixels.

        The grid of an image depends on nothing but its size and the plan, so that an image comes out the same alone
        and in a list.
        """
        return self._cheapest(self._grids(height, width))

    def _grids(self, height: int, width: int) -> list[TileGrid]:
        """All that the plan allows for an image: each height of tiles with each width."""
        if not self.sides or self.costs is None:
            return [TileGrid(self._axis(height, self.tile[0]), self._axis(width, self.tile[1], self.width_step))]
        # The plan's own tile comes first.
        sides = ((self.tile[0], *self.sides), (self.tile[1], *self.sides))
        columns, rows = (
            {self._axis(length, side, step): None for side in tiles}
            for length, tiles, step in zip((height, width), sides, (1, self.width_step), strict=True)
        )
        return [TileGrid(y, x) for y in columns for x in rows]

    def _cheapest(self, grids: list[TileGrid]) -> TileGrid:
        """The first where it is as fast as the best; else the one of those that are with the smallest tiles."""
        if len(grids) == 1 or self.costs is None:
            return grids[0]
        seconds = [self.costs.seconds_of(grid, self.batch) for grid in grids]
        good = [grid for grid, time in zip(grids, seconds, strict=True) if time <= TIE_TOLERANCE * min(seconds)]
        return good[0] if good[0] is grids[0] else min(good, key=lambda grid: (math.prod(grid.tile), grid.tile))

    def _axis(self, length: int, tile: int, step: int = 1) -> Axis:
        least = round_up(self.smallest, self.multiple)
        if self.whole:
            return Axis(length, max(least, round_up(length, self.multiple)), self.overlap, self.halo, self.multiple)
        if self.fitted and length <= least:
            tile = least
        elif self.fitted:
            if self.padding == "own":
                tile = ending_tile(length, tile, self.overlap, self.multiple)
            if self.equalised:
                tile = max(equalised_tile(length, tile, self.overlap, self.multiple, step), min(tile, least))
            else:
                tile = min(tile, round_up(length, self.multiple))
        return Axis(length, tile, self.overlap, self.halo, self.multiple)

    def calls(self, image_size: tuple[int, int] | None) -> list[tuple[int, tuple[int, int]]]:
        """Rows and (height, width) of the calls that an image is done by, each once.

        What is left for the last batch comes first: an engine that is ready for full ones may make do with that.

        Args:
            image_size: (height, width); None is any image that fills a batch of the largest tile.
        """
        if image_size is None:
            return [(self.batch, self.tile)]
        grid = self.grid(*image_size)
        rows = [len(grid) % self.batch, self.batch if len(grid) >= self.batch else 0]
        return [(count, grid.tile) for count in rows if count]

    def grid_for(self, height: int, width: int, channels: int, scale: int) -> TileGrid:
        """`grid`, with lower tiles where the image is so wide that its strips would break `strip_budget`.

        Args:
            height: rows of the image.
            width: columns of the image.
            channels: of the image.
            scale: output pixels per input pixel.

        Raises:
            OutOfMemoryError: not even the smallest tiles fit.
        """
        if self.strip_budget is None:
            return self.grid(height, width)
        plan, grids = self, self._grids(height, width)
        if self.whole and strip_bytes(grids[0], channels, scale) > self.strip_budget:
            raise OutOfMemoryError(
                f"an image of {width} x {height} pixels has no room in memory as a whole, which --exact-pooling asks for; "
                "leave it out, or give it more memory (--mem-limit)"
            )
        while not (fitting := [grid for grid in grids if strip_bytes(grid, channels, scale) <= self.strip_budget]):
            needed = min(strip_bytes(grid, channels, scale) for grid in grids)
            try:
                plan = replace(plan, tile=(plan.smaller().tile[0], plan.tile[1]), sides=())
            except OutOfMemoryError:
                raise OutOfMemoryError(
                    f"an image {width} pixels wide needs {memory.format_size(needed)} for its rows under way, and "
                    f"{memory.format_size(max(0, self.strip_budget))} are left for them; use a smaller --tile-size or "
                    "--batch-size, or give it more memory (--mem-limit)"
                ) from None
            grids = plan._grids(height, width)
        return plan._cheapest(fitting)

    def with_halo(self, least: int) -> "Plan":
        """The plan with a halo of at least `least` pixels, and an overlap that has room for it."""
        halo = max(self.halo, least)
        return replace(self, halo=halo, overlap=max(self.overlap, 2 * halo))

    def smaller(self) -> "Plan":
        """The plan with half the tile, for a device that ran out of memory.

        Raises:
            OutOfMemoryError: the tile cannot become smaller.
        """
        if self.whole:
            raise OutOfMemoryError(
                "out of memory with the smallest parts of a picture; free some, or leave --exact-pooling out"
            )
        half = tuple(max(1, side // 2 // self.multiple) * self.multiple for side in self.tile)
        if not self.fitted or half == self.tile or min(half) < max(SMALLEST_TILE, self.smallest):
            raise OutOfMemoryError(
                f"out of memory with one tile of {self.tile[0]} x {self.tile[1]} pixels, which cannot become smaller; "
                "free some memory, or use a smaller model"
            )
        if self.overlap > min(half) - self.multiple:
            raise OutOfMemoryError(
                f"out of memory with one tile of {self.tile[0]} x {self.tile[1]} pixels; half of that has no room for "
                f"the overlap of {self.overlap}: use a smaller --overlap, or free some memory"
            )
        return replace(self, tile=(half[0], half[1]), sides=(), batch=1)


def strip_bytes(grid: TileGrid, channels: int, scale: int) -> int:
    """Bytes of RAM that one image under way takes outside the session, 16 bits a value at worst.

    Four strips of input are read or wait, one strip of output is blended in float32, some blocks of it are encoded.
    """
    decoded = 4 * grid.y.tile * grid.x.length * channels * 2
    blended = grid.y.tile * scale * grid.x.length * scale * channels * 4
    return decoded + blended + ENCODED_BYTES
