"""Standard streams that no run fails by: closed ones lead nowhere, messages that nobody can hear are lost."""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False  # as in `sr_tile/__init__.py`
if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Output(io.FileIO):
    """A file or pipe that is printed to. What fails is said once: what buffers still hold is not, when they are closed."""

    _failed = False

    def write(self, data: ReadableBuffer, /) -> int:
        if not memoryview(data):  # libraries try streams so, and ignore that it fails
            return 0
        try:
            return super().write(data)
        except OSError as error:
            before, self._failed = self._failed, True
            if before or self.fileno() == 2:  # a log on a full disk, a reader that has seen enough: the work goes on
                return len(memoryview(data))
            raise OSError(error.errno, error.strerror, "standard output") from None


def open_streams() -> None:
    """Open those that are closed, else the next file gets their number, and with it what libraries print.

    Errors of standard output name it from now on; standard error raises none. `sys.__stdout__` is still None where it was
    closed.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123  # the lowest number that is free: its own
        elif mode == "w" and not stream.isatty():
            raw = _Output(stream.fileno(), "w", closefd=False)
            kept = {key: getattr(stream, key) for key in ("encoding", "errors", "line_buffering", "write_through")}
            buffer = raw if stream.write_through else io.BufferedWriter(raw)  # PYTHONUNBUFFERED
            setattr(sys, name, io.TextIOWrapper(buffer, **kept))
