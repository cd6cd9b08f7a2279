"""One file of a job on its way through the pipeline: what of it is finished is kept, and is not computed again.

Of giant images strips are kept, of animations and files of pages each picture, of films segments.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from sr_tile.errors import SrTileError
from sr_tile.images import ImageInfo, ImageReader, ImageWriter, WriteOptions
from sr_tile.images.frames.excerpt import Excerpt
from sr_tile.images.frames.film_reader import FilmReader
from sr_tile.images.frames.film_writer import Segments
from sr_tile.images.frames.frame import Frame, FrameReader, FrameWriter
from sr_tile.images.frames.open_frames import open_frame_writer, open_frames_for
from sr_tile.images.rows import CroppingSink, Sink, SkippingSource, Source
from sr_tile.jobs.job_folder import FileFingerprint, JobFolder, folder_name, strips_name
from sr_tile.jobs.segment_store import SegmentStore
from sr_tile.jobs.selection import FilePair
from sr_tile.jobs.strip_store import CheckpointingSink, StripStore
from sr_tile.pipeline.frame_files import FrameFile, failing_job
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.pipeline.queues import Cancelled
from sr_tile.tiling.grid import TileGrid
from sr_tile.tiling.strips import Strip, edge, split

GIANT_PIXELS = 64_000_000
"""Images whose results have more pixels than this are kept strip by strip."""

SEGMENT_FRAMES = 250
"""Frames of a film that are kept at a time."""

STRIP_PIXELS = 16_000_000
"""About as many pixels of the result are in one strip, and at least what one row of tiles finishes."""


class DurableFile:
    """One file of a job.

    Args:
        folder: of the job.
        pair: the file, and its result.
        scale: of the network.
        options: how to encode.
    """

    def __init__(self, folder: JobFolder, pair: FilePair, scale: int, options: WriteOptions | None) -> None:
        self._folder, self._pair, self._scale, self._options = folder, pair, scale, options

    def job(self, excerpt: Excerpt | None) -> ImageJob | FrameFile:
        """For `each_file`."""
        try:
            reader = open_frames_for(self._pair.source_path, self._pair.target_path, self._options, excerpt)
            if reader is None:
                return self._image()
            facts = FileFingerprint.of(self._pair.source_path)
            return self._film(reader, facts) if isinstance(reader, FilmReader) else self._pictures(reader, facts)
        except SrTileError as error:
            return failing_job(self._pair.source, error)

    def _image(self) -> ImageJob:
        rows = _KeptRows(self._folder, self._pair, self._scale)

        def open_source() -> Source:
            rows.facts = FileFingerprint.of(self._pair.source_path)
            source = ImageReader(self._pair.source)
            self._folder.begin(self._pair, rows.facts)
            return rows.open_source(source)

        def open_sink(info: ImageInfo) -> Sink:
            writer = ImageWriter(self._pair.target, info, options=self._options, overwrite=True)
            return rows.open_sink(_JournalingSink(writer, lambda: self._folder.done(self._pair)), info)

        return ImageJob(self._pair.source, open_source, open_sink, rows.strip)

    def _pictures(self, reader: FrameReader, facts: FileFingerprint) -> FrameFile:
        def keep(job: ImageJob, frame: Frame) -> ImageJob:
            rows = _KeptRows(self._folder, self._pair, self._scale, frame.index)
            rows.facts = facts
            return replace(
                job,
                open_source=lambda: rows.open_source(job.open_source()),
                open_sink=lambda info: rows.open_sink(job.open_sink(info), info),
                strip=rows.strip,
            )

        open_writer = self._open_writer(reader, facts, Segments(self._pair.target_path))
        return FrameFile(self._pair.source, reader, open_writer, lambda: self._folder.done(self._pair), keep)

    def _film(self, reader: FilmReader, facts: FileFingerprint) -> FrameFile:
        folder = self._folder.strips / folder_name(self._pair.target, facts)
        store = SegmentStore(folder, lambda number: self._folder.strip(self._pair.target, folder, number, number + 1))
        segments = Segments(self._pair.target_path, SEGMENT_FRAMES, store.keep, _go_on(reader, store))
        open_writer = self._open_writer(reader, facts, segments)
        return FrameFile(self._pair.source, reader, open_writer, lambda: self._folder.done(self._pair))

    def _open_writer(
        self, reader: FrameReader, facts: FileFingerprint, segments: Segments
    ) -> Callable[[ImageInfo, ImageInfo], FrameWriter]:
        def open_writer(source: ImageInfo, info: ImageInfo) -> FrameWriter:
            self._folder.begin(self._pair, facts)
            return open_frame_writer(self._pair.target_path, reader, self._options, True, source, info, segments)

        return open_writer


class _KeptRows:
    """Rows of one picture that are kept strip by strip until its file is whole, beside those of earlier runs.

    Args:
        folder: of the job.
        pair: the file, and its result.
        scale: of the network.
        picture: of several in the file, all of which are kept; None for an image that is alone in its file: a giant one is
            kept but for its last strip, behind which the file is whole.
    """

    facts: FileFingerprint  # of the source; set before it is opened

    def __init__(self, folder: JobFolder, pair: FilePair, scale: int, picture: int | None = None) -> None:
        self._folder, self._pair, self._scale, self._picture = folder, pair, scale, picture

    def open_source(self, source: Source) -> Source:
        """What the pipeline reads; it begins behind what is kept."""
        self._grid: TileGrid | None = None
        self._source = SkippingSource(source)
        return self._source

    def strip(self, grid: TileGrid) -> range:
        """The rows of tiles to do: those behind the strips there are; all of an image of which no strips are kept."""
        if self._picture is None and self._source.info.pixels * self._scale**2 <= GIANT_PIXELS:
            return grid.rows
        self._grid = grid
        self._strips = self._folder.strips / strips_name(self._pair.target, self.facts, grid, self._picture)
        found = self._folder.finished(self._pair.target, self._strips)
        self._finished = leading_strips(found, grid, self._scale, all_of_them=self._picture is not None)
        row = self._finished[-1][1] if self._finished else 0
        first = next(index for index in range(grid.rows.stop + 1) if edge(grid, index) * self._scale == row)
        if first == grid.rows.stop:
            self._dropped = 0
            return grid.rows[first:]
        part = Strip(grid, first, grid.rows.stop)
        self._source.skip, self._dropped = part.reads[0], part.dropped
        return part.tiles

    def open_sink(self, sink: Sink, info: ImageInfo) -> Sink:
        """What the pipeline writes to; `sink` gets the rows of earlier runs too."""
        if self._grid is None:
            return sink
        store = StripStore(self._strips, info, sink.dtype)
        store.clean()
        parts = split(self._grid, self._grid.rows, rows_per_strip(self._grid, self._scale))
        edges = [part.rows[1] * self._scale for part in parts]
        if self._picture is None:
            edges.pop()

        def on_strip(first: int, end: int) -> None:
            self._folder.strip(self._pair.target, self._strips, first, end)

        keeping = CheckpointingSink(sink, store, self._finished, edges, on_strip)
        return CroppingSink(keeping, self._dropped * self._scale)


def _go_on(reader: FilmReader, store: SegmentStore) -> list[Path]:
    """The segments that need not be done again; never all, for one must be left."""
    whole = store.whole()
    while whole:
        reader.go_on_after(whole[-1][1])
        if next(reader.frames(), None):
            break
        reader.go_on_after(None)
        whole.pop()
    return [path for path, _ in whole]


class _JournalingSink:
    """Calls `done` when the sink is closed, before anyone hears of it; that it was aborted is no failure of the image."""

    def __init__(self, sink: Sink, done: Callable[[], None]) -> None:
        self._sink, self._done, self._aborted = sink, done, False
        self.dtype = sink.dtype

    def write_rows(self, rows_hwc: np.ndarray) -> None:
        """See `Sink.write_rows`."""
        with self._unless_aborted():
            self._sink.write_rows(rows_hwc)

    def close(self) -> None:
        """See `Sink.close`."""
        with self._unless_aborted():
            self._sink.close()
        self._done()

    def abort(self) -> None:
        """See `Sink.abort`."""
        self._aborted = True
        self._sink.abort()

    @contextlib.contextmanager
    def _unless_aborted(self) -> Iterator[None]:
        """The journal must not say of an image that it failed when everything was stopped."""
        try:
            yield
        except SrTileError:
            if self._aborted:
                raise Cancelled from None
            raise


def rows_per_strip(grid: TileGrid, scale: int) -> int:
    """Rows of tiles in a strip of about `STRIP_PIXELS`, at least 1."""
    pixels = grid.y.length * grid.x.length * scale**2 / len(grid.y.starts)
    return max(1, round(STRIP_PIXELS / pixels))


def leading_strips(
    strips: dict[int, int], grid: TileGrid, scale: int, *, all_of_them: bool = False
) -> list[tuple[int, int]]:
    """Those of the strips, first row to end, that follow each other from row 0.

    Unless `all_of_them` are wanted, the last one of the picture is not among them, for one must be left.
    """
    found, row, height = [], 0, grid.y.length * scale
    while row in strips and (strips[row] < height or (all_of_them and strips[row] == height)):
        found.append((row, strips[row]))
        row = strips[row]
    return found
