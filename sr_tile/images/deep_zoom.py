"""Tiles of an image at all sizes, for viewers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sr_tile.errors import ImageReadError
from sr_tile.images.decoding import open_image
from sr_tile.images.vips import field_of, reason_of, vips

_SAVERS = {"jpg": ".jpg[Q=92,subsample_mode=off]", "png": ".png[compression=1]"}


@dataclass(frozen=True)
class Pyramid:
    """Tiles of an image: FOLDER/LEVEL/COLUMN_ROW.SUFFIX, as 8-bit sRGB.

    Attributes:
        width: of the image in pixels, after the EXIF orientation was applied.
        height: of the image.
        levels: sizes; the last is the image itself, each before it half as large, the first one tile.
        tile: side of a tile in pixels.
        suffix: jpg, or png where there is alpha.
    """

    width: int
    height: int
    levels: int
    tile: int
    suffix: str


def write_pyramid(source: Path, folder: Path, tile: int = 512) -> Pyramid:
    """Cut an image file into tiles for a viewer; it is streamed.

    Args:
        source: the image.
        folder: is made; its parent must exist.
        tile: side of a tile in pixels.

    Raises:
        ImageReadError: the file cannot be read.
    """
    try:
        decoded = open_image(source, lenient=True)
        image = _to_srgb(decoded.image)
        suffix = "png" if image.hasalpha() else "jpg"
        image.dzsave(
            str(folder), layout="dz", depth="onetile", suffix=_SAVERS[suffix], tile_size=tile, overlap=0, keep="none"
        )
    except vips().Error as error:
        raise ImageReadError(f"{source}: cannot be shown: {reason_of(error)}") from None
    folder.with_suffix(".dzi").unlink(missing_ok=True)
    Path(f"{folder}_files").rename(folder)
    levels = sum(path.is_dir() for path in folder.iterdir())
    return Pyramid(image.width, image.height, levels, tile, suffix)


def _to_srgb(image: Any) -> Any:
    if field_of(image, "icc-profile-data") or image.interpretation == "cmyk":
        try:
            return image.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=8)
        except vips().Error:  # a profile that is not one
            pass
    return image.colourspace("srgb").cast("uchar")
