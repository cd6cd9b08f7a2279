"""XMP packets: what describes the old pixels is made true of the new, and packets that came in parts are joined.

Names: XMP specification, parts 1 and 2; TIFF and EXIF schemas of part 2.
"""

import re
from xml.etree import ElementTree

_ORIENTATION = "tiff:Orientation"
_WIDTHS, _HEIGHTS = ("tiff:ImageWidth", "exif:PixelXDimension"), ("tiff:ImageLength", "exif:PixelYDimension")
_EXTENDED = re.compile(rb"""\s+xmpNote:HasExtendedXMP\s*=\s*("[^"]*"|'[^']*')""")
_EXTENDED_ELEMENT = re.compile(rb"<xmpNote:HasExtendedXMP\s*>[^<]*</xmpNote:HasExtendedXMP\s*>")
_RDF = re.compile(rb"<rdf:RDF[^>]*>(.*)</rdf:RDF\s*>", re.DOTALL)


def for_result(xmp: bytes | None, height: int, width: int) -> bytes | None:
    """A packet for a picture that stands upright and has another size: orientation 1, the new size; all else stays."""
    if xmp is None:
        return None
    values = {_ORIENTATION: 1} | dict.fromkeys(_WIDTHS, width) | dict.fromkeys(_HEIGHTS, height)
    for name, value in values.items():
        number = str(value).encode()
        quoted = name.encode()
        xmp = re.sub(rb"(\s" + quoted + rb"""\s*=\s*)(["'])[^"']*\2""", rb"\g<1>\g<2>" + number + rb"\g<2>", xmp)
        xmp = re.sub(rb"(<" + quoted + rb"\s*>)[^<]*(</" + quoted + rb"\s*>)", rb"\g<1>" + number + rb"\g<2>", xmp)
    return xmp


def merge_extended(main: bytes | None, extended: bytes) -> bytes | None:
    """One packet of a JPEG's main packet and its extended one; None where they cannot be joined."""
    inner = _RDF.search(extended)
    end = (main or b"").rfind(b"</rdf:RDF")
    if inner is None or main is None or end < 0:
        return None
    joined = _EXTENDED_ELEMENT.sub(b"", _EXTENDED.sub(b"", main[:end])) + inner.group(1) + main[end:]
    try:
        ElementTree.fromstring(joined[joined.find(b"<") :].rstrip(b"\0 \r\n"))  # checks, resolves nothing
    except (ElementTree.ParseError, ValueError):
        return None
    return joined
