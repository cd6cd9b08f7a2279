"""Rows that are pushed, as an image that libvips pulls."""

import contextlib
import mmap
import os
import struct
import tempfile
import threading
import zlib
from typing import Any, Protocol

import numpy as np

from sr_tile.images.formats import ImageInfo
from sr_tile.images.png_chunks import chunk
from sr_tile.images.vips import load_png, vips

_PIPE_BYTES = 2**20


class Feed(Protocol):
    """Between the thread that has rows and the one that encodes."""

    def push(self, rows_hwc: np.ndarray) -> bool:
        """The next rows; False: nobody reads them any more.

        Raises:
            OSError: the disk is full.
        """
        ...

    def end(self) -> None:
        """There are no more rows; idempotent."""
        ...

    def abandon(self) -> None:
        """The rows that are missing will not come; idempotent, and after `end` without effect."""
        ...

    def image(self) -> Any:
        """For the encoder: what to pull."""
        ...

    def drain(self) -> None:
        """For the encoder, when it ends: whoever pushes still is let go."""
        ...


class PngFeed:
    """Integers, as an uncompressed PNG through a pipe.

    PNG, because it is the only format that libvips reads from a pipe as a stream in all its builds (the wheels have no
    PPM); both ends release the GIL, and a full pipe makes the producer wait.

    Args:
        info: of the rows.
        dtype: of the rows.
        bits: to which they are rounded, in the upper ones of `dtype`; None: all.
    """

    def __init__(self, info: ImageInfo, dtype: np.dtype, bits: int | None = None) -> None:
        self._dtype, self._bits = dtype, bits
        self._row_bytes = info.width * info.channels * dtype.itemsize
        self._read_end, self._write_end = os.pipe()
        with contextlib.suppress(ImportError, AttributeError, OSError):
            import fcntl

            fcntl.fcntl(self._write_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._deflate, self._is_read = zlib.compressobj(0), True
        colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[info.channels]
        size = (info.width, info.height, dtype.itemsize * 8, colour_type)
        self._send(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 0, 0, 0)))

    def push(self, rows_hwc: np.ndarray) -> bool:
        """See `Feed.push`; waits while the pipe is full."""
        step = max(1, _PIPE_BYTES // self._row_bytes)
        for start in range(0, len(rows_hwc), step):
            part_hwc = rows_hwc[start : start + step]
            if self._bits:  # libvips cuts the lower bits off: round before
                top = 2**self._bits - 1
                part_hwc = ((part_hwc.astype(np.uint32) * top + 32_767) // 65_535) << (16 - self._bits)
            part_hwc = np.ascontiguousarray(part_hwc, self._dtype.newbyteorder(">"))
            lines = np.empty((len(part_hwc), 1 + self._row_bytes), np.uint8)
            lines[:, 0] = 0  # each line begins with its filter: none
            lines[:, 1:] = part_hwc.view(np.uint8).reshape(len(part_hwc), self._row_bytes)
            self._send(chunk(b"IDAT", self._deflate.compress(lines.data)))
        return self._is_read

    def end(self) -> None:
        """See `Feed.end`."""
        if self._write_end >= 0:
            self._send(chunk(b"IDAT", self._deflate.flush()) + chunk(b"IEND", b""))
        self.abandon()

    def abandon(self) -> None:
        """See `Feed.abandon`."""
        if self._write_end >= 0:
            os.close(self._write_end)
            self._write_end = -1

    def image(self) -> Any:
        """See `Feed.image`."""
        return load_png(self._read_end)

    def drain(self) -> None:
        """See `Feed.drain`: a producer may be waiting for room in the pipe."""
        self._is_read = False
        with contextlib.suppress(OSError):
            while os.read(self._read_end, _PIPE_BYTES):
                pass
        os.close(self._read_end)

    def _send(self, message: bytes) -> None:
        rest = memoryview(message)
        while rest and self._is_read:
            rest = rest[os.write(self._write_end, rest) :]


class FloatFeed:
    """Floats, which no format holds that libvips reads as a stream: through a nameless file in the temporary folder."""

    def __init__(self, info: ImageInfo) -> None:
        self._shape = info.width, info.height, info.channels
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._ended, self._is_read = threading.Event(), True

    def push(self, rows_hwc: np.ndarray) -> bool:
        """See `Feed.push`."""
        self._file.write(np.ascontiguousarray(rows_hwc).data)
        return self._is_read

    def end(self) -> None:
        """See `Feed.end`."""
        self._file.flush()
        self._ended.set()

    def abandon(self) -> None:
        """See `Feed.abandon`."""
        self._ended.set()

    def image(self) -> Any:
        """See `Feed.image`; waits for the last row.

        Raises:
            ValueError: rows are missing.
        """
        self._ended.wait()
        width, height, channels = self._shape
        pixels = mmap.mmap(self._file.fileno(), 4 * width * height * channels, access=mmap.ACCESS_READ)
        return vips().Image.new_from_memory(pixels, width, height, channels, "float")

    def drain(self) -> None:
        """See `Feed.drain`."""
        self._is_read = False
        self._ended.wait()
        with contextlib.suppress(OSError):  # of what nobody wants any more
            self._file.close()
