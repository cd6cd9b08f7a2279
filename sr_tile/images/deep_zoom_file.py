"""Deep Zoom as a result: `NAME.dzi` and the folder `NAME_files` beside it, which appear when they are whole.

libvips writes all tiles, as a stream, into one archive without compression; that is unpacked at the end.
"""

import errno
import shutil
import zipfile
from pathlib import Path

from sr_tile.system.atomic_file import EXISTS, AtomicFile, TargetError
from sr_tile.system.stopping import temporary_folder

NAME = "picture"
"""What the picture is called inside of the archive."""


class DeepZoomFile:
    """See `UnfinishedFile`.

    Args:
        target: `NAME.dzi`.
        overwrite: replace both, file and folder, where they exist.

    Raises:
        TargetError: one of them exists, or cannot be.
        OSError: the folder is full, or may not be written.
    """

    def __init__(self, target: Path, *, overwrite: bool) -> None:
        self._archive = AtomicFile(target, overwrite=overwrite)
        self.descriptor = self._archive.descriptor
        target = self._archive.target
        self._tiles = target.with_name(f"{target.stem}_files")
        if self._tiles.exists() and not overwrite:
            self.discard()
            raise TargetError(errno.EEXIST, EXISTS, str(self._tiles))

    def commit(self) -> None:
        """Unpack, and give file and folder their names; where that fails, those that were there before stay."""
        with temporary_folder(".sr-tile-", self._tiles.parent) as folder:
            with open(self.descriptor, "r+b", closefd=False) as file:
                with zipfile.ZipFile(file) as archive:
                    archive.extractall(folder)
                file.seek(0)
                file.truncate(file.write((folder / f"{NAME}.dzi").read_bytes()))
            tiles, before = folder / f"{NAME}_files", folder / "before"
            (tiles / "vips-properties.xml").unlink(missing_ok=True)
            if self._tiles.exists():
                self._tiles.rename(before)
            try:
                tiles.rename(self._tiles)
                self._archive.commit()
            except OSError:
                shutil.rmtree(self._tiles, ignore_errors=True)
                if before.exists():
                    before.rename(self._tiles)
                raise

    def discard(self) -> None:
        """See `UnfinishedFile.discard`."""
        self._archive.discard()
