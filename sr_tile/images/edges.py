"""How a picture goes on beyond its borders, where that is not left to the network."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sr_tile.errors import ArgumentError
from sr_tile.images.formats import ImageInfo
from sr_tile.images.reader import ImageReader
from sr_tile.images.rows import SkippingSource, Source, whole_bytes_of

EdgeMode = Literal["wrap", "reflect", "edge"]
"""As `numpy.pad` calls them."""

_BOTH: dict[str, EdgeMode] = {"wrap": "wrap", "mirror": "reflect", "replicate": "edge"}
EdgesName = Literal["wrap", "wrap-x", "wrap-y", "mirror", "replicate"]
"""What `parse_edges` reads."""


@dataclass(frozen=True)
class Edges:
    """How a picture goes on upwards and downwards (`y`), and to the left and right (`x`); None leaves it to the network."""

    y: EdgeMode | None = None
    x: EdgeMode | None = None

    def margins(self, margin: int) -> tuple[int, int]:
        """Pixels to add on each side of both axes, (y, x)."""
        return margin if self.y else 0, margin if self.x else 0


def parse_edges(text: str) -> Edges:
    """Of `wrap`, `wrap-x`, `wrap-y`, `mirror` or `replicate`.

    Raises:
        ArgumentError: it is none of them.
    """
    if text in ("wrap-x", "wrap-y"):
        return Edges(**{text[-1]: "wrap"})  # type: ignore[arg-type]
    if text not in _BOTH:
        raise ArgumentError(f"--edges {text}: choose wrap, wrap-x, wrap-y, mirror or replicate")
    return Edges(_BOTH[text], _BOTH[text])


class ContinuedSource:
    """A source with a margin around it, taken from its other rows and columns.

    As many rows as the margin has are kept of its top and its bottom. Where rows wrap, the bottom is needed first: the
    source is read twice.

    Args:
        source: of the picture.
        reopen: opens the same once more.
        edges: what the margin shows.
        margin: in pixels.
    """

    def __init__(self, source: Source, reopen: Callable[[], Source], edges: Edges, margin: int) -> None:
        self._source, self._reopen = source, reopen
        inside = source.info
        my, mx = edges.margins(margin)
        self._rows = _positions(inside.height, my, edges.y)
        self._columns = _positions(inside.width, mx, edges.x) if mx else None
        self._kept: dict[int, np.ndarray] = {}
        self._ends = min(inside.height, my + 1), max(0, inside.height - my - 1)
        self._height, self._next_row, self._next_inside = inside.height, 0, 0
        self.info: ImageInfo = replace(inside, height=inside.height + 2 * my, width=inside.width + 2 * mx)
        self.whole_bytes = whole_bytes_of(source)
        self._wraps = edges.y == "wrap" and my > 0

    def read_rows(self, count: int) -> np.ndarray:
        """See `Source.read_rows`."""
        if self._wraps and not self._kept:
            self._read_bottom()
        wanted = self._rows[self._next_row : self._next_row + count]
        self._next_row += len(wanted)
        rows: dict[int, np.ndarray] = {}
        last = max((row for row in wanted.tolist() if row not in self._kept), default=-1)
        if last >= self._next_inside:
            block_hwc = self._source.read_rows(last + 1 - self._next_inside)
            rows = self._take(block_hwc, self._next_inside)
            self._next_inside += len(block_hwc)
        found = [self._kept[row] if row in self._kept else rows.get(row) for row in wanted.tolist()]
        present = [row_wc for row_wc in found if row_wc is not None]  # fewer where the source ends too early
        rows_hwc = np.stack(present) if present else np.empty((0, *self._shape), self.info.dtype)
        return rows_hwc if self._columns is None else np.take(rows_hwc, self._columns, axis=1)

    @property
    def _shape(self) -> tuple[int, int]:
        return self._source.info.width, self._source.info.channels

    def _take(self, block_hwc: np.ndarray, start: int) -> dict[int, np.ndarray]:
        """Rows by their number; those at both ends are kept."""
        rows = dict(enumerate(block_hwc, start))
        for row in rows:
            if row < self._ends[0] or row >= self._ends[1]:
                self._kept.setdefault(row, rows[row].copy())
        return rows

    def _read_bottom(self) -> None:
        source = self._reopen()
        if isinstance(source, ImageReader):
            source.say_nothing()  # twice
        try:
            start = self._ends[1]
            self._take(SkippingSource(source, start).read_rows(self._height - start), start)
        finally:
            source.close()

    def close(self) -> None:
        """See `Source.close`."""
        self._source.close()


def _positions(length: int, margin: int, mode: EdgeMode | None) -> np.ndarray:
    """Which row or column stands where."""
    return np.pad(np.arange(length), margin, mode=mode) if mode and margin else np.arange(length)
