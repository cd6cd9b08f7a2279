"""An open image as the loaders of each format hand it on, and the steps that they share."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sr_tile.images.exif import exif_density
from sr_tile.images.formats import Metadata
from sr_tile.images.vips import field_of, vips
from sr_tile.images.virtual_file import Piece, VirtualFile

_LOADERS = {"png": "pngload", "jpeg": "jpegload", "tiff": "tiffload", "webp": "webpload", "avif": "heifload"}


@dataclass
class Decoded:
    """An open image: only its header was read.

    Attributes:
        image: of libvips, turned upright, gray or RGB, with alpha or without.
        kind: png, jpeg, tiff, webp, avif, or one of those that are only read.
        metadata: beside its pixels.
        notes: what was forgiven, converted or left out, for one warning.
        premultiplied: colours are still multiplied by alpha.
        bits: of a channel, where libvips puts fewer than 16 into the upper ones of 16.
        narrow: luma of AVIF goes from 16 to 235 of 255 still.
        lenient: what costs no pixels is taken.
        keep: must live as long as image.
        whole_bytes: about as much memory decoding takes beside the rows that are read; 0 for what streams.
        whole: it was decoded as a whole, and lies in memory.
        harmless: what may be forgiven of libvips' reason, in words; None where pixels are lost.
        explain: what libvips' reason says of the kind of file, where it is not damage.
        verify: raises what libvips does not say when it reads: called once, before the first row.
    """

    image: Any
    kind: str
    metadata: Metadata
    notes: list[str] = field(default_factory=list)
    premultiplied: bool = False
    bits: int = 16
    narrow: bool = False
    lenient: bool = False
    keep: list[Any] = field(default_factory=list)
    whole_bytes: int = 0
    whole: bool = False
    harmless: Callable[[str], str | None] = lambda reason: None
    explain: Callable[[str], str | None] = lambda reason: None
    verify: Callable[[], None] = lambda: None


_MAPPED = ("jpeg", "webp", "avif")
"""What libvips maps into memory where it can: a file that somebody cuts short meanwhile would end the process (SIGBUS)."""


def load(
    path: Path, kind: str, access: str, pieces: Sequence[Piece] = (), fail_on: str = "warning", **options: Any
) -> Any:
    """(image, what must live as long): libvips fills what is truncated or damaged with gray unless told to fail."""
    if not pieces and kind in _MAPPED:
        pieces = [Piece(0, path.stat().st_size)]
    if pieces:
        source = VirtualFile(path, pieces).source()
    else:
        # A descriptor, not a name: libvips reads options out of names such as "a[1].png".
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            source = vips().Source.new_from_descriptor(descriptor)
        finally:
            os.close(descriptor)
    loader = getattr(vips().Image, f"{_LOADERS[kind]}_source")
    return loader(source, access=access, fail_on=fail_on, **options), source


def forgiven(oddities: Sequence[str]) -> list[str]:
    return [f"taken in spite of {', '.join(oddities)}"] if oddities else []


def whole_image(image_hwc: np.ndarray) -> Any:
    image = vips().Image.new_from_array(np.ascontiguousarray(image_hwc))
    gray, colour = ("grey16", "rgb16") if image_hwc.dtype == np.uint16 else ("b-w", "srgb")
    return image.copy(interpretation=gray if image_hwc.shape[2] < 3 else colour)


def metadata_of(image: Any, has_density: bool, **blobs: bytes | None) -> Metadata:
    """What libvips says, but for the blobs that were read better elsewhere."""
    found = {key: field_of(image, f"{key}-data") for key in ("exif", "xmp", "iptc")} | blobs
    icc = found.pop("icc", None) or field_of(image, "icc-profile-data")
    xres, yres = (image.xres, image.yres) if has_density else (None, None)
    if not has_density:  # WebP and AVIF have none but that of EXIF, and some JPEGs as well
        xres, yres = exif_density(found["exif"])
    known = bool(xres and yres and math.isfinite(xres) and math.isfinite(yres))
    icc = None if image.interpretation == "cmyk" else icc
    return Metadata(icc, **found, xres=xres if known else None, yres=yres if known else None)


def set_field(image: Any, name: str, value: int) -> None:
    image.set_type(vips().GValue.gint_type, name, value)


def set_blob(image: Any, name: str, value: bytes) -> None:
    image.set_type(vips().GValue.blob_type, name, value)
