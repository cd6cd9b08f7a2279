"""What a file is, by its first bytes: the formats that are read, and names for those that are not."""

from pathlib import Path

from sr_tile.images.formats import FILES

READ_ONLY = {
    "bmp": (".bmp", ".dib"),
    "pnm": (".ppm", ".pgm", ".pbm", ".pnm"),
    "tga": (".tga",),
    "jpeg2000": (".jp2", ".j2k", ".jpf", ".jpx", ".j2c"),
    "qoi": (".qoi",),
    "ico": (".ico", ".cur"),
    "icns": (".icns",),
    "pcx": (".pcx",),
    "sgi": (".sgi",),
    "sun": (".ras", ".sun"),
    "dds": (".dds",),
    "psd": (".psd",),
    "heic": (".heic", ".heif", ".hif"),
    "raw": (
        ".dng",
        ".cr2",
        ".cr3",
        ".nef",
        ".nrw",
        ".arw",
        ".sr2",
        ".raf",
        ".orf",
        ".rw2",
        ".pef",
        ".srw",
        ".3fr",
        ".iiq",
    ),
}
"""Formats that are read and not written, with their suffixes; their results are PNGs where nothing else is asked for."""

READABLE_SUFFIXES = frozenset(
    suffix for suffixes in (*(kind.suffixes for kind in FILES.values()), *READ_ONLY.values()) for suffix in suffixes
)
"""What a folder scan picks up, in lower case; a single file is opened by its content, whatever its name."""

FILM_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".nut")
"""Films that are read and written."""

READ_ONLY_FILM_SUFFIXES = (
    ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv", ".flv", ".ogv", ".3gp", ".vob", ".mxf", ".y4m",
)  # fmt: skip
"""Films that are read; their results are Matroska, which holds any sound, where nothing else is asked for."""

_MARKS = {
    b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"II*\0": "tiff", b"MM\0*": "tiff", b"II+\0": "tiff",
    b"MM\0+": "tiff", b"GIF87a": "gif", b"GIF89a": "gif", b"qoif": "qoi", b"\xff\x4f\xff\x51": "jpeg2000",
    b"\0\0\0\x0cjP  \r\n\x87\n": "jpeg2000", b"\x01\xda": "sgi", b"\x59\xa6\x6a\x95": "sun", b"DDS ": "dds",
    b"8BPS": "psd", b"icns": "icns",
}  # fmt: skip
_HEIC = (b"heic", b"heix", b"heim", b"heis")
_RAW = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")  # of Fujifilm, Olympus, Panasonic; others are TIFFs
_OTHERS = {
    b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cJXL ": "JPEG XL", b"%PDF": "PDF", b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR", b"#?RGBE": "Radiance HDR",
    b"SIMPLE  =": "FITS", b"%!PS": "PostScript", b"\xc5\xd0\xd3\xc6": "EPS", b"<svg": "SVG", b"\x8aMNG": "MNG",
    b"\x8bJNG": "JNG", b"\xd7\xcd\xc6\x9a": "WMF", b"\1\0\0\0": "EMF",
    b"PK\x03\x04": "a ZIP archive", b"\x1f\x8b": "a gzip archive", b"gimp xcf": "XCF", b"PF\n": "PFM", b"Pf\n": "PFM",
    b"P7\n": "PAM", b"BLP1": "BLP", b"BLP2": "BLP", b"FORM": "IFF", b"\x1aE\xdf\xa3": "a film",
    b"\x49\x49\xbc": "JPEG XR", b"farbfeld": "farbfeld", b"BPG\xfb": "BPG", b"/* XPM": "XPM", b"#define": "XBM",
    b"Image type": "IM", b"DanM": "MSP", b"LinS": "MSP", b"\x80\xe8\0\0": "PIXAR", b"\xb1\x68\xde\x3a": "DCX",
    b"n\xc3\xafE": "NIE", b"n\xc3\xafA": "NIE", b"\x5c\1\0\0": "NIfTI", b"\0\0\1\x5c": "NIfTI",
    b"\xd0\xcf\x11\xe0": "an OLE document",
}  # fmt: skip
_AT = {(4, b"\x11\xaf"): "FLI", (4, b"\x12\xaf"): "FLC", (20, b"GIMP"): "a GIMP brush", (128, b"DICM"): "DICOM"}
"""By their place, what is not marked by its first bytes."""


def format_by_content(head: bytes) -> str | None:
    """Name of the format of a file by its first 64 bytes; None for what is not read, and for TGA, which nothing marks."""
    if head[4:8] == b"ftyp":
        brand, others = head[8:12], head[16 : int.from_bytes(head[:4])]
        if brand in _HEIC or (brand == b"mif1" and b"heic" in others and b"avif" not in others):
            return "heic"
        if brand == b"crx ":
            return "raw"
        return "avif" if brand in (b"avif", b"avis", b"mif1", b"miaf", b"msf1") else None
    if head.startswith(_RAW):
        return "raw"
    if head[:4] == b"RIFF":
        return "webp" if head[8:12] == b"WEBP" else None
    if head[:2] == b"BM" and len(head) >= 14:
        return "bmp"
    if head[:2] == b"\0\0" and head[2:4] in (b"\1\0", b"\2\0") and head[4:6] != b"\0\0" and head[9:10] == b"\0":
        return "ico"  # a TGA may begin with the same four bytes
    if head[:1] == b"\x0a" and head[1:2] in b"\0\2\3\5" and head[2:3] == b"\1" and head[3:4] in b"\1\2\4\x08":
        return "pcx"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "pnm"
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)


def describe_content(head: bytes) -> str | None:
    """What a file is that is not read, by its first 64 bytes: `HEIC`, `PDF`; None where that is unknown."""
    if head[4:8] == b"ftyp":
        return "a film"
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"WAVE"):
        return "a film" if head[8:12] == b"AVI " else "sound"
    if head.lstrip()[:5] in (b"<?xml", b"<!DOC", b"<html"):
        return "SVG" if b"<svg" in head else "a text in XML or HTML"
    if b"IHDR" in head[8:24]:
        return "a PNG whose first bytes are damaged (by a transfer as text?)"
    marked = (name for (start, mark), name in _AT.items() if head[start:].startswith(mark))
    return next(marked, None) or next((name for mark, name in _OTHERS.items() if head.startswith(mark)), None)


def suffix_for_result(suffix: str) -> str:
    """The suffix that a result keeps; `.png` or `.mkv` where its source is of a format that is only read."""
    if suffix.lower() in READ_ONLY_FILM_SUFFIXES:
        return ".mkv"
    return ".png" if any(suffix.lower() in suffixes for suffixes in READ_ONLY.values()) else suffix


CHOOSE_PAGE = "choose one with --pages 1, or "
"""Advice that servers and their clients leave out: they take files of one picture."""


def several(path: Path, count: int | str = "several") -> str:
    """What is said of a file of several pictures where one is wanted."""
    return f"{path}: holds {count} pages or frames, where one picture is wanted: {CHOOSE_PAGE}split it"
