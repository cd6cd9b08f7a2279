"""Files <-> rows of pixels, with depth, alpha, ICC, EXIF, XMP, DPI and orientation kept.

    with ImageReader("in.tif") as reader, ImageWriter("out.png", reader.info) as writer:
        while reader.rows_left:
            writer.write_rows(reader.read_rows(64))

Both sides stream from top to bottom, so memory depends on the width of an image and not on its height, for PNG, JPEG and
TIFF. WebP and AVIF are coded as a whole by their libraries; an image that EXIF turns by 90 or 180 degrees is decoded once
by libvips, to memory or, above 100 MB, to a temporary file.
"""

from sr_tile.images.formats import (
    READABLE_SUFFIXES,
    ImageInfo,
    Metadata,
    WriteOptions,
    format_by_content,
    format_of,
    holds_alpha,
    holds_gray,
    holds_sixteen_bits,
)
from sr_tile.images.reader import MAX_PIXELS, ImageReader
from sr_tile.images.writer import ImageWriter

__all__ = [
    "MAX_PIXELS",
    "READABLE_SUFFIXES",
    "ImageInfo",
    "ImageReader",
    "ImageWriter",
    "Metadata",
    "WriteOptions",
    "format_by_content",
    "format_of",
    "holds_alpha",
    "holds_gray",
    "holds_sixteen_bits",
]
