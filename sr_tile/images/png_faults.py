"""What is wrong with a PNG that libpng refuses, in words, and what of it costs no pixels: libvips tells no reasons.

Layout: Portable Network Graphics (Third Edition), W3C 2025, sections 5 and 11.2.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from sr_tile.images.png_chunks import SIGNATURE
from sr_tile.images.virtual_file import Piece

_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # by colour type
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""Of interlacing: the first row and column of each pass, and its steps."""
_BLOCK = 2**20


@dataclass
class PngFaults:
    """Faults of a PNG.

    Attributes:
        fault: the first that costs pixels, or why nothing can be read; None where there is none.
        pieces: of the file with the right checksums, where only those of its pixels are wrong; else empty.
    """

    fault: str | None = None
    pieces: list[Piece] = field(default_factory=list)


def find_faults(path: Path) -> PngFaults:
    """Read a whole PNG for what is wrong with it: for files that have failed already."""
    edits: list[tuple[int, bytes]] = []
    with path.open("rb") as file:
        try:
            _check(file, path.stat().st_size, edits)
        except ValueError as error:
            return PngFaults(str(error))
    found, position = PngFaults(), 0
    for start, right in edits:
        found.pieces += [Piece(position, start - position), Piece(data=right)]
        position = start + len(right)
    if edits:
        found.pieces.append(Piece(position, path.stat().st_size - position))
    return found


def _check(file: BinaryIO, size: int, edits: list[tuple[int, bytes]]) -> None:
    """Raises ValueError at the first real fault; notes wrong checksums of pixels."""
    pixels = zlib.decompressobj()
    kinds: list[bytes] = []
    expected = found = 0
    for kind, start, length in _chunks(file, size):
        if not kinds and kind != b"IHDR":
            raise ValueError(f"it begins with {_name(kind)} in place of IHDR")
        check, body = zlib.crc32(kind), b""
        for block in _blocks(file, length):
            check = zlib.crc32(block, check)
            body = body or block
            if kind == b"IDAT":
                found += _inflate(pixels, block)
        right = struct.pack(">I", check)
        if file.read(4) != right and kind in _CRITICAL[:3]:
            if kind != b"IDAT":
                raise ValueError(f"the checksum of {_name(kind)} is wrong")
            edits.append((start + length, right))
        if kind == b"IDAT" and b"IDAT" in kinds and kinds[-1] != b"IDAT":
            raise ValueError("other chunks lie between its IDAT chunks")
        if kind not in _CRITICAL and not kind[0] & 0x20:
            raise ValueError(f"it needs the chunk {_name(kind)}, which nobody knows")
        if kind == b"IHDR":
            expected = _check_header(body)
        kinds.append(kind)
    if b"IDAT" not in kinds:
        raise ValueError("it has no pixels (no IDAT chunk)")
    if found < expected:
        raise ValueError(f"its pixels end after {found} of {expected} bytes")


def _chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, position of the body, its length) up to IEND, or where the file ends behind whole pixels."""
    position = len(SIGNATURE)
    while position + 8 <= size:
        file.seek(position)
        length, kind = struct.unpack(">I4s", file.read(8))
        if not kind.isalpha():
            raise ValueError(f"no chunk begins at byte {position}")
        if position + 12 + length > size:
            raise ValueError(f"it ends within the chunk {_name(kind)} at byte {position}")
        yield kind, position + 8, length
        if kind == b"IEND":
            return
        position += 12 + length


def _blocks(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length > 0:
        block = file.read(min(length, _BLOCK))
        if not block:
            return
        length -= len(block)
        yield block


def _inflate(pixels: "zlib._Decompress", block: bytes) -> int:
    """Bytes of rows in a block."""
    found = 0
    try:
        while block and not pixels.eof:
            found += len(pixels.decompress(block, _BLOCK))
            block = pixels.unconsumed_tail
        return found
    except zlib.error as error:
        raise ValueError(f"its compressed pixels are damaged ({str(error).split(': ')[-1]})") from None


def _check_header(body: bytes) -> int:
    """Bytes of all rows, each with its filter."""
    if len(body) != 13:
        raise ValueError(f"IHDR has {len(body)} bytes in place of 13")
    width, height, depth, colour, method, filtering, interlace = struct.unpack(">IIBBBBB", body)
    if not 0 < width < 2**31 or not 0 < height < 2**31:
        raise ValueError(f"its size is {width} x {height}")
    if colour not in _DEPTHS:
        raise ValueError(f"there is no colour type {colour}")
    if depth not in _DEPTHS[colour]:
        raise ValueError(f"there is no bit depth of {depth} for colour type {colour}")
    if method or filtering or interlace > 1:
        raise ValueError(f"there is no compression {method}, filter {filtering}, interlacing {interlace}")
    pixel = depth * {2: 3, 4: 2, 6: 4}.get(colour, 1)
    total = 0
    for top, left, step_y, step_x in _PASSES if interlace else ((0, 0, 1, 1),):
        rows, columns = -(-max(0, height - top) // step_y), -(-max(0, width - left) // step_x)
        total += rows * (1 + (columns * pixel + 7) // 8) if columns else 0
    return total


def _name(kind: bytes) -> str:
    return kind.decode("latin-1") if kind.isalpha() else repr(kind)
