"""What became of each file, and of all of them, as JSON."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sr_tile.errors import ImageWriteError
from sr_tile.system.atomic_file import atomic_write


@dataclass
class FileResult:
    """What became of one file: `done`, `skipped` or `failed`."""

    source: str
    target: str
    status: str
    error: str | None = None


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

    def write(self, path: Path, stats: dict[str, Any]) -> None:
        """Store the report as JSON, beside the target first and then renamed."""
        counts = Counter(result.status for result in self.files)
        if self.left_out:
            counts["left_out"] = sum(map(len, self.left_out.values()))
        files = [asdict(result) for result in self.files]
        write_json(path, {"counts": counts, "files": files, "left_out": self.left_out, "stats": stats})


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
