"""Where rows of pixels come from and where they go, and both narrowed to some rows of an image."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from sr_tile.errors import ArgumentError
from sr_tile.images.formats import ImageInfo

_DROP_ROWS = 256


class Source(Protocol):
    """Where rows of an image come from."""

    info: ImageInfo

    def read_rows(self, count: int) -> np.ndarray:
        """The next rows, (count, width, channels)."""
        ...

    def close(self) -> None:
        """No more rows are wanted."""
        ...


class Sink(Protocol):
    """Where rows of an image go."""

    dtype: np.dtype

    def write_rows(self, rows_hwc: np.ndarray) -> None:
        """Take the next rows, (n, width, channels) of `dtype`."""
        ...

    def close(self) -> None:
        """All rows were written: make them final."""
        ...

    def abort(self) -> None:
        """Leave nothing behind; harmless after `close`, when called twice, and from another thread."""
        ...


def whole_bytes_of(image: Source | Sink | None) -> int:
    """Bytes that reading or writing takes beside the rows under way, 0 where there is no `whole_bytes` that says so."""
    return getattr(image, "whole_bytes", 0)


def room_of(sink: Sink) -> Callable[[int, int], np.ndarray] | None:
    """Where rows should be made, by the first and the one behind the last; None where a sink takes them from anywhere."""
    return getattr(sink, "room", None)


class SkippingSource:
    """A source whose first rows are read and dropped, before the first that is wanted."""

    def __init__(self, source: Source, skip: int = 0) -> None:
        self._source, self.skip = source, skip
        self.info: ImageInfo = source.info
        self.whole_bytes = whole_bytes_of(source)

    def read_rows(self, count: int) -> np.ndarray:
        """See `Source.read_rows`."""
        while self.skip > 0:
            dropped = len(self._source.read_rows(min(self.skip, _DROP_ROWS)))
            self.skip -= dropped or self.skip  # a source that ends here says so below
        return self._source.read_rows(count)

    def close(self) -> None:
        """See `Source.close`."""
        self._source.close()


class CroppingSource:
    """A window of a source: rows above it are read and dropped, those below are not read.

    Args:
        source: of the whole picture.
        window: (x, y, width, height) in pixels, after the EXIF orientation was applied.
        name: what messages call the picture.

    Raises:
        ArgumentError: the window does not lie in the picture.
    """

    def __init__(self, source: Source, window: tuple[int, int, int, int], name: str) -> None:
        x, y, width, height = window
        whole = source.info
        if x + width > whole.width or y + height > whole.height:
            source.close()
            raise ArgumentError(
                f"{name}: {width} x {height} from {x},{y} is not inside of its {whole.width} x {whole.height}"
            )
        self._rows, self._columns, self._left = SkippingSource(source, y), slice(x, x + width), height
        self.info: ImageInfo = replace(whole, height=height, width=width)
        self.whole_bytes = whole_bytes_of(source)

    def read_rows(self, count: int) -> np.ndarray:
        """See `Source.read_rows`."""
        rows_hwc = self._rows.read_rows(min(count, self._left))[:, self._columns]
        self._left -= len(rows_hwc)
        return np.ascontiguousarray(rows_hwc)

    def close(self) -> None:
        """See `Source.close`."""
        self._rows.close()


class CroppingSink:
    """Passes a strip's own rows on and drops those before them, which lack the tiles above."""

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
