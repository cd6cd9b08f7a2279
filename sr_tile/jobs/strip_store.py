"""Finished rows of giant images on disk, until the image is whole.

A strip is a file of raw pixels, (rows, width, channels), named `FIRST-END` by its rows of the result; it gets its name
when it is whole and on disk. Its last bytes are the number of those before them and their CRC-32, so that one that was cut
or changed since is known and done again. Strips take as much room as the result without compression.
"""

import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sr_tile.errors import ImageReadError, ImageWriteError, SrTileError
from sr_tile.images import ImageInfo
from sr_tile.images.rows import Sink
from sr_tile.pipeline.queues import Cancelled
from sr_tile.system.atomic_file import AtomicFile
from sr_tile.system.folders import make_folders
from sr_tile.system.part_file import remove_abandoned_parts, remove_part

_READ_BYTES = 16 * 2**20
_TRAILER = struct.Struct("<QI")  # bytes of pixels, and their CRC-32


class StripStore:
    """Strips of one image, in a folder of their own.

    Args:
        folder: made when the first strip is written.
        info: the finished image.
        dtype: number type of its rows.
    """

    def __init__(self, folder: Path, info: ImageInfo, dtype: np.dtype) -> None:
        self.folder, self.dtype = folder, np.dtype(dtype)
        self._row_shape = (info.width, info.channels)
        self._row_bytes = info.width * info.channels * self.dtype.itemsize

    def path(self, first: int, end: int) -> Path:
        """The file of rows `first` to before `end`."""
        return self.folder / f"{first}-{end}"

    def read(self, first: int, end: int) -> Iterator[np.ndarray]:
        """Rows of a strip in pieces, (n, width, channels).

        Raises:
            ImageReadError: it is gone or damaged; what came before is to be thrown away.
        """
        path, step = self.path(first, end), max(1, _READ_BYTES // self._row_bytes)
        checksum, size = 0, (end - first) * self._row_bytes
        try:
            with path.open("rb") as file:
                for row in range(first, end, step):
                    pixels = file.read(min(step, end - row) * self._row_bytes)
                    checksum = zlib.crc32(pixels, checksum)
                    yield np.frombuffer(pixels, self.dtype).reshape(-1, *self._row_shape)
                if file.read() != _TRAILER.pack(size, checksum):
                    raise ValueError("it was changed since it was written")
        except (OSError, ValueError) as error:
            raise ImageReadError(f"{path}: a finished strip cannot be read: {error}; do the image again") from None

    def clean(self) -> None:
        """Remove what a process that died left half written."""
        remove_abandoned_parts(self.folder)


def is_whole(strip: Path) -> bool:
    """Whether a strip is there with the bytes that were written; reads all of it."""
    checksum = 0
    try:
        with strip.open("rb") as file:
            left = size = os.fstat(file.fileno()).st_size - _TRAILER.size
            while left > 0:
                data = file.read(min(left, _READ_BYTES))
                checksum, left = zlib.crc32(data, checksum), left - len(data)
                if not data:
                    return False
            return size >= 0 and file.read() == _TRAILER.pack(size, checksum)
    except OSError:
        return False


def whole_strips(folder: Path, recorded: Mapping[int, int]) -> dict[int, int]:
    """Those of the recorded strips in a folder, first row to end, that are whole."""
    return {first: end for first, end in recorded.items() if is_whole(folder / f"{first}-{end}")}


class StripFile:
    """A strip under way, from row `first` on."""

    def __init__(self, store: StripStore, first: int) -> None:
        self._store, self.first, self.end = store, first, first
        self._file: BinaryIO | None = None
        self._size = self._checksum = 0

    def write(self, rows_hwc: np.ndarray) -> None:
        """Append rows.

        Raises:
            ImageWriteError: the disk is full, or the folder cannot be written.
        """
        data = np.ascontiguousarray(rows_hwc).reshape(-1).view(np.uint8).data
        try:
            if self._file is None:
                make_folders(self._store.folder)
                self._part = AtomicFile(self._store.folder / str(self.first), durable=True)
                self._file = os.fdopen(os.dup(self._part.descriptor), "wb")
            self._file.write(data)
        except OSError as error:
            raise self._failed(error) from None
        self._size, self._checksum = self._size + len(data), zlib.crc32(data, self._checksum)
        self.end += len(rows_hwc)

    def finish(self) -> None:
        """Give the strip its name, once it is on disk.

        Raises:
            ImageWriteError: the disk is full.
        """
        try:
            assert self._file is not None  # something was written
            self._file.write(_TRAILER.pack(self._size, self._checksum))
            self._file.close()
            self._part.target = self._store.path(self.first, self.end)
            self._part.commit()
        except OSError as error:
            raise self._failed(error) from None

    def abort(self) -> None:
        """Remove what has no name yet; harmless where there is nothing, and while another thread writes."""
        if self._file is not None:
            remove_part(self._part.path)

    def _failed(self, error: OSError) -> ImageWriteError:
        return ImageWriteError(
            f"{self._store.folder}: a finished strip cannot be written: {error.strerror}; giant images need room for "
            "their pixels there"
        )


class CheckpointingSink:
    """Rows of a giant image go into its file and, strip by strip, into a store.

    Strips of earlier runs are copied into the file first. The last strip is not stored: when it ends, the file is whole.

    Args:
        sink: the file.
        store: the strips.
        finished: (first, end) of the strips there are, which follow each other from row 0.
        edges: the rows at which strips end, rising, without the last; what `finished` covers does not come again.
        on_strip: called with (first, end) of each new strip, from the thread that writes.
    """

    def __init__(
        self,
        sink: Sink,
        store: StripStore,
        finished: list[tuple[int, int]],
        edges: list[int],
        on_strip: Callable[[int, int], None],
    ) -> None:
        self._sink, self._store, self._replay, self._on_strip = sink, store, finished, on_strip
        self.dtype = sink.dtype
        self._row = finished[-1][1] if finished else 0
        self._edges = [row for row in edges if row > self._row]
        self._strip, self._aborted = StripFile(store, self._row), False

    def write_rows(self, rows_hwc: np.ndarray) -> None:
        """See `Sink.write_rows`."""
        self._copy_finished()
        while len(rows_hwc):
            piece = rows_hwc[: self._edges[0] - self._row] if self._edges else rows_hwc
            try:
                self._write(piece)
            except BaseException as error:
                self._strip.abort()
                if self._aborted and isinstance(error, SrTileError):  # no failure of the image
                    raise Cancelled from None
                raise
            rows_hwc = rows_hwc[len(piece) :]

    def _write(self, piece_hwc: np.ndarray) -> None:
        if self._edges:
            self._strip.write(piece_hwc)
        self._sink.write_rows(piece_hwc)
        self._row += len(piece_hwc)
        if self._edges and self._row == self._edges[0]:
            self._strip.finish()
            self._on_strip(self._strip.first, self._strip.end)
            self._strip = StripFile(self._store, self._edges.pop(0))

    def close(self) -> None:
        """See `Sink.close`; the strips stay."""
        self._copy_finished()
        self._sink.close()

    def abort(self) -> None:
        """See `Sink.abort`; finished strips stay."""
        self._aborted = True
        self._sink.abort()
        self._strip.abort()

    def _copy_finished(self) -> None:
        while self._replay:
            for rows in self._store.read(*self._replay.pop(0)):
                self._sink.write_rows(rows)
