"""Finished segments of films on disk, until the film is whole.

A segment is named `NUMBER-LAST-CRC`: its place, the start of its last frame in seconds as `NUMERATOR_DENOMINATOR`, and the
CRC-32 of its bytes, so that one that was cut or changed since is known and done again.
"""

import re
import shutil
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from sr_tile.system.atomic_file import atomic_write
from sr_tile.system.folders import make_folders

_NAME = re.compile(r"(\d+)-(-?\d+)_(\d+)-([0-9a-f]{8})")


class SegmentStore:
    """Segments of one film, in a folder of their own.

    Args:
        folder: made when the first one is kept.
        on_keep: told of the number of each that is kept, once it is on disk.
    """

    def __init__(self, folder: Path, on_keep: Callable[[int], None]) -> None:
        self.folder, self._on_keep = folder, on_keep

    def keep(self, path: Path, number: int, last: Fraction) -> Path:
        """Take a segment in; its new place.

        Raises:
            OSError: the folder cannot be written.
        """
        make_folders(self.folder)
        name = f"{number}-{last.numerator}_{last.denominator}-{_checksum(path):08x}"
        with atomic_write(self.folder / name, durable=True) as part:
            shutil.copyfile(path, part)  # the job may lie on another disk
        path.unlink()
        self._on_keep(number)
        return self.folder / name

    def whole(self) -> list[tuple[Path, Fraction]]:
        """Those that follow each other from the first on, as they were written, each with the start of its last frame."""
        names = {path: _NAME.fullmatch(path.name) for path in self.folder.glob("*")} if self.folder.is_dir() else {}
        by_number = {int(match[1]): (path, match) for path, match in names.items() if match}
        found: list[tuple[Path, Fraction]] = []
        while len(found) in by_number:
            path, match = by_number[len(found)]
            if _checksum(path) != int(match[4], 16):
                break
            found.append((path, Fraction(int(match[2]), int(match[3]))))
        return found


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(2**20):
            checksum = zlib.crc32(piece, checksum)
    return checksum
