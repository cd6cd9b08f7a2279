"""Files, and nothing else that has a name: a pipe would be waited for without end, and a device may have none."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_plain(path: Path) -> BinaryIO:
    """A file, to be read.

    Raises:
        OSError: it cannot be opened, or is a folder, pipe, socket or device.
    """
    flags = (
        os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    )  # a pipe that nobody writes opens, too
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no file", str(path))
    return os.fdopen(descriptor, "rb")


def read_plain(path: Path) -> bytes:
    """All of a file.

    Raises:
        OSError: see `open_plain`.
    """
    with open_plain(path) as file:
        return file.read()
