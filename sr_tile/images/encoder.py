"""The thread that runs libvips' savers."""

import os
import threading
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sr_tile.images.deep_zoom_file import NAME as DEEP_ZOOM_NAME
from sr_tile.images.exif import without_thumbnail
from sr_tile.images.formats import FORMATS, Animation, ImageInfo, WriteOptions, stored_dtype
from sr_tile.images.resize import reduce_image, to_integers
from sr_tile.images.result_metadata import Extras, complete, extras_of
from sr_tile.images.row_feed import Feed, FloatFeed, PngFeed
from sr_tile.images.vips import reason_of, vips

_ONE = (1 + 1e-9) / 25.4  # pixels an inch, for libvips, which cuts off behind three digits
AVIF_BITS = 12  # the most that the format holds
_ALL_BUT_EXIF = 2 | 4 | 8 | 16  # XMP, IPTC, ICC, other


def whole_bytes(format_name: str, info: ImageInfo, options: WriteOptions) -> int:
    """What libraries take that encode an image as a whole, measured on photographs of 12 megapixels; 0 for what streams.

    Args:
        format_name: of the file.
        info: of the result; of the frames one below the other where it is an animation, which is encoded frame by frame.
        options: how to encode.
    """
    alpha, wide = info.has_alpha, stored_dtype(format_name, info.dtype) == np.uint16
    bytes_a_pixel = {
        "webp": 33 if alpha or options.lossless else 6,
        "avif": (60 if wide else 36) + (15 if alpha else 0),
        "gif": 13,
    }
    height = options.animation.height if options.animation else info.height
    return bytes_a_pixel.get(format_name, 0) * info.width * height


