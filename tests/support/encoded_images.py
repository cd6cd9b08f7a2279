"""Files of all kinds, small, for the tests of the server."""

import io
import struct
import zlib

import numpy as np
from PIL import Image
from support.toys import noise_image


def encoded(kind="png", height=50, width=70, channels=3, dtype=np.uint8, seed=0, **options):
    """The bytes of an image file."""
    pixels = noise_image(height, width, channels, dtype, seed)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind.upper(), **options)
    return buffer.getvalue()


def header_only(height, width):
    """A PNG that says it is large, and holds nothing."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))


def mixed(count):
    """(kind, bytes) of many small images of all sizes and kinds."""
    kinds = ["png", "jpeg", "tiff", "webp", "png", "png"]
    for number in range(count):
        kind = kinds[number % len(kinds)]
        channels = {4: 1, 5: 4}.get(number % len(kinds), 3)
        height, width = 20 + number * 7 % 90, 15 + number * 13 % 110
        yield kind, encoded(kind, height, width, channels, seed=number)
