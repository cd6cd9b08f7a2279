"""What an AVIF, or a HEIC, says of its picture in the boxes around it: no pixels, no libvips.

Layout: ISO/IEC 14496-12 (boxes), 23008-12 (items and their properties), the AV1 codec's binding (`av1C`).
"""

import os
import struct
from collections.abc import Iterable, Iterator
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
        tiles: of a picture that is a grid of others, and of its alpha: the bytes that make each of them the primary picture,
            as (position, byte) each.
    """

    cicp: tuple[int, int, int, int] | None = None
    monochrome: bool = False
    full_range: bool | None = None
    range_at: int = 0
    range_byte: int = 0
    sequence: bool = False
    tiles: tuple[tuple[tuple[int, bytes], ...], ...] = ()

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
        return with_bytes([(position, bytes([self.range_byte ^ 128 >> bit]))], size)


def with_bytes(changes: Iterable[tuple[int, bytes]], size: int) -> list[Piece]:
    """A file of this size with other bytes at some positions, none of which overlap."""
    pieces, end = [], 0
    for position, content in sorted(changes):
        pieces += [Piece(end, position - end), Piece(data=content)]
        end = position + len(content)
    return [*pieces, Piece(end, size - end)]


def changed(content: bytes, changes: Iterable[tuple[int, bytes]]) -> bytes:
    """The same, of a file in memory."""
    pieces = with_bytes(changes, len(content))
    return b"".join(content[each.start : each.start + each.size] if each.data is None else each.data for each in pieces)


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
                    meta = file.read(min(length - start, _MAX_META))
                    return replace(_of_meta(meta, sequence, file), tiles=_tiles(meta, position + start))
                position += max(length, 8)
    except _ODD:
        pass
    return AvifHeader(sequence=sequence)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    return ((kind, body) for kind, body, _ in _placed(data, 0))


def _placed(data: bytes, position: int) -> Iterator[tuple[bytes, bytes, int]]:
    """The boxes from a position on, each with the place of its content."""
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        start = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, position + 8)
            start = 16
        length = length or len(data) - position
        if length < start:
            return
        yield kind, data[position + start : position + length], position + start
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


def _tiles(meta: bytes, place: int) -> tuple[tuple[tuple[int, bytes], ...], ...]:
    """See `AvifHeader.tiles`, of a box whose content lies at `place`; none where there is no grid, or no sense in it."""
    try:
        found = {kind: (body, at) for kind, body, at in _placed(meta, 4)}
        form = ">H" if found[b"pitm"][0][0] == 0 else ">I"
        (primary,) = struct.unpack_from(form, found[b"pitm"][0], 4)
        items, first = {}, 4 + (2 if found[b"iinf"][0][0] == 0 else 4)
        for _, body, at in _placed(found[b"iinf"][0], first):
            wide = body[0] > 2
            (number,) = struct.unpack_from(">I" if wide else ">H", body, 4)
            items[number] = (body[10:14] if wide else body[8:12], found[b"iinf"][1] + at + 3, body[3])
        links = list(_links(found[b"iref"][0]))
    except _ODD:
        return ()
    owners = {primary, *(source for kind, source, targets in links if kind == b"auxl" and primary in targets)}
    numbers = {
        target
        for kind, source, targets in links
        if kind == b"dimg" and source in owners and items.get(source, (b"",))[0] == b"grid"
        for target in targets
        if target in items
    }
    at = place + found[b"pitm"][1] + 4
    # It is the primary one, and no longer hidden.
    return tuple(
        ((at, struct.pack(form, number)), (place + items[number][1], bytes([items[number][2] & ~1])))
        for number in sorted(numbers)
    )


def _links(iref: bytes) -> Iterator[tuple[bytes, int, tuple[int, ...]]]:
    """References between items: kind, from which, to which."""
    code = "H" if iref[0] == 0 else "I"
    for kind, body, _ in _placed(iref, 4):
        source, count = struct.unpack_from(f">{code}H", body)
        yield kind, source, struct.unpack_from(f">{count}{code}", body, struct.calcsize(f">{code}H"))


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
