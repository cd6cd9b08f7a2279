"""Advisory locks on open files: the system gives them back when their process ends, however it ends."""

import contextlib


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
