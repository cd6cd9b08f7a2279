"""Atomic writes: files that appear whole or not at all, whoever reads or kills meanwhile."""

import contextlib
import errno
import os
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sr_tile.system.part_file import CLOSED_FIRST, create_part, keep_owner_and_mode, remove_part

EXISTS = "exists already: choose another name, or give --overwrite (overwrite=True)"


class TargetError(FileExistsError):
    """A name that no file can have, or must not take; `strerror` says why and what to do."""


def refusal(target: Path, overwrite: bool) -> str | None:
    """Why no file may be written under a name, and what to do; None where one may."""
    try:
        mode = target.stat().st_mode
    except (OSError, ValueError):
        mode = None
    if mode is None:
        return None if target.parent.is_dir() else f"the folder {target.parent} does not exist: create it first"
    if stat.S_ISDIR(mode):
        return "is a folder: give the name of a file"
    if not stat.S_ISREG(mode):
        return "is a device, pipe or socket, which no file can replace: give the name of a file"
    return None if overwrite else EXISTS


class AtomicFile:
    """A part file, which takes its target's name by `commit`; otherwise `discard` removes it.

    Args:
        target: the name; a link is written through, as open() does. A file that is replaced hands on its mode, and its owner
            where this process may give files away.
        overwrite: replace a file that has the name; without, `commit` fails where it was taken meanwhile.
        durable: the file and its name survive a power cut once `commit` returns.

    Attributes:
        path: where to write.
        descriptor: of the same file, open for reading and writing.

    Raises:
        TargetError: see `refusal`.
        OSError: the folder is full, or may not be written.
    """

    def __init__(self, target: Path, *, overwrite: bool = True, durable: bool = False) -> None:
        self.target, self._overwrite, self._durable = Path(os.path.realpath(target)), overwrite, durable
        self._check()
        self.path, self.descriptor = create_part(self.target)
        self._close = weakref.finalize(self, os.close, self.descriptor)  # once, and by itself where it is forgotten

    def stream(self) -> BinaryIO:
        """The file with a buffer, and with a descriptor of its own.

        What a buffer still holds is written when it is collected, which may be long after `discard`: by the number of our
        descriptor it would go into whatever file has that number then. Close it before `commit`.

        Raises:
            OSError: no descriptor is left; the file is gone then.
        """
        try:
            return os.fdopen(os.dup(self.descriptor), "r+b")
        except OSError:
            self.discard()
            raise

    def commit(self) -> None:
        """Give the file its name.

        Raises:
            TargetError: another process made a file of the name meanwhile.
            OSError: the disk is full.
        """
        if self._durable:
            os.fsync(self.descriptor)
        if self._overwrite:
            keep_owner_and_mode(self.descriptor, self.target)
        if CLOSED_FIRST:
            self._close()
        self._publish()
        if self._durable and hasattr(os, "O_DIRECTORY"):
            folder = os.open(self.target.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        self.discard()

    def discard(self) -> None:
        """Remove the file where it has no name yet; idempotent."""
        remove_part(self.path)
        if self._close.alive:  # its folder may have been moved: Linux tells whereto
            with contextlib.suppress(OSError):
                lies = Path(f"/proc/self/fd/{self.descriptor}").readlink()
                if lies.name == self.path.name:
                    lies.unlink()
        self._close()

    def _check(self) -> None:
        if reason := refusal(self.target, self._overwrite):
            raise TargetError(errno.EEXIST, reason, str(self.target))

    def _publish(self) -> None:
        if self._overwrite:
            self._check()
            self.path.replace(self.target)
            return
        try:
            os.link(self.path, self.target)  # unlike a rename, fails where the name was taken meanwhile
        except FileExistsError:
            raise self._taken() from None
        except OSError:  # a file system without hard links
            if os.path.lexists(self.target):
                raise self._taken() from None
            self.path.rename(self.target)

    def _taken(self) -> TargetError:
        return TargetError(errno.EEXIST, "was created by someone else meanwhile; it was left alone", str(self.target))


@contextmanager
def atomic_write(target: Path, *, overwrite: bool = True, durable: bool = False) -> Iterator[Path]:
    """A new file in the folder of `target` that takes its name when the block ends well, and is removed when it fails.

    Whoever reads `target` meanwhile sees the old file or none, and two writers never share a part file. Arguments and
    errors are those of `AtomicFile`.
    """
    file = AtomicFile(target, overwrite=overwrite, durable=durable)
    try:
        yield file.path
        file.commit()
    finally:
        file.discard()
