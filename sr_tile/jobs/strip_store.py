"""Finished rows of giant images on disk, until the image is whole.

A block is a file of raw pixels, (rows, width, channels), named `FIRST-END` by its rows of the result; it gets its name
when it is whole and on disk. Blocks take as much room as the result without compression.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sr_tile.errors import ImageReadError, ImageWriteError
from sr_tile.images import ImageInfo
from sr_tile.images.rows import Sink

_READ_BYTES = 16 * 2**20


class StripStore:
    """Blocks of one image, in a folder of their own.

    Args:
        folder: made when the first block is written.
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
        """Rows of a block in pieces, (n, width, channels).

        Raises:
            ImageReadError: it is gone or too short.
        """
        step = max(1, _READ_BYTES // self._row_bytes)
        try:
            with self.path(first, end).open("rb") as file:
                for row in range(first, end, step):
                    pixels = file.read(min(step, end - row) * self._row_bytes)
                    yield np.frombuffer(pixels, self.dtype).reshape(-1, *self._row_shape)
        except (OSError, ValueError) as error:
            raise ImageReadError(f"{self.path(first, end)}: a finished band cannot be read: {error}") from None

    def clean(self) -> None:
        """Remove what a process that died left half written."""
        for path in self.folder.glob(".*.part"):
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all blocks; harmless where there are none."""
        shutil.rmtree(self.folder, ignore_errors=True)


class StripFile:
    """A block under way, from row `first` on."""

    def __init__(self, store: StripStore, first: int) -> None:
        self._store, self.first, self.end = store, first, first
        self._part = store.folder / f".{first}.{os.getpid()}.part"
        self._file: BinaryIO | None = None

    def write(self, rows_hwc: np.ndarray) -> None:
        """Append rows.

        Raises:
            ImageWriteError: the disk is full, or the folder cannot be written.
        """
        try:
            if self._file is None:
                self._store.folder.mkdir(parents=True, exist_ok=True)
                self._file = self._part.open("wb")
            self._file.write(np.ascontiguousarray(rows_hwc).data)
        except OSError as error:
            raise self._failed(error) from None
        self.end += len(rows_hwc)

    def finish(self) -> None:
        """Give the block its name, once it is on disk.

        Raises:
            ImageWriteError: the disk is full.
        """
        try:
            assert self._file is not None  # something was written
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._part.replace(self._store.path(self.first, self.end))
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> ImageWriteError:
        return ImageWriteError(
            f"{self._store.folder}: a finished band cannot be written: {error.strerror}; giant images need room for "
            "their pixels there"
        )


class CheckpointingSink:
    """Rows of a giant image go into its file and, band by band, into blocks.

    Blocks of earlier runs are copied into the file first. The last band needs no block: when it ends, the file is whole.

    Args:
        sink: the file.
        store: the blocks.
        finished: (first, end) of the blocks there are, which follow each other from row 0.
        edges: the rows at which bands end, rising, without the last; what `finished` covers does not come again.
        on_band: called with (first, end) of each new block, from the thread that writes.
    """

    def __init__(
        self,
        sink: Sink,
        store: StripStore,
        finished: list[tuple[int, int]],
        edges: list[int],
        on_band: Callable[[int, int], None],
    ) -> None:
        self._sink, self._store, self._replay, self._on_band = sink, store, finished, on_band
        self.dtype = sink.dtype
        self._row = finished[-1][1] if finished else 0
        self._edges = [row for row in edges if row > self._row]
        self._block = StripFile(store, self._row)

    def write_rows(self, rows_hwc: np.ndarray) -> None:
        """See `Sink.write_rows`."""
        self._copy_finished()
        while len(rows_hwc):
            piece = rows_hwc[: self._edges[0] - self._row] if self._edges else rows_hwc
            if self._edges:
                self._block.write(piece)
            self._sink.write_rows(piece)
            self._row += len(piece)
            rows_hwc = rows_hwc[len(piece) :]
            if self._edges and self._row == self._edges[0]:
                self._block.finish()
                self._on_band(self._block.first, self._block.end)
                self._block = StripFile(self._store, self._edges.pop(0))

    def close(self) -> None:
        """See `Sink.close`; the blocks stay."""
        self._copy_finished()
        self._sink.close()

    def abort(self) -> None:
        """See `Sink.abort`; finished blocks stay."""
        self._sink.abort()

    def _copy_finished(self) -> None:
        while self._replay:
            for rows in self._store.read(*self._replay.pop(0)):
                self._sink.write_rows(rows)
