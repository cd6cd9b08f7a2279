"""Jobs that survive: each finished image, and each finished strip of a giant one, is in the journal before the next.

A run that was killed goes on where its journal ends, with the tiles that the journal's plan says, so that it gives the same
bytes. Images go one at a time unless the enhancer allows more under way, so that a kill costs one image or one strip.
"""

import contextlib
from collections.abc import Iterator, Sequence

from sr_tile.enhancer import Enhancer
from sr_tile.images import WriteOptions
from sr_tile.images.frames.excerpt import Excerpt
from sr_tile.jobs.durable_file import DurableFile
from sr_tile.jobs.job_folder import JobFolder
from sr_tile.jobs.report import FileResult
from sr_tile.jobs.selection import Existing, FilePair, make_folder, screen
from sr_tile.pipeline.frame_files import each_file


class ResumableJob(JobFolder):
    """The files of a job; see `JobFolder`."""

    def screened(
        self, pairs: Sequence[FilePair], *, existing: Existing, retry_failed: bool
    ) -> Iterator[FilePair | FileResult]:
        """Each pair that is to be done, or what became of it where it is not, as the journal and `screen` say."""
        for pair in pairs:
            known = self.known(pair, retry_failed)
            yield from [known] if known else screen([pair], existing, is_ours=self.owns)

    def waiting(
        self, pairs: Sequence[FilePair], *, existing: Existing, retry_failed: bool
    ) -> Iterator[FilePair | FileResult]:
        """The same, with folders of results made, and new failures noted."""
        for pair in pairs:
            if known := self.known(pair, retry_failed):
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

        A film goes on behind its last whole segment, a giant image behind its last whole strip; of another file of several
        pictures those are done that were not finished.

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
        files = (DurableFile(self, pair, enhancer.scale, options).job(excerpt) for pair in wanted)
        with contextlib.closing(each_file(enhancer.run, files)) as outcomes:
            for outcome in outcomes:
                pair = wanted[outcome.index]
                if outcome.error:
                    yield self.failed(pair, str(outcome.error))
                else:
                    yield FileResult(pair.source, pair.target, "done", seconds=outcome.seconds)
