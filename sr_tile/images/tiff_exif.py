"""EXIF of a TIFF file, which libvips neither reads nor writes: no pixels, no libvips.

A TIFF is a header with the position of directory 0 (IFD0), whose entries describe the pixels, or hold what EXIF says of the
picture, or point to the directories of Exif and GPS. An EXIF block, as the other formats embed it, is a small TIFF without
pixels. Written by hand: the block goes behind a finished file, of which nothing but the header is changed, at last.
Layout: TIFF 6.0, section 2; the BigTIFF design of libtiff; EXIF 2.32, section 4.6.
"""

import contextlib
import io
import logging
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sr_tile.images.formats import ImageInfo
from sr_tile.images.tiff_directory import ODD, Layout, bytes_at, entries_at, read_header
from sr_tile.tiling.grid import round_up

log = logging.getLogger("sr_tile")

_PREFIX = b"Exif\0\0"  # with which libvips begins a block
_EXIF, _GPS, _INTEROP = 0x8769, 0x8825, 0xA005  # entries that point to another directory
_CHILDREN = {0: (_EXIF, _GPS), _EXIF: (_INTEROP,), _GPS: (), _INTEROP: ()}
_DESCRIPTION = 0x010E
_TEXT = (0x010D, _DESCRIPTION, 0x010F, 0x0110, 0x011D, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298)
# Of IFD0, with their type: text; the rating in stars and per cent; Windows' title, comment, author, keywords and subject.
_IFD0_KINDS = dict.fromkeys(_TEXT, 2) | dict.fromkeys((0x4746, 0x4749), 3) | dict.fromkeys(range(0x9C9B, 0x9CA0), 1)
# Descriptions that programs would take for the layout of the pixels.
_ABOUT_PIXELS = (b"ImageJ=", b'{"', b"<?xml", b"<OME", b"shape=")
_LEFT_OUT = (0xEA1C, _EXIF, _GPS, _INTEROP)  # padding, and pointers where they do not belong
_WIDTH, _HEIGHT = 0xA002, 0xA003
_ASCII, _LONG, _UTF8, _LONG8 = 2, 4, 129, 16
# By type, the bytes that swap together.
_UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 1, 7: 1, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, _UTF8: 1}
_SIZES = _UNITS | {5: 8, 10: 8}  # a rational is two numbers
ODD_LAYOUT = (struct.error, ValueError, OverflowError)
"""What writing a directory raises that cannot be."""
_MAX_VALUE = 2**16  # libexif takes no larger block


@dataclass
class _Directory:
    """values: tag to (type, little-endian bytes); children: the tag of a pointer to what it points to."""

    values: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    children: dict[int, "_Directory"] = field(default_factory=dict)


def read_exif(path: Path, position: int | None = None) -> bytes | None:
    """The EXIF block of a TIFF or BigTIFF; None where there is none, or none that can be understood.

    Args:
        path: of the file.
        position: where the directory of the picture lies; None: the first one.

    Without what describes the pixels of this file: orientation, size, density, profile; those are read elsewhere.
    """
    try:
        with path.open("rb") as file:
            directory = _parse(file, position)
    except ODD as error:
        log.debug("%s: EXIF left out: %s", path, error)
        return None
    return _block(directory)


def without_large_values(exif: bytes, most: int) -> bytes | None:
    """A block of at most so many bytes, without its largest values, such as a camera's notes; None: nothing is left."""
    try:
        directory = _parse(io.BytesIO(exif.removeprefix(_PREFIX)))
        while (block := _block(directory)) and len(block) > most:
            _drop_largest(directory)
    except ODD_LAYOUT:
        return None
    return block


def _drop_largest(directory: _Directory) -> None:
    """Leave out the largest value of a directory and those below it."""
    directories = [directory]
    for each in directories:  # which grows
        directories += each.children.values()
    owner, tag = max(
        ((each, tag) for each in directories for tag in each.values), key=lambda item: len(item[0].values[item[1]][1])
    )
    del owner.values[tag]


def _block(directory: _Directory) -> bytes | None:
    if not directory.values and not directory.children:
        return None
    return _PREFIX + b"II*\0" + struct.pack("<I", 8) + _pack(directory, 8, Layout("<", False))


def append_exif(descriptor: int, info: ImageInfo) -> None:
    """Put the EXIF of info into a little-endian TIFF or BigTIFF that is whole, with the size of info.

    The EXIF and a copy of IFD0 that points to it go to the end of the file, and at last the header's pointer is changed.
    EXIF that cannot be understood leaves the file as it is.

    Raises:
        OSError: the disk is full.
    """
    if info.metadata.exif is None:
        return
    with open(descriptor, "r+b", closefd=False) as file:
        try:
            layout, position = read_header(file)
            own = entries_at(file, position, layout)
            following = layout.offset.unpack(file.read(layout.offset.size))
            at, link = append_directory(file, layout, own, info)
        except ODD_LAYOUT as error:
            log.debug("EXIF left out of the TIFF: %s", error)
            return
        file.seek(link)
        file.write(layout.offset.pack(*following))
        file.seek(layout.offset.size)  # 4 in a classic header, 8 in a BigTIFF's
        file.write(layout.offset.pack(at))


