"""What became of each file, and of all of them, as JSON."""

import contextlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sr_tile.errors import ImageReadError, ImageWriteError
from sr_tile.images import ImageReader
from sr_tile.system.atomic_file import atomic_write


@dataclass
class FileResult:
    """What became of one file: `done`, `skipped` or `failed`; seconds from first read to end, where they are known."""

    source: str
    target: str
    status: str
    error: str | None = None
    seconds: float | None = field(default=None, compare=False)


@dataclass
class Report:
    """What became of all files.

    Attributes:
        files: one result each.
        left_out: names of files in input folders that were not done, by the reason.
    """

    files: list[FileResult] = field(default_factory=list)
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def failed(self) -> list[FileResult]:
        """The files that have no result."""
        return [result for result in self.files if result.status == "failed"]

    def write(self, path: Path, run: dict[str, Any]) -> None:
        """Store the report as JSON, beside the target first and then renamed; with sizes of what was done.

        Args:
            path: of the report.
            run: what is to be said of the run as a whole: its model, its settings, its figures.
        """
        counts = Counter(result.status for result in self.files)
        if self.left_out:
            counts["left_out"] = sum(map(len, self.left_out.values()))
        files = [asdict(result) | _sizes(result) for result in self.files]
        write_json(path, {"counts": counts, "files": files, "left_out": self.left_out, **run})


def _sizes(result: FileResult) -> dict[str, tuple[int, int] | None]:
    """(width, height) of a source and its result; None where a file holds several, or its header cannot be read."""
    if result.status != "done":
        return {}
    return {"source_size": _size(result.source), "target_size": _size(result.target)}


def _size(path: str) -> tuple[int, int] | None:
    with contextlib.suppress(ImageReadError), ImageReader(path) as reader:
        return reader.info.width, reader.info.height
    return None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Store figures for other programs: written beside the target, then renamed.

    Raises:
        ImageWriteError: the folder is missing or cannot be written.
    """
    try:
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise ImageWriteError(
            f"{path}: cannot be written: {error.strerror}; name a file in a folder that exists"
        ) from None
