"""What became of each image of a run on a fleet: reports to results, and to the journal where there is one."""

import os
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from sr_tile.distributed.storage import exists
from sr_tile.distributed.tasks import Row
from sr_tile.jobs.job_folder import FileFingerprint
from sr_tile.jobs.report import FileResult
from sr_tile.jobs.resumable import ResumableJob
from sr_tile.jobs.selection import Existing, FilePair, is_url, screen

LOST = (
    "its worker died each time it was tried, most likely for want of memory; use fewer actors or a smaller --tile-size"
)


class Progress:
    """Every image has one result in the end, whatever died.

    Args:
        pairs: sources and targets of the images.
        job: keeps the journal; None for a run without one.
    """

    def __init__(self, pairs: Sequence[FilePair], job: ResumableJob | None) -> None:
        self._pairs, self._job = pairs, job
        self.ended: set[int] = set()
        self.done: set[int] = set()
        self.giants: set[int] = set()
        self._heard: set[int] = set()
        self._folders: dict[int, str] = {}
        self._strips: dict[int, dict[int, int]] = defaultdict(dict)

    def wanted(self, existing: Existing, retry_failed: bool) -> Generator[FileResult, None, list[Row]]:
        """Results of images that need not be done; what comes back in the end are rows for those that are."""
        rows: list[Row] = []
        for index, pair in enumerate(self._pairs):
            if self._job:
                (item,) = self._job.waiting([pair], existing=existing, retry_failed=retry_failed)
            else:
                (item,) = screen([pair], existing, exists=exists)
            if isinstance(item, FileResult):
                self.ended.add(index)
                yield item
                continue
            source, target = (name if is_url(name) else os.path.abspath(name) for name in (pair.source, pair.target))  # noqa: PTH100
            rows.append({"index": index, "source": source, "target": target})
            if self._job:
                self._job.begin(pair, FileFingerprint(-1, -1, ""))
        return rows

    def take(self, dataset: Any, wanted: Sequence[Row], *, last: bool = True) -> Iterator[FileResult]:
        """Results out of a dataset of reports; images of which nothing came back have failed.

        Giants are kept in `giants`, their parts in `strips`: there is no result of those yet.

        Args:
            dataset: of reports.
            wanted: what it is about.
            last: whether this was the last try; else images of which nothing came back are `lost`, and have no result.
        """
        heard = self._heard = set()
        for report in dataset.iter_rows():
            index = report["index"]
            heard.add(index)
            if report["kind"] == "giant":
                self.giants.add(index)
            elif report["kind"] in ("cut", "strip"):
                self._strip(report)
            elif index not in self.ended:
                yield self._end(index, report)
        for index in [row["index"] for row in self.lost(wanted)] if last else ():
            yield self._end(index, {"kind": "failed", "error": f"{self._pairs[index].source}: {LOST}"})

    def lost(self, wanted: Sequence[Row]) -> list[Row]:
        """Those of which nothing came back from the last dataset."""
        return [row for row in wanted if row["index"] not in self._heard | self.ended]

    def strips(self, row: Row) -> tuple[str, dict[int, int]]:
        """Where the strips of a giant lie, and first row to end of each."""
        folder = self._folders[row["index"]]
        return folder, {**self.recorded(row).get(folder, {}), **self._strips[row["index"]]}

    def recorded(self, row: Row) -> dict[str, dict[int, int]]:
        """The strips of an image that the journal knows: folder to first row to end."""
        return dict(self._job.recorded(row["target"])) if self._job else {}

    def _strip(self, report: Row) -> None:
        index, first, end = report["index"], report["first"], report["end"]
        self._folders[index] = report["folder"]
        if report["kind"] == "cut":
            return
        self._strips[index][first] = end
        if self._job:
            self._job.strip(self._pairs[index].target, Path(report["folder"]), first, end)

    def _end(self, index: int, report: Row) -> FileResult:
        self.ended.add(index)
        pair = self._pairs[index]
        if report["kind"] == "failed":
            if self._job:
                return self._job.failed(pair, report["error"])
            return FileResult(pair.source, pair.target, "failed", report["error"])
        self.done.add(index)
        if self._job:
            self._job.done(pair, FileFingerprint(report["size"], report["mtime_ns"], report["sha256"]))
        return FileResult(pair.source, pair.target, "done")
