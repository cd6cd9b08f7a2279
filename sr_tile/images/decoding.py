"""A file to an image of libvips and what stands beside its pixels: one way for the command line, the server, the viewer.

What a file is, its content says; each format has its one loader. Faults that cost no pixels are taken out on the way in,
and named; everything that libvips then still warns about is damage, and refused.
"""

import functools
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sr_tile.errors import ImageReadError
from sr_tile.images import pillow_decoder
from sr_tile.images.avif_boxes import AvifHeader, read_avif, with_bytes
from sr_tile.images.camera_files import DEVELOPMENT, decode_heic, decode_raw
from sr_tile.images.colour_models import from_cmyk
from sr_tile.images.content_type import READ_ONLY, describe_content, format_by_content, several
from sr_tile.images.decoded import Decoded, forgiven, load, metadata_of, set_field, whole_image
from sr_tile.images.exif import exif_orientation
from sr_tile.images.formats import FILES, Metadata
from sr_tile.images.jpeg_segments import is_harmless, read_jpeg
from sr_tile.images.png_chunks import read_png
from sr_tile.images.png_faults import find_faults
from sr_tile.images.tiff_decoding import open_tiff
from sr_tile.images.vips import field_of
from sr_tile.images.xmp import merge_extended
from sr_tile.system.plain_file import open_plain

MAX_PIXELS = 2**34
"""More pixels than this are taken for a damaged header (or an attack), and refused before anything is decoded."""

_CHANNELS = {
    "b-w": (1, 2),
    "grey16": (1, 2),
    "srgb": (3, 4),
    "rgb16": (3, 4),
    "rgb": (3, 4),
    "scrgb": (3, 4),
    "cmyk": (4,),
}


def open_image(path: Path, *, lenient: bool = False, page: int | None = None) -> Decoded:
    """Open a file by its content.

    Args:
        path: of the file.
        lenient: take what costs no pixels, see `Decoded.harmless`.
        page: of a TIFF with several, from 0; None takes a file of one only.

    Raises:
        ImageReadError: it is no image, of a format, kind or size that is not supported, or holds several.
        pyvips.Error: it is damaged.
        OSError: it cannot be opened.
    """
    kind = kind_of_file(path)
    opener = _OPENERS.get(kind, _open_whole)
    if kind == "tiff":
        opener = functools.partial(open_tiff, page=page)
    decoded = opener(path, kind, "sequential", lenient)
    _check(path, decoded, page)
    turned = kind in _OPENERS and field_of(decoded.image, "orientation") in range(3, 9)
    if turned:
        # Rows of the turned image come from all over the file.
        decoded = opener(path, kind, "random", lenient)
    decoded.whole_bytes = _whole_bytes(decoded, turned)
    decoded.image = decoded.image.autorot()
    if decoded.image.interpretation == "cmyk":
        decoded.notes.append("CMYK is converted to sRGB")
        decoded.image = from_cmyk(decoded.image)
    return decoded


def _whole_bytes(decoded: Decoded, turned: bool) -> int:
    """What libraries take that decode an image as a whole, measured on photographs of 17 megapixels, by the header alone."""
    image = decoded.image
    pixels, sample = image.width * image.height, image.bands * (1 if image.format == "uchar" else 2)
    bytes_per_pixel = {"webp": 8, "avif": 16 if image.format == "uchar" else 20}.get(decoded.kind, 0)
    if decoded.whole:
        bytes_per_pixel = 2 * sample
    elif field_of(image, "interlaced") or field_of(image, "jpeg-multiscan"):
        bytes_per_pixel = 2 * image.bands if decoded.kind == "jpeg" else sample
    # libvips keeps a turned image in memory, or above 100 MB in a file.
    return int(bytes_per_pixel * pixels + (min(sample * pixels, 100 * 2**20) if turned else 0))


