"""What an AVIF says of its picture in the boxes around it: no pixels, no libvips.

Layout: ISO/IEC 14496-12 (boxes), 23008-12 (items and their properties), the AV1 codec's binding (`av1C`).
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from sr_tile.images.av1_header import find_range
from sr_tile.images.virtual_file import Piece

_MAX_META = 2**24
_ODD = (struct.error, ValueError, LookupError, OSError)


@dataclass(frozen=True)
class AvifHeader:
    """What libvips does not say of the primary picture.

    Attributes:
        cicp: colour primaries, transfer and matrix coefficients by the numbers of ITU-T H.273, and 1 for full range.
        monochrome: it is coded as luma alone.
        full_range: luma goes from 0 to 255, by the codec's own header; None where it does not say.
        range_at: the bit of the file that says it, from the highest of the first byte on; 0 where it was not looked for.
        range_byte: the byte that this bit belongs to.
        sequence: the file holds a film.
    """

    cicp: tuple[int, int, int, int] | None = None
    monochrome: bool = False
    full_range: bool | None = None
    range_at: int = 0
    range_byte: int = 0
    sequence: bool = False

    @property
    def needs_range(self) -> bool:
        """Whether libheif hands the luma out as it is coded, from 16 to 235 of 255."""
        full = self.cicp[3] if self.cicp else self.full_range
        return self.monochrome and full is not None and not full

    def pieces(self, size: int) -> list[Piece]:
        """Of a file whose codec says the range that the box around it says, which holds; empty where it does already.

        libheif believes the codec.
        """
        if self.cicp is None or self.full_range in (None, bool(self.cicp[3])) or not self.range_at:
            return []
        position, bit = divmod(self.range_at, 8)
        return [
            Piece(0, position),
            Piece(data=bytes([self.range_byte ^ 128 >> bit])),
            Piece(position + 1, size - position - 1),
        ]


def read_avif(path: Path) -> AvifHeader:
    """The header; an empty one where it cannot be understood."""
    sequence = False
    try:
        with path.open("rb") as file:
            sequence = file.read(32)[8:12] == b"avis"
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
                    return _of_meta(file.read(min(length - start, _MAX_META)), sequence, file)
                position += max(length, 8)
    except _ODD:
        pass
    return AvifHeader(sequence=sequence)


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


def _of_meta(meta: bytes, sequence: bool, file: BinaryIO) -> AvifHeader:
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
    header = AvifHeader(cicp, bool(monochrome if codec is None else codec), sequence=sequence)
    if b"iloc" not in found:
        return header
    place = _place(found[b"iloc"], item)
    file.seek(place)
    start = file.read(256)
    if (said := find_range(start)) is None:
        return header
    at, full = said
    return replace(header, full_range=full, range_at=8 * place + at, range_byte=start[at // 8])


def _place(iloc: bytes, item: int) -> int:
    """Where the first bytes of an item lie in the file."""
    version, sizes = iloc[0], struct.unpack_from(">H", iloc, 4)[0]
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide, position = version == 2, 6
    number = ">I" if wide else ">H"
    (count,) = struct.unpack_from(number, iloc, position)
    position += struct.calcsize(number)
    for _ in range(count):
        (found,) = struct.unpack_from(number, iloc, position)
        position += struct.calcsize(number) + (2 if version else 0) + 2
        base = int.from_bytes(iloc[position : position + base_size])
        (parts,) = struct.unpack_from(">H", iloc, position + base_size)
        position += base_size + 2
        index = index_size if version else 0
        if found == item:
            return base + int.from_bytes(iloc[position + index : position + index + offset_size])
        position += parts * (index + offset_size + length_size)
    raise ValueError("the item lies nowhere")


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


def write_cicp(descriptor: int, primaries: int, transfer: int, matrix: int) -> None:
    """Have a finished AVIF of one still picture, as libheif writes it, say what its colours mean, in a `colr` box.

    The matrix is the encoder's, 0 where it wrote without loss and 6 (BT.601) otherwise, the range is full. All behind the
    boxes moves by as many bytes as they grow.

    Raises:
        ValueError: its boxes are laid out otherwise.
        OSError: the disk is full.
    """
    size = os.fstat(descriptor).st_size
    start, meta = _meta_at(os.pread(descriptor, min(size, _MAX_META), 0))
    colour = struct.pack(">4sHH", b"nclx", primaries, transfer)
    if (at := meta.find(b"colrnclx")) >= 0:
        os.pwrite(descriptor, colour, start + at + 4)
        return
    try:
        item = struct.unpack_from(">H", dict(_boxes(meta[12:]))[b"pitm"], 4)[0]
        box = _box(b"colr", colour + struct.pack(">HB", matrix, 0x80))
        grown = _with_property(meta, item, box, 0)
        grown = _with_property(meta, item, box, len(grown) - len(meta))
    except _ODD as error:
        raise ValueError("its boxes are laid out otherwise") from error
    rest = os.pread(descriptor, size, start + len(meta))  # libheif held it in memory as well
    os.pwrite(descriptor, grown + rest, start)


def _meta_at(head: bytes) -> tuple[int, bytes]:
    position = 0
    for kind, body in _boxes(head):
        if kind == b"meta":
            return position, head[position : position + 8 + len(body)]
        position += 8 + len(body)
    raise ValueError("no meta box")


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _with_property(meta: bytes, item: int, box: bytes, shift: int) -> bytes:
    """The box `meta` with one more property of an item, and all data shift bytes further on."""
    children = []
    for kind, body in _boxes(meta[12:]):
        if kind == b"iloc":
            body = _moved(body, shift)
        elif kind == b"iprp":
            properties = dict(_boxes(body))
            number = len(list(_boxes(properties[b"ipco"]))) + 1
            properties[b"ipco"] += box
            properties[b"ipma"] = _associate(properties[b"ipma"], item, number)
            body = b"".join(_box(*each) for each in properties.items())
        children.append(_box(kind, body))
    return _box(b"meta", meta[8:12] + b"".join(children))


def _moved(iloc: bytes, shift: int) -> bytes:
    """Item locations, version 0 with numbers of 4 bytes: a base offset, or those of the parts where it is 0."""
    if iloc[0] != 0 or iloc[4] != 0x44 or iloc[5] & 0xF0 not in (0, 0x40):
        raise ValueError("another form of iloc")
    base, moved, position = 4 if iloc[5] & 0xF0 else 0, bytearray(iloc), 8
    for _ in range(struct.unpack_from(">H", iloc, 6)[0]):
        (parts,) = struct.unpack_from(">H", iloc, position + 4 + base)
        based = base and struct.unpack_from(">I", iloc, position + 4)[0]
        first = position + 6 + base
        for at in [position + 4] if based else range(first, first + 8 * parts, 8):
            struct.pack_into(">I", moved, at, struct.unpack_from(">I", iloc, at)[0] + shift)
        position = first + 8 * parts
    return bytes(moved)


def _associate(ipma: bytes, item: int, number: int) -> bytes:
    """One more property, version 0 with numbers of 7 bits."""
    if ipma[0] or ipma[3] & 1 or number > 127:
        raise ValueError("another form of ipma")
    position = 8
    for _ in range(struct.unpack_from(">I", ipma, 4)[0]):
        amount = ipma[position + 2]
        end = position + 3 + amount
        if struct.unpack_from(">H", ipma, position)[0] == item:
            return ipma[: position + 2] + bytes([amount + 1]) + ipma[position + 3 : end] + bytes([number]) + ipma[end:]
        position = end
    raise ValueError("the item has no properties")
