"""What stands in the chunks of a PNG beside its pixels: no pixels, no libvips.

Layout: Portable Network Graphics (Third Edition), W3C 2025; "Raw profile type" is how ImageMagick and Exiv2 kept EXIF, XMP
and IPTC before PNG had a place for them.
"""

import binascii
import contextlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD = "XML:com.adobe.xmp"
_COLOUR = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"mDCV": 24, b"cLLI": 8}
"""Chunks of colour and brightness, by their bytes; of cICP more is asked."""
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_KEPT = (*_COLOUR, *_TEXT, b"cICP", b"iCCP", b"eXIf", b"acTL", b"pHYs")
_MAX_CHUNK = 2**25
_MAX_TEXT = 2**25  # what a compressed text may grow to
_RAW = "Raw profile type "


@dataclass
class PngHeader:
    """Metadata of a PNG.

    Attributes:
        exif: without "Exif" in front.
        xmp: as iTXt, or of a raw profile.
        iptc: of a raw profile.
        cicp: the four numbers.
        profile: colour space of the ICC profile, such as `RGB` or `GRAY`; empty where that cannot be read, None without one.
        colour: chunks gAMA, cHRM, sRGB, mDCV and cLLI as they are.
        text: (keyword, text), in their order.
        frames: of an animation; 0 where there is none.
        has_density: pixels per metre are given.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    cicp: tuple[int, int, int, int] | None = None
    profile: str | None = None
    colour: tuple[tuple[bytes, bytes], ...] = ()
    text: list[tuple[str, str]] = field(default_factory=list)
    frames: int = 0
    has_density: bool = False


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def chunks_of(png: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """(kind, body) of a whole file's chunks."""
    png.seek(len(SIGNATURE))
    while len(head := png.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        yield kind, png.read(size)
        png.seek(4, 1)


def text_chunk(keyword: str, text: str) -> bytes:
    """A text, in Latin-1 where that holds it, as UTF-8 otherwise."""
    key = keyword.encode("latin-1", "replace")[:79]
    try:
        if keyword != XMP_KEYWORD:  # which the specification of XMP wants as iTXt
            return chunk(b"tEXt", key + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        pass
    return chunk(b"iTXt", key + b"\0\0\0\0\0" + text.encode("utf-8", "surrogateescape"))


def read_png(path: Path) -> PngHeader:
    """All that there is, before and behind the pixels; what is damaged is left out."""
    found = PngHeader()
    with path.open("rb") as file:
        file.seek(len(SIGNATURE))
        while len(head := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", head)
            if kind == b"IEND":
                break
            if kind in _KEPT and size <= _MAX_CHUNK:
                body = file.read(size)
                check = file.read(4)
                if len(check) == 4 and struct.unpack(">I", check)[0] == zlib.crc32(body, zlib.crc32(kind)):
                    with contextlib.suppress(ValueError, IndexError, struct.error, zlib.error):
                        _take(found, kind, body)
            else:
                file.seek(size + 4, 1)
    return found


def _take(found: PngHeader, kind: bytes, body: bytes) -> None:
    if len(body) == _COLOUR.get(kind):
        found.colour = (*found.colour, (kind, body))
    elif kind == b"cICP" and len(body) == 4:
        found.cicp = (body[0], body[1], body[2], body[3])
    elif kind == b"iCCP":
        found.profile = ""
        found.profile = (
            zlib.decompressobj().decompress(body[body.index(b"\0") + 2 :], 128)[16:20].decode("latin-1").strip(" \0")
        )
    elif kind == b"eXIf":
        found.exif = body
    elif kind == b"acTL":
        frames = struct.unpack(">I", body[:4])[0]
        found.frames = frames if frames < 2**31 else 0  # more are a fault, for which browsers show a still picture
    elif kind == b"pHYs":
        found.has_density = len(body) == 9 and body[8] == 1
    elif kind in _TEXT:
        for keyword, text in _texts(kind, body):
            _take_text(found, keyword, text)


def _texts(kind: bytes, body: bytes) -> Iterator[tuple[str, str]]:
    key, _, rest = body.partition(b"\0")
    keyword = key.decode("latin-1")
    if kind == b"tEXt":
        yield keyword, rest.decode("latin-1")
    elif kind == b"zTXt":
        yield keyword, _inflate(rest[1:]).decode("latin-1")
    else:
        compressed = rest[0] == 1
        _, _, rest = rest[2:].partition(b"\0")  # the language, then the keyword in that language
        _, _, rest = rest.partition(b"\0")
        yield keyword, (_inflate(rest) if compressed else rest).decode("utf-8", "surrogateescape")


def _take_text(found: PngHeader, keyword: str, text: str) -> None:
    if keyword == XMP_KEYWORD:
        found.xmp = found.xmp or text.encode("utf-8", "surrogateescape")
    elif keyword.startswith(_RAW):
        name = keyword.removeprefix(_RAW).lower()
        block = _raw_profile(text)
        if name in ("exif", "app1") and block.startswith(b"Exif\0\0"):
            found.exif = found.exif or block[6:]
        elif name == "exif":
            found.exif = found.exif or block
        elif name == "xmp" or (name == "app1" and b"<x:xmpmeta" in block):
            found.xmp = found.xmp or block[max(0, block.find(b"<")) :]
        elif name == "iptc":
            found.iptc = found.iptc or block
    else:
        found.text.append((keyword, text))


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, _MAX_TEXT)
    if inflater.unconsumed_tail:
        raise ValueError("a text that is too long")
    return text


def _raw_profile(text: str) -> bytes:
    """The block of a profile: a name, its length, and hexadecimal digits in lines."""
    _, length, digits = text.strip().split(None, 2)
    return binascii.unhexlify("".join(digits.split()))[: int(length)]
