"""A picture, and what is said when a file of it is read, for tests of odd files."""

import io
import logging

from PIL import Image
from support.image_files import noise, photograph

PIXELS = noise(40, 56, 3)


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def jpeg(**options):
    buffer = io.BytesIO()
    Image.fromarray(photograph()).save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()
