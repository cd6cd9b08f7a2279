"""Jobs that survive: each finished image, and each finished strip of a giant one, is in the journal before the next.

A run that was killed goes on where its journal ends, with the tiles that the journal's plan says, so that it gives the same
bytes. Images go one at a time unless the enhancer allows more under way, so that a kill costs one image or one strip.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ImageReadError, JobError, SrTileError
from sr_tile.export.find_model import find_model
from sr_tile.images import ImageInfo, ImageReader, ImageWriter, WriteOptions
from sr_tile.images.frames.excerpt import Excerpt
from sr_tile.images.frames.film_reader import FilmReader
from sr_tile.images.frames.film_writer import Segments
from sr_tile.images.frames.frame import FrameWriter
from sr_tile.images.frames.open_frames import open_frame_writer, open_frames
from sr_tile.images.rows import CroppingSink, Sink, SkippingSource
from sr_tile.jobs.journal import NAME, Journal
from sr_tile.jobs.report import FileResult
from sr_tile.jobs.segment_store import SegmentStore
from sr_tile.jobs.selection import Existing, FilePair, make_folder, screen
from sr_tile.jobs.strip_store import CheckpointingSink, StripStore, whole_strips
from sr_tile.pipeline.frame_files import FrameFile, each_file, failing_job
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.pipeline.queues import Cancelled
from sr_tile.planner import Plan
from sr_tile.planner.costs import Costs, Point
from sr_tile.system.hashes import sha256_of
from sr_tile.system.part_file import remove_abandoned_parts
from sr_tile.tiling.grid import TileGrid
from sr_tile.tiling.strips import Strip, edge, split

log = logging.getLogger("sr_tile")

GIANT_PIXELS = 64_000_000
"""Images whose results have more pixels than this are kept strip by strip."""

SEGMENT_FRAMES = 250
"""Frames of a film that are kept at a time."""

STRIP_PIXELS = 16_000_000
"""About as many pixels of the result are in one strip, and at least what one row of tiles finishes."""


@dataclass(frozen=True)
class FileFingerprint:
    """What tells one input from another: bytes, time of the last change, and hash."""

    size: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "FileFingerprint":
        """Read the whole file.

        Raises:
            ImageReadError: it cannot be read.
        """
        try:
            status = path.stat()
            digest = sha256_of(path)
        except OSError as error:
            raise ImageReadError(f"{path}: cannot be opened: {error.strerror}") from None
        return cls(status.st_size, status.st_mtime_ns, digest)


def describe(model: str | Path | None, scale: float | None, **settings: Any) -> dict[str, Any]:
    """All on which the bytes of a result depend, beside its input: the model's hash and the settings.

    Args:
        model: as for `Enhancer`.
        scale: as for `Enhancer`.
        settings: whatever the user chose, as plain values.
    """
    return {"model": sha256_of(find_model(model, scale)), **settings}


class ResumableJob:
    """A folder with a journal, ready to begin or to go on.

    Args:
        folder: of the job; made where it is missing.
        settings: see `describe`; where the journal's are others, the job starts afresh and says so.

    Raises:
        JobError: another process has the folder, it cannot be written, or its journal is damaged.
    """

    def __init__(self, folder: Path | str, settings: dict[str, Any]) -> None:
        self.folder = Path(folder)
        self.journal = Journal(self.folder)
        self._settings = json.loads(json.dumps(settings))
        started = self.journal.state.started
        self.fresh = started.get("settings") != self._settings
        if started and self.fresh:
            before, now = started["settings"], self._settings
            changed = {key for key in (*before, *now) if before.get(key) != now.get(key)}
            log.warning("job %s: other %s than before: starting afresh", self.folder, ", ".join(sorted(changed)))
        if self.fresh:
            shutil.rmtree(self.strips, ignore_errors=True)

    @property
    def strips(self) -> Path:
        """Where finished strips lie."""
        return self.folder / "strips"

    @property
    def plan(self) -> Plan | None:
        """The tiles with which the job was begun; None for a new one."""
        if self.fresh:
            return None
        values = self.journal.state.started["plan"]
        try:
            points = values["costs"] and tuple(Point(*point) for point in values["costs"]["points"])
            values = {**values, "tile": tuple(values["tile"]), "sides": tuple(values["sides"])}
            return Plan(**{**values, "costs": Costs(points) if points else None})
        except (KeyError, TypeError, ValueError):
            raise JobError(
                f"{self.folder / NAME}: its plan of tiles is damaged; remove the folder to start afresh"
            ) from None

    @property
    def device(self) -> str | None:
        """Where the job was begun: another may round differently. None for a new one."""
        return None if self.fresh else self.journal.state.started["device"]

    def start(self, plan: Plan, device: str, total: int) -> None:
        """Note that a process begins or goes on with `total` images."""
        if self.fresh:
            facts = {"settings": self._settings, "device": device, "plan": asdict(plan)}
            self.journal.append("start", sync=True, **facts, total=total, pid=os.getpid())
            self.fresh = False
        else:
            state = self.journal.state
            done = sum(image.status == "done" for image in state.images.values())
            for folder in {Path(image.target).parent for image in state.images.values()}:
                remove_abandoned_parts(folder)
            log.info("job %s: going on, %d images are done", self.folder, done)
            self._sweep()
            self.journal.append("resume", total=total, pid=os.getpid())

    def _sweep(self) -> None:
        """Remove the strips of finished images, where a kill came between the last line and that."""
        kept = {folder for image in self.journal.state.images.values() for folder in image.strips}
        for folder in self.strips.iterdir() if self.strips.is_dir() else ():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def known(self, pair: FilePair, retry_failed: bool = False) -> FileResult | None:
        """What the journal says of an image that need not be done: it is whole, or failed and is not to be tried again.

        An input counts as unchanged where size and time are the same, or else its hash; a result that is gone, or has
        another size, is made again, and so is one whose source is a new one.
        """
        image = self.journal.state.images.get(_name(pair.target))
        if image is None or image.status == "begun" or image.source != _name(pair.source):
            return None
        try:
            status = pair.source_path.stat()
            same = (status.st_size, status.st_mtime_ns) == (image.size, image.mtime_ns)
            if image.status == "done":
                same = same or (
                    status.st_size == image.size and FileFingerprint.of(pair.source_path).sha256 == image.sha256
                )
                same = same and pair.target_path.stat().st_size == image.bytes
        except (OSError, ImageReadError):
            same = image.status == "failed" and image.size < 0
        if not same or (image.status == "failed" and retry_failed):
            return None
        return FileResult(pair.source, pair.target, image.status, image.error)

    def owns(self, target: Path | str) -> bool:
        """Whether what lies at `target` was made by this job, and may be replaced."""
        return _name(target) in self.journal.state.owned

    def begin(self, pair: FilePair, facts: FileFingerprint) -> None:
        """Note that an image is under way."""
        self.journal.append("begin", sync=False, source=_name(pair.source), target=_name(pair.target), **asdict(facts))

    def done(self, pair: FilePair, facts: FileFingerprint | None = None) -> None:
        """Note that an image is whole, with the facts of its source where they were not known when it was begun."""
        size, known = pair.target_path.stat().st_size, asdict(facts) if facts else {}
        self.journal.append("done", sync=True, target=_name(pair.target), bytes=size, **known)

    def failed(self, pair: FilePair, error: str) -> FileResult:
        """Note that an image has no result, and why."""
        size = mtime_ns = -1
        with contextlib.suppress(OSError):
            status = pair.source_path.stat()
            size, mtime_ns = status.st_size, status.st_mtime_ns
        source, target = _name(pair.source), _name(pair.target)
        self.journal.append("failed", source=source, target=target, error=error, size=size, mtime_ns=mtime_ns)
        return FileResult(pair.source, pair.target, "failed", error)

    def strip(self, target: Path | str, folder: Path, first: int, end: int) -> None:
        """Note that rows `first` to before `end` of a result lie in `folder`."""
        self.journal.append("strip", target=_name(target), folder=folder.name, first=first, end=end)

    def recorded(self, target: Path | str) -> dict[str, dict[int, int]]:
        """The strips of an image that the journal knows: folder to first row to end."""
        image = self.journal.state.images.get(_name(target))
        return image.strips if image else {}

    def finished(self, target: Path | str, folder: Path) -> dict[int, int]:
        """First row to end of those of an image's strips that are in the journal and on disk, as they were written."""
        return whole_strips(folder, self.recorded(target).get(folder.name, {}))

    def waiting(
        self, pairs: Sequence[FilePair], *, existing: Existing, retry_failed: bool
    ) -> Iterator[FilePair | FileResult]:
        """Each pair that is to be done, or what became of it where it is not; see `screen`."""
        for pair in pairs:
            known = self.known(pair, retry_failed)
            if known:
                yield known
                continue
            for item in screen([pair], existing, is_ours=self.owns):
                refused = item if isinstance(item, FileResult) else make_folder(item)
                if refused and refused.status == "failed":
                    yield self.failed(pair, str(refused.error))
                else:
                    yield refused or pair

    def run(
        self,
        enhancer: Enhancer,
        pairs: Sequence[FilePair],
        *,
        existing: Existing = "refuse",
        retry_failed: bool = False,
        options: WriteOptions | None = None,
        excerpt: Excerpt | None = None,
    ) -> Iterator[FileResult]:
        """Do what is not done yet, as `run_files` does; results of earlier runs are among what comes back.

        A film goes on behind its last whole segment; another file of several pictures is done from its first one again where
        it was not finished.

        Args:
            enhancer: does the work, with the job's tiles.
            pairs: sources and targets.
            existing: what becomes of targets that are there and not from this job.
            retry_failed: try those again that failed, although their input is the same.
            options: quality and compression of the targets.
            excerpt: which pages or frames, or which part of a film, of each source; None for all.
        """
        if self.plan:
            enhancer.use_plan(self.plan)
        self.start(enhancer.plan, enhancer.device, len(pairs))
        wanted: list[FilePair] = []
        for item in self.waiting(pairs, existing=existing, retry_failed=retry_failed):
            if isinstance(item, FileResult):
                yield item
            else:
                wanted.append(item)
        files = (_DurableFile(self, pair, enhancer.scale, options).job(excerpt) for pair in wanted)
        with contextlib.closing(each_file(enhancer.run, files)) as outcomes:
            for outcome in outcomes:
                pair = wanted[outcome.index]
                if outcome.error:
                    yield self.failed(pair, str(outcome.error))
                else:
                    yield FileResult(pair.source, pair.target, "done", seconds=outcome.seconds)

    def close(self) -> None:
        """Let other processes have the folder; idempotent."""
        self.journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _DurableFile:
    """One file of a job on its way through the pipeline."""

    def __init__(self, job: ResumableJob, pair: FilePair, scale: int, options: WriteOptions | None) -> None:
        self._job, self._pair, self._scale, self._options = job, pair, scale, options

    def job(self, excerpt: Excerpt | None) -> ImageJob | FrameFile:
        """For `each_file`."""
        try:
            reader = open_frames(self._pair.source_path, excerpt)
        except SrTileError as error:
            return failing_job(self._pair.source, error)
        if reader is None:
            return ImageJob(self._pair.source, self._open_source, self._open_sink, self._strip)

        facts = FileFingerprint.of(self._pair.source_path)
        store = self._segment_store(facts)
        segments = Segments(self._pair.target_path)
        if isinstance(reader, FilmReader):
            segments = Segments(self._pair.target_path, SEGMENT_FRAMES, store.keep, _go_on(reader, store))

        def open_writer(source: ImageInfo, info: ImageInfo) -> FrameWriter:
            self._job.begin(self._pair, facts)
            return open_frame_writer(self._pair.target_path, reader, self._options, True, source, info, segments)

        def done() -> None:
            self._job.done(self._pair)
            store.remove()

        return FrameFile(self._pair.source, reader, open_writer, done)

    def _segment_store(self, facts: FileFingerprint) -> SegmentStore:
        key = hashlib.sha256(json.dumps([_name(self._pair.target), facts.sha256]).encode()).hexdigest()[:24]
        folder = self._job.strips / key
        return SegmentStore(folder, lambda number: self._job.strip(self._pair.target, folder, number, number + 1))

    def _open_source(self) -> SkippingSource:
        self._part: Strip | None = None
        self._facts = FileFingerprint.of(self._pair.source_path)
        self._source = SkippingSource(ImageReader(self._pair.source))
        self._job.begin(self._pair, self._facts)
        return self._source

    def _strip(self, grid: TileGrid) -> range:
        """The rows of tiles to do: all, or of a giant image those behind the strips there are."""
        if self._source.info.pixels * self._scale**2 <= GIANT_PIXELS:
            return grid.rows
        self._folder = self._job.strips / strips_name(self._pair.target, self._facts, grid)
        self._finished = leading_strips(self._job.finished(self._pair.target, self._folder), grid, self._scale)
        row = self._finished[-1][1] if self._finished else 0
        first = next(index for index in grid.rows if edge(grid, index) * self._scale == row)
        self._part = Strip(grid, first, grid.rows.stop)
        self._source.skip = self._part.reads[0]
        return self._part.tiles

    def _open_sink(self, info: ImageInfo) -> Sink:
        writer = ImageWriter(self._pair.target, info, options=self._options, overwrite=True)
        if self._part is None:
            return _JournalingSink(writer, lambda: self._job.done(self._pair))
        store, grid = StripStore(self._folder, info, writer.dtype), self._part.grid
        store.clean()
        edges = [strip.rows[0] * self._scale for strip in split(grid, grid.rows, rows_per_strip(grid, self._scale))][1:]

        def done() -> None:
            self._job.done(self._pair)
            store.remove()

        def on_strip(first: int, end: int) -> None:
            self._job.strip(self._pair.target, self._folder, first, end)

        sink = CheckpointingSink(_JournalingSink(writer, done), store, self._finished, edges, on_strip)
        return CroppingSink(sink, self._part.dropped * self._scale)


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


def strips_name(target: Path | str, facts: FileFingerprint, grid: TileGrid) -> str:
    """The folder of an image's strips: another for another input, and for other tiles."""
    key = json.dumps([_name(target), facts.sha256, asdict(grid.y), asdict(grid.x)])
    return hashlib.sha256(key.encode()).hexdigest()[:24]


def leading_strips(strips: dict[int, int], grid: TileGrid, scale: int) -> list[tuple[int, int]]:
    """Those of the strips, first row to end, that follow each other from row 0; never all, for one strip must be left."""
    found, row = [], 0
    while row in strips and strips[row] < grid.y.length * scale:
        found.append((row, strips[row]))
        row = strips[row]
    return found


def _name(path: Path | str) -> str:
    """A file whatever the current folder is."""
    return os.path.abspath(path)  # noqa: PTH100  # Path.absolute keeps `..`
