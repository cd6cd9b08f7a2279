"""A TIFF to an image of libvips: its planes joined, odd samples unpacked, what is no RGB converted, or why it is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sr_tile.errors import ImageReadError
from sr_tile.images import pillow_decoder
from sr_tile.images.colour_models import from_lab, from_ycbcr
from sr_tile.images.content_type import several
from sr_tile.images.decoded import Decoded, forgiven, load, metadata_of, set_blob, set_field, whole_image
from sr_tile.images.formats import Metadata
from sr_tile.images.tiff_exif import read_exif
from sr_tile.images.tiff_pixels import TiffPixels, tiff_pixels
from sr_tile.images.vips import field_of, reason_of, vips


def open_tiff(path: Path, kind: str, access: str, lenient: bool, page: int | None = None) -> Decoded:
    header = tiff_pixels(path, page or 0)
    if header is None:  # libvips may say what is wrong
        image, source = load(path, kind, access, page=page or 0)
        return Decoded(image, kind, replace(metadata_of(image, True), exif=read_exif(path)), keep=[source])
    if header.pictures > 1 and page is None:
        raise ImageReadError(several(path, header.pictures))
    if what := _no_picture(header):
        raise ImageReadError(f"{path}: {what}")
    decoded = Decoded(None, kind, Metadata(), forgiven(header.oddities), header.premultiplied)
    decoded.explain = lambda reason: _unsupported(header, reason)
    if header.by_pillow:
        image_hwc, info = pillow_decoder.decode(path, kind, header.number)
        xres, yres = (float(dots) / 25.4 for dots in info.get("dpi", (25.4, 25.4)))
        decoded.image, decoded.whole = whole_image(image_hwc).copy(xres=xres, yres=yres), True
    else:
        decoded.image = _tiff_image(path, access, header, decoded)
    if header.blobs.get("icc"):
        set_blob(decoded.image, "icc-profile-data", header.blobs["icc"])
    metadata = metadata_of(decoded.image, header.has_density, **header.blobs)
    decoded.metadata = replace(metadata, exif=read_exif(path, header.position))
    if header.model:
        decoded.image = _from_model(decoded.image, header)
        decoded.metadata = replace(decoded.metadata, icc=None)
        decoded.notes.append(f"{header.model} is converted to {'RGB' if header.model == 'YCbCr' else 'sRGB'}")
    return decoded


def _tiff_image(path: Path, access: str, header: TiffPixels, decoded: Decoded) -> Any:
    """What libvips gives of a TIFF, its planes joined, samples of odd sizes unpacked."""
    planes = []
    try:
        for pieces in header.planes:
            # of old LZW codes libtiff warns each time
            planes.append(load(path, "tiff", access, pieces, "error" if header.old_lzw else "warning"))
    except vips().Error as error:
        if what := _unsupported(header, reason_of(error)):
            raise ImageReadError(f"{path}: {what}") from None
        raise
    decoded.keep = [source for _, source in planes]
    images = [image for image, _ in planes]
    if header.packed:
        orientation, decoded.whole = field_of(images[0], "orientation"), True
        pillow_decoder.check_size(path, "tiff", images[0].height, header.packed.width)
        unpacked = [header.packed.unpack(image.numpy().reshape(image.height, -1)) for image in images]
        image = whole_image(np.concatenate(unpacked, 2))
        set_field(image, "orientation", orientation or 1)
        return image.copy(xres=images[0].xres, yres=images[0].yres)
    image = images[0].copy()
    if len(images) > 1:
        names = {
            "uchar": ("b-w", "srgb", "cmyk"),
            "ushort": ("grey16", "rgb16", "cmyk"),
            "float": ("b-w", "scrgb", "multiband"),
        }.get(image.format, ("multiband",) * 3)
        image = image.bandjoin(images[1:]).copy(interpretation=names[header.colours // 2])
    if header.ycbcr and header.channels == 3 and image.bands == 4:
        image = image[:3]  # libtiff makes all colours of such files opaque RGBA
    return image


def _from_model(image: Any, header: TiffPixels) -> Any:
    return from_ycbcr(image, header.luma) if header.model == "YCbCr" else from_lab(image, icc=header.model == "ICC Lab")


def _no_picture(header: TiffPixels) -> str | None:
    """Why values are measurements rather than colours."""
    if header.compression.startswith("SGILog"):
        return f"TIFF of SGI's LogLuv ({header.compression}) is not supported: convert it to a TIFF of floats"
    if header.signed or (header.bits > 16 and not header.floats) or header.bits > 32:
        numbers = "floats" if header.floats else "signed integers" if header.signed else "integers"
        return (
            f"TIFF of {header.bits}-bit {numbers} is not supported, only unsigned integers of 1 to 16 bits and floats of "
            "16 and 32: convert it to one of them"
        )
    return None


def _unsupported(header: TiffPixels, reason: str) -> str | None:
    if header.bits not in (1, 2, 4, 8, 16, 32) and not header.packed:
        how = f"{header.compression} compression, a predictor, a palette or tiles"
        return f"TIFF of {header.bits} bits a channel with {how} is not supported: save it with 8 or 16"
    if any(words in reason for words in ("not configured", "not supported", "not implemented", "unsupported")):
        return f"TIFF with {header.compression} compression is not supported: save it without, or with LZW or deflate"
    return None
