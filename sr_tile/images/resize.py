"""Pixels reduced by libvips' Lanczos filter, as a stream where they come as one."""

from typing import Any

import numpy as np

from sr_tile.images.formats import Reduction
from sr_tile.images.vips import vips

_FORMATS = {"uint8": "uchar", "uint16": "ushort", "float32": "float"}


def reduce_image(image: Any, to: Reduction, *, has_alpha: bool, dtype: np.dtype, bits: int | None = None) -> Any:
    """A libvips image of the wanted size; pulls rows of `image` from top to bottom, a few at a time.

    Lanczos of three lobes in float. The colours are weighted by alpha, so that what is transparent leaves no fringe.

    Args:
        image: uint8, uint16, or float of range [0, 1].
        to: the size, and whether light or the values of the file are averaged.
        has_alpha: the last band is alpha.
        dtype: of the result, over its full range.
        bits: that the file will hold; rounded once to these, in the upper ones of `dtype`.
    """
    kind, interpretation = str(np.dtype(dtype)), image.interpretation
    top = _top(image.format)
    unit = image.cast("float") / top
    colours = unit.bands - has_alpha
    if to.linear:
        unit = _with_colours(unit, colours, _to_light)
    if has_alpha:
        unit = unit.premultiply(max_alpha=1.0)
    # gap 0: libvips would else average blocks first where much is to be reduced, which is another filter
    scales = {"vscale": to.height / image.height, "kernel": "lanczos3", "gap": 0.0}
    unit = unit.resize(to.width / image.width, **scales)
    if has_alpha:
        unit = unit.unpremultiply(max_alpha=1.0)
    unit = (unit > 1.0).ifthenelse(1.0, (unit < 0.0).ifthenelse(0.0, unit))
    if to.linear:
        unit = _with_colours(unit, colours, _from_light)
    if kind != "float32":
        return to_integers(unit, dtype, bits).copy(interpretation=interpretation)
    return unit.cast("float").copy(interpretation=interpretation)


def to_integers(unit: Any, dtype: np.dtype, bits: int | None = None) -> Any:
    """A libvips image of float, range [0, 1], beyond which it is cut off, rounded once: see `reduce_image`."""
    own = 8 * np.dtype(dtype).itemsize
    steps = 2 ** (bits or own) - 1
    unit = (unit > 1.0).ifthenelse(1.0, (unit > 0.0).ifthenelse(unit, 0.0))  # NaN as well becomes 0
    values = (unit * steps).rint() * 2 ** (own - (bits or own))
    gray, colour = ("b-w", "srgb") if own == 8 else ("grey16", "rgb16")
    return values.cast(_FORMATS[str(np.dtype(dtype))]).copy(interpretation=gray if values.bands < 3 else colour)


def reduce_array(pixels_hwc: np.ndarray, to: Reduction) -> np.ndarray:
    """(height, width, channels) of the same number type; see `reduce_image`."""
    height, width, channels = pixels_hwc.shape
    kind = _FORMATS[str(pixels_hwc.dtype)]
    image = vips().Image.new_from_memory(np.ascontiguousarray(pixels_hwc).data, width, height, channels, kind)
    reduced = reduce_image(image, to, has_alpha=channels in (2, 4), dtype=pixels_hwc.dtype)
    values = np.frombuffer(reduced.write_to_memory(), pixels_hwc.dtype)
    return values.reshape(to.height, to.width, channels).copy()


def _top(kind: str) -> float:
    return {"uchar": 255.0, "ushort": 65_535.0, "float": 1.0}[kind]


def _with_colours(image: Any, colours: int, change: Any) -> Any:
    """The image with its first bands changed, and alpha as it is."""
    if colours == image.bands:
        return change(image)
    alpha = image.extract_band(colours, n=image.bands - colours)
    return change(image.extract_band(0, n=colours)).bandjoin(alpha)


def _to_light(image: Any) -> Any:
    """IEC 61966-2-1, as far as from its values to light."""
    return (image <= 0.04045).ifthenelse(image / 12.92, ((image + 0.055) / 1.055) ** 2.4)


def _from_light(image: Any) -> Any:
    return (image <= 0.0031308).ifthenelse(image * 12.92, (image ** (1 / 2.4)) * 1.055 - 0.055)
