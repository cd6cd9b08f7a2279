"""Files to rows of pixels."""

import math
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from sr_tile.errors import ArgumentError, ImageReadError
from sr_tile.images.formats import ImageInfo, Metadata
from sr_tile.images.tiff_exif import has_odd_text, read_exif
from sr_tile.images.vips import field_of, load, reason_of, vips

MAX_PIXELS = 2**34
"""More pixels than this are taken for a damaged header (or an attack), and refused before anything is decoded."""

_FETCH_BYTES = 4 * 2**20  # libvips keeps buffers as large as one request: ask for a little at a time
_NO_DENSITY = (1.0, 2.834)  # what libvips up to 8.17, and from 8.18 on, says of a file without a density
_LOADERS = ("pngload", "jpegload", "tiffload", "webpload", "heifload")


class ImageReader:
    """Rows of one file, from top to bottom; opening it reads only the header.

    One thread at a time may read, not always the same one.
    """

    info: ImageInfo

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._next_row = 0
        self._region: Any = None
        self._lock = threading.Lock()
        self._image: Any = None
        try:
            self._image, metadata = self._open()
            image = self._image
            depth = field_of(image, "heif-bitdepth") or field_of(image, "bits-per-sample") or 16
            self._low_bits = depth if str(field_of(image, "vips-loader")).startswith("heif") and 8 < depth < 16 else 16
            dtype = np.dtype(np.uint8 if image.format == "uchar" else np.uint16)
            self.info = ImageInfo(image.height, image.width, image.bands, dtype, metadata)
        except OSError as error:
            raise ImageReadError(f"{self.path}: cannot be opened: {reason_of(error)}") from None
        except vips().Error as error:
            raise ImageReadError(f"{self.path}: not an image, or a damaged one: {reason_of(error)}") from None

    def _open(self) -> tuple[Any, Metadata]:
        status = self.path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageReadError(f"{self.path}: not a file: give the path of one image")
        if status.st_size == 0:
            raise ImageReadError(f"{self.path}: the file is empty (0 bytes)")
        # A descriptor, not a name: libvips reads options out of names such as "a[1].png".
        descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            fail_on = "error" if has_odd_text(self.path) else "warning"
            image = load(descriptor, "sequential", fail_on)
            self._check(image)
            orientation = field_of(image, "orientation")
            if orientation in range(3, 9):
                # Rows of the turned image come from all over the file.
                os.lseek(descriptor, 0, os.SEEK_SET)
                image = load(descriptor, "random", fail_on)
            metadata = _metadata(image)
            if str(field_of(image, "vips-loader")).startswith("tiffload"):
                metadata = replace(metadata, exif=read_exif(self.path))
            return _to_rgb_or_gray(image.autorot()), metadata
        finally:
            os.close(descriptor)

    def _check(self, image: Any) -> None:
        """Refuse by the header what would be read wrongly, or with a part left out."""
        loader = str(field_of(image, "vips-loader"))
        if not loader.startswith(_LOADERS):
            raise ImageReadError(f"{self.path}: not a supported image: convert it to PNG, JPEG, TIFF, WebP or AVIF")
        if image.width * image.height > MAX_PIXELS:
            size = f"{image.width} x {image.height}"
            raise ImageReadError(f"{self.path}: {size} pixels are more than {MAX_PIXELS}: cut the image into parts")
        pages = field_of(image, "n-pages") or 1
        if pages > 1:
            raise ImageReadError(f"{self.path}: holds {pages} pages or frames, only one is supported: split it first")
        if image.format not in ("uchar", "ushort"):
            raise ImageReadError(f"{self.path}: {image.format} pixels, only 8 and 16 bit integers are supported")
        channels = {"b-w": (1, 2), "grey16": (1, 2), "srgb": (3, 4), "rgb16": (3, 4), "rgb": (3, 4), "cmyk": (4,)}
        if image.bands not in channels.get(image.interpretation, ()):
            what = f"{image.bands} channels of {image.interpretation}"
            raise ImageReadError(
                f"{self.path}: {what}, only gray, RGB (each with or without alpha) and CMYK are supported"
            )

    @property
    def rows_left(self) -> int:
        """Rows that read_rows has not given yet."""
        return self.info.height - self._next_row

    def read_rows(self, count: int) -> np.ndarray:
        """The next rows, top to bottom.

        Returns:
            rows_hwc: (min(count, rows left), width, channels), of info.dtype.

        Raises:
            ImageReadError: the file ends too early or is damaged; rows before that are not an error.
        """
        if count < 1:
            raise ArgumentError(f"cannot read {count} rows: ask for at least 1")
        with self._lock:
            if self._image is None:
                raise ImageReadError(f"{self.path}: is closed")
            count = min(count, self.rows_left)
            rows_hwc = np.empty((count, self.info.width, self.info.channels), self.info.dtype)
            step = max(1, _FETCH_BYTES // (self.info.width * self.info.channels * self.info.dtype.itemsize))
            try:
                self._region = self._region or vips().Region.new(self._image)
                for start in range(0, count, step):
                    part_hwc = rows_hwc[start : start + step]
                    pixels = self._region.fetch(0, self._next_row, self.info.width, len(part_hwc))
                    part_hwc[:] = np.frombuffer(pixels, self.info.dtype).reshape(part_hwc.shape)
                    self._next_row += len(part_hwc)
            except vips().Error as error:
                where = f"truncated or damaged near row {self._next_row} of {self.info.height}"
                raise ImageReadError(f"{self.path}: {where}: {reason_of(error)}") from None
            if self._low_bits < 16:  # libvips fills the lower bits with 0, by which white would not be 65535
                rows_hwc |= rows_hwc >> self._low_bits
            return rows_hwc

    def close(self) -> None:
        """Let go of the file; idempotent."""
        with self._lock:
            self._region = self._image = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _metadata(image: Any) -> Metadata:
    blobs = {key: field_of(image, f"{key}-data") for key in ("exif", "xmp", "iptc")}
    icc = None if image.interpretation == "cmyk" else field_of(image, "icc-profile-data")
    xres, yres = image.xres, image.yres
    if any(abs(xres - made_up) < 1e-4 and abs(yres - made_up) < 1e-4 for made_up in _NO_DENSITY):
        # WebP and AVIF have no density but that of EXIF, which libvips reads for JPEG only.
        unit = {"2": 25.4, "3": 10.0}.get(str(field_of(image, "exif-ifd0-ResolutionUnit") or "2")[:1], 0.0)
        xres, yres = (_rational(field_of(image, f"exif-ifd0-{side}Resolution"), unit) for side in "XY")
    known = bool(xres and yres and math.isfinite(xres) and math.isfinite(yres))
    return Metadata(icc, **blobs, xres=xres if known else None, yres=yres if known else None)


def _rational(text: str | None, unit: float) -> float:
    """Pixels per mm out of "300/1 (300, Rational, ...)"; 0 where there is no number."""
    try:
        numerator, denominator = str(text).split()[0].split("/")
        return int(numerator) / int(denominator) / unit
    except (ValueError, ZeroDivisionError):
        return 0.0


def _to_rgb_or_gray(image: Any) -> Any:
    if image.interpretation != "cmyk":
        return image
    depth = 16 if image.format == "ushort" else 8
    return image.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=depth)
