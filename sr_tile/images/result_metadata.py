"""What libvips does not write beside the pixels: chunks of PNG, segments of JPEG, the transfer curve of an AVIF.

libvips begins its file behind a gap of the length of what is to come; the head of its file then moves to the front, and the
gap between the two is filled. So nothing is copied, however large the file is.

      0      head     head + gap                      end
      |------|--------|---------------------------------|
       head   extras   the rest, where libvips wrote it
"""

import hashlib
import mmap
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from sr_tile.images.avif_boxes import write_cicp
from sr_tile.images.exif import unit_position
from sr_tile.images.formats import FORMATS, ImageInfo
from sr_tile.images.jpeg_segments import EXTENDED_PREFIX, XMP_PREFIX
from sr_tile.images.png_chunks import XMP_KEYWORD, chunk, text_chunk
from sr_tile.images.tiff_directory import entries_at, read_header
from sr_tile.images.tiff_exif import ODD_LAYOUT, without_large_values
from sr_tile.images.xmp import for_result

_MAX_SEGMENT = 65_533
_MAX_EXIF = 65_000  # of libexif 65,534, and libvips adds a few entries
_MAX_XMP_VIPS, _MAX_XMP_SEGMENT = 60_000, 65_502  # what libvips writes into a JPEG, and what a segment holds
_PACKET = re.compile(rb"<x:xmpmeta.*</x:xmpmeta>|<rdf:RDF.*</rdf:RDF>", re.DOTALL)
_PNG_HEAD = 8 + 25  # the signature and IHDR
_GAMMA, _CHROMATICITIES = 45_455, (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)  # of sRGB
_RESOLUTION_UNIT = 296
_ONLY_PIXELS = ("gif", "dzi")
_EXIF = {
    "jpeg": re.compile(rb"Exif\0\0(?=II\*\0|MM\0\*)"),
    "avif": re.compile(rb"Exif\0\0(?=II\*\0|MM\0\*)"),
    "webp": re.compile(rb"EXIF....(?:Exif\0\0)?(?=II\*\0|MM\0\*)", re.DOTALL),
}
_EXTENDED_MAIN = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{guid}"/>'
    "</rdf:RDF></x:xmpmeta>"
)


@dataclass(frozen=True)
class Extras:
    """What goes into a file besides that which libvips writes.

    Attributes:
        gap: bytes that fill the gap.
        exif: for libvips; None: none.
        xmp: the same.
        icc: the same.
        lost: what the format cannot hold, in words.
    """

    gap: bytes = b""
    exif: bytes | None = None
    xmp: bytes | None = None
    icc: bytes | None = None
    lost: tuple[str, ...] = ()


def extras_of(format_name: str, info: ImageInfo) -> Extras:
    """What a file of a format holds of a picture's metadata, and how.

    Args:
        format_name: of the file.
        info: of the picture, or of a frame, in it.
    """
    metadata, name = info.metadata, format_name.upper()
    exif, icc, gap = metadata.exif, metadata.icc, b""
    xmp = for_result(metadata.xmp, info.height, info.width)
    lost = list(_lost_colours(format_name, info))
    # A profile of another colour space than the pixels' makes files that some programs refuse to show.
    if icc is not None and icc[16:20] != _colour_space(format_name, info):
        icc = None
    if exif is not None and len(exif) > _MAX_EXIF:
        lost.append(f"values of its EXIF of {len(exif) // 1000} kB, of which {name} files hold 65 here")
        exif = without_large_values(exif, _MAX_EXIF)
    if format_name == "png":
        gap, xmp = _png(info, xmp, icc), None
    elif format_name == "jpeg":
        gap = b"".join(_comments(metadata.text))
        if xmp is not None and len(xmp) > _MAX_XMP_VIPS:
            gap, xmp = gap + b"".join(_jpeg_xmp(xmp)), None
    elif metadata.text:
        names = ", ".join(dict.fromkeys(keyword for keyword, _ in metadata.text))
        lost.append(f"its text ({names}), which {name} has no place for; PNG and JPEG have")
    if format_name in _ONLY_PIXELS and (exif or xmp):
        lost.append(f"its {' and '.join(what for what, there in (('EXIF', exif), ('XMP', xmp)) if there)} in a {name}")
        exif = xmp = None
    return Extras(gap, exif, xmp, icc, tuple(lost))


def _colour_space(format_name: str, info: ImageInfo) -> bytes:
    return b"GRAY" if info.colours == 1 and FORMATS[format_name].gray else b"RGB "


def _lost_colours(format_name: str, info: ImageInfo) -> Iterator[str]:
    metadata, name, space = info.metadata, format_name.upper(), _colour_space(format_name, info)
    if metadata.icc is not None and metadata.icc[16:20] != space:
        kind = metadata.icc[16:20].decode("latin-1").strip()
        yield f"its {kind} profile, as the result's pixels are {'gray' if space == b'GRAY' else 'RGB'}"
    elif metadata.icc is not None and format_name == "gif":
        yield "its colour profile in a GIF"
    if format_name not in ("png", "avif") and means_more_than_srgb(metadata.cicp):
        yield f"its HDR or wide colours (CICP {metadata.cicp}), which {name} has no place for; PNG and AVIF have"
    elif format_name != "png" and metadata.icc is None and not metadata.cicp and not _is_srgb(metadata.png_colour):
        yield f"its gamma and primaries, which {name} has no place for"


