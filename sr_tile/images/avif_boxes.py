"""What an AVIF says of its picture in the boxes around it: no pixels, no libvips.

Layout: ISO/IEC 14496-12 (boxes), 23008-12 (items and their properties), the AV1 codec's binding (`av1C`).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MAX_META = 2**24
_ODD = (struct.error, ValueError, IndexError, OSError)


@dataclass(frozen=True)
class AvifHeader:
    """What libvips does not say of the primary picture.

    Attributes:
        cicp: colour primaries, transfer and matrix coefficients by the numbers of ITU-T H.273, and 1 for full range.
        monochrome: it is coded as luma alone.
        sequence: the file holds a film.
    """

    cicp: tuple[int, int, int, int] | None = None
    monochrome: bool = False
    sequence: bool = False

    @property
    def needs_range(self) -> bool:
        """Whether libheif hands the luma out as it is coded, from 16 to 235 of 255."""
        return self.monochrome and self.cicp is not None and not self.cicp[3]


def read_avif(path: Path) -> AvifHeader:
    """The header; an empty one where it cannot be understood."""
    try:
        with path.open("rb") as file:
            head = file.read(32)
            sequence = head[8:12] == b"avis"
            size = path.stat().st_size
            position = 0
            while position + 8 <= size:
                file.seek(position)
                length, kind = struct.unpack(">I4s", file.read(8))
                start = 8
                if length == 1:
                    (length,) = struct.unpack(">Q", file.read(8))
                    start = 16
                length = length or size - position
                if kind == b"meta":
                    return _of_meta(file.read(min(length - start, _MAX_META)), sequence)
                position += max(length, 8)
    except _ODD:
        pass
    return AvifHeader()


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        start = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, position + 8)
            start = 16
        length = length or len(data) - position
        if length < start:
            return
        yield kind, data[position + start : position + length]
        position += length


def _of_meta(meta: bytes, sequence: bool) -> AvifHeader:
    found = dict(_boxes(meta[4:]))  # behind version and flags
    primary = found[b"pitm"]
    item = struct.unpack_from(">H" if primary[0] == 0 else ">I", primary, 4)[0]
    properties = dict(_boxes(found[b"iprp"]))
    own = [list(_boxes(properties[b"ipco"]))[number - 1] for number in _associated(properties[b"ipma"], item) if number]
    cicp = None
    codec = monochrome = None
    for kind, body in own:
        if kind == b"colr" and body[:4] == b"nclx":
            primaries, transfer, matrix, flags = struct.unpack_from(">HHHB", body, 4)
            cicp = (primaries, transfer, matrix, flags >> 7)
        elif kind == b"av1C":
            codec = bool(body[2] & 0x10)
        elif kind == b"pixi":
            monochrome = body[4] == 1
    return AvifHeader(cicp, bool(monochrome if codec is None else codec), sequence)


def _associated(ipma: bytes, item: int) -> list[int]:
    """Numbers, from 1 on, of an item's properties."""
    version, wide = ipma[0], ipma[3] & 1
    (count,) = struct.unpack_from(">I", ipma, 4)
    position = 8
    for _ in range(count):
        form = ">H" if version < 1 else ">I"
        (number,) = struct.unpack_from(form, ipma, position)
        position += struct.calcsize(form)
        amount = ipma[position]
        position += 1
        step = 2 if wide else 1
        raw = ipma[position : position + amount * step]
        position += amount * step
        if number == item:
            if wide:
                return [value & 0x7FFF for (value,) in struct.iter_unpack(">H", raw)]
            return [value & 0x7F for value in raw]
    return []
