"""Arrays and PIL images <-> rows of pixels, with errors that say which argument has which wrong shape."""

from typing import TYPE_CHECKING, Any

import numpy as np

from sr_tile.errors import ArgumentError, one_line
from sr_tile.images.formats import ImageInfo, Metadata
from sr_tile.images.resize import reduce_array

if TYPE_CHECKING:
    from PIL import Image

DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))
_BEYOND = 0.5  # of white, that floats may leave [0, 1] by
_MODES = {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "LAB": "RGB", "RGBX": "RGB"}
_MODES |= {"PA": "RGBA", "RGBa": "RGBA", "La": "LA"}


def is_pil(image: object) -> bool:
    """True for a PIL image, without importing PIL where nobody has."""
    return any(cls.__module__.startswith("PIL.") and cls.__name__ == "Image" for cls in type(image).__mro__)


def is_tensor(image: object) -> bool:
    """True for a PyTorch tensor, without importing PyTorch where nobody has."""
    return any(cls.__module__ == "torch" and cls.__name__ == "Tensor" for cls in type(image).__mro__)


def _from_bytes(content: bytes, where: str) -> "Image.Image":
    """The picture of an encoded file, by Pillow.

    Raises:
        ArgumentError: it is none.
    """
    import io

    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except UnidentifiedImageError:
        raise ArgumentError(f"{where}: {len(content)} bytes are no picture that Pillow knows; give a file's") from None
    except Exception as error:  # Pillow's plugins raise whatever damaged bytes lead them to
        raise ArgumentError(f"{where}: {len(content)} bytes are no whole picture: {one_line(error)}") from None
    return image


def as_array(image: Any, where: str) -> np.ndarray:
    """Pixels of an array or PIL image.

    Args:
        image: (H, W, C) or (H, W), uint8, uint16 or float32 of range [0, 1], C = 1 gray, 2 gray and alpha, 3 RGB,
            4 RGBA; or a PIL image, palette and CMYK converted to RGB; or a PyTorch tensor, (C, H, W) or (H, W); or the
            bytes of a file.
        where: what messages call it, for example `images[3]`.

    Returns:
        (H, W, C), the same number type; a view where possible.

    Raises:
        ArgumentError: another type, number type or shape.
    """
    if isinstance(image, bytes | bytearray):
        image = _from_bytes(bytes(image), where)
    if is_pil(image):
        return _from_pil(image, where)
    if is_tensor(image):
        image = _from_tensor(image, where)
        image = np.moveaxis(image, 0, -1) if image.ndim == 3 else image
    if not isinstance(image, np.ndarray):
        raise ArgumentError(
            f"{where} is a {type(image).__name__}; expected a NumPy array (H, W, C) or a PIL image; "
            "for files use enhance_file"
        )
    if image.dtype not in DTYPES:
        hint = "; float64 can be cast with .astype(np.float32)" if image.dtype == np.float64 else ""
        raise ArgumentError(f"{where} has dtype {image.dtype}; expected uint8, uint16, or float32 in [0, 1]{hint}")
    array = image[..., None] if image.ndim == 2 else image
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4):
        hint = ""
        if image.ndim == 3 and image.shape[0] in (1, 3, 4):
            hint = "; channels come last: use np.moveaxis(image, 0, -1)"
        elif image.ndim == 4:
            hint = "; for several images give enhance_batch a list"
        raise ArgumentError(f"{where} has shape {image.shape}; expected (H, W) or (H, W, C) with C from 1 to 4{hint}")
    if 0 in array.shape:
        raise ArgumentError(f"{where} has shape {image.shape}; expected at least one pixel")
    if array.dtype == np.float32:
        _check_range(array, where)
    return array


