"""What stands in the segments of a JPEG before its pixels, and faults there that all viewers forgive: no pixels.

Layout: ITU-T T.81, annex B; JFIF 1.02; XMP specification, part 3 (extended XMP).
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from sr_tile.images.virtual_file import Piece

XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED_PREFIX = b"http://ns.adobe.com/xmp/extension/\0"
_EOI, _SOS, _COM, _APP0, _APP1, _APP2 = 0xD9, 0xDA, 0xFE, 0xE0, 0xE1, 0xE2
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_SEQUENTIAL = (0xC0, 0xC1)
_MAX_XMP = 2**26
_TAIL = 2**16
_HARMLESS = re.compile(
    r"(VipsJpeg: )?(Corrupt JPEG data: ([1-9]|[1-5]\d|6[0-4]) extraneous bytes before marker 0x(c4|d9|da|dd|fe|e[0-9a-f])"
    r"|Inconsistent progression sequence for component .*|Unknown Adobe color transform code .*"
    r"|Invalid SOS parameters for sequential JPEG)"
)


@dataclass
class JpegHeader:
    """Metadata of a JPEG.

    Attributes:
        pieces: of the file without the faults that libjpeg warns about; empty where there are none.
        oddities: those faults.
        comments: of COM segments.
        xmp: the main packet; libvips may hand out a part of the others in its place.
        extended_xmp: the packets that were too large for one segment, joined.
        density: pixels per millimetre, across and down, by JFIF; EXIF may say others.
        bits: of a channel.
        one_scan: all pixels lie in the first scan.
        gain_map: a second picture makes this one brighter on displays that can do more than SDR.
    """

    pieces: list[Piece] = field(default_factory=list)
    oddities: list[str] = field(default_factory=list)
    comments: list[bytes] = field(default_factory=list)
    xmp: bytes | None = None
    extended_xmp: bytes | None = None
    density: tuple[float, float] | None = None
    bits: int = 8
    one_scan: bool = False
    gain_map: bool = False


def is_harmless(reason: str) -> bool:
    """Whether what libjpeg says in each of its lines costs no pixels."""
    return bool(reason) and all(_HARMLESS.fullmatch(line.strip()) for line in reason.split(";"))


def has_end(file: BinaryIO) -> bool:
    """Whether a marker of the end lies in the last bytes, before whatever a program put behind it."""
    file.seek(max(0, file.seek(0, 2) - _TAIL))
    return b"\xff\xd9" in file.read(_TAIL)


def read_jpeg(path: Path) -> JpegHeader:
    """The segments up to the first pixels; it stops where they are damaged."""
    found = JpegHeader()
    edits: list[tuple[int, int, bytes]] = []  # (position, bytes to leave out, bytes to put in)
    parts: dict[bytes, dict[int, bytes]] = {}
    totals: dict[bytes, int] = {}
    with path.open("rb") as file:
        for marker, start, body in _segments(file, found, edits):
            if marker in _FRAMES and body:
                found.bits = body[0]
            if marker == _COM:
                found.comments.append(body)
            elif marker == _APP0 and body.startswith(b"JFIF\0") and len(body) >= 12:
                found.density = _jfif_density(body)
                if body[5] != 1:
                    found.oddities.append("an unknown version of JFIF")
                    edits.append((start + 5, 1, b"\1"))
            elif marker == _APP1 and body.startswith(XMP_PREFIX):
                found.xmp = found.xmp or body[len(XMP_PREFIX) :]
            elif marker == _APP1 and body.startswith(EXTENDED_PREFIX) and len(body) >= len(EXTENDED_PREFIX) + 40:
                guid, total, offset = struct.unpack_from(">32sII", body, len(EXTENDED_PREFIX))
                totals[guid] = total
                parts.setdefault(guid, {})[offset] = body[len(EXTENDED_PREFIX) + 40 :]
            if marker in (_APP1, _APP2) and (b"hdrgm:Version" in body or b"urn:iso:std:iso:ts:21496:-1" in body[:40]):
                found.gain_map = True
        size = path.stat().st_size
        if found.one_scan and not has_end(file):
            # Where pixels lack as well, libjpeg tells of those; of missing scans it would not.
            found.oddities.append("no end marker")
            edits.append((size, 0, b"\xff\xd9"))
    for guid, total in totals.items():
        joined = b"".join(part for _, part in sorted(parts[guid].items()))
        if len(joined) == total <= _MAX_XMP:
            found.extended_xmp = joined
    if edits:
        found.pieces = list(_edited(size, sorted(edits)))
    return found


def _segments(
    file: BinaryIO, found: JpegHeader, edits: list[tuple[int, int, bytes]]
) -> Iterator[tuple[int, int, bytes]]:
    """(marker, position of its body, body) of each segment, and the edits that markers need."""
    file.seek(2)
    frame = components = 0
    while True:
        position = file.tell()
        skipped, byte = _to_marker(file)
        if not byte or byte[0] == _EOI:
            return
        if skipped:
            found.oddities.append(f"{skipped} bytes between two segments")
            edits.append((position, skipped, b""))
        marker = byte[0]
        if marker in _ALONE:
            continue
        head = file.read(2)
        if len(head) < 2 or (length := struct.unpack(">H", head)[0]) < 2:
            return
        start = file.tell()
        body = file.read(length - 2)
        if len(body) < length - 2:
            return
        if marker in _FRAMES:
            frame, components = marker, body[5] if len(body) > 5 else 0
        if marker == _SOS:
            found.one_scan = frame in _SEQUENTIAL and body[:1] == bytes([components])
            if frame in _SEQUENTIAL and len(body) >= 4 and body[-3:] != b"\0\x3f\0":
                found.oddities.append("a scan header of a progressive JPEG")
                edits.append((start + len(body) - 3, 3, b"\0\x3f\0"))
            return
        yield marker, start, body


def _jfif_density(body: bytes) -> tuple[float, float] | None:
    unit, across, down = struct.unpack_from(">BHH", body, 7)
    per_unit = {1: 25.4, 2: 10.0}.get(unit)
    return (across / per_unit, down / per_unit) if per_unit and across and down else None


def _to_marker(file: BinaryIO) -> tuple[int, bytes]:
    """(bytes in front of the next marker that belong to nothing, the marker); as libjpeg skips them."""
    skipped = 0
    byte = file.read(1)
    while byte:
        while byte and byte != b"\xff":
            skipped += 1
            byte = file.read(1)
        while byte == b"\xff":
            byte = file.read(1)
        if byte != b"\0":
            break
        skipped += 2  # a 255 among pixels
        byte = file.read(1)
    return skipped, byte


def _edited(size: int, edits: list[tuple[int, int, bytes]]) -> Iterator[Piece]:
    position = 0
    for start, cut, put in edits:
        yield Piece(position, start - position)
        yield Piece(data=put)
        position = start + cut
    yield Piece(position, size - position)
