"""Files of several pictures through the pipeline: every picture a job, so that their tiles share batches.

The frames of all files go through in order, beside images that are files of their own. A frame that was written is gone from
memory; how many are under way is bounded by the queues of the pipeline.
"""

import functools
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from sr_tile.errors import DEFECTS, ImageReadError, SrTileError, unexpected_of
from sr_tile.images import ImageInfo
from sr_tile.images.frames.frame import Frame, FrameReader, FrameWriter
from sr_tile.images.rows import Sink, Source
from sr_tile.pipeline.image_job import ImageJob, Outcome


@dataclass(frozen=True)
class FileOutcome:
    """What became of a file: done, or failed with `error`; `index` is its place among those that were given.

    seconds: from the first read to the end, of a file of one picture.
    """

    index: int
    error: SrTileError | None
    seconds: float | None = None


class FrameFile:
    """A file of several pictures, on its way into another one.

    Args:
        name: what messages call it.
        reader: of the source.
        open_writer: makes the target of the first picture that is read and the first that is written.
        on_done: called when the target is whole, before anyone hears of it.
        keep: what becomes of the job of a picture, where pictures that are finished are kept.
    """

    def __init__(
        self,
        name: str,
        reader: FrameReader,
        open_writer: Callable[[ImageInfo, ImageInfo], FrameWriter],
        on_done: Callable[[], None] = lambda: None,
        keep: Callable[[ImageJob, Frame], ImageJob] = lambda job, _: job,
    ) -> None:
        self.name, self._keep = name, keep
        self._reader, self._open_writer, self._on_done = reader, open_writer, on_done
        self._writer: FrameWriter | None = None
        self._frames: dict[ImageJob, Frame] = {}  # those under way
        self._lock = threading.Lock()
        self._total: int | None = None
        self._finished = 0
        self._errors: list[SrTileError] = []

    def jobs(self) -> Iterator[ImageJob]:
        """A job for each picture; it is known which one is the last before that one is handed out."""
        frames = self._readable()
        current = next(frames, None)
        number = 0
        while current is not None:
            following = None if self._is_given_up() else next(frames, None)
            number += 1
            if following is None:
                self._total = number
            job = self._job(current)
            self._frames[job] = current
            yield job
            current = following

    def _is_given_up(self) -> bool:
        return bool(self._errors) and not self._reader.keeps_going

    def _readable(self) -> Iterator[Frame]:
        """The frames; what goes wrong in finding the next one is one that fails."""
        index = 0
        try:
            for frame in self._reader.frames():
                index = frame.index + 1
                yield frame
        except SrTileError as error:
            yield _failing(index, error)
        except (OSError, MemoryError, *DEFECTS) as error:
            yield _failing(index, unexpected_of(self.name, error))
        else:
            if not index:
                yield _failing(index, ImageReadError(f"{self.name}: holds no picture"))

    def _job(self, frame: Frame) -> ImageJob:
        read: list[ImageInfo] = []

        def open_source() -> Source:
            source = frame.open_source()
            read[:] = [source.info]
            return source

        def open_sink(info: ImageInfo) -> Sink:
            with self._lock:
                self._writer = self._writer or self._open_writer(read[0], info)
            return self._writer.open_frame(frame, info)

        return self._keep(ImageJob(f"{self.name}: {frame.name}", open_source, open_sink), frame)

    def take(self, outcome: Outcome) -> bool:
        """Note what became of a picture; whether all are done."""
        frame = self._frames.pop(outcome.job)
        self._finished += 1
        if outcome.error:
            self._errors.append(outcome.error)
            if self._writer:
                with self._noting_errors():
                    self._writer.skip(frame)
        return self._finished == self._total

    @contextmanager
    def _noting_errors(self) -> Iterator[None]:
        try:
            yield
        except SrTileError as error:
            self._errors.append(error)
        except (OSError, MemoryError, *DEFECTS) as error:
            self._errors.append(unexpected_of(self.name, error))

    def finish(self) -> SrTileError | None:
        """End the target; what went wrong, in one error."""
        failed = len(self._errors)
        if failed and (self._is_given_up() or self._finished == failed):
            self.abort()
            return self._errors[0]
        with self._noting_errors():
            self._reader.close()
            assert self._writer is not None  # a picture was written
            self._writer.close()
        if len(self._errors) > failed:
            self.abort()
            return self._errors[-1]
        if not failed:
            self._on_done()
            return None
        done = self._finished - failed
        return ImageReadError(f"{'; '.join(map(str, self._errors[:3]))}; the other {done} pages were written")

    def abort(self) -> None:
        """Leave nothing behind; harmless after `finish`."""
        self._reader.close()
        if self._writer:
            self._writer.abort()


def each_file(
    run: Callable[[Iterable[ImageJob]], Iterator[Outcome]], files: Iterable[ImageJob | FrameFile]
) -> Generator[FileOutcome]:
    """Do many files, of one picture or several; outcomes come as they are ready.

    Args:
        run: does jobs, see `Pipeline.run`.
        files: in their order.
    """
    owners: dict[int, tuple[int, FrameFile | None]] = {}  # by the number of the job

    def jobs() -> Iterator[ImageJob]:
        number = 0
        for index, file in enumerate(files):
            for job in [file] if isinstance(file, ImageJob) else file.jobs():
                owners[number] = (index, None if isinstance(file, ImageJob) else file)
                number += 1
                yield job

    open_files: set[FrameFile] = set()
    outcomes = run(jobs())
    try:
        for outcome in outcomes:
            index, file = owners.pop(outcome.index)
            if file is None:
                yield FileOutcome(index, outcome.error, outcome.seconds)
                continue
            open_files.add(file)
            if file.take(outcome):
                open_files.discard(file)
                yield FileOutcome(index, file.finish())
    finally:
        if isinstance(outcomes, Generator):
            outcomes.close()
        open_files |= {file for _, file in owners.values() if file}
        for file in open_files:
            file.abort()


def failing_job(name: str, error: SrTileError) -> ImageJob:
    """A job in place of one that cannot begin, which ends in its error."""
    return ImageJob(name, functools.partial(_raise, error), functools.partial(_raise, error))


def _raise(error: SrTileError, *_: object) -> NoReturn:
    raise error


def _failing(index: int, error: SrTileError) -> Frame:
    return Frame(index, "the next picture", functools.partial(_raise, error))
