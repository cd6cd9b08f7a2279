"""Many files through an enhancer, of this process or another machine's."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from sr_tile.images import WriteOptions
from sr_tile.images.frames.excerpt import Excerpt
from sr_tile.jobs.report import FileResult
from sr_tile.jobs.selection import Existing, FilePair, make_folder, screen
from sr_tile.pipeline.frame_files import FrameFile, each_file
from sr_tile.pipeline.image_job import ImageJob, Outcome


class Runner(Protocol):
    """What does the jobs: an `Enhancer`, or a server through `RemoteEnhancer`."""

    def file_job(
        self,
        source: Path | str,
        target: Path | str,
        *,
        overwrite: bool = False,
        options: WriteOptions | None = None,
        excerpt: Excerpt | None = None,
    ) -> ImageJob | FrameFile:
        """See `Enhancer.file_job`."""
        ...

    def run(self, jobs: Iterable[ImageJob]) -> Iterator[Outcome]:
        """See `Enhancer.run`."""
        ...


def run_files(
    enhancer: Runner,
    pairs: Sequence[FilePair],
    *,
    existing: Existing = "refuse",
    options: WriteOptions | None = None,
    excerpt: Excerpt | None = None,
) -> Iterator[FileResult]:
    """Enhance files; results come as they are ready, and one that fails never stops the rest.

    Args:
        enhancer: does the work.
        pairs: sources and targets; folders of targets are made.
        existing: what becomes of targets that exist; where they are skipped, their sources are not read.
        options: quality and compression of the targets.
        excerpt: which pages or frames, or which part of a film, of each source; None for all.
    """
    wanted: list[FilePair] = []
    for item in screen(pairs, existing):
        refused = item if isinstance(item, FileResult) else make_folder(item)
        if refused:
            yield refused
        elif isinstance(item, FilePair):
            wanted.append(item)
    common: Any = {"overwrite": existing == "overwrite", "options": options, "excerpt": excerpt}
    jobs = (enhancer.file_job(pair.source, pair.target, **common) for pair in wanted)
    with closing(each_file(enhancer.run, jobs)) as outcomes:
        for outcome in outcomes:
            pair = wanted[outcome.index]
            error = str(outcome.error) if outcome.error else None
            yield FileResult(pair.source, pair.target, "failed" if error else "done", error, outcome.seconds)
