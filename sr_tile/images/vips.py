"""The little of libvips that reader and encoder share."""

import functools
from typing import Any


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
    pyvips.glib_lib.g_log_set_handler(b"VIPS", every_level, nothing, pyvips.ffi.NULL)


def reason_of(error: Exception) -> str:
    """One line out of libvips' several, which repeat themselves."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    lines = [line.strip() for line in str(getattr(error, "detail", error)).splitlines()]
    return "; ".join(dict.fromkeys(line for line in lines if line))[:300] or str(error).splitlines()[0]


def load(descriptor: int, access: str, fail_on: str = "warning") -> Any:
    """An image out of an open file.

    libvips would fill what is truncated or damaged with gray. `fail_on="error"` sees what is truncated; "warning" also
    sees the checksums of TIFF, but stumbles over TIFF tags of a wrong type.
    """
    source = vips().Source.new_from_descriptor(descriptor)
    return vips().Image.new_from_source(source, "", access=access, fail_on=fail_on)


def field_of(image: Any, name: str) -> Any:
    return image.get(name) if image.get_typeof(name) else None


def allow_only_known_formats() -> None:
    """Switch off all of libvips' loaders but those of the formats that sr-tile reads, in this process, for good.

    A server gets files from strangers, and libvips asks every loader whether a file is its own.
    """
    vips().operation_block_set("VipsForeignLoad", True)
    for name in ("Png", "Jpeg", "Tiff", "Webp", "Heif"):
        vips().operation_block_set(f"VipsForeignLoad{name}", False)
