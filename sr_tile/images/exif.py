"""An EXIF block as all formats but TIFF embed it: its orientation and density, and what must not survive.

Layout: EXIF 2.32, section 4.6: a TIFF without pixels, behind "Exif" and two zeros or not.
"""

import contextlib
import struct
from collections.abc import Iterator

_ORIENTATION, _XRES, _YRES, _UNIT = 0x0112, 0x011A, 0x011B, 0x0128
_EXIF_IFD, _WIDTH, _HEIGHT = 0x8769, 0xA002, 0xA003


def _start(exif: bytes) -> tuple[int, str]:
    head = 6 if exif.startswith(b"Exif\0\0") else 0
    return head, {b"II": "<", b"MM": ">"}[exif[head : head + 2]]


def _entries(exif: bytes, pointer: int | None = None) -> Iterator[tuple[int, int, int, int]]:
    """(tag, type, count, position of the entry) in IFD0, or the directory that the four bytes at `pointer` lead to."""
    head, order = _start(exif)
    (start,) = struct.unpack_from(order + "I", exif, head + 4 if pointer is None else pointer)
    (count,) = struct.unpack_from(order + "H", exif, head + start)
    for index in range(count):
        at = head + start + 2 + 12 * index
        yield (*struct.unpack_from(order + "HHI", exif, at), at)


def exif_orientation(exif: bytes | None) -> int:
    """1 to 8; 1 where nothing, or nonsense, is said."""
    with contextlib.suppress(struct.error, KeyError):
        for tag, kind, _, at in _entries(exif or b""):
            if tag == _ORIENTATION and kind == 3 and exif is not None:
                (value,) = struct.unpack_from(_start(exif)[1] + "H", exif, at + 8)
                return value if value in range(1, 9) else 1
    return 1


def exif_density(exif: bytes | None) -> tuple[float | None, float | None]:
    """Pixels per millimetre, horizontally and vertically; None where EXIF does not say."""
    found: dict[int, float] = {}
    unit = 2
    with contextlib.suppress(struct.error, KeyError, ZeroDivisionError):
        if exif is not None:
            head, order = _start(exif)
            for tag, kind, _, at in _entries(exif):
                if tag == _UNIT and kind == 3:
                    (unit,) = struct.unpack_from(order + "H", exif, at + 8)
                elif tag in (_XRES, _YRES) and kind == 5:
                    (where,) = struct.unpack_from(order + "I", exif, at + 8)
                    numerator, denominator = struct.unpack_from(order + "II", exif, head + where)
                    found[tag] = numerator / denominator
    per_unit = {2: 25.4, 3: 10.0}.get(unit)
    if per_unit is None or not found.get(_XRES) or not found.get(_YRES):
        return None, None
    return found[_XRES] / per_unit, found[_YRES] / per_unit


def without_thumbnail(exif: bytes | None) -> bytes | None:
    """Cut the chain of directories after the first: the second describes a thumbnail of the picture before its repair.

    None for a damaged block, which libvips leaves out, or fails at when it is very short.
    """
    try:
        head, order = _start(exif or b"")
        (start,) = struct.unpack_from(order + "I", exif or b"", head + 4)
        (entries,) = struct.unpack_from(order + "H", exif or b"", head + start)
        patched = bytearray(exif or b"")
        struct.pack_into("I", patched, head + start + 2 + 12 * entries, 0)
    except (struct.error, KeyError):
        return None
    return bytes(patched)


def with_size(exif: bytes, width: int, height: int) -> bytes:
    """A block with other numbers of pixels, where it says any."""
    patched, sizes = bytearray(exif), {_WIDTH: width, _HEIGHT: height}
    with contextlib.suppress(struct.error, KeyError):
        for tag, _, _, pointer in _entries(exif):
            for inner, kind, _, at in _entries(exif, pointer + 8) if tag == _EXIF_IFD else ():
                if inner in sizes and kind in (3, 4):
                    value = sizes[inner] if kind == 4 else sizes[inner] & 0xFFFF
                    struct.pack_into(_start(exif)[1] + {3: "H", 4: "I"}[kind], patched, at + 8, value)
    return bytes(patched)


def unit_position(exif: bytes) -> tuple[int, bytes] | None:
    """Where a block says its unit of density, and the two bytes that say it has none; None where it does not."""
    with contextlib.suppress(struct.error, KeyError):
        for tag, kind, _, at in _entries(exif):
            if tag == _UNIT and kind == 3:
                return at + 8, struct.pack(_start(exif)[1] + "H", 1)
    return None