def complete(descriptor: int, format_name: str, info: ImageInfo, extras: Extras, *, lossless: bool) -> None:
    """Finish a file that libvips wrote behind the gap.

    Raises:
        OSError: the disk is full.
    """
    unknown = not (info.metadata.xres and info.metadata.yres)
    size = len(extras.gap)
    if format_name == "png":
        if size:
            os.pwrite(descriptor, os.pread(descriptor, _PNG_HEAD, size) + extras.gap, 0)
        if unknown:
            _forget_png_density(descriptor, _PNG_HEAD + size)
    elif format_name == "jpeg":
        head = os.pread(descriptor, 20, size)
        if head[2:4] == b"\xff\xe0":
            if unknown:
                head = head[:13] + struct.pack(">BHH", 0, 1, 1) + head[18:]
        else:
            head = head[:2]
        os.pwrite(descriptor, head + extras.gap, 0)
    elif format_name == "tiff" and unknown:
        _forget_tiff_density(descriptor)
    elif format_name == "avif" and info.metadata.cicp and means_more_than_srgb(info.metadata.cicp):
        write_cicp(descriptor, *info.metadata.cicp[:2], 0 if lossless else 6)
    if format_name in _EXIF and extras.exif is not None and unknown:
        _forget_exif_density(descriptor, _EXIF[format_name])


def _png(info: ImageInfo, xmp: bytes | None, icc: bytes | None) -> bytes:
    metadata, chunks = info.metadata, []
    if metadata.cicp and means_more_than_srgb(metadata.cicp):
        chunks.append(chunk(b"cICP", bytes([*metadata.cicp[:2], 0, 1])))
    hdr = (b"mDCV", b"cLLI")
    # A profile would win over the others.
    chunks += [chunk(kind, body) for kind, body in metadata.png_colour if icc is None or kind in hdr]
    chunks += [text_chunk(keyword, text) for keyword, text in metadata.text]
    if metadata.iptc:
        digits = metadata.iptc.hex()
        chunks.append(text_chunk("Raw profile type iptc", f"\niptc\n{len(metadata.iptc):8d}\n{digits}\n"))
    if xmp is not None:
        chunks.append(text_chunk(XMP_KEYWORD, xmp.decode("utf-8", "surrogateescape")))
    return b"".join(chunks)


def _comments(texts: tuple[tuple[str, str], ...]) -> list[bytes]:
    bodies = [text if keyword == "Comment" else f"{keyword}: {text}" for keyword, text in texts]
    raw = [body.encode("utf-8", "surrogateescape") for body in bodies]
    # A longer one goes on in the next segment.
    parts = [body[start : start + _MAX_SEGMENT] for body in raw for start in range(0, len(body), _MAX_SEGMENT)]
    return [b"\xff\xfe" + struct.pack(">H", len(part) + 2) + part for part in parts]


def _jpeg_xmp(xmp: bytes) -> Iterator[bytes]:
    """One segment where that holds it; else a short one that names the others (XMP specification, part 3, 1.1.3)."""
    if len(xmp) <= _MAX_XMP_SEGMENT:
        yield _segment(XMP_PREFIX + xmp)
        return
    packet = _PACKET.search(xmp)  # without its wrapper
    xmp = packet.group() if packet else xmp
    guid = hashlib.md5(xmp, usedforsecurity=False).hexdigest().upper()
    yield _segment(XMP_PREFIX + _EXTENDED_MAIN.format(guid=guid).encode())
    step = _MAX_SEGMENT - len(EXTENDED_PREFIX) - 40
    for start in range(0, len(xmp), step):
        head = EXTENDED_PREFIX + guid.encode() + struct.pack(">II", len(xmp), start)
        yield _segment(head + xmp[start : start + step])


def _segment(body: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def means_more_than_srgb(cicp: tuple[int, int, int, int] | None) -> bool:
    """Whether the numbers say other colours than those that are taken where nothing is said."""
    return cicp is not None and not (cicp[0] in (1, 2) and cicp[1] in (1, 2, 6, 13))


def _is_srgb(colour: tuple[tuple[bytes, bytes], ...]) -> bool:
    chunks = dict(colour)
    if b"sRGB" in chunks:
        return True
    gamma = struct.unpack(">I", chunks.get(b"gAMA", struct.pack(">I", _GAMMA)))[0]
    whites = struct.unpack(">8I", chunks.get(b"cHRM", struct.pack(">8I", *_CHROMATICITIES)))
    near = all(abs(one - other) <= 100 for one, other in zip(whites, _CHROMATICITIES, strict=True))
    return near and abs(gamma - _GAMMA) <= 500


def _forget_png_density(descriptor: int, position: int) -> None:
    """Square pixels of no size in place of those that libvips writes."""
    while len(head := os.pread(descriptor, 8, position)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind in (b"IDAT", b"IEND"):
            return
        if kind == b"pHYs":
            os.pwrite(descriptor, chunk(kind, struct.pack(">IIB", 1, 1, 0)), position)
        elif kind == b"eXIf" and (found := unit_position(exif := os.pread(descriptor, size, position + 8))):
            at, unit = found
            os.pwrite(descriptor, chunk(kind, exif[:at] + unit + exif[at + 2 :]), position)
        position += 12 + size


def _forget_exif_density(descriptor: int, pattern: re.Pattern[bytes]) -> None:
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
        for match in pattern.finditer(data):
            if found := unit_position(data[match.end() : match.end() + 2 * _MAX_EXIF]):
                os.pwrite(descriptor, found[1], match.end() + found[0])
                return


def _forget_tiff_density(descriptor: int) -> None:
    with open(descriptor, "r+b", closefd=False) as file:
        try:
            layout, position = read_header(file)
            own = entries_at(file, position, layout)
        except ODD_LAYOUT:
            return
        for start in range(0, len(own), layout.entry.size):
            if struct.unpack_from(layout.order + "H", own, start)[0] == _RESOLUTION_UNIT:
                at = position + layout.count.size + start + layout.entry.size - layout.offset.size
                file.seek(at)
                file.write(struct.pack(layout.order + "H", 1))
