"""Advisory locks on open files: the system gives them back when their process ends, however it ends."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_PAUSE_SECONDS = 0.1


def try_lock(descriptor: int) -> bool:
    """Take the lock of an open file where nobody has it; closing the descriptor gives it back.

    Args:
        descriptor: of a file that is open for writing.

    Returns:
        Whether it is ours now; False as well where it was taken through another descriptor of this process.
    """
    with contextlib.suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
    import msvcrt

    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError:
        return False
    return True


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock of a file, waiting for whoever has it; the file is made where it is missing, and removed at the end.

    Args:
        path: in a folder that exists.
        on_wait: is called once where the lock has to be waited for.

    Raises:
        OSError: the file cannot be made.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if try_lock(descriptor) and _is_same(descriptor, path):
                try:
                    yield
                    return
                finally:
                    with contextlib.suppress(OSError):  # Windows keeps what is open
                        path.unlink()
        finally:
            os.close(descriptor)
        if on_wait:
            on_wait()
            on_wait = None
        time.sleep(_PAUSE_SECONDS)


def _is_same(descriptor: int, path: Path) -> bool:
    """Whether an open file still has its name: who held the lock before us may have removed it."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False
