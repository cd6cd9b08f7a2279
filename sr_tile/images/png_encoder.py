"""Rows of integers to a PNG whose strips are deflated side by side: libvips' saver has one thread for that.

A strip is some rows, half a megabyte: filtered by the one filter that suits it, deflated by itself and ended on a whole
byte, so that all together are one stream (as pigz writes it), whichever thread did which. What stands before the pixels is
what libvips writes of a picture of one pixel.
"""

import io
import os
import struct
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from sr_tile.images.encoder import Encoder, one_pixel_png
from sr_tile.images.exif import with_size
from sr_tile.images.formats import ImageInfo, WriteOptions
from sr_tile.images.png_chunks import SIGNATURE, chunk, chunks_of
from sr_tile.images.result_metadata import complete, extras_of
from sr_tile.images.vips import reason_of, vips
from sr_tile.system.cpu import thread_count

try:
    from isal import isal_zlib  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # no wheel for this platform: four times as slow, and as small
    isal_zlib = None  # type: ignore[assignment,unused-ignore]

STRIP_BYTES, MAX_THREADS = 2**19, 16
_SAMPLE = 2**13  # bytes of a strip that show which filter suits it
_NONE, _UP, _AVERAGE = 0, 2, 3
_FASTEST = 2  # the last level that is for speed: at 3, isal makes files of which some are a third larger than zlib's
_BASE = 65_521  # of Adler-32


def open_encoder(
    name: str, info: ImageInfo, dtype: np.dtype, options: WriteOptions, descriptor: int
) -> "Encoder | PngEncoder":
    """What writes a file of that format; see `Encoder`."""
    if name == "png" and dtype.kind == "u" and not info.reduction:
        return PngEncoder(info, dtype, options, descriptor)
    return Encoder(name, info, dtype, options, descriptor)


