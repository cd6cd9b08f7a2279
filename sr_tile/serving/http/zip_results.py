"""Results of several images in one ZIP archive."""

import json
import zipfile
from pathlib import Path
from typing import Any

from sr_tile.images.formats import FORMATS
from sr_tile.serving.http.http_errors import HttpError
from sr_tile.serving.http.model_pool import Done, ImageRequest


def pack(archive: Path, results: list[tuple[ImageRequest, Done | HttpError]]) -> None:
    """Write results under their names, and `report.json`, which says what became of each image in the order sent.

    Images are compressed already, so they are stored as they are. Where names meet, later ones get a number.
    """
    taken = {"report.json"}
    report: list[dict[str, Any]] = []
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED, allowZip64=True) as file:
        for task, result in results:
            if isinstance(result, HttpError):
                report.append({"source": task.name, "status": "failed", **result.body})
                continue
            name = _free(taken, task.name, result.format)
            file.write(result.path, name)
            result.path.unlink()
            report.append({"source": task.name, "status": "done", "file": name})
        file.writestr("report.json", json.dumps({"files": report}, indent=2))


def _free(taken: set[str], name: str, kind: str) -> str:
    """A name that is not taken yet, with the suffix of its format; one that fits already is kept."""
    path = Path(name)
    known = FORMATS[kind].suffixes
    suffix = path.suffix if path.suffix.lower() in known else known[0]
    number, wanted = 1, f"{path.stem}{suffix}"
    while wanted in taken:
        number += 1
        wanted = f"{path.stem}-{number}{suffix}"
    taken.add(wanted)
    return wanted
