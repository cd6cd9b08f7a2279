"""Which file holds several pictures, and what reads and writes it: one line a format."""

import functools
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sr_tile.errors import ArgumentError, ImageReadError, ImageWriteError, SrTileError, one_line
from sr_tile.images.avif_boxes import read_avif
from sr_tile.images.decoding import kind_of_file
from sr_tile.images.formats import ImageInfo, WriteOptions, format_of
from sr_tile.images.frames.animation import AnimationReader, AnimationWriter
from sr_tile.images.frames.apng import ApngWriter, AvifAnimationWriter
from sr_tile.images.frames.frame import Frame, FrameReader, FrameWriter
from sr_tile.images.frames.tiff_pages import TiffPages, TiffPagesWriter
from sr_tile.images.png_chunks import read_png
from sr_tile.images.reader import DAMAGE
from sr_tile.images.rows import Sink
from sr_tile.images.tiff_pixels import tiff_pixels
from sr_tile.images.vips import reason_of
from sr_tile.images.writer import ImageWriter

log = logging.getLogger("sr_tile")

_BIG = 2**31
"""Bytes of pixels from which a TIFF of pages is a BigTIFF: classic ones end at 4 GiB, and deflate can make noise larger."""


@dataclass(frozen=True)
class PageRange:
    """Which pictures of a file, as in `1-3,7`; numbers begin with 1.

    Raises:
        ArgumentError: the text says something else.
    """

    text: str

    def __post_init__(self) -> None:
        for first, last in self._parts():
            if not 1 <= first <= last:
                raise ArgumentError(
                    f"--pages {self.text}: {first}-{last} is no range; the first page is 1, as in 1-3,7"
                )

    def _parts(self) -> list[tuple[int, int]]:
        parts = [re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9}))?\s*", part) for part in self.text.split(",")]
        if not all(parts):
            raise ArgumentError(f"--pages {self.text}: give numbers and ranges, as in 1-3,7")
        return [(int(part[1]), int(part[2] or part[1])) for part in parts if part]

    def of(self, path: Path, count: int) -> list[int]:
        """Indices from 0, in the order of the file.

        Raises:
            ImageReadError: the file has fewer.
        """
        parts = self._parts()
        if max(last for _, last in parts) > count:
            raise ImageReadError(f"{path}: has {count} pages or frames; --pages {self.text} asks for more")
        return sorted({page - 1 for first, last in parts for page in range(first, last + 1)})


def _tiff(path: Path, wanted: PageRange | None) -> FrameReader | None:
    header = tiff_pixels(path)
    if header is None or (header.pictures < 2 and wanted is None):
        return None
    return TiffPages(path, header, wanted.of(path, header.pictures) if wanted else range(header.pictures))


def _animation(kind: str, path: Path, wanted: PageRange | None) -> FrameReader | None:
    if (kind == "png" and read_png(path).frames < 2) or (kind == "avif" and not read_avif(path).sequence):
        return None
    reader = AnimationReader(path, kind)
    if reader.count < 2:
        return None
    return AnimationReader(path, kind, wanted.of(path, reader.count)) if wanted else reader


_READERS: dict[str, Callable[[Path, PageRange | None], FrameReader | None]] = {
    "tiff": _tiff,
    **{kind: functools.partial(_animation, kind) for kind in ("gif", "webp", "png", "avif")},
}


def open_frames(path: Path, pages: PageRange | None = None) -> FrameReader | None:
    """A reader for a file of several pictures; None for one that holds a single one.

    Args:
        path: of the file.
        pages: which of them; None for all.

    Raises:
        ImageReadError: it cannot be read, or has no such pages.
    """
    try:
        kind = kind_of_file(path)
        reader = _READERS[kind](path, pages) if kind in _READERS else None
    except SrTileError:
        raise  # some of ours are a ValueError too
    except OSError as error:
        raise ImageReadError(f"{path}: cannot be opened: {reason_of(error)}") from None
    except DAMAGE as error:
        raise ImageReadError(f"{path}: damaged: {type(error).__name__} in its header: {one_line(error)}") from None
    if reader is None and pages:
        pages.of(path, 1)
    return reader


def open_frame_writer(
    path: Path, reader: FrameReader, options: WriteOptions | None, overwrite: bool, source: ImageInfo, info: ImageInfo
) -> FrameWriter:
    """A writer for what a reader gives.

    Args:
        path: of the target.
        reader: of the source.
        options: how to encode.
        overwrite: replace a target that exists.
        source: of the first picture that is read.
        info: of the first that is written.

    Raises:
        ImageWriteError: the format holds one picture, or times that the source does not have.
    """
    options = options or WriteOptions()
    kind, timing = options.format or format_of(path), reader.timing
    if reader.count == 1:
        return StillWriter(path, options, overwrite=overwrite)
    if kind == "tiff":
        if timing:
            log.warning("%s: TIFF has no times and loops; frames become pages", path)
        big = reader.total_bytes * info.result.pixels / source.pixels > _BIG
        return TiffPagesWriter(path, options, overwrite=overwrite, big=big)
    if kind == "jpeg":
        raise ImageWriteError(
            f"{path}: JPEG holds one picture, the source {reader.count}: choose one with --pages 1, or write TIFF"
        )
    if timing is None:
        raise ImageWriteError(f"{path}: pages are no animation: write TIFF, or choose one with --pages 1")
    if kind == "png":
        return ApngWriter(path, timing.loop, options, overwrite=overwrite)
    if kind == "avif":
        if info.dtype != "uint8":
            log.warning("%s: AVIF of several frames holds 8 bits a channel here; 16 are rounded", path)
        return AvifAnimationWriter(path, timing.loop, options, overwrite=overwrite)
    return AnimationWriter(path, info, timing, options, overwrite=overwrite)


class StillWriter:
    """Writes the one picture that was chosen of several; see `FrameWriter`."""

    def __init__(self, path: Path, options: WriteOptions, *, overwrite: bool) -> None:
        self._path, self._options, self._overwrite = path, options, overwrite

    def open_frame(self, frame: Frame, info: ImageInfo) -> Sink:
        """See `FrameWriter.open_frame`."""
        return ImageWriter(self._path, info, options=self._options, overwrite=self._overwrite)

    def skip(self, frame: Frame) -> None:
        """See `FrameWriter.skip`."""

    def close(self) -> None:
        """See `FrameWriter.close`."""

    def abort(self) -> None:
        """See `FrameWriter.abort`."""
