"""The server's temporary folder (its spool), with one folder a request.

A lock file says that a server uses it. What a server left that was killed is removed by the next one that starts.
"""

import contextlib
import os
import secrets
import shutil
import tempfile
import time
import weakref
from pathlib import Path

from sr_tile.serving.http.http_errors import HttpError, http_error_of
from sr_tile.system import stopping
from sr_tile.system.file_lock import try_lock
from sr_tile.system.folders import make_folders

PREFIX = "sr-tile-requests-"
_LOCK = "lock"
_PROBE_BYTES = 2**16
_UNLOCKED_SECONDS = 60.0  # after which one without a lock is not one that is just being made


class RequestFolders:
    """Temporary files of one server, in the system's folder for such."""

    def __init__(self) -> None:
        remove_abandoned(Path(tempfile.gettempdir()))
        with stopping.making() as unfinished:
            self.root = Path(tempfile.mkdtemp(prefix=PREFIX))
            unfinished.add(self.root)
        self._locks = [_locked(self.root)]
        self._cleanup = weakref.finalize(self, _discard, self.root, self._locks)  # at exit, too

    def new(self) -> Path:
        """A new, empty folder; `remove` it.

        Raises:
            HttpError: 507, the disk is full or the root is gone.
        """
        path = self.root / secrets.token_hex(8)
        try:
            path.mkdir()
        except OSError as error:
            raise http_error_of(error) from None
        return path

    @staticmethod
    def remove(folder: Path) -> None:
        """Remove a folder and all in it."""
        shutil.rmtree(folder, ignore_errors=True)

    def check(self) -> None:
        """Try whether files can be stored.

        Raises:
            HttpError: 503, they cannot.
        """
        probe = self.root / f"probe-{secrets.token_hex(8)}"
        try:
            try:
                probe.write_bytes(bytes(_PROBE_BYTES))
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            reason = http_error_of(error)
            raise HttpError(503, reason.code, str(reason), retry_after=5) from None

    def restore(self) -> None:
        """Make the root anew where somebody removed it; harmless where that cannot be done yet."""
        if not self._cleanup.alive or (self.root / _LOCK).exists():
            return
        with contextlib.suppress(OSError):
            make_folders(self.root, 0o700)
            self._locks.append(_locked(self.root))
            os.close(self._locks.pop(0))

    def existing(self) -> list[Path]:
        """Of the requests under way and of all that is kept."""
        with contextlib.suppress(OSError):
            return [path for path in self.root.iterdir() if path.is_dir()]
        return []

    def close(self) -> None:
        """Remove all; idempotent."""
        self._cleanup()


def bytes_on_disk(folder: Path) -> int:
    """What all files below a folder take, their last blocks included."""
    total = 0
    for at, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # it was removed meanwhile
                status = os.lstat(os.path.join(at, name))  # noqa: PTH118  # thousands of them
                total += max(status.st_size, 512 * getattr(status, "st_blocks", 0))
    return total


def remove_abandoned(parent: Path) -> None:
    """Remove the spools that no process uses any more."""
    for root in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if root.is_symlink() or (hasattr(os, "getuid") and root.stat().st_uid != os.getuid()):
                continue
            try:
                descriptor = os.open(root / _LOCK, os.O_RDWR)
            except FileNotFoundError:
                if abs(time.time() - root.stat().st_mtime) > _UNLOCKED_SECONDS:  # the clock may have been set back
                    shutil.rmtree(root, ignore_errors=True)
                continue
            try:
                if try_lock(descriptor):
                    shutil.rmtree(root, ignore_errors=True)
            finally:
                os.close(descriptor)


def _locked(root: Path) -> int:
    descriptor = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try_lock(descriptor)
    return descriptor


def _discard(root: Path, locks: list[int]) -> None:
    for lock in locks:
        os.close(lock)
    shutil.rmtree(root, ignore_errors=True)
    stopping.keep(root)