@dataclass
class Encoder:
    """Rows that are pushed, through a feed to a thread in which libvips pulls them and writes the file.

    dtype: of the rows: float32, or what the format holds.
    """

    format_name: str
    info: ImageInfo
    dtype: np.dtype
    options: WriteOptions
    descriptor: int
    failure: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        picture, animation = self.info.result, self.options.animation
        self.extras = extras_of(self.format_name, replace(picture, height=animation.height) if animation else picture)
        self._stored = stored_dtype(self.format_name, self.dtype)
        self._feed: Feed
        if self.dtype == np.float32:
            self._feed = FloatFeed(self.info)
        else:
            self._feed = PngFeed(self.info, self.dtype, None if self.info.reduction else self._bits)
        self._image: Any = None
        self._killed = False
        self._thread = threading.Thread(target=self._run, name="sr-tile-encoder", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._feed.abandon()
            self._feed.drain()
            raise

    @property
    def _bits(self) -> int | None:
        """That the file holds of each number, where those are not all."""
        return AVIF_BITS if self.format_name == "avif" and self._stored == np.uint16 else None

    @property
    def _background(self) -> list[int]:
        red, green, blue = self.options.background or (0, 0, 0)
        step = 257 if self._stored == np.uint16 else 1
        return [
            step * value for value in ((red, green, blue) if self.info.colours == 3 else ((red + green + blue) // 3,))
        ]

    def push(self, rows_hwc: np.ndarray) -> bool:
        """Returns False when the encoder has given up: see failure."""
        try:
            return self._feed.push(rows_hwc) and self.failure is None
        except OSError as error:  # the disk is full
            self.failure = self.failure or reason_of(error)
            return False

    def finish(self) -> bool:
        """After the last row: wait for the encoder, and put in what it does not write.

        Raises:
            OSError: the disk is full.
        """
        self._feed.end()
        self._thread.join()
        if self._killed:
            self.failure = self.failure or "it was stopped"
        if self.failure is None:
            lossless = self.options.lossless
            complete(self.descriptor, self.format_name, self.info.result, self.extras, lossless=lossless)
        return self.failure is None

    def kill(self) -> None:
        """Make the encoder give up at its next row."""
        self._killed = True
        image = self._image
        if image is not None:
            image.set_kill(True)

    def stop(self) -> None:
        """Give up and wait for the thread, which sees that no more comes; not for ever, should an encoder not react."""
        self.kill()
        self._feed.abandon()
        self._thread.join(timeout=30.0)

    def _run(self) -> None:
        try:
            self._save()
        except Exception as error:
            self.failure = reason_of(error)
        finally:
            self._image = None
            self._feed.drain()

    def _save(self) -> None:
        info = replace(self.info.result, dtype=self._stored)
        image = self._feed.image()
        if self.info.reduction:
            shape: dict[str, Any] = {"has_alpha": info.has_alpha, "dtype": self.dtype, "bits": self._bits}
            image = reduce_image(image, self.info.reduction, **shape)
        if self.dtype == np.float32:
            image = self._of_floats(image)
        if info.has_alpha and not FORMATS[self.format_name].alpha:
            image = image.flatten(background=self._background)
        image = _with_metadata(image, info, self.extras)
        if animation := self.options.animation:
            _animate(image, animation)
        self._image = image
        if self._killed:
            image.set_kill(True)
        if self.extras.gap:
            os.lseek(self.descriptor, len(self.extras.gap), os.SEEK_SET)
        target = vips().Target.new_to_descriptor(self.descriptor)
        options = _saver_options(self.format_name, info, self.options, self.extras)
        getattr(image, FORMATS[self.format_name].saver)(target, **options)

    def _of_floats(self, image: Any) -> Any:
        """Back to the range of values that the picture came with, in the numbers of the file."""
        if self.info.float_range:
            last = self.info.colours
            colours = self.info.float_range.from_unit(image.extract_band(0, n=last))
            image = colours.bandjoin(image.extract_band(last)) if self.info.has_alpha else colours
        if self._stored != np.float32:
            return to_integers(image, self._stored, self._bits)
        return image.copy(interpretation="b-w" if self.info.colours == 1 else "scrgb")


def one_pixel_png(info: ImageInfo, options: WriteOptions, extras: Extras) -> bytes:
    """What libvips writes into a PNG beside the pixels, with one of them."""
    image = vips().Image.new_from_memory(
        bytes(8), 1, 1, info.channels, "ushort" if info.dtype == np.uint16 else "uchar"
    )
    kinds = {(True, True): "b-w", (True, False): "srgb", (False, True): "grey16", (False, False): "rgb16"}
    image = image.copy(interpretation=kinds[info.dtype == np.uint8, info.colours == 1])
    return bytes(_with_metadata(image, info, extras).pngsave_buffer(**_saver_options("png", info, options, extras)))


def _known_density(info: ImageInfo) -> bool:
    return bool(info.metadata.xres and info.metadata.yres)


def _saver_options(format_name: str, info: ImageInfo, options: WriteOptions, extras: Extras) -> dict[str, Any]:
    found = _SAVER_OPTIONS[format_name](info, options)
    if extras.exif is None and not _known_density(info) and "keep" not in found:
        found["keep"] = _ALL_BUT_EXIF  # libvips would invent one, with a density
    return found


def _with_metadata(image: Any, info: ImageInfo, extras: Extras) -> Any:
    """An image with its metadata; libvips writes orientation, size and density into the EXIF of each format by itself."""
    # EXIF and TIFF must have a number: where nothing is known 1, from which `complete` takes the unit.
    known, metadata = _known_density(info), info.metadata
    image = image.copy(xres=metadata.xres if known else _ONE, yres=metadata.yres if known else _ONE)
    blobs = {
        "exif-data": without_thumbnail(extras.exif),
        "xmp-data": extras.xmp,
        "iptc-data": info.metadata.iptc,
        "icc-profile-data": extras.icc,
    }
    for name, blob in blobs.items():
        if blob is not None:
            image.set_type(vips().GValue.blob_type, name, blob)
    image.set_type(vips().GValue.gint_type, "orientation", 1)
    image.set_type(vips().GValue.gstr_type, "resolution-unit", "in")
    return image


def _animate(image: Any, animation: Animation) -> None:
    integer, integers = vips().GValue.gint_type, vips().GValue.array_int_type
    image.set_type(integer, "page-height", animation.height)
    image.set_type(integer, "n-pages", len(animation.delays))
    image.set_type(integers, "delay", list(animation.delays))
    image.set_type(integer, "loop", animation.loop)


def _png_options(info: ImageInfo, options: WriteOptions) -> dict[str, Any]:
    # Measured on a photograph, one core: level 1 97 MB/s and 79 % of raw, level 2 55 MB/s and 57 %, level 6 45 MB/s and
    # 56 %; at level 2, filter none 68 MB/s and 81 %, sub 64 MB/s and 61 %, all five (tried per row) 37 MB/s and 56 %.
    return {"compression": options.png_level, "filter": "paeth"}


def _jpeg_options(info: ImageInfo, options: WriteOptions) -> dict[str, Any]:
    # Optimal Huffman tables save 2 % (median of 22 photographs, at most 13 %), but libjpeg keeps 12 bytes a pixel for them.
    return {"Q": options.quality, "subsample_mode": "off", "optimize_coding": info.pixels <= 2**20}


def _tiff_options(info: ImageInfo, options: WriteOptions) -> dict[str, Any]:
    # That for floats is not read by all programs.
    predictor = "none" if options.tiff_compression == "none" or info.dtype == np.float32 else "horizontal"
    # Classic TIFF ends at 4 GiB, and deflate can make noise larger.
    big = info.pixels * info.channels * info.dtype.itemsize > 2**31 or options.bigtiff
    tiles: dict[str, Any] = {"tile": True, "tile_width": 256, "tile_height": 256} if options.pyramid else {"tile": True}
    compression = {"compression": options.tiff_compression, "predictor": predictor}
    return {**compression, **tiles, "pyramid": options.pyramid, "bigtiff": big or options.pyramid}


def _dzi_options(info: ImageInfo, options: WriteOptions) -> dict[str, Any]:
    tile = ".png[compression=1]" if info.has_alpha else f".jpg[Q={options.quality},subsample_mode=off]"
    return {
        "container": "zip",
        "imagename": DEEP_ZOOM_NAME,
        "suffix": tile,
        "tile_size": 254,
        "overlap": 1,
        "keep": "icc",
    }


def _webp_options(info: ImageInfo, options: WriteOptions) -> dict[str, Any]:
    return {"Q": options.quality, "lossless": options.lossless, "exact": True, "effort": 2}


def _gif_options(info: ImageInfo, options: WriteOptions) -> dict[str, Any]:
    return {"effort": 7, "dither": 1.0}


def _avif_options(info: ImageInfo, options: WriteOptions) -> dict[str, Any]:
    bits = AVIF_BITS if info.dtype == np.uint16 else 8
    # Measured on a photograph, CPU seconds a megapixel at quality 95: effort 0 0.13, 1 0.36, 2 0.65, for 8.6, 8.3 and 8.2 %
    # of raw and less than 0.2 dB. The bundled x2 takes 0.8 for as many: encoding must not be what one waits for. Without
    # loss, effort 0 makes files 10 % larger than 1, which takes 0.5.
    lossy = {"Q": options.quality, "lossless": options.lossless, "subsample_mode": "off"}
    return {**lossy, "compression": "av1", "bitdepth": bits, "effort": 1 if options.lossless else 0}


_SAVER_OPTIONS = {
    "png": _png_options,
    "jpeg": _jpeg_options,
    "tiff": _tiff_options,
    "webp": _webp_options,
    "gif": _gif_options,
    "dzi": _dzi_options,
    "avif": _avif_options,
}
