"""What a call costs: a formula fitted to a few measured calls."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from sr_tile.tiling.grid import TileGrid


class Point(NamedTuple):
    """One measured shape: (rows, height, width) of a batch, the seconds of its best call, the bytes it took at most."""

    rows: int
    height: int
    width: int
    seconds: float
    size: float

    @property
    def pixels(self) -> int:
        """Pixels of a call."""
        return self.rows * self.height * self.width


@dataclass(frozen=True)
class Costs:
    """Seconds and bytes of calls of any size.

    Both follow the pixels of a call, rows times height times width: at equal pixels, many small tiles cost the same as a
    few large ones to within the noise of measuring, and so do tiles of any form. A call of n pixels takes
    `a + n * (b + c * log2(n))` seconds: `a` is what starting it costs, `b` the arithmetic, and `c` what a cache that
    no longer holds the network's planes costs (or what a fuller device wins) with each doubling. Calls smaller or larger
    than all that were measured pay for a pixel what the smallest or largest did: `c` carried on may fall below nothing.

    Attributes:
        points: what was measured, at least one.
    """

    points: Sequence[Point] = field(repr=False)

    @cached_property
    def _terms(self) -> tuple[float, float, float]:
        """(a, b, c) by least squares of relative errors; as many as the points settle, and a formula that never falls."""
        pixels = np.array([point.pixels for point in self.points], float)
        seconds = np.array([point.seconds for point in self.points])
        columns = {"a": np.ones_like(pixels), "b": pixels, "c": pixels * np.log2(pixels)}
        for names in ("abc", "bc", "ab", "b"):
            if len(names) >= max(2, len(set(pixels))):
                continue
            matrix = np.stack([columns[name] for name in names], axis=1) / seconds[:, None]
            found = dict(zip(names, np.linalg.lstsq(matrix, np.ones_like(seconds), rcond=None)[0], strict=True))
            a, b, c = (float(found.get(name, 0.0)) for name in "abc")
            if a >= 0 and all(b + c * np.log2(n) + min(c, 0.0) * 1.4427 > 0 for n in (pixels.min(), pixels.max())):
                return a, b, c
        return 0.0, float(np.median(seconds / pixels)), 0.0

    @property
    def largest(self) -> int:
        """Pixels of the largest call that was measured."""
        return max(point.pixels for point in self.points)

    @cached_property
    def _line(self) -> tuple[float, float]:
        """(a, b) of `a + b * pixels` bytes, above all points: what the first call takes once belongs to no pixel."""
        pixels = np.array([point.pixels for point in self.points], float)
        sizes = np.array([point.size for point in self.points], float)
        slope = float(np.polyfit(pixels, sizes, 1)[0]) if len(set(pixels)) > 1 else 0.0
        if slope <= 0:
            return 0.0, float(max(sizes / pixels))
        return max(0.0, float(max(sizes - slope * pixels))), slope

    @property
    def bytes_per_pixel(self) -> float:
        """Bytes that one pixel more takes."""
        return self._line[1]

    def call_bytes(self, pixels: float) -> float:
        """Of one call, and of what a process takes once."""
        fixed, slope = self._line
        return fixed + slope * pixels

    def seconds(self, pixels: int) -> float:
        """Of one call."""
        a, b, c = self._terms
        least = min(point.pixels for point in self.points)
        return float(a + pixels * (b + c * np.log2(min(max(pixels, least), self.largest))))

    def seconds_of(self, grid: TileGrid, batch: int) -> float:
        """Of all calls of one image, in batches of `batch` tiles; what is computed twice is counted twice."""
        full, rest = divmod(len(grid), batch)
        pixels = grid.y.tile * grid.x.tile
        return full * self.seconds(batch * pixels) + (self.seconds(rest * pixels) if rest else 0.0)
