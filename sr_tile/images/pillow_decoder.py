"""Formats that libvips' wheels do not read, and are small: decoded whole by Pillow."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from sr_tile.errors import ImageReadError
from sr_tile.images.content_type import several

MAX_PIXELS = 2**27
"""More than these are not decoded: the whole image lies in memory."""
_NAMES = {
    "bmp": ("BMP", "DIB"),
    "pnm": ("PPM",),
    "tga": ("TGA",),
    "jpeg2000": ("JPEG2000",),
    "gif": ("GIF",),
    "qoi": ("QOI",),
    "tiff": ("TIFF",),
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
        image_hwc: uint8 or uint16, (height, width, channels); and `info` of Pillow.

    Raises:
        ImageReadError: it is damaged, too large, animated, or of a kind of pixels that is not supported.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own limit, which is smaller than ours
            with Image.open(path, formats=_NAMES[kind]) as image:
                check_size(path, kind, image.height, image.width)
                frames = getattr(image, "n_frames", 1)
                if frame is not None:
                    image.seek(frame)
                elif frames > 1:
                    raise ImageReadError(several(path, frames))
                return _pixels(path, image), {str(name): value for name, value in image.info.items()}
    except ImageReadError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever a damaged file leads them to
        text = " ".join(str(error).split()).replace(str(path), path.name)
        raise ImageReadError(f"{path}: truncated or damaged, or a variant that is not supported: {text}") from None


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
    transparent = "transparency" in image.info or image.mode in ("PA", "La", "RGBa")
    gray = image.mode in ("1", "L", "LA", "La")
    mode = ("LA" if gray else "RGBA") if transparent or image.mode in ("LA", "RGBA") else ("L" if gray else "RGB")
    return np.atleast_3d(np.asarray(image.convert(mode)))
