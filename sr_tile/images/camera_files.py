"""Files as phones and cameras write them, decoded whole: HEIC by libheif (pillow-heif), raw files by LibRaw (rawpy)."""

import functools
import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np

from sr_tile.errors import ImageReadError, one_line
from sr_tile.images.avif_boxes import changed, read_avif
from sr_tile.images.pillow_decoder import check_size
from sr_tile.images.tiff_exif import read_exif
from sr_tile.system.plain_file import read_plain

DEVELOPMENT = "developed by LibRaw: the camera's white balance, sRGB, 16 bits"
"""What is said of raw files: other converters develop otherwise."""

_READERS = {"heic": "pillow_heif", "raw": "rawpy"}


def decode_heic(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Pixels, upright, and `exif`, `xmp`, `icc_profile` of the primary picture of a HEIC.

    Args:
        path: of the file.

    Returns:
        image_hwc: uint8, or uint16 where the file has more than 8 bits, (height, width, 3 or 4); and the fields.

    Raises:
        ImageReadError: it is damaged, or pillow-heif is not installed.
    """
    try:
        import pillow_heif
    except ImportError:
        raise ImageReadError(f"{path}: HEIC needs pillow-heif: pip install 'sr-tile[heif]'") from None
    try:
        image = pillow_heif.open_heif(path, convert_hdr_to_8bit=False)
        check_size(path, "heic", *image.size[::-1])
        pixels_hwc = np.atleast_3d(np.asarray(image))
        # Each tile of a grid by itself: libheif leaves one that is damaged green, and says nothing.
        tiles = read_avif(path).tiles
        content = read_plain(path) if tiles else b""
        for changes in tiles:
            np.asarray(pillow_heif.open_heif(io.BytesIO(changed(content, changes)), convert_hdr_to_8bit=False))
    except ImageReadError:
        raise
    except Exception as error:  # libheif's reasons come as whatever it likes
        raise ImageReadError(f"{path}: truncated or damaged: {one_line(error)}") from None
    return pixels_hwc, dict(image.info)


def unread() -> set[str]:
    """Formats of cameras that are not read here, for what reads them is not installed."""
    return {kind for kind, module in _READERS.items() if not _is_installed(module)}


@functools.cache  # it looks into every folder of the path, and a server asks for each image
def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def decode_raw(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Pixels of a camera's raw file, upright, see `DEVELOPMENT`, and its `exif`.

    Args:
        path: of the file.

    Returns:
        image_hwc: uint16, sRGB, (height, width, 3); and the fields.

    Raises:
        ImageReadError: it is damaged or of a camera that LibRaw does not know, or rawpy is not installed.
    """
    try:
        import rawpy
    except ImportError:
        raise ImageReadError(f"{path}: raw files need rawpy: pip install 'sr-tile[raw]'") from None
    try:
        with rawpy.imread(str(path)) as raw:
            check_size(path, "raw", raw.sizes.height, raw.sizes.width)
            pixels_hwc = raw.postprocess(use_camera_wb=True, output_bps=16)
    except ImageReadError:
        raise
    except (rawpy.LibRawError, OSError, ValueError) as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else error
        raise ImageReadError(
            f"{path}: not a raw file of a camera that is known, or a damaged one: {one_line(Exception(reason))}"
        ) from None
    return pixels_hwc, {"exif": read_exif(path)}
