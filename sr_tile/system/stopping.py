"""SIGTERM, SIGHUP and Ctrl-C at any moment: one line, exit code 128 + the signal's number, and nothing left behind.

Python runs its handlers in the main thread, between two of its own instructions. That is too late while that thread waits
inside a library, and too early in the middle of an import, where an exception is lost or becomes another one. So a thread
of its own hears of signals through `signal.set_wakeup_fd`, removes what is unfinished, and ends the process. Only inside of
`unwinding` it leaves `GRACE` seconds to the main thread, where `Stopped` is raised as `KeyboardInterrupt` would be.
"""

import contextlib
import glob
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from sr_tile.system.file_lock import try_lock

GRACE = 5.0
"""Seconds to end in an orderly way; a second signal ends at once."""

_SUFFIX = ".sr-tile-tmp"
_YOUNG_SECONDS = 5.0  # a folder is made first and locked then

_unfinished: set[Path] = set()
_making = threading.Lock()  # held while something unfinished comes into being: none does once the process ends
_ending = threading.Lock()
_state = {"unwinding": 0, "received": 0, "installed": 0, "leaving": 0}


class Stopped(BaseException):
    """A signal asks the process to end."""


def install() -> None:
    """Handle signals for the rest of the process; those that whoever started it ignores (nohup) stay ignored."""
    _state["installed"] = 1
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [number for name in names if signal.getsignal(number := getattr(signal, name)) is not signal.SIG_IGN]
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    try:
        threading.Thread(target=_watch, args=(read_end,), name="sr-tile signals", daemon=True).start()
    except RuntimeError:  # no thread can be started: signals do as they do by themselves
        return
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, _handle)
    if hasattr(os, "register_at_fork"):  # a copy of the process must not end this one
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))


def installed() -> bool:
    """Whether `install` was called: the process is our own, and not one that uses the library."""
    return bool(_state["installed"])


def leave_at_end() -> None:
    """A thread that cannot be ended is inside of a library: `leave` is to end the process without the library's own end."""
    _state["leaving"] = 1


def leave(code: object) -> None:
    """End the process at once where `leave_at_end` was called; else nothing happens.

    Args:
        code: of a `SystemExit`.
    """
    if _state["leaving"]:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        _remove_unfinished()
        os._exit(code if isinstance(code, int) else int(code is not None))


def received() -> int:
    """The signal that asks the process to end; 0 as long as none did."""
    return _state["received"]


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """Where the main thread has more to do at its end than to remove files: a signal raises `Stopped` inside."""
    _state["unwinding"] += 1
    try:
        yield
    finally:
        _state["unwinding"] -= 1


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Around what sets handlers of its own, in Python or below it: those of before are set again.

    Where one of theirs has heard SIGTERM meanwhile and raises `SystemExit`, the signal comes once more for those of before.
    """
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for name in names if (number := getattr(signal, name))}
    heard = False
    try:
        yield
    except SystemExit:
        heard = before.get(signal.SIGTERM) is _handle
        if not heard:
            raise
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None:  # one that Python did not set cannot be named
                    signal.signal(number, handler)
    if heard:
        signal.raise_signal(signal.SIGTERM)
        time.sleep(GRACE)  # the thread that hears of it ends the process


@contextlib.contextmanager
def making() -> Iterator[set[Path]]:
    """Make a file or folder that goes when the process is stopped, and add it to the set; to be kept, it is discarded."""
    with _making:
        yield _unfinished


def keep(path: Path) -> None:
    """What `making` added is finished, or gone."""
    _unfinished.discard(path)


@contextlib.contextmanager
def temporary_folder(prefix: str = "sr-tile-", parent: Path | None = None) -> Iterator[Path]:
    """A folder that is removed at the end of the block, and when a signal ends the process inside of it.

    It is locked meanwhile where the system can: those that nobody holds were left by a killed process, and go first.

    Raises:
        OSError: the parent is missing, full, or may not be written.
    """
    _remove_abandoned(prefix, Path(parent or tempfile.gettempdir()))
    with making() as unfinished:
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=_SUFFIX, dir=parent))
        unfinished.add(folder)
    folder.chmod(0o700)  # whatever umask takes away: else nothing goes in, and it cannot be removed either
    descriptor = _lock_folder(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)
        keep(folder)


def _lock_folder(folder: Path) -> int | None:
    """A descriptor with the lock of a folder; None where it is taken, or cannot be had."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return None
    if try_lock(descriptor):
        return descriptor
    os.close(descriptor)
    return None


def _remove_abandoned(prefix: str, parent: Path) -> None:
    for folder in parent.glob(f"{glob.escape(prefix)}*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            young = abs(time.time() - folder.stat().st_mtime) < _YOUNG_SECONDS  # the clock may have been set back
            if not young and (descriptor := _lock_folder(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(descriptor)


def end() -> None:
    """End the process as the signal that came asks for, after one line."""
    number = _state["received"]
    if not _ending.acquire(blocking=False):  # another thread is about it, and has said so
        time.sleep(GRACE)
        os._exit(128 + number)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        os.write(2, f"{chr(10) if os.isatty(2) else ''}sr-tile: stopped by {signal.Signals(number).name}\n".encode())
    _remove_unfinished()
    os._exit(128 + number)


def _remove_unfinished() -> None:
    _making.acquire(timeout=2.0)  # not for ever: whoever has it may wait for a dead file server
    for path in list(_unfinished):
        with contextlib.suppress(OSError):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _handle(number: int, frame: FrameType | None) -> None:
    if _state["unwinding"]:
        _state["received"] = _state["received"] or number
        raise Stopped


def _watch(read_end: int) -> None:
    heard_before = False
    while heard := os.read(read_end, 1):
        if signal.getsignal(heard[0]) is not _handle:  # a server, or a library, has handlers of its own
            continue
        _state["received"] = _state["received"] or heard[0]
        heard_before, again = True, heard_before
        if _state["unwinding"] and not again:
            threading.Thread(target=_wait, name="sr-tile grace", daemon=True).start()
        else:
            end()


def _wait() -> None:
    threading.Event().wait(GRACE)
    end()
