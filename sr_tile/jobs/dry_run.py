"""What would become of files, by their headers and the names of their results; nothing is made."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from sr_tile.enhancer import Enhancer
from sr_tile.errors import DEFECTS, SrTileError, unexpected_of
from sr_tile.images import TargetSize, WriteOptions
from sr_tile.images.frames.excerpt import Excerpt
from sr_tile.images.writer import check_fits
from sr_tile.jobs.report import FileResult
from sr_tile.jobs.selection import FilePair
from sr_tile.pipeline.frame_files import FrameFile
from sr_tile.pipeline.plan_image import result_of


def check_files(
    waiting: Iterable[FilePair | FileResult],
    scale: int,
    size: TargetSize,
    *,
    options: WriteOptions,
    excerpt: Excerpt | None = None,
) -> Iterator[FilePair | FileResult]:
    """Each pair that could be done, or why it could not; results pass as they are.

    Args:
        waiting: see `screen`.
        scale: of all networks in turn.
        size: wanted.
        options: see `run_files`.
        excerpt: see `run_files`.
    """
    for item in waiting:
        if isinstance(item, FileResult):
            yield item
        elif error := _refused(item, scale, size, options, excerpt):
            yield FileResult(item.source, item.target, "failed", str(error))
        else:
            yield item


def _refused(
    pair: FilePair, scale: int, size: TargetSize, options: WriteOptions, excerpt: Excerpt | None
) -> SrTileError | None:
    """Why a file would fail before its pixels are read; of several pictures the first one counts."""
    file = Enhancer.file_job(pair.source, pair.target, options=options, excerpt=excerpt)
    try:
        job = next(file.jobs()) if isinstance(file, FrameFile) else file
        source = job.open_source()
        source.close()
        result = result_of(source.info, scale, size, pair.source)
        if not isinstance(file, FrameFile):
            check_fits(Path(pair.target), result, options)
    except SrTileError as error:
        return error
    except (OSError, MemoryError, *DEFECTS) as error:
        return unexpected_of(pair.source, error)
    finally:
        if isinstance(file, FrameFile):
            file.abort()
    return None
