"""The little of libvips that reader and encoder share."""

import functools
import re
import threading
from collections.abc import Callable
from typing import Any, TypeVar


@functools.cache
def vips() -> Any:
    """Pyvips, imported when the first file is opened."""
    import pyvips

    _silence(pyvips)
    # The cache would keep files open, and serve the old pixels of a file that was written again.
    pyvips.cache_set_max(0)
    return pyvips


def _silence(pyvips: Any) -> None:
    """Let libvips' log messages end in C: what matters comes as an error.

    pyvips passes them on to `logging`, in Python. There the cyclic collector may run and free a half-read decoder, whose
    destructor warns again, and GLib aborts the process when a message comes while one is being handled. GLib asks the
    handler that was set last, so this one takes the place of pyvips', whoever imported pyvips before, and runs no
    Python. It may be any function that touches none of its arguments; `vips_cache_get_max` takes none.
    """
    nothing = pyvips.ffi.cast("GLogFunc", pyvips.ffi.addressof(pyvips.vips_lib, "vips_cache_get_max"))
    every_level = 2**8 - 1  # with fatal and recursive ones
    for domain in (b"VIPS", b"GLib", b"GLib-GObject", b"GLib-GIO"):  # GObject's, of values that a file holds
        pyvips.glib_lib.g_log_set_handler(domain, every_level, nothing, pyvips.ffi.NULL)


class _Gate:
    """Lets calls of libvips run side by side, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running, self._begun, self._closed = 0, 0, False

    def enter(self) -> int:
        """Run beside others; the number of calls begun so far."""
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._running += 1
            self._begun += 1
            return self._begun if self._running == 1 else 0

    def leave(self, entered: int) -> bool:
        """End; whether nothing ran at the same time."""
        with self._changed:
            self._running -= 1
            self._changed.notify_all()
            return entered == self._begun

    def close(self) -> None:
        """Wait until nothing runs, and let nothing begin."""
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._closed = True
            while self._running:
                self._changed.wait()

    def open(self) -> None:
        with self._changed:
            self._closed = False
            self._changed.notify_all()


_gate = _Gate()
_Result = TypeVar("_Result")


def attempt(action: Callable[[], _Result], again: Callable[[], _Result]) -> _Result:
    """Call libvips so that what went wrong is told of the right file.

    libvips keeps the texts of all errors in one place: of two calls that fail at a time, one gets both. So an action that
    failed beside others is done again, alone.

    Args:
        action: reads.
        again: does the same from the start, as after an error nothing goes on.

    Raises:
        pyvips.Error: it failed.
    """
    entered = _gate.enter()
    try:
        result = _in_words(action)
    except vips().Error:
        if _gate.leave(entered):
            raise
    except BaseException:
        _gate.leave(entered)
        raise
    else:
        _gate.leave(entered)
        return result
    _gate.close()
    try:
        vips().vips_lib.vips_error_clear()
        return _in_words(again)
    finally:
        _gate.open()


def _in_words(action: Callable[[], _Result]) -> _Result:
    """Call libvips; pyvips reads its reasons as UTF-8, and damaged files bring other bytes into them.

    Raises:
        pyvips.Error: it failed.
    """
    try:
        return action()
    except UnicodeDecodeError:
        vips().vips_lib.vips_error_clear()
        raise vips().Error("libvips' reason cannot be read") from None


_WHO = re.compile(r"^((VipsJpeg|tiff2vips|vipspng|heif|source input|pngload\w*|jpegload\w*|webp\w*): )+")
_SAYS_NOTHING = re.compile(
    r"unable to (call|fetch|open) .*|vips__\w+: .*|source_custom: .*|(libpng )?read error|\w*load\w*: load error"
)
_UNKNOWN_ROW = re.compile(r"\b(at )?(scanline|row|col|Strip) 4294967295,? ?")


def reason_of(error: Exception) -> str:
    """One line out of libvips' several, which repeat themselves and name its functions; empty where they tell nothing."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    lines = [_WHO.sub("", line.strip()) for line in str(getattr(error, "detail", error)).splitlines()]
    lines = [_UNKNOWN_ROW.sub("", line) for line in lines if line and not _SAYS_NOTHING.fullmatch(line)]
    return "; ".join(dict.fromkeys(lines))[:300]


def load_png(descriptor: int) -> Any:
    """An image out of an open PNG, as a stream."""
    source = vips().Source.new_from_descriptor(descriptor)
    return vips().Image.pngload_source(source, access="sequential", fail_on="warning")


def field_of(image: Any, name: str) -> Any:
    return image.get(name) if image.get_typeof(name) else None


def allow_only_known_formats() -> None:
    """Switch off all of libvips' loaders but those of the formats that sr-tile reads, in this process, for good.

    A server gets files from strangers, and libvips asks every loader whether a file is its own.
    """
    vips().operation_block_set("VipsForeignLoad", True)
    for name in ("Png", "Jpeg", "Tiff", "Webp", "Heif"):
        vips().operation_block_set(f"VipsForeignLoad{name}", False)
