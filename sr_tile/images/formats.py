"""What each format holds, and what an image is: no pixels, no libvips."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sr_tile.errors import ArgumentError, ImageWriteError


@dataclass(frozen=True)
class Format:
    saver: str
    suffixes: tuple[str, ...]
    alpha: bool
    sixteen_bits: bool
    gray: bool  # False: gray is stored as RGB and comes back as RGB
    max_side: int


FORMATS = {
    "png": Format("pngsave_target", (".png",), True, True, True, 2**31 - 1),
    "jpeg": Format("jpegsave_target", (".jpg", ".jpeg"), False, False, True, 65_535),
    "tiff": Format("tiffsave_target", (".tif", ".tiff"), True, True, True, 2**31 - 1),
    "webp": Format("webpsave_target", (".webp",), True, False, False, 16_383),
    "avif": Format("heifsave_target", (".avif",), True, True, False, 16_384),
}
_TIFF_COMPRESSIONS = ("none", "deflate", "lzw")  # what every build of libvips has

READABLE_SUFFIXES = frozenset(suffix for kind in FORMATS.values() for suffix in kind.suffixes)
"""What a folder scan picks up, in lower case; a single file is opened by its content, whatever its name."""


def format_of(path: Path | str) -> str:
    """Name of the format that a file name asks for: png, jpeg, tiff, webp or avif.

    Raises:
        ImageWriteError: no format has this suffix.
    """
    suffix = Path(path).suffix.lower()
    for name, kind in FORMATS.items():
        if suffix in kind.suffixes:
            return name
    known = ", ".join(sorted(READABLE_SUFFIXES))
    raise ImageWriteError(f"{path}: no image format has the suffix '{suffix}': use one of {known}")


def format_by_content(head: bytes) -> str | None:
    """Name of the format of a file by its first 16 bytes; None for what is not read here."""
    if head[4:8] == b"ftyp":
        return "avif" if head[8:12] in (b"avif", b"mif1", b"miaf") else None
    if head[:4] == b"RIFF":
        return "webp" if head[8:12] == b"WEBP" else None
    known = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}
    known.update(dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "tiff"))
    return next((name for mark, name in known.items() if head.startswith(mark)), None)


def holds_alpha(format_name: str) -> bool:
    """Whether files of this format can be transparent."""
    return kind_of(format_name).alpha


def holds_sixteen_bits(format_name: str) -> bool:
    """Whether files of this format hold more than 8 bits a channel (PNG and TIFF: 16; AVIF: the upper 12)."""
    return kind_of(format_name).sixteen_bits


def holds_gray(format_name: str) -> bool:
    """Whether gray stays one channel; WebP and AVIF store it as RGB."""
    return kind_of(format_name).gray


def kind_of(format_name: str) -> Format:
    if format_name not in FORMATS:
        raise ArgumentError(f"unknown image format {format_name!r}: use one of {', '.join(FORMATS)}")
    return FORMATS[format_name]


@dataclass(frozen=True)
class Metadata:
    """What a file says about its pixels, passed on unchanged; empty for an array.

    exif is as it was read: the writer sets its orientation to 1 and its size to that of the output, and leaves out the
    thumbnail. From and to a TIFF it is what describes the picture, and not what describes the pixels of that file.
    xres and yres are pixels per millimetre; None: unknown.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    xres: float | None = None
    yres: float | None = None


@dataclass(frozen=True)
class ImageInfo:
    """Size, depth and metadata of an image.

    height and width are those after the EXIF orientation was applied; channels: 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA;
    dtype: uint8 or uint16, both over their full range; float32 of range [0, 1] for arrays, which no file holds.
    """

    height: int
    width: int
    channels: int
    dtype: np.dtype
    metadata: Metadata = Metadata()

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
class WriteOptions:
    """How to encode; what a format does not know, it ignores.

    format: None takes it from the suffix. quality: 1 to 100, for JPEG, and for WebP and AVIF unless lossless.
    png_level: 0 to 9. tiff_compression: none, deflate or lzw, all of them lossless.
    """

    format: str | None = None
    quality: int = 95
    lossless: bool = False
    png_level: int = 2
    tiff_compression: str = "deflate"

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
