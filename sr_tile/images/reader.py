"""Files to rows of pixels."""

import functools
import logging
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from sr_tile.errors import ArgumentError, ImageReadError, SrTileError, one_line
from sr_tile.images.decoded import Decoded
from sr_tile.images.decoding import open_image
from sr_tile.images.file_faults import true_reason
from sr_tile.images.float_range import FloatRange, measure
from sr_tile.images.formats import ImageInfo
from sr_tile.images.vips import attempt, reason_of, vips

log = logging.getLogger("sr_tile")

DAMAGE = (
    ArithmeticError,
    EOFError,
    LookupError,
    RecursionError,
    SyntaxError,
    TypeError,
    struct.error,
    zlib.error,
    ValueError,
)
"""What readers of headers raise at what they cannot take; Pillow's say SyntaxError."""

_DTYPES: dict[str, np.dtype] = {
    "uchar": np.dtype(np.uint8),
    "ushort": np.dtype(np.uint16),
    "float": np.dtype(np.float32),
}
_FETCH_BYTES = 4 * 2**20  # libvips keeps buffers as large as one request: ask for a little at a time


class ImageReader:
    """Rows of one file, from top to bottom; opening it reads only the header, and of floats all pixels, for their range.

    One thread at a time may read, not always the same one.

    Args:
        path: of the file.
        page: of a TIFF with several, from 0; None takes a file of one picture only.
        quiet: what was forgiven or converted is not said, for it is when the pixels are read for good.
    """

    info: ImageInfo
    whole_bytes: int
    """See `Decoded.whole_bytes`."""

    def __init__(self, path: Path | str, page: int | None = None, *, quiet: bool = False) -> None:
        self.path, self._page = Path(path), page
        self._name = str(path) if page is None else f"{path}, page {page + 1}"
        self._next_row = 0
        self._region: Any = None
        self._lock = threading.Lock()
        self._decoded: Decoded | None = None
        try:
            self._decoded = attempt(self._open, self._open)
            float_range = self._float_range() if self._decoded.image.format == "float" else None
        except SrTileError:
            raise  # some of ours are a ValueError too
        except OSError as error:
            raise ImageReadError(f"{self._name}: cannot be opened: {reason_of(error)}") from None
        except vips().Error as error:
            raise ImageReadError(f"{self._name}: a damaged file: {true_reason(self.path, reason_of(error))}") from None
        except DAMAGE as error:
            raise ImageReadError(
                f"{self._name}: damaged: {type(error).__name__} in its header: {one_line(error)}"
            ) from None
        image = self._decoded.image
        dtype, metadata = _DTYPES[image.format], self._decoded.metadata
        self.info = ImageInfo(image.height, image.width, image.bands, dtype, metadata, float_range=float_range)
        self.whole_bytes = self._decoded.whole_bytes
        self._notes = [] if quiet else [*self._decoded.notes, *([str(float_range)] if float_range else [])]

    def _open(self, lenient: bool = False) -> Decoded:
        return open_image(self.path, lenient=lenient, page=self._page)

    def _float_range(self) -> FloatRange | None:
        status = self.path.stat()
        return _float_range(self.path, self._page, (status.st_mtime_ns, status.st_size, status.st_ino))

    @property
    def rows_left(self) -> int:
        """Rows that read_rows has not given yet."""
        return self.info.height - self._next_row

    def say_nothing(self) -> None:
        """Leave out what is to be said of the picture: another reader of it does."""
        self._notes = []

    def read_rows(self, count: int) -> np.ndarray:
        """The next rows, top to bottom.

        Returns:
            rows_hwc: (min(count, rows left), width, channels), of info.dtype.

        Raises:
            ImageReadError: the file ends too early or is damaged; rows before that are not an error.
        """
        if count < 1:
            raise ArgumentError(f"cannot read {count} rows: ask for at least 1")
        with self._lock:
            if self._decoded is None:
                raise ImageReadError(f"{self._name}: is closed")
            count = min(count, self.rows_left)
            rows_hwc = np.empty((count, self.info.width, self.info.channels), self.info.dtype)
            step = max(1, _FETCH_BYTES // (self.info.width * self.info.channels * self.info.dtype.itemsize))
            for start in range(0, count, step):
                part_hwc = rows_hwc[start : start + step]
                self._fetch(self._decoded, part_hwc)
                self._next_row += len(part_hwc)
            if self._notes:  # of pixels that were taken, not where only the header is asked for, or nothing can be read
                log.warning("%s: %s", self._name, "; ".join(self._notes))
            self._notes = []
            return _finished(rows_hwc, self._decoded, self.info.float_range)

    def _fetch(self, decoded: Decoded, part_hwc: np.ndarray) -> None:
        """The next rows as libvips has them."""
        count = len(part_hwc)
        try:
            if self._region is None:
                attempt(decoded.verify, decoded.verify)
                self._region = vips().Region.new(decoded.image)
            pixels = attempt(lambda: self._rows(count), lambda: self._start_again(count, lenient=decoded.lenient))
        except vips().Error as error:
            reason = reason_of(error)
            harmless = None if decoded.lenient else decoded.harmless(reason)
            if harmless is None:
                raise self._damaged(decoded, reason) from None
            log.warning("%s: taken in spite of: %s", self._name, harmless)
            try:
                pixels = self._start_again(count, lenient=True)
            except vips().Error as further:
                raise self._damaged(decoded, reason_of(further)) from None
        except OSError as error:
            raise ImageReadError(f"{self._name}: cannot be opened: {reason_of(error)}") from None
        part_hwc[:] = np.frombuffer(pixels, self.info.dtype).reshape(part_hwc.shape)

    def _rows(self, count: int) -> Any:
        return self._region.fetch(0, self._next_row, self.info.width, count)

    def _start_again(self, count: int, *, lenient: bool) -> Any:
        """Rows from where it stopped, of the file opened anew."""
        self._decoded = self._open(lenient)
        self._region = vips().Region.new(self._decoded.image)
        for row in range(0, self._next_row, 64):
            self._region.fetch(0, row, self.info.width, min(64, self._next_row - row))
        return self._rows(count)

    def _damaged(self, decoded: Decoded, reason: str) -> ImageReadError:
        known = decoded.explain(reason)
        where = f"truncated or damaged near row {self._next_row} of {self.info.height}"
        return ImageReadError(f"{self._name}: {known or f'{where}: {true_reason(self.path, reason)}'}")

    def close(self) -> None:
        """Let go of the file; idempotent."""
        with self._lock:
            self._region = None
            self._decoded = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@functools.lru_cache(maxsize=64)
def _float_range(path: Path, page: int | None, state: tuple[int, ...]) -> FloatRange | None:
    """Of a whole file, read once as long as it stays in its state."""
    decoded = open_image(path, page=page)
    image = decoded.image
    colours = image.bands - (image.bands in (2, 4))

    def blocks() -> Iterator[np.ndarray]:
        region, step = vips().Region.new(image), max(1, _FETCH_BYTES // (image.width * image.bands * 4))
        for row in range(0, image.height, step):
            count = min(step, image.height - row)
            pixels = np.frombuffer(region.fetch(0, row, image.width, count), np.float32)
            rows_hwc = pixels.reshape(count, image.width, image.bands).copy()
            yield _finished(rows_hwc, decoded)[..., :colours]

    return measure(blocks(), image.width * image.height)


def _finished(rows_hwc: np.ndarray, decoded: Decoded, float_range: FloatRange | None = None) -> np.ndarray:
    """What libvips does not do, or not well, to pixels."""
    if decoded.narrow:
        colours_hwc = rows_hwc[..., :3] if rows_hwc.shape[2] > 2 else rows_hwc[..., :1]
        top = np.iinfo(rows_hwc.dtype).max
        # libvips keeps the coded bits in the upper ones: a step of 8-bit video is (top + 1) / 256 here
        unit = np.float32((top + 1) / 256)
        full = (colours_hwc - np.float32(16) * unit) * (np.float32(top) / (np.float32(219) * unit))
        colours_hwc[...] = np.clip(np.rint(full), 0, top)
    elif decoded.bits < 16:  # libvips fills the lower bits with 0, by which white would not be 65535
        rows_hwc |= rows_hwc >> decoded.bits
    if decoded.premultiplied and rows_hwc.shape[2] in (2, 4):
        _divide_by_alpha(rows_hwc)
    if rows_hwc.dtype == np.float32:
        colours = rows_hwc.shape[2] - (rows_hwc.shape[2] in (2, 4))
        if float_range:
            rows_hwc[..., :colours] = float_range.to_unit(rows_hwc[..., :colours])
        rows_hwc[..., colours:] = np.clip(np.nan_to_num(rows_hwc[..., colours:], nan=0.0), 0, 1)
    return rows_hwc


def _divide_by_alpha(rows_hwc: np.ndarray) -> None:
    """Undo premultiplied alpha in place, rounded; under full transparency colours stay as they are."""
    if rows_hwc.dtype == np.float32:
        alpha_hw1 = rows_hwc[..., -1:]
        np.divide(rows_hwc[..., :-1], alpha_hw1, out=rows_hwc[..., :-1], where=alpha_hw1 > 0)
        return
    top = np.iinfo(rows_hwc.dtype).max
    for row_wc in rows_hwc:
        alpha = row_wc[:, -1:].astype(np.uint64)
        divided = (row_wc[:, :-1] * np.uint64(top) + alpha // 2) // np.maximum(alpha, 1)
        row_wc[:, :-1] = np.where(alpha > 0, np.minimum(divided, top), row_wc[:, :-1])