def append_directory(file: BinaryIO, layout: Layout, own: bytes, info: ImageInfo) -> tuple[int, int]:
    """Write a directory to the end of a little-endian TIFF, with the EXIF of info, where that can be understood.

    Args:
        file: open for reading and writing.
        layout: of the file.
        own: the directory's other entries, as they lie in a file.
        info: of the picture.

    Returns:
        Where the directory lies, and where in it the position of the next one, which is 0, does.

    Raises:
        ValueError: it is a big-endian one, or would end beyond 4 GiB.
        OSError: the disk is full.
    """
    if layout.order != "<":
        raise ValueError("it is big-endian")
    directory = _Directory()
    if info.metadata.exif is not None:
        try:
            directory = _parse(io.BytesIO(info.metadata.exif.removeprefix(_PREFIX)))
            _set_size(directory, info)
        except ODD_LAYOUT as error:
            log.debug("EXIF left out of the TIFF: %s", error)
    at = round_up(file.seek(0, os.SEEK_END), 8)
    block = _pack(directory, at, layout, own)
    if not layout.big and at + len(block) >= 2**32:
        raise ValueError("it would end beyond 4 GiB")
    file.write(bytes(at - file.tell()) + block)
    (entries,) = layout.count.unpack_from(block)
    return at, at + layout.count.size + entries * layout.entry.size


def _set_size(directory: _Directory, info: ImageInfo) -> None:
    exif = directory.children.setdefault(_EXIF, _Directory())
    for tag, side in ((_WIDTH, info.width), (_HEIGHT, info.height)):
        exif.values[tag] = (_LONG, struct.pack("<I", side))


def _parse(file: BinaryIO, position: int | None = None) -> _Directory:
    layout, first = read_header(file)
    return _read(file, first if position is None else position, layout)


def _read(file: BinaryIO, position: int, layout: Layout, which: int = 0) -> _Directory:
    """A directory and those below it, without entries that are odd; which: the tag that points to it, 0 for IFD0."""
    directory = _Directory()
    for tag, kind, count, inline in layout.entry.iter_unpack(entries_at(file, position, layout)):
        with contextlib.suppress(*ODD):
            if tag in _CHILDREN[which]:
                wide = struct.Struct(layout.order + ("Q" if kind in (_LONG8, 18) else "I"))
                child = _read(file, wide.unpack_from(inline)[0], layout, tag)
                if child.values or child.children:
                    directory.children[tag] = child
            elif (
                tag in directory.values
                or (which == 0 and tag not in _IFD0_KINDS)
                or tag in _LEFT_OUT
                or kind not in _UNITS
            ):
                continue
            elif 0 < (size := count * _SIZES[kind]) <= _MAX_VALUE:
                value = inline[:size]
                if size > len(inline):
                    value = bytes_at(file, layout.offset.unpack(inline)[0], size)
                if layout.order == ">":
                    value = np.frombuffer(value, f"u{_UNITS[kind]}").byteswap().tobytes()
                directory.values[tag] = (_ASCII if kind == _UTF8 else kind, value)
    if which == 0:
        directory.values = dict(_fit_for_ifd0(directory.values))
    return directory


def _fit_for_ifd0(values: dict[int, tuple[int, bytes]]) -> Iterator[tuple[int, tuple[int, bytes]]]:
    """Those that libtiff reads without a warning, which our own reader would take for damage."""
    for tag, (kind, value) in values.items():
        if kind != _IFD0_KINDS[tag] or (tag == _DESCRIPTION and value.startswith(_ABOUT_PIXELS)):
            continue
        if kind == _ASCII:
            # EXIF parts the copyright of photographer and editor by a zero, at which libtiff stops.
            parts = [part for part in value.split(b"\0") if part.strip()]
            if parts:
                yield tag, (kind, b"; ".join(parts) + b"\0")
        else:
            yield tag, (kind, value)


def _pack(directory: _Directory, at: int, layout: Layout, own: bytes = b"") -> bytes:
    """A little-endian directory and those below it, for position at; own: more entries, which keep their values."""
    entry, tags = layout.entry, directory.values.keys() | directory.children.keys()
    old = (own[start : start + entry.size] for start in range(0, len(own), entry.size))
    table = {tag: raw for raw in old if (tag := entry.unpack(raw)[0]) not in tags}
    body = b""
    # The values come after the table and the position of the next directory, of which there is none.
    start = at + layout.count.size + (len(table) + len(tags)) * entry.size + layout.offset.size
    for tag in sorted(tags):
        body += bytes(-(start + len(body)) % 8)
        position = layout.offset.pack(start + len(body))
        if tag in directory.children:
            body += _pack(directory.children[tag], start + len(body), layout)
            table[tag] = entry.pack(tag, _LONG8 if layout.big else _LONG, 1, position)
            continue
        kind, value = directory.values[tag]
        fits = len(value) <= layout.offset.size
        table[tag] = entry.pack(tag, kind, len(value) // _SIZES[kind], value if fits else position)
        body += b"" if fits else value
    entries = b"".join(raw for _, raw in sorted(table.items()))
    return layout.count.pack(len(table)) + entries + layout.offset.pack(0) + body
