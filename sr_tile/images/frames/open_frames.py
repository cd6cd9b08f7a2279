"""Which file holds several pictures, and what reads and writes it: one line a format."""

import functools
import logging
from collections.abc import Callable
from pathlib import Path

from sr_tile.errors import ImageReadError, ImageWriteError, SrTileError, one_line
from sr_tile.images.avif_boxes import read_avif
from sr_tile.images.content_type import (
    CHOOSE_PAGE,
    FILM_SUFFIXES,
    READ_ONLY_FILM_SUFFIXES,
    describe_content,
    format_by_content,
)
from sr_tile.images.decoding import first_bytes, kind_of_file
from sr_tile.images.formats import ImageInfo, WriteOptions, format_of
from sr_tile.images.frames.animation import AnimationReader, AnimationWriter
from sr_tile.images.frames.apng import ApngWriter, AvifAnimationWriter
from sr_tile.images.frames.excerpt import Excerpt
from sr_tile.images.frames.film_reader import FilmReader
from sr_tile.images.frames.film_writer import FilmWriter, Segments, codec_of, is_film
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


def _is_film(path: Path) -> bool:
    head = first_bytes(path)
    return format_by_content(head[:64]) is None and (
        describe_content(head) == "a film" or path.suffix.lower() in (*FILM_SUFFIXES, *READ_ONLY_FILM_SUFFIXES)
    )


def _film(path: Path, excerpt: Excerpt | None) -> FrameReader:
    if excerpt and excerpt.pages:
        raise ImageReadError(f"{path}: is a film: --start and --end choose, not --pages")
    return FilmReader(path, *(excerpt.seconds if excerpt else ()))


def _tiff(path: Path, wanted: Excerpt | None) -> FrameReader | None:
    header = tiff_pixels(path)
    if header is None or (header.pictures < 2 and wanted is None):
        return None
    return TiffPages(path, header, wanted.indices(path, header.pictures) if wanted else range(header.pictures))


def _animation(kind: str, path: Path, wanted: Excerpt | None) -> FrameReader | None:
    if (kind == "png" and read_png(path).frames < 2) or (kind == "avif" and not read_avif(path).sequence):
        return None
    reader = AnimationReader(path, kind)
    if reader.count < 2:
        return None
    return AnimationReader(path, kind, wanted.indices(path, reader.count)) if wanted else reader


_READERS: dict[str, Callable[[Path, Excerpt | None], FrameReader | None]] = {
    "tiff": _tiff,
    **{kind: functools.partial(_animation, kind) for kind in ("gif", "webp", "png", "avif")},
}


def open_frames(path: Path, excerpt: Excerpt | None = None) -> FrameReader | None:
    """A reader for a file of several pictures; None for one that holds a single one.

    Args:
        path: of the file.
        excerpt: which of them; None for all.

    Raises:
        ImageReadError: it cannot be read, or has no such pages.
    """
    try:
        if _is_film(path):
            reader: FrameReader | None = _film(path, excerpt)
        else:
            kind = kind_of_file(path)
            pages = excerpt if excerpt and (excerpt.pages or excerpt.start or excerpt.end) else None
            reader = _READERS[kind](path, pages) if kind in _READERS else None
    except SrTileError:
        raise  # some of ours are a ValueError too
    except OSError as error:
        raise ImageReadError(f"{path}: cannot be opened: {reason_of(error)}") from None
    except DAMAGE as error:
        raise ImageReadError(f"{path}: damaged: {type(error).__name__} in its header: {one_line(error)}") from None
    if reader and excerpt and excerpt.crop:
        raise ImageReadError(f"{path}: holds several pictures: --crop goes with files of one")
    if reader is None and excerpt:
        excerpt.indices(path, 1)
    return reader


def open_frames_for(
    path: Path, target: Path, options: WriteOptions | None, excerpt: Excerpt | None = None
) -> FrameReader | None:
    """See `open_frames`, where the pictures are to go into another file.

    Raises:
        ImageReadError: it cannot be read, or has no such pages.
        ImageWriteError: that file cannot hold them.
        ArgumentError: nor what is asked for.
    """
    reader = open_frames(path, excerpt)
    if reader is not None:
        try:
            _check_target(target, reader, options or WriteOptions())
        except SrTileError:
            reader.close()
            raise
    return reader


def _check_target(path: Path, reader: FrameReader, options: WriteOptions) -> None:
    timing, is_of_film = reader.timing, isinstance(reader, FilmReader)
    if is_of_film and not is_film(path):
        raise ImageWriteError(f"{path}: a film becomes a film: give a name in .mp4, .mkv, .mov or .webm")
    if is_film(path):
        if timing is None and not is_of_film:
            raise ImageWriteError(f"{path}: pages are no film: write TIFF, or choose one with --pages 1")
        codec_of(path, options)
        return
    kind = options.format or format_of(path)
    if reader.count == 1 or kind == "tiff":
        return
    if kind == "jpeg":
        raise ImageWriteError(f"{path}: JPEG holds one picture, the source {reader.count}: {CHOOSE_PAGE}write TIFF")
    if timing is None:
        raise ImageWriteError(f"{path}: pages are no animation: write TIFF, or choose one with --pages 1")


def open_frame_writer(
    path: Path,
    reader: FrameReader,
    options: WriteOptions | None,
    overwrite: bool,
    source: ImageInfo,
    info: ImageInfo,
    segments: Segments | None = None,
) -> FrameWriter:
    """A writer for what a reader gives.

    Args:
        path: of the target, which can hold what is read: see `open_frames_for`.
        reader: of the source.
        options: how to encode.
        overwrite: replace a target that exists.
        source: of the first picture that is read.
        info: of the first that is written.
        segments: of a film that can go on.
    """
    options, timing = options or WriteOptions(), reader.timing
    if is_film(path):
        film = reader if isinstance(reader, FilmReader) else None
        return FilmWriter(path, film, options, overwrite=overwrite, segments=segments)
    if reader.count == 1:
        return StillWriter(path, options, overwrite=overwrite)
    kind = options.format or format_of(path)
    if kind == "tiff":
        if timing:
            log.warning("%s: TIFF has no times and loops; frames become pages", path)
        big = reader.total_bytes * info.result.pixels / source.pixels > _BIG
        return TiffPagesWriter(path, options, overwrite=overwrite, big=big)
    assert timing is not None  # else pages would become an animation
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
