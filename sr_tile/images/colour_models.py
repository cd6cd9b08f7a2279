"""Pixels of an image of libvips that mean no RGB, brought to sRGB as they stream: CMYK, CIE Lab and ICC Lab, YCbCr."""

from collections.abc import Sequence
from typing import Any

_D50 = [96.422, 100.0, 82.521]
_XYZ_D50_TO_LINEAR_SRGB = (
    (3.1338561, -1.6168667, -0.4906146),
    (-0.9787684, 1.9161415, 0.0334540),
    (0.0719453, -0.2289914, 1.4052427),
)
"""Bradford's adaptation to D65, as in the ICC profile of sRGB (B. Lindbloom)."""


def from_cmyk(image: Any) -> Any:
    """By its profile, or a usual one where it has none."""
    depth = 16 if image.format == "ushort" else 8
    return image.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=depth)


def from_ycbcr(image: Any, luma: Sequence[float]) -> Any:
    """Luma and chroma of 8 bits, full range.

    Args:
        image: three channels, and others that stay.
        luma: weights of red, green and blue.
    """
    red, green, blue = luma
    to_red, to_blue = 2 * (1 - red), 2 * (1 - blue)
    matrix = [[1, 0, to_red], [1, -blue * to_blue / green, -red * to_red / green], [1, to_blue, 0]]
    rgb = (image[:3] - [0, 128, 128]).recomb(_matrix(image, matrix)).rint().cast("uchar")
    return _with_rest(image, rgb, "srgb")


def from_lab(image: Any, *, icc: bool) -> Any:
    """CIE Lab of TIFF (a and b below 0 in two's complement) or ICC's (0 in the middle), 8 or 16 bits, white point D50."""
    wide = image.format == "ushort"
    middle, unit = (32_768, 256) if wide else (128, 1)
    white = (65_280 if icc else 65_535) if wide else 255
    chroma = image[1:3].cast("int")
    chroma = chroma - middle if icc else (chroma + middle) % (2 * middle) - middle
    lab = (image[0] * (100 / white)).bandjoin(chroma / unit).copy(interpretation="lab")
    linear = (lab.Lab2XYZ(temp=_D50) / 100).recomb(_matrix(image, _XYZ_D50_TO_LINEAR_SRGB))
    rgb = linear.copy(interpretation="scrgb").scRGB2sRGB(depth=16 if wide else 8)
    return _with_rest(image, rgb, "rgb16" if wide else "srgb")


def _matrix(image: Any, rows: Sequence[Sequence[float]]) -> Any:
    return type(image).new_from_array([list(row) for row in rows])


def _with_rest(image: Any, rgb: Any, interpretation: str) -> Any:
    rest = rgb.bandjoin(image[3:]) if image.bands > 3 else rgb
    return rest.copy(interpretation=interpretation)
