"""What each format holds, and what an image is: no pixels, no libvips."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sr_tile.errors import ArgumentError, ImageWriteError
from sr_tile.images.float_range import FloatRange


@dataclass(frozen=True)
class Format:
    saver: str
    suffixes: tuple[str, ...]
    alpha: bool
    sixteen_bits: bool
    gray: bool  # False: gray is stored as RGB and comes back as RGB
    max_side: int
    floats: bool = False


FORMATS = {
    "png": Format("pngsave_target", (".png",), True, True, True, 2**31 - 1),
    "jpeg": Format("jpegsave_target", (".jpg", ".jpeg", ".jfif", ".jpe", ".jif"), False, False, True, 65_535),
    "tiff": Format("tiffsave_target", (".tif", ".tiff"), True, True, True, 2**31 - 1, floats=True),
    "webp": Format("webpsave_target", (".webp",), True, False, False, 16_383),
    "gif": Format("gifsave_target", (".gif",), True, False, False, 65_535),
    "dzi": Format("dzsave_target", (".dzi",), True, False, True, 2**31 - 1),
    "avif": Format("heifsave_target", (".avif",), True, True, False, 16_384),
}
WRITTEN_SUFFIXES = frozenset(suffix for kind in FORMATS.values() for suffix in kind.suffixes)
"""Of images that are written, in lower case; those of films are in `content_type`."""

FILES = {name: kind for name, kind in FORMATS.items() if name != "dzi"}
"""Formats that are one file each, and are read as well."""

STRIPPED = ("all", "gps")
"""What may be left out of a result's metadata."""

_TIFF_COMPRESSIONS = ("none", "deflate", "lzw")  # what every build of libvips has


def format_of(path: Path | str) -> str:
    """Name of the format that a file name asks for: png, jpeg, tiff, webp or avif.

    Raises:
        ImageWriteError: no format has this suffix.
    """
    suffix = Path(path).suffix.lower()
    for name, kind in FORMATS.items():
        if suffix in kind.suffixes:
            return name
    known = ", ".join(sorted(WRITTEN_SUFFIXES))
    raise ImageWriteError(f"{path}: no format for pictures has the suffix '{suffix}': use one of {known}")


def suffix_of(format_name: str) -> str:
    """The usual suffix of a format, by its name or one of its suffixes: `.jpg` for jpeg; what is no format keeps its own."""
    name = format_name.lower()
    return FORMATS[name].suffixes[0] if name in FORMATS else f".{name}"


def same_format(suffix: str, other: str) -> bool:
    """Whether two suffixes mean one format, as `.jpg` and `.jpeg` do."""
    return suffix == other or any({suffix, other} <= set(kind.suffixes) for kind in FORMATS.values())


TAKEN_BY = {
    "quality": ("jpeg", "webp", "avif", "dzi"),
    "lossless": ("webp", "avif"),
    "pyramid": ("tiff",),
    "background": tuple(name for name, kind in FORMATS.items() if not kind.alpha),
    "codec": (),
}
"""Options of `WriteOptions` that not every format takes; films take a quality, and a codec, as well."""


def listed(kinds: Iterable[str]) -> str:
    """Formats as a sentence names them."""
    names = [{"webp": "WebP"}.get(name, name.upper()) for name in kinds]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def holds_alpha(format_name: str) -> bool:
    """Whether files of this format can be transparent."""
    return kind_of(format_name).alpha


def holds_sixteen_bits(format_name: str) -> bool:
    """Whether files of this format hold more than 8 bits a channel (PNG and TIFF: 16; AVIF: the upper 12)."""
    return kind_of(format_name).sixteen_bits


def holds_gray(format_name: str) -> bool:
    """Whether gray stays one channel; WebP and AVIF store it as RGB."""
    return kind_of(format_name).gray


def stored_dtype(format_name: str, dtype: np.dtype) -> np.dtype:
    """In which numbers a file holds pixels of a number type."""
    kind = kind_of(format_name)
    if dtype == np.float32 and kind.floats:
        return np.dtype(np.float32)
    return np.dtype(np.uint16 if dtype != np.uint8 and kind.sixteen_bits else np.uint8)


def is_written(format_name: str) -> bool:
    """Whether images are written in this format, and not only read."""
    return format_name in FORMATS


def kind_of(format_name: str) -> Format:
    if format_name not in FORMATS:
        raise ArgumentError(f"unknown image format {format_name!r}: use one of {', '.join(FORMATS)}")
    return FORMATS[format_name]


@dataclass(frozen=True)
class Metadata:
    """What a file says about its pixels, passed on unchanged; empty for an array.

    exif is as it was read: the writer sets its orientation to 1 and its size to that of the output, and leaves out the
    thumbnail. From and to a TIFF it is what describes the picture, and not what describes the pixels of that file.
    xres and yres are pixels per millimetre; None: unknown. cicp: colour primaries, transfer and matrix by the numbers of
    ITU-T H.273, and 1 for full range. png_colour: chunks gAMA, cHRM, sRGB, mDCV, cLLI as they are. text: (keyword, text) of
    PNG, and comments under "Comment".
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    xres: float | None = None
    yres: float | None = None
    cicp: tuple[int, int, int, int] | None = None
    png_colour: tuple[tuple[bytes, bytes], ...] = ()
    text: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Reduction:
    """A smaller size to which a sink brings what it is given; linear: in linear light, by sRGB's curve."""

    height: int
    width: int
    linear: bool = False


