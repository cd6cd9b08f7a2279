"""Part files: hidden files beside a target, each locked by the one that writes it until it takes its name.

`.NAME.PID.TOKEN.part`, with as much of the target's name as is legal everywhere. The lock tells a file that is being written
from one that a killed process left, on whichever machine that was.
"""

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path

from sr_tile.system import stopping
from sr_tile.system.file_lock import try_lock

_NAME_BYTES = 100  # of the target's name; file systems end at 255 bytes, some at 143
_PART = re.compile(r"\..*\.\d+\.[0-9a-f]{8}\.part", re.DOTALL)
_TRIES = 3
_swept: set[Path] = set()

CLOSED_FIRST = os.name == "nt"
"""Whether a file must be closed before it is renamed; elsewhere its lock is held until it has its name."""


def create_part(target: Path) -> tuple[Path, int]:
    """A new file beside `target`, open for reading and writing and locked where the file system can; to be renamed.

    It goes when a signal ends the process; `remove_part` ends that. What killed processes left in the folder goes first,
    once a process.

    Args:
        target: need not exist.

    Returns:
        Its path, and its descriptor: closing that gives the lock back.

    Raises:
        OSError: the folder is missing, full, or may not be written.
    """
    if target.parent not in _swept:
        _swept.add(target.parent)
        remove_abandoned_parts(target.parent)
    for left in reversed(range(_TRIES)):
        name = f".{label(target.name)}.{os.getpid()}.{secrets.token_hex(4)}.part"
        path = target.with_name(name)
        with stopping.making() as unfinished:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
            unfinished.add(path)
        if (try_lock(descriptor) and path.exists()) or not left:
            break
        os.close(descriptor)  # somebody took it for a file that was left, between the two steps
        remove_part(path)
    return path, descriptor


def keep_owner_and_mode(descriptor: int, target: Path) -> None:
    """Give a part file the permissions, and where that is allowed the owner, of the file whose place it will take."""
    if not hasattr(os, "fchown"):
        return
    with contextlib.suppress(OSError):
        before = target.stat()
        with contextlib.suppress(OSError):  # only root may give files away
            os.fchown(descriptor, before.st_uid, before.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(before.st_mode))  # last: a new owner takes some of the mode's bits away


def remove_part(path: Path) -> None:
    """Remove a part file, or say that it has its name; harmless where it is gone."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    stopping.keep(path)


def label(name: str) -> str:
    """The beginning of a name, short enough to be a part of another one."""
    return name.encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore")


def remove_abandoned_parts(folder: Path) -> None:
    """Remove the part files in a folder that nobody writes any more; harmless where there is no folder."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if _PART.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_unless_locked(entry.path)


def _remove_unless_locked(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        if try_lock(descriptor):
            Path(path).unlink()
    finally:
        os.close(descriptor)
