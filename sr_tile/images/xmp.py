"""XMP packets: what describes the old pixels is made true of the new, and packets that came in parts are joined.

Names: XMP specification, parts 1 and 2; TIFF and EXIF schemas of part 2.
"""

import re
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from sr_tile.errors import printable

_TIFF, _EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
_WIDTHS, _HEIGHTS = (
    ((_TIFF, "ImageWidth"), (_EXIF, "PixelXDimension")),
    ((_TIFF, "ImageLength"), (_EXIF, "PixelYDimension")),
)
_CODECS = {
    "utf-32": (b"\xff\xfe\0\0", b"\0\0\xfe\xff"), "utf-16": (b"\xff\xfe", b"\xfe\xff"),
    "utf-32-le": (b"<\0\0\0",), "utf-16-le": (b"<\0",), "utf-16-be": (b"\0<",), "utf-32-be": (b"\0\0\0<",),
}  # fmt: skip
_EXTENDED = re.compile(rb"""\s+xmpNote:HasExtendedXMP\s*=\s*("[^"]*"|'[^']*')""")
_EXTENDED_ELEMENT = re.compile(rb"<xmpNote:HasExtendedXMP\s*>[^<]*</xmpNote:HasExtendedXMP\s*>")
_EMPTY = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b"</rdf:RDF></x:xmpmeta>"
)
_EVENT = (
    '<rdf:li rdf:parseType="Resource" xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#">'
    "<stEvt:action>converted</stEvt:action><stEvt:softwareAgent>sr-tile</stEvt:softwareAgent>"
    "<stEvt:parameters>{}</stEvt:parameters></rdf:li>"
)
_HISTORY = (
    '<rdf:Description rdf:about="" xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"><xmpMM:History><rdf:Seq>{}</rdf:Seq>'
    "</xmpMM:History></rdf:Description>"
)
_LAST_EVENT = re.compile(rb"</rdf:Seq>\s*</xmpMM:History>")
_RDF = re.compile(rb"<rdf:RDF[^>]*>(.*)</rdf:RDF\s*>", re.DOTALL)


def for_result(xmp: bytes | None, height: int, width: int) -> bytes | None:
    """A packet for a picture that stands upright and has another size: orientation 1, the new size; all else stays."""
    if xmp is None:
        return None
    xmp = _in_utf8(xmp)
    values = {(_TIFF, "Orientation"): 1} | dict.fromkeys(_WIDTHS, width) | dict.fromkeys(_HEIGHTS, height)
    for (space, name), value in values.items():
        for prefix in _prefixes(xmp, space.encode()):
            quoted, number = prefix + name.encode(), str(value).encode()
            if prefix:
                xmp = re.sub(
                    rb"(\s" + quoted + rb"""\s*=\s*)(["'])[^"']*\2""", rb"\g<1>\g<2>" + number + rb"\g<2>", xmp
                )
            xmp = re.sub(
                rb"(<" + quoted + rb"(\s[^<>]*)?>)[^<]*(</" + quoted + rb"\s*>)", rb"\g<1>" + number + rb"\g<3>", xmp
            )
    return xmp


def with_history(xmp: bytes | None, what: str) -> bytes:
    """A packet with one more event in its history (xmpMM:History): that sr-tile did `what`, in words.

    One that is damaged stays as it is.
    """
    packet, event = _in_utf8(xmp or _EMPTY), _EVENT.format(escape(printable(what))).encode()
    place = _LAST_EVENT.search(packet)
    end = place.start() if place else packet.rfind(b"</rdf:RDF")
    added = event if place else _HISTORY.format(event.decode()).encode()
    joined = packet[:end] + added + packet[end:]
    return joined if end >= 0 and _is_sound(joined) else packet


def _in_utf8(xmp: bytes) -> bytes:
    """XMP may be of UTF-16 and UTF-32 as well, with a mark of its byte order or without."""
    start = xmp[:4]
    for codec, marks in _CODECS.items():
        if start.startswith(marks):
            try:
                return xmp.decode(codec).encode()
            except UnicodeDecodeError:
                return xmp
    return xmp


def _prefixes(xmp: bytes, space: bytes) -> set[bytes]:
    """What names of a space begin with: `tiff:`; nothing where it is the default."""
    found = re.findall(rb"""\sxmlns(?::([\w.-]+))?\s*=\s*["']""" + re.escape(space) + rb"""["']""", xmp)
    return {re.escape(prefix) + b":" if prefix else b"" for prefix in found}


def merge_extended(main: bytes | None, extended: bytes) -> bytes | None:
    """One packet of a JPEG's main packet and its extended one; None where they cannot be joined."""
    inner = _RDF.search(extended)
    end = (main or b"").rfind(b"</rdf:RDF")
    if inner is None or main is None or end < 0:
        return None
    joined = _EXTENDED_ELEMENT.sub(b"", _EXTENDED.sub(b"", main[:end])) + inner.group(1) + main[end:]
    return joined if _is_sound(joined) else None


def _is_sound(packet: bytes) -> bool:
    try:
        ElementTree.fromstring(packet[packet.find(b"<") :].rstrip(b"\0 \r\n"))  # checks, resolves nothing
    except (ElementTree.ParseError, ValueError):
        return False
    return True
