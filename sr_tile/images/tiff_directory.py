"""Directories of TIFF and BigTIFF files as they lie in the file: no pixels, no libvips.

Layout: TIFF 6.0, section 2; the BigTIFF design of libtiff.
"""

import contextlib
import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

MAX_ENTRIES = 4096
"""More entries are a damaged file."""
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8, 129: 1}
"""Bytes of a value, by its type."""
ODD = (struct.error, ValueError, OverflowError, OSError)
"""What reading a directory raises that is damaged."""
_WHOLE = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MAX_PAGES = 10_000


@dataclass(frozen=True)
class Layout:
    """order: < or >, as struct has it."""

    order: str
    big: bool

    @property
    def count(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.big else "H"))

    @property
    def entry(self) -> struct.Struct:
        """Tag, type, count, and the value or its position."""
        return struct.Struct(self.order + ("HHQ8s" if self.big else "HHI4s"))

    @property
    def offset(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.big else "I"))


@dataclass(frozen=True)
class Entry:
    """One entry: `inline` is the value, or where it lies."""

    tag: int
    kind: int
    count: int
    inline: bytes

    @property
    def size(self) -> int:
        """Bytes of the value; 0 for an unknown type."""
        return self.count * SIZES.get(self.kind, 0)


@dataclass
class Page:
    """A directory: its first entry of each tag, whether all stand in the order that TIFF asks for, and the next is there.

    number: its place in the chain, from 0.
    """

    position: int
    number: int = 0
    entries: dict[int, Entry] = field(default_factory=dict)
    sorted: bool = True
    chained: bool = True


def read_header(file: BinaryIO) -> tuple[Layout, int]:
    """Layout of a TIFF and position of IFD0.

    Raises:
        ValueError: it is none.
    """
    head = bytes_at(file, 0, 8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        raise ValueError("no TIFF header")
    (version,) = struct.unpack_from(order + "H", head, 2)
    if version not in (42, 43):
        raise ValueError(f"TIFF version {version}")
    layout = Layout(order, version == 43)
    size = layout.offset.size
    return layout, layout.offset.unpack(bytes_at(file, size, size))[0]


def bytes_at(file: BinaryIO, position: int, size: int) -> bytes:
    """Some bytes of a file.

    Raises:
        ValueError: the file ends before.
    """
    if position + size > file.seek(0, os.SEEK_END):  # asked first, as a damaged size may be more than memory holds
        raise ValueError(f"the file ends before byte {position + size}")
    file.seek(position)
    return file.read(size)


def entries_at(file: BinaryIO, position: int, layout: Layout) -> bytes:
    """The table of a directory, as it is in the file."""
    (count,) = layout.count.unpack(bytes_at(file, position, layout.count.size))
    if not 0 < count <= MAX_ENTRIES:
        raise ValueError(f"a directory of {count} entries")
    return bytes_at(file, position + layout.count.size, count * layout.entry.size)


def pages(file: BinaryIO, layout: Layout, position: int) -> Iterator[Page]:
    """All directories in their chain; one that is damaged ends it, as does one that was there before."""
    seen: set[int] = set()
    while position and position not in seen and len(seen) < _MAX_PAGES:
        seen.add(position)
        try:
            raw = entries_at(file, position, layout)
        except ODD:
            return
        page = Page(position, len(seen) - 1)
        last = -1
        for item in layout.entry.iter_unpack(raw):
            entry = Entry(*item)
            page.sorted = page.sorted and entry.tag > last
            last = entry.tag
            page.entries.setdefault(entry.tag, entry)
        try:
            after = position + layout.count.size + len(raw)
            (position,) = layout.offset.unpack(bytes_at(file, after, layout.offset.size))
            if position:
                bytes_at(file, position, layout.count.size)
        except ODD:
            page.chained, position = False, 0
        yield page


def value_bytes(file: BinaryIO, layout: Layout, entry: Entry) -> bytes:
    """The value of an entry, in the order of the file."""
    if entry.size <= len(entry.inline):
        return entry.inline[: entry.size]
    return bytes_at(file, layout.offset.unpack(entry.inline)[0], entry.size)


def whole_numbers(file: BinaryIO, layout: Layout, entry: Entry | None) -> list[int]:
    """The value of an entry of whole numbers; empty where it is missing, of another type or damaged."""
    if entry is None or entry.kind not in _WHOLE:
        return []
    with contextlib.suppress(*ODD):
        return list(struct.unpack(f"{layout.order}{entry.count}{_WHOLE[entry.kind]}", value_bytes(file, layout, entry)))
    return []


def pack_entry(layout: Layout, tag: int, kind: int, values: list[int], body: io.BytesIO, body_at: int) -> bytes:
    """An entry of whole numbers; what does not fit into it goes to the end of `body`, which will lie at `body_at`."""
    raw = struct.pack(f"{layout.order}{len(values)}{_WHOLE[kind]}", *values)
    if len(raw) > layout.offset.size:
        body.write(bytes(-body.tell() % 8))
        raw, value = layout.offset.pack(body_at + body.tell()), raw
        body.write(value)
    return layout.entry.pack(tag, kind, len(values), raw)
