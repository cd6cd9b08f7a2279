"""Files to rows of pixels."""

import logging
import struct
import threading
import zlib
from pathlib import Path
from typing import Any, Self

import numpy as np

from sr_tile.errors import ArgumentError, ImageReadError, SrTileError, one_line
from sr_tile.images.decoding import Decoded, open_image
from sr_tile.images.formats import ImageInfo
from sr_tile.images.jpeg_segments import is_harmless
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

_FETCH_BYTES = 4 * 2**20  # libvips keeps buffers as large as one request: ask for a little at a time


class ImageReader:
    """Rows of one file, from top to bottom; opening it reads only the header.

    One thread at a time may read, not always the same one.

    Args:
        path: of the file.
        page: of a TIFF with several, from 0; None takes a file of one picture only.
    """

    info: ImageInfo
    whole_bytes: int
    """See `Decoded.whole_bytes`."""

    def __init__(self, path: Path | str, page: int | None = None) -> None:
        self.path, self._page = Path(path), page
        self._name = str(path) if page is None else f"{path}, page {page + 1}"
        self._next_row = 0
        self._region: Any = None
        self._lock = threading.Lock()
        self._decoded: Decoded | None = None
        try:
            self._decoded = attempt(self._open, self._open)
        except SrTileError:
            raise  # some of ours are a ValueError too
        except OSError as error:
            raise ImageReadError(f"{self._name}: cannot be opened: {reason_of(error)}") from None
        except vips().Error as error:
            raise ImageReadError(f"{self._name}: not an image, or a damaged one: {reason_of(error)}") from None
        except DAMAGE as error:
            raise ImageReadError(
                f"{self._name}: damaged: {type(error).__name__} in its header: {one_line(error)}"
            ) from None
        image = self._decoded.image
        dtype = np.dtype(np.uint8 if image.format == "uchar" else np.uint16)
        self.info = ImageInfo(image.height, image.width, image.bands, dtype, self._decoded.metadata)
        self.whole_bytes = self._decoded.whole_bytes
        self._notes = self._decoded.notes

    def _open(self, lenient: bool = False) -> Decoded:
        return open_image(self.path, lenient=lenient, page=self._page)

    @property
    def rows_left(self) -> int:
        """Rows that read_rows has not given yet."""
        return self.info.height - self._next_row

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
            return _finished(rows_hwc, self._decoded)

    def _fetch(self, decoded: Decoded, part_hwc: np.ndarray) -> None:
        """The next rows as libvips has them."""
        count = len(part_hwc)
        try:
            self._region = self._region or vips().Region.new(decoded.image)
            pixels = attempt(lambda: self._rows(count), lambda: self._start_again(count, lenient=decoded.lenient))
        except vips().Error as error:
            reason = reason_of(error)
            if decoded.kind != "jpeg" or decoded.lenient or not is_harmless(reason):
                raise self._damaged(decoded, reason) from None
            log.warning("%s: taken in spite of: %s", self._name, reason)
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
        unsupported = decoded.unsupported(reason)
        where = f"truncated or damaged near row {self._next_row} of {self.info.height}: {reason}"
        return ImageReadError(f"{self._name}: {unsupported or where}")

    def close(self) -> None:
        """Let go of the file; idempotent."""
        with self._lock:
            self._region = None
            self._decoded = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _finished(rows_hwc: np.ndarray, decoded: Decoded) -> np.ndarray:
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
    return rows_hwc


def _divide_by_alpha(rows_hwc: np.ndarray) -> None:
    """Undo premultiplied alpha in place, rounded; under full transparency colours stay as they are."""
    top = np.iinfo(rows_hwc.dtype).max
    for row_wc in rows_hwc:
        alpha = row_wc[:, -1:].astype(np.uint64)
        divided = (row_wc[:, :-1] * np.uint64(top) + alpha // 2) // np.maximum(alpha, 1)
        row_wc[:, :-1] = np.where(alpha > 0, np.minimum(divided, top), row_wc[:, :-1])
