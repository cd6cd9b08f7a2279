"""Formats that libvips' wheels do not read, and are small: decoded whole, by Pillow but for a few BMPs."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from sr_tile.errors import ImageReadError
from sr_tile.images import bmp_variants
from sr_tile.images.content_type import several
from sr_tile.system.plain_file import open_plain

NEXT = "copy it again, or save it anew in an image editor"
MAX_PIXELS = 2**27
"""More than these are not decoded: the whole image lies in memory."""
_HEADER = 2**16  # bytes of a PNM that hold its size, comments included
_NAMES = {
    "bmp": ("BMP", "DIB"),
    "pnm": ("PPM",),
    "tga": ("TGA",),
    "jpeg2000": ("JPEG2000",),
    "gif": ("GIF",),
    "qoi": ("QOI",),
    "tiff": ("TIFF",),
    "ico": ("ICO", "CUR"),
    "icns": ("ICNS",),
    "pcx": ("PCX",),
    "sgi": ("SGI",),
    "sun": ("SUN",),
    "dds": ("DDS",),
    "psd": ("PSD",),
}
_SIXTEEN = {"I;16", "I;16L", "I;16B", "I;16N"}
_PLAIN = {"L", "LA", "RGB", "RGBA"}


def decode(path: Path, kind: str, frame: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
    """Pixels and Pillow's fields of an image.

    Args:
        path: of the file.
        kind: one of `_NAMES`.
        frame: of several, from 0; None takes a file of one.

    Returns:
        image_hwc: uint8 or uint16, (height, width, channels); and `info` of Pillow, with how many "parts" it holds.

    Raises:
        ImageReadError: it is damaged, too large, animated, or of a kind of pixels that is not supported.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own limit, which is smaller than ours
            if kind == "pnm":
                _check_comments(path)
            # An open file: Pillow maps what it opens by name, and one that is cut meanwhile ends the process.
            with open_plain(path) as file, Image.open(file, formats=_NAMES[kind]) as image:
                check_size(path, kind, image.height, image.width)
                frames = getattr(image, "n_frames", 1) if kind != "psd" else 1  # those are its layers
                if frame is not None:
                    image.seek(frame)
                elif frames > 1:
                    raise ImageReadError(several(path, frames))
                parts = len(image.info.get("sizes", ())) if kind in ("ico", "icns") else getattr(image, "n_frames", 1)
                return _pixels(path, image), {str(name): value for name, value in image.info.items()} | {"parts": parts}
    except ImageReadError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever a damaged file leads them to
        if kind == "bmp" and (variant := bmp_variants.read_header(path)):
            return _bmp(path, variant), {}
        raise ImageReadError(f"{path}: {what_is_wrong(error, path, kind)}") from None


def _bmp(path: Path, variant: bmp_variants.BmpVariant) -> np.ndarray:
    check_size(path, "bmp", variant.height, variant.width)
    try:
        return bmp_variants.decode(path, variant)
    except ValueError as error:
        raise ImageReadError(f"{path}: {error}: {NEXT}") from None


def _check_comments(path: Path) -> None:
    """Refuse a PNM whose size comes after so many comments that Pillow, which takes byte by byte, would not end."""
    with path.open("rb") as file:
        head = file.read(_HEADER)
    if len(head) == _HEADER and not re.match(rb"P\d\s*\d+\s+\d+\s", re.sub(rb"#[^\r\n]*[\r\n]", b" ", head)):
        raise ImageReadError(f"{path}: its size is not within its first {_HEADER} bytes: {NEXT}")


_EARLY = ("truncated", "not enough", "expected to read", "overrun", "too short", "unexpected end", "eof")
_VARIANT = ("unsupported", "unknown", "unimplemented")


def what_is_wrong(error: Exception, path: Path, kind: str) -> str:
    """Why Pillow refuses a file and what to do, in words."""
    from PIL import Image, UnidentifiedImageError

    name, text = kind.upper(), " ".join(str(error).split()).replace(str(path), path.name)
    if isinstance(error, Image.DecompressionBombError):
        return (
            f"its pixels are more than {MAX_PIXELS}, the most of {name} that is decoded as a whole: convert it to PNG"
        )
    if isinstance(error, UnidentifiedImageError):
        return f"its header is damaged, or of a variant of {name} that is not supported: {NEXT}"
    if text.lower().startswith(_VARIANT):
        return f"this variant of {name} is not supported: convert it to PNG ({text})"
    if any(words in text.lower() for words in _EARLY):
        return f"its pixels end early: {NEXT}"
    detail = "" if "broken data stream" in text or "tile cannot" in text else f" ({text})"
    return f"its pixels are damaged{detail}: {NEXT}"


def check_size(path: Path, kind: str, height: int, width: int) -> None:
    """Refuse what would take too much memory as a whole.

    Raises:
        ImageReadError: it has more than `MAX_PIXELS`.
    """
    if width * height > MAX_PIXELS:
        raise ImageReadError(
            f"{path}: {width} x {height} pixels of {kind.upper()} are more than {MAX_PIXELS}, the most that is decoded as a "
            "whole: convert it to PNG or TIFF"
        )


def _pixels(path: Path, image: Any) -> np.ndarray:
    if image.mode in _SIXTEEN or (image.mode == "I" and image.format == "PPM"):
        wide = np.asarray(image)
        return np.clip(wide, 0, 65_535).astype(np.uint16)[..., None]
    if image.mode in ("F", "I", "LAB", "CMYK"):
        raise ImageReadError(f"{path}: {image.mode} pixels, only gray and RGB of 8 and 16 bit integers are supported")
    transparent = image.has_transparency_data
    gray = image.mode in ("1", "L", "LA", "La")
    mode = ("LA" if gray else "RGBA") if transparent or image.mode in ("LA", "RGBA") else ("L" if gray else "RGB")
    return np.atleast_3d(np.asarray(image.convert(mode)))
