"""Files <-> rows of pixels, with depth, alpha, ICC, EXIF, XMP, DPI and orientation kept.

    with ImageReader("in.tif") as reader, ImageWriter("out.png", reader.info) as writer:
        while reader.rows_left:
            writer.write_rows(reader.read_rows(64))

Both sides stream from top to bottom, so memory depends on the width of an image and not on its height, for PNG, JPEG and
TIFF. WebP and AVIF are coded as a whole by their libraries; an image that EXIF turns by 90 or 180 degrees is decoded once
by libvips, to memory or, above 100 MB, to a temporary file.
"""

from sr_tile.images.content_type import READABLE_SUFFIXES, describe_content, format_by_content, suffix_for_result
from sr_tile.images.decoding import MAX_PIXELS
from sr_tile.images.formats import (
    ImageInfo,
    Metadata,
    Reduction,
    WriteOptions,
    format_of,
    holds_alpha,
    holds_gray,
    holds_sixteen_bits,
    is_written,
)
from sr_tile.images.reader import ImageReader
from sr_tile.images.target_size import TargetSize
from sr_tile.images.writer import ImageWriter

__all__ = [
    "MAX_PIXELS",
    "READABLE_SUFFIXES",
    "ImageInfo",
    "ImageReader",
    "ImageWriter",
    "Metadata",
    "Reduction",
    "TargetSize",
    "WriteOptions",
    "describe_content",
    "format_by_content",
    "format_of",
    "holds_alpha",
    "holds_gray",
    "holds_sixteen_bits",
    "is_written",
    "suffix_for_result",
]
