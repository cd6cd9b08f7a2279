"""Results of several images in one ZIP archive."""

import json
import zipfile
from pathlib import Path
from typing import Any

from sr_tile.images.formats import FORMATS
from sr_tile.serving.http.http_errors import HttpError
from sr_tile.serving.http.image_request import Done


def pack(archive: Path, results: list[tuple[str, Done | HttpError]], *, keep: bool = False) -> None:
    """Write results under the names given, and `report.json`, which says what became of each in the order given.

    Images are compressed already, so they are stored as they are. Where names meet, later ones get a number. Unless they are
    to be kept, files are removed as they are packed.
    """
    taken = {"report.json"}
    report: list[dict[str, Any]] = []
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED, allowZip64=True) as file:
        for source, result in results:
            if isinstance(result, HttpError):
                report.append({"source": source, "status": "failed", **result.body})
                continue
            name = _free(taken, source, result.format)
            file.write(result.path, name)
            if not keep:
                result.path.unlink()
            report.append({"source": source, "status": "done", "file": name})
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
