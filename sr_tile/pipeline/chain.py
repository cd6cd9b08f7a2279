"""One network after another over the same pictures: rows of the first one's results are what the second one reads.

Both pipelines run at the same time. Between them go rows of floats, a few at a time; nothing is written, and the second
begins with a picture when the first has finished its first rows.
"""

import functools
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from sr_tile.errors import OutOfMemoryError, SrTileError, StoppedError
from sr_tile.images import ImageInfo
from sr_tile.images.rows import Sink, Source
from sr_tile.pipeline.image_job import ImageJob, Outcome
from sr_tile.pipeline.queues import BoundedQueue, Cancelled

Run: TypeAlias = Callable[[Iterable[ImageJob]], Iterator[Outcome]]
"""See `Pipeline.run`."""

_BLOCKS = 2  # of rows between the two


def run_chain(first: Run, second: Run, jobs: Iterable[ImageJob]) -> Generator[Outcome]:
    """Do jobs by one pipeline and their results by another; outcomes are those of the second.

    Args:
        first: reads the sources.
        second: writes the sinks.
        jobs: see `Pipeline.run`; none may ask for a strip.

    Raises:
        SrTileError: a device has failed.
    """
    handed_on: BoundedQueue[ImageJob] = BoundedQueue(2)
    links: dict[ImageJob, _Link] = {}
    originals: dict[ImageJob, ImageJob] = {}
    failures: list[Exception] = []

    def halves() -> Iterator[ImageJob]:
        for job in jobs:
            link = _Link(job.name)
            one = ImageJob(job.name, job.open_source, link.open_sink, on_grid=job.on_grid)
            other = ImageJob(job.name, link.open_source, functools.partial(_open_last, job, link))
            links[one], originals[other] = link, job
            try:
                handed_on.put(other)
            except Cancelled:
                return
            yield one
        handed_on.close()

    def work() -> None:
        try:
            for outcome in first(halves()):
                link = links.pop(outcome.job)
                if outcome.error:
                    link.fail(outcome.error)
        except Cancelled:
            pass
        except Exception as error:
            failures.append(error)
        finally:
            for link in list(links.values()):
                link.fail(StoppedError(f"{link.name}: the step before was stopped"))
            handed_on.close()

    thread = threading.Thread(target=work, name="sr-tile chain", daemon=True)
    thread.start()
    outcomes = second(handed_on)
    try:
        for outcome in outcomes:
            yield replace(outcome, job=originals.pop(outcome.job))
    finally:
        handed_on.cancel()
        for link in list(links.values()):
            link.fail(StoppedError(f"{link.name}: the step behind was stopped"))
        if isinstance(outcomes, Generator):
            outcomes.close()
        thread.join()
    if failures:
        raise failures[0]


def _open_last(job: ImageJob, link: "_Link", info: ImageInfo) -> Sink:
    return job.open_sink(link.of_file(info))


class _Link:
    """Rows of one picture from one pipeline to the next."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: BoundedQueue[np.ndarray] = BoundedQueue(_BLOCKS)
        self.error: SrTileError | None = None
        self._info: ImageInfo | None = None
        self._known = threading.Event()
        self._read = False

    def fail(self, error: SrTileError) -> None:
        """There will be no more rows, or nobody wants them; the first reason stays."""
        self.error = self.error or error
        self.rows.cancel()
        self._known.set()

    def of_file(self, info: ImageInfo) -> ImageInfo:
        """What the last sink is told: the depth of the source, not of the rows between."""
        assert self._info is not None  # the source was opened before
        return replace(info, dtype=self._info.dtype)

    def open_sink(self, info: ImageInfo) -> Sink:
        """For the first pipeline."""
        if self._info is not None:
            error = OutOfMemoryError(f"{self.name}: {_AGAIN}")
            self.fail(error)
            raise error
        self._info = info
        self._known.set()
        return _LinkSink(self)

    def open_source(self) -> Source:
        """For the second; waits for the first to begin."""
        self._known.wait()
        if self._read:
            error = OutOfMemoryError(f"{self.name}: {_AGAIN}")
            self.fail(error)
            raise error
        self._read = True
        if self.error:
            raise self.error
        assert self._info is not None
        return _LinkSource(self, replace(self._info.result, dtype=np.dtype(np.float32)))


_AGAIN = "the device has no room for tiles of this size, and a chain cannot start again: give a smaller --tile-size"


class _LinkSink:
    """See `Sink`."""

    dtype = np.dtype(np.float32)

    def __init__(self, link: _Link) -> None:
        self._link = link

    def write_rows(self, rows_hwc: np.ndarray) -> None:
        """See `Sink.write_rows`; waits for the second pipeline."""
        try:
            self._link.rows.put(rows_hwc)
        except Cancelled:
            raise StoppedError(f"{self._link.name}: the step behind has stopped") from None

    def close(self) -> None:
        """See `Sink.close`."""
        self._link.rows.close()

    def abort(self) -> None:
        """See `Sink.abort`."""
        self._link.fail(StoppedError(f"{self._link.name}: the step before was stopped"))


class _LinkSource:
    """See `Source`."""

    whole_bytes = 0

    def __init__(self, link: _Link, info: ImageInfo) -> None:
        self.info, self._link = info, link
        self._blocks = iter(link.rows)
        self._rest = np.empty((0, info.width, info.channels), np.float32)

    def read_rows(self, count: int) -> np.ndarray:
        """See `Source.read_rows`; waits for the first pipeline."""
        blocks, have = [self._rest], len(self._rest)
        try:
            while have < count and (block := next(self._blocks, None)) is not None:
                blocks.append(block)
                have += len(block)
        except Cancelled:
            raise self._link.error or StoppedError(f"{self._link.name}: was stopped") from None
        rows_hwc = np.concatenate(blocks)
        self._rest = rows_hwc[count:].copy()
        return rows_hwc[:count]

    def close(self) -> None:
        """See `Source.close`."""
        self._link.rows.cancel()