class PngEncoder:
    """Takes rows as `Encoder` does.

    Args:
        info: of the picture.
        dtype: of its rows, uint8 or uint16.
        options: how to encode.
        descriptor: of the file, open for reading and writing.
    """

    format_name = "png"

    def __init__(self, info: ImageInfo, dtype: np.dtype, options: WriteOptions, descriptor: int) -> None:
        self.extras = extras_of("png", info)
        self.failure: str | None = None
        self._info, self._options, self._descriptor = replace(info, dtype=dtype), options, descriptor
        self._pixel_bytes = info.channels * dtype.itemsize
        row_bytes = info.width * self._pixel_bytes
        self._dtype = dtype.newbyteorder(">")
        self._shape = (1 + min(info.height, max(1, STRIP_BYTES // row_bytes)), row_bytes)  # the row above comes first
        self._strip, self._filled = np.zeros(self._shape, np.uint8), 1
        self._threads = min(MAX_THREADS, thread_count())
        self._pool = ThreadPoolExecutor(self._threads, "sr-tile-encoder")
        self._under_way: deque[Future[tuple[bytes, int, int]]] = deque()
        self._checksum, self._begun, self._killed = 1, False, False

    def push(self, rows_hwc: np.ndarray) -> bool:
        """See `Encoder.push`; waits while more strips are under way than there are threads."""
        rows = np.ascontiguousarray(rows_hwc, self._dtype).view(np.uint8).reshape(len(rows_hwc), self._shape[1])
        try:
            while len(rows) and not self._killed and self.failure is None:
                part = rows[: self._shape[0] - self._filled]
                self._strip[self._filled : self._filled + len(part)] = part
                self._filled, rows = self._filled + len(part), rows[len(part) :]
                if self._filled == self._shape[0]:
                    self._begin_strip()
        except (OSError, RuntimeError, vips().Error) as error:  # the disk is full, or no thread is left
            self.failure = self.failure or reason_of(error)
        return not self._killed and self.failure is None

    def finish(self) -> bool:
        """See `Encoder.finish`."""
        try:
            if self._filled > 1 and not self._killed:
                self._begin_strip()
            while self._under_way and not self._killed:
                self._end_strip()
        except (RuntimeError, vips().Error) as error:
            self.failure = self.failure or reason_of(error)
        if self._killed:
            self.failure = self.failure or "it was stopped"
        if self.failure is None:
            self._write(chunk(b"IDAT", b"\x03\x00" + struct.pack(">I", self._checksum)) + chunk(b"IEND", b""))
            complete(self._descriptor, "png", self._info, self.extras, lossless=True)
        self._pool.shutdown()
        return self.failure is None

    def kill(self) -> None:
        """See `Encoder.kill`."""
        self._killed = True

    def stop(self) -> None:
        """See `Encoder.stop`."""
        self.kill()
        self._pool.shutdown(cancel_futures=True)

    def _begin_strip(self) -> None:
        if not self._begun:
            self._begin_file()
        strip, rows = self._strip, self._filled
        self._strip, self._filled = np.empty(self._shape, np.uint8), 1
        self._strip[0] = strip[rows - 1]
        level = self._options.png_level
        self._under_way.append(self._pool.submit(_deflated, strip[:rows], self._pixel_bytes, level))
        if len(self._under_way) > self._threads:
            self._end_strip()

    def _end_strip(self) -> None:
        body, checksum, size = self._under_way.popleft().result()
        self._checksum = _joined(self._checksum, checksum, size)
        self._write(body)

    def _begin_file(self) -> None:
        """Signature, IHDR and what libvips says of the picture, behind the gap that `complete` fills."""
        head, info = [SIGNATURE], self._info
        for kind, body in chunks_of(io.BytesIO(one_pixel_png(info, self._options, self.extras))):
            if kind == b"IHDR":
                body = struct.pack(">II", info.width, info.height) + body[8:]
            elif kind == b"eXIf":
                body = with_size(body, info.width, info.height)
            head += [chunk(kind, body)] if kind not in (b"IDAT", b"IEND") else []
        os.lseek(self._descriptor, len(self.extras.gap), os.SEEK_SET)
        self._write(b"".join(head) + chunk(b"IDAT", b"\x78\x5e"))  # of a stream with a window of 32 KiB
        self._begun = True

    def _write(self, message: bytes) -> None:
        rest = memoryview(message)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]


def _filtered(rows: np.ndarray, kind: int, pixel_bytes: int) -> np.ndarray:
    """Rows but the first, which stands above, each as the filter makes it and behind its number.

    "Average" is the mean of the left and the upper byte, rounded down, without a ninth bit: what both have, and half of what
    one of them has.
    """
    above, own = rows[:-1], rows[1:]
    lines = np.empty((len(own), 1 + own.shape[1]), np.uint8)
    lines[:, 0] = kind
    if kind == _NONE:
        lines[:, 1:] = own
    elif kind == _UP:
        np.subtract(own, above, out=lines[:, 1:])
    else:
        first, left, up = slice(0, pixel_bytes), own[:, :-pixel_bytes], above[:, pixel_bytes:]
        np.subtract(own[:, first], above[:, first] >> 1, out=lines[:, 1 : 1 + pixel_bytes])
        mean = left ^ up
        mean >>= 1
        mean += left & up
        np.subtract(own[:, pixel_bytes:], mean, out=lines[:, 1 + pixel_bytes :])
    return lines


def _deflated(rows: np.ndarray, pixel_bytes: int, level: int) -> tuple[bytes, int, int]:
    """A strip as a chunk IDAT, and Adler-32 and length of what it was made of."""
    if level == 0:
        lines = _filtered(rows, _NONE, pixel_bytes)
    else:
        few = 1 + max(1, _SAMPLE // rows.shape[1])
        middle = max(0, len(rows) - few) // 2
        sample = rows[middle : middle + few]
        sizes = {kind: len(_stream(_filtered(sample, kind, pixel_bytes), level)) for kind in (_AVERAGE, _UP)}
        lines = _filtered(rows, min(sizes, key=lambda kind: sizes[kind]), pixel_bytes)
    return chunk(b"IDAT", _stream(lines, level)), zlib.adler32(lines.data), lines.size


def _stream(lines: np.ndarray, level: int) -> bytes:
    """Blocks of deflate, ended on a whole byte."""
    library: Any = isal_zlib if isal_zlib is not None and 0 < level <= _FASTEST else zlib
    deflate = library.compressobj(level, library.DEFLATED, -15)
    return bytes(deflate.compress(lines.data) + deflate.flush(library.Z_FULL_FLUSH))


def _joined(first: int, second: int, size: int) -> int:
    """Adler-32 of two pieces by their own; `size` is that of the second."""
    low = ((first & 0xFFFF) + (second & 0xFFFF) - 1) % _BASE
    high = ((first >> 16) + (second >> 16) + size * ((first & 0xFFFF) - 1)) % _BASE
    return high << 16 | low