@dataclass(frozen=True)
class ImageInfo:
    """Size, depth and metadata of an image.

    height and width are those after the EXIF orientation was applied; channels: 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA;
    dtype: uint8 or uint16, both over their full range, or float32 of range [0, 1].
    reduction: what a sink does to the rows, which have the size that height and width say; None: nothing.
    float_range: of the file's values, which readers bring into [0, 1] and writers back; None: they lie there already.
    """

    height: int
    width: int
    channels: int
    dtype: np.dtype
    metadata: Metadata = Metadata()
    reduction: Reduction | None = None
    float_range: FloatRange | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        if self.height < 1 or self.width < 1:
            raise ArgumentError(
                f"an image of {self.height} x {self.width} pixels has no pixels: both must be at least 1"
            )
        if self.channels not in (1, 2, 3, 4):
            raise ArgumentError(f"an image has 1, 2, 3 or 4 channels, not {self.channels}")
        if self.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32)):
            raise ArgumentError(f"pixels are uint8, uint16 or float32, not {self.dtype}: scale and round first")

    def resized(self, height: int, width: int) -> "ImageInfo":
        """The same picture, as large on paper, in another number of pixels: its density grows with it."""
        old = self.metadata
        xres = old.xres and old.xres * width / self.width
        yres = old.yres and old.yres * height / self.height
        return replace(self, height=height, width=width, metadata=replace(old, xres=xres, yres=yres))

    @property
    def result(self) -> "ImageInfo":
        """What a sink makes of it."""
        if self.reduction is None:
            return self
        return replace(self.resized(self.reduction.height, self.reduction.width), reduction=None)

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is opacity."""
        return self.channels in (2, 4)

    @property
    def colours(self) -> int:
        """Channels without alpha: 1 or 3."""
        return 1 if self.channels <= 2 else 3

    @property
    def pixels(self) -> int:
        """Height times width."""
        return self.height * self.width


@dataclass(frozen=True)
class Animation:
    """Frames of equal size that are shown one after the other.

    height: of a frame. delays: of each, in milliseconds. loop: times that all are shown, 0 for ever.
    """

    height: int
    delays: tuple[int, ...]
    loop: int = 0


def parse_colour(text: str) -> tuple[int, int, int]:
    """Red, green and blue of 0 to 255, of `white` or `#rrggbb`.

    Raises:
        ArgumentError: it is no colour.
    """
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise ArgumentError(f"background {text}: give a name such as white, or #rrggbb") from None
    return red, green, blue


@dataclass(frozen=True)
class WriteOptions:
    """How to encode; what a format does not know, it ignores.

    format: None takes it from the suffix. quality: 1 to 100, for JPEG, and for WebP and AVIF unless lossless.
    png_level: 0 to 9. tiff_compression: none, deflate or lzw, all of them lossless. bigtiff: also where it is not needed.
    animation: rows are those of several frames, one below the other, for GIF and WebP. codec: of a film, None takes the
    container's usual one. pyramid: a TIFF that holds smaller copies of itself, for viewers.
    background: of 0 to 255, red, green and blue; what alpha lies on in formats that hold none. strip: `all` or `gps`, see
    `metadata_choices`. history: what was done to the picture, in words, for the history in its XMP.
    """

    format: str | None = None
    quality: int = 95
    lossless: bool = False
    png_level: int = 2
    tiff_compression: str = "deflate"
    bigtiff: bool = False
    animation: Animation | None = None
    codec: str | None = None
    pyramid: bool = False
    background: tuple[int, int, int] | None = None
    strip: str | None = None
    history: str | None = None

    def __post_init__(self) -> None:
        if self.format is not None:
            kind_of(self.format)
        if not 1 <= self.quality <= 100:
            raise ArgumentError(f"quality {self.quality} is out of range: use 1 to 100")
        if not 0 <= self.png_level <= 9:
            raise ArgumentError(f"PNG level {self.png_level} is out of range: use 0 to 9")
        if self.tiff_compression not in _TIFF_COMPRESSIONS:
            known = ", ".join(_TIFF_COMPRESSIONS)
            raise ArgumentError(f"unknown TIFF compression {self.tiff_compression!r}: use one of {known}")
        if self.strip not in (None, *STRIPPED):
            raise ArgumentError(f"strip {self.strip!r} is not known; choose {' or '.join(STRIPPED)}")
        colour = self.background
        if colour is not None and (len(colour) != 3 or not all(value in range(256) for value in colour)):
            raise ArgumentError(f"background {colour!r} is not (red, green, blue) of 0 to 255 each")