def first_bytes(path: Path) -> bytes:
    """Of a file, by which its format is known.

    Raises:
        ImageReadError: it is empty, or no file.
        OSError: it cannot be opened.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ImageReadError(f"{path}: not a file: give the path of one image")
    with open_plain(path) as file:
        head = file.read(132)
    if not head:
        raise ImageReadError(f"{path}: the file is empty (0 bytes)")
    return head


def kind_of_file(path: Path) -> str:
    """Name of the format of a file, by its content.

    Raises:
        ImageReadError: it is none that is read.
        OSError: it cannot be opened.
    """
    head, suffix = first_bytes(path), path.suffix.lower()
    kind = format_by_content(head[:64])
    if kind is None:  # nothing in such a file says what it is
        kind = "tga" if suffix == ".tga" else "bmp" if suffix == ".dib" else None
    if kind == "tiff" and suffix in READ_ONLY["raw"]:  # most raw files are TIFFs, of a mosaic and a preview
        kind = "raw"
    if kind is None:
        convert = f"convert it to {', '.join(name.upper() for name in FILES)}"
        what = describe_content(head)
        raise ImageReadError(
            f"{path}: {f'{what} is not supported' if what else 'not an image of a known format'}: {convert}"
        )
    return kind


def _open_png(path: Path, kind: str, access: str, lenient: bool) -> Decoded:
    header = read_png(path)
    if header.frames > 1:
        raise ImageReadError(several(path, header.frames))
    image, source = load(path, kind, access, find_faults(path).pieces if lenient else ())
    image = image.copy()
    exif = b"Exif\0\0" + header.exif if header.exif else None
    set_field(image, "orientation", exif_orientation(exif))
    metadata = metadata_of(image, header.has_density, exif=exif, xmp=header.xmp, iptc=header.iptc)
    metadata = replace(metadata, cicp=header.cicp, png_colour=header.colour, text=tuple(header.text))
    notes = []
    if header.profile is not None and metadata.icc is None:  # libpng drops it without a word
        own = "RGB" if image.bands > 2 else "gray"
        fits = header.profile.upper() in ("", own.upper())
        notes.append(
            "its colour profile is damaged and left out"
            if fits
            else f"its {header.profile} profile is left out, as its pixels are {own}"
        )
    decoded = Decoded(image, kind, metadata, notes, lenient=lenient, keep=[source])
    decoded.harmless = lambda reason: "wrong checksums of its pixels" if find_faults(path).pieces else None
    return decoded


def _open_jpeg(path: Path, kind: str, access: str, lenient: bool) -> Decoded:
    header = read_jpeg(path)
    image, source = load(path, kind, access, header.pieces, "error" if lenient else "warning")
    metadata = metadata_of(image, False, xmp=header.xmp)
    if not metadata.xres and header.density:  # libvips takes the 72 that libexif makes up for an EXIF without
        metadata = replace(metadata, xres=header.density[0], yres=header.density[1])
    notes = forgiven(header.oddities)
    if header.gain_map:
        notes.append("its gain map is left out; the picture for SDR displays is taken")
    if header.extended_xmp:
        merged = merge_extended(metadata.xmp, header.extended_xmp)
        metadata = replace(metadata, xmp=merged or metadata.xmp)
        if merged is None:
            notes.append("its extended XMP cannot be understood and is left out")
    comments = [comment.rstrip(b"\0").decode("utf-8", "surrogateescape") for comment in header.comments]
    metadata = replace(metadata, text=tuple(("Comment", text) for text in comments if text))
    decoded = Decoded(image, kind, metadata, notes, lenient=lenient, keep=[source])
    decoded.harmless = lambda reason: reason if is_harmless(reason) else None
    decoded.explain = lambda reason: _other_jpeg(header.bits, reason)
    return decoded


def _other_jpeg(bits: int, reason: str) -> str | None:
    if bits != 8:
        return f"JPEG of {bits} bits a channel is not supported: convert it to a 16-bit PNG or TIFF"
    return f"this variant of JPEG is not supported ({reason}): convert it to PNG" if "nsupported" in reason else None


def _open_webp(path: Path, kind: str, access: str, lenient: bool) -> Decoded:
    image, source = load(path, kind, access)
    return Decoded(image, kind, metadata_of(image, False), keep=[source])


def _open_avif(path: Path, kind: str, access: str, lenient: bool) -> Decoded:
    header: AvifHeader = read_avif(path)
    if header.sequence:
        raise ImageReadError(several(path))
    pieces = header.pieces(path.stat().st_size)
    image, source = load(path, kind, access, pieces)
    notes = []
    pages, primary = field_of(image, "n-pages") or 1, field_of(image, "heif-primary") or 0
    if pages > 1:
        image, source = load(path, kind, access, pieces, page=primary)
        image = image.copy()
        set_field(image, "n-pages", 1)
        notes.append(f"holds {pages} pictures; the primary one is taken, as browsers do")
    metadata = replace(metadata_of(image, False), cicp=header.cicp)
    bits = field_of(image, "heif-bitdepth") or field_of(image, "bits-per-sample") or 16
    return Decoded(
        image,
        kind,
        metadata,
        notes,
        bits=bits if 8 < bits < 16 else 16,
        narrow=header.needs_range,
        keep=[source],
        verify=functools.partial(_decode_tiles, path, header),
    )


def _decode_tiles(path: Path, header: AvifHeader) -> None:
    """Decode each tile of a grid by itself: libheif leaves one that is damaged black or green, and says nothing.

    Raises:
        pyvips.Error: one cannot be decoded.
    """
    for changes in header.tiles:
        pieces = with_bytes(changes, path.stat().st_size)
        image, _ = load(path, "avif", "sequential", pieces)
        image, source = load(path, "avif", "sequential", pieces, page=field_of(image, "heif-primary") or 0)
        image.avg()
        del source  # not before


def _open_whole(path: Path, kind: str, access: str, lenient: bool) -> Decoded:
    decode = _WHOLE.get(kind)
    image_hwc, info = decode(path) if decode else pillow_decoder.decode(path, kind)
    image = whole_image(image_hwc)
    comment = info.get("comment")
    text = comment.decode("utf-8", "surrogateescape") if isinstance(comment, bytes) else comment
    icc = info.get("icc_profile")
    blobs: dict[str, Any] = {key: info.get(key) or None for key in ("exif", "xmp")} if decode else {}
    metadata = Metadata(icc=icc or None, text=(("Comment", text),) if text else (), **blobs)
    notes = [_LEFT_OUT[kind]] if kind == "raw" or info.get("parts", 1) > 1 else []
    return Decoded(image, kind, metadata, notes, whole=True)


_LARGEST = "the largest of its pictures is taken"
_LEFT_OUT = {
    "raw": DEVELOPMENT,
    "ico": _LARGEST,
    "icns": _LARGEST,
    "psd": "the flattened picture is taken, without layers",
}
_WHOLE = {"heic": decode_heic, "raw": decode_raw}
_OPENERS: dict[str, Callable[[Path, str, str, bool], Decoded]] = {
    "png": _open_png, "jpeg": _open_jpeg, "tiff": open_tiff, "webp": _open_webp, "avif": _open_avif,
}  # fmt: skip


def _check(path: Path, decoded: Decoded, page: int | None) -> None:
    """Refuse by the header what would be read wrongly, or with a part left out."""
    image = decoded.image
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height}"
        raise ImageReadError(f"{path}: {size} pixels are more than {MAX_PIXELS}: cut the image into parts")
    pages = field_of(image, "n-pages") or 1
    if pages > 1 and page is None:
        raise ImageReadError(several(path, pages))
    if image.format not in ("uchar", "ushort", "float"):
        raise ImageReadError(
            f"{path}: {image.format} pixels, only integers of 8 and 16 bits and floats of 16 and 32 are supported: convert"
        )
    if image.bands not in _CHANNELS.get(image.interpretation, ()):
        what = f"{image.bands} channels of {image.interpretation}"
        raise ImageReadError(
            f"{path}: {what}, only gray, RGB (each with or without alpha) and CMYK are supported: save it as one of these"
        )
