"""Pages of a TIFF, each with its own size, depth and metadata; every page streams.

A page is written as a TIFF of its own beside the target, whose bytes then go behind those of the pages before, with its
directory written anew: the positions in it moved, and linked from the page before. Layout: TIFF 6.0, section 2.
"""

import io
import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from sr_tile.errors import ImageWriteError
from sr_tile.images.formats import ImageInfo, WriteOptions
from sr_tile.images.frames.frame import Frame, InOrder
from sr_tile.images.frames.frame_part_file import FramePart
from sr_tile.images.metadata_choices import as_chosen
from sr_tile.images.reader import ImageReader
from sr_tile.images.rows import Sink
from sr_tile.images.tiff_directory import Entry, Layout, entries_at, pack_entry, read_header, whole_numbers
from sr_tile.images.tiff_exif import ODD_LAYOUT, append_directory
from sr_tile.images.tiff_pixels import TiffPixels
from sr_tile.images.vips import reason_of
from sr_tile.images.writer import ImageWriter
from sr_tile.system.atomic_file import AtomicFile

_POSITIONS = (273, 324)  # of strips and of tiles


class TiffPages:
    """Reads pages; see `FrameReader`.

    Args:
        path: of the file.
        header: of its first page.
        pages: which to read, from 0.
    """

    keeps_going, timing = True, None

    def __init__(self, path: Path, header: TiffPixels, pages: Sequence[int]) -> None:
        self._path, self._pages = path, pages
        self.count = len(pages)
        self.total_bytes = header.all_bytes

    def frames(self) -> Iterator[Frame]:
        """See `FrameReader.frames`."""
        for index, page in enumerate(self._pages):
            yield Frame(index, f"page {page + 1}", lambda page=page: ImageReader(self._path, page))  # type: ignore[misc]

    def close(self) -> None:
        """Nothing is held."""


class TiffPagesWriter:
    """Writes pages; see `FrameWriter`.

    Args:
        path: of the target.
        options: compression.
        overwrite: replace a target that exists.
        big: BigTIFF, for more than 4 GiB.
    """

    def __init__(self, path: Path, options: WriteOptions, *, overwrite: bool, big: bool) -> None:
        self.path = path
        self._chosen, self._options = options, replace(options, format="tiff", bigtiff=big, strip=None, history=None)
        self._layout = Layout("<", big)
        try:
            self._file = AtomicFile(path, overwrite=overwrite, durable=True)
            self._out = self._file.stream()
        except OSError as error:
            raise self._unwritable(error) from None
        head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) if big else struct.pack("<2sHI", b"II", 42, 0)
        self._out.write(head)
        self._link = self._layout.offset.size  # where the position of the next directory goes
        self._order: InOrder[FramePart] = InOrder(self._append)

    def open_frame(self, frame: Frame, info: ImageInfo) -> Sink:
        """See `FrameWriter.open_frame`."""
        info = as_chosen(info, self._chosen)
        try:
            file = FramePart(self._file.target, info.result, lambda page: self._order.put(frame.index, page))
        except OSError as error:
            raise self._unwritable(error) from None
        plain = replace(info, metadata=replace(info.metadata, exif=None))  # which comes with the directory
        return ImageWriter(self.path, plain, options=self._options, file=file)

    def skip(self, frame: Frame) -> None:
        """See `FrameWriter.skip`."""
        self._order.put(frame.index, None)

    def _append(self, page: FramePart) -> None:
        try:
            with open(page.descriptor, "rb", closefd=False) as file:
                self._append_file(file, page.info)
        except OSError as error:
            raise self._unwritable(error) from None
        except ODD_LAYOUT as error:
            raise ImageWriteError(f"{self.path}: cannot be written: {error}; write fewer pages into one file") from None
        finally:
            page.remove()

    def _append_file(self, file: BinaryIO, info: ImageInfo) -> None:
        layout, position = read_header(file)
        if layout != self._layout:
            raise ValueError("pages of two layouts")
        shift = -(-self._out.seek(0, os.SEEK_END) // 16) * 16
        self._out.write(bytes(shift - self._out.tell()))
        file.seek(0)
        shutil.copyfileobj(file, self._out, 2**20)
        table = entries_at(file, position, layout)
        at = -(-self._out.tell() // 16) * 16
        self._out.write(bytes(at - self._out.tell()))
        moved, body = b"", io.BytesIO()
        for raw in layout.entry.iter_unpack(table):
            entry = Entry(*raw)
            if entry.tag in _POSITIONS:
                places = [place + shift for place in whole_numbers(file, layout, entry)]
                moved += pack_entry(layout, entry.tag, entry.kind, places, body, at)
            elif entry.size > layout.offset.size:
                place = layout.offset.pack(layout.offset.unpack(entry.inline)[0] + shift)
                moved += layout.entry.pack(entry.tag, entry.kind, entry.count, place)
            else:
                moved += layout.entry.pack(*raw)
        self._out.write(body.getvalue())
        directory, link = append_directory(self._out, layout, moved, info)
        self._out.seek(self._link)
        self._out.write(layout.offset.pack(directory))
        self._link = link

    def close(self) -> None:
        """See `FrameWriter.close`."""
        try:
            self._out.close()
            self._file.commit()
        except OSError as error:
            raise self._unwritable(error) from None
        finally:
            self.abort()

    def abort(self) -> None:
        """See `FrameWriter.abort`."""
        for page in self._order.left():
            page.remove()
        self._file.discard()

    def _unwritable(self, error: OSError) -> ImageWriteError:
        return ImageWriteError(f"{self.path}: cannot be written: {reason_of(error)}")
