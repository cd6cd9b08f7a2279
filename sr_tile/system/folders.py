"""Folders with all that they lie in."""

import errno
from pathlib import Path


def make_folders(folder: Path, mode: int = 0o777) -> None:
    """Make a folder and those it lies in; one that is there is as good.

    Args:
        folder: to be made.
        mode: of the folder itself, less the umask.

    Raises:
        OSError: it cannot be made, or lies in so many others that Python, which makes them by recursion, gives up.
    """
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except RecursionError:
        raise OSError(errno.ENAMETOOLONG, "lies in too many folders", str(folder)) from None