def _check_range(array: np.ndarray, where: str) -> None:
    """Refuse floats that are not meant to lie in [0, 1]; what resampling adds beyond, and NaN, pass.

    Raises:
        ArgumentError: they reach far beyond.
    """
    least, largest = np.fmin.reduce(array, axis=None), np.fmax.reduce(array, axis=None)
    if least < -_BEYOND or largest > 1 + _BEYOND:
        way = "divide by 255" if largest > 2 else "(image + 1) / 2 brings [-1, 1] there"
        raise ArgumentError(
            f"{where} is float32 with values from {least:.4g} to {largest:.4g}; expected [0, 1]: {way}, or clip"
        )


def _from_tensor(tensor: Any, where: str) -> np.ndarray:
    try:
        return np.asarray(tensor.detach().cpu().numpy())
    except (TypeError, RuntimeError) as error:  # number types that NumPy has not got, and tensors that hold no pixels
        raise ArgumentError(f"{where} is a tensor of {tensor.dtype}: {one_line(error)}; give .float()") from None


def _from_pil(image: "Image.Image", where: str) -> np.ndarray:
    if image.mode in ("I", "F"):
        raise ArgumentError(
            f"{where} is a PIL image of mode {image.mode}, whose range of values is not fixed; "
            "give an array of uint16, or of float32 in [0, 1]"
        )
    mode = _MODES.get(image.mode, image.mode)
    if "transparency" in image.info:
        mode = {"1": "LA", "L": "LA"}.get(image.mode, "RGBA")
    array = np.asarray(image.convert(mode) if mode != image.mode else image)
    return array.astype(np.uint16, copy=False)[..., None] if mode.startswith("I;16") else np.atleast_3d(array)


class ArraySource:
    """Reads rows out of an array."""

    def __init__(self, pixels_hwc: np.ndarray, metadata: Metadata | None = None) -> None:
        self._pixels, self._row = pixels_hwc, 0
        height, width, channels = pixels_hwc.shape
        self.info = ImageInfo(height, width, channels, pixels_hwc.dtype, metadata or Metadata())

    def read_rows(self, count: int) -> np.ndarray:
        """The next `count` rows, (count, width, channels)."""
        self._row += count
        return self._pixels[self._row - count : self._row]

    def close(self) -> None:
        """Nothing is held."""


class ArraySink:
    """Collects rows in one array, `pixels_hwc`, which is reduced at the end where that is asked for."""

    def __init__(self, info: ImageInfo) -> None:
        self.dtype, self._reduction = info.dtype, info.reduction
        self.pixels_hwc = np.empty((info.height, info.width, info.channels), info.dtype)
        self._row = 0

    def room(self, first: int, end: int) -> np.ndarray:
        """Where rows will stand: those that are made there need no copying."""
        return self.pixels_hwc[first:end]

    def write_rows(self, rows_hwc: np.ndarray) -> None:
        """Copy the next rows, unless they were made where they stand."""
        if rows_hwc.base is not self.pixels_hwc:
            self.pixels_hwc[self._row : self._row + len(rows_hwc)] = rows_hwc
        self._row += len(rows_hwc)

    def close(self) -> None:
        """All rows are there."""
        if self._reduction:
            self.pixels_hwc, self._reduction = reduce_array(self.pixels_hwc, self._reduction), None

    def abort(self) -> None:
        """Nothing is held."""


def like(image: Any, pixels_hwc: np.ndarray) -> Any:
    """The result in the form in which the image came: PIL (also for bytes), tensor, (H, W), or (H, W, C)."""
    if isinstance(image, np.ndarray):
        return pixels_hwc[..., 0] if image.ndim == 2 else pixels_hwc
    if is_tensor(image):
        import torch

        plane = image.ndim == 2
        return torch.from_numpy(pixels_hwc[..., 0] if plane else np.ascontiguousarray(np.moveaxis(pixels_hwc, -1, 0)))
    from PIL import Image

    result = Image.fromarray(pixels_hwc[..., 0] if pixels_hwc.shape[2] == 1 else pixels_hwc)
    if isinstance(image, bytes | bytearray):
        return result
    dropped = {"transparency"} if result.mode == image.mode else {"transparency", "icc_profile"}
    result.info = {key: value for key, value in image.info.items() if key not in dropped}
    return result
