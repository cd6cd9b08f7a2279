"""Image files with known pixels, for the tests of images."""

import numpy as np
from PIL import Image
from skimage import data

from sr_tile.images import ImageInfo, ImageReader, ImageWriter, Metadata, WriteOptions

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "tiff": ".tif", "webp": ".webp", "avif": ".avif"}


def noise(height, width, channels, dtype=np.uint8):
    high = np.iinfo(dtype).max + 1
    return np.random.default_rng(height * width).integers(0, high, (height, width, channels)).astype(dtype)


def photograph(channels=3, dtype=np.uint8):
    image_hwc = np.dstack([data.astronaut()[100:300, 100:400], data.camera()[100:300, 100:400]])
    return image_hwc[:, :, {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]].astype(dtype) * (
        257 if dtype == np.uint16 else 1
    )


def save(path, image):
    Image.fromarray(image).save(path)
    return path


def write(path, image_hwc, strip=64, metadata=None, **options):
    info = ImageInfo(*image_hwc.shape, image_hwc.dtype, metadata or Metadata())
    with ImageWriter(path, info, options=WriteOptions(**options)) as writer:
        for y in range(0, len(image_hwc), strip):
            writer.write_rows(image_hwc[y : y + strip])


def read(path, strip=64):
    with ImageReader(path) as reader:
        parts = [reader.read_rows(strip)]
        while reader.rows_left:
            parts.append(reader.read_rows(strip))
        assert reader.read_rows(1).shape == (0, reader.info.width, reader.info.channels)
        image_hwc = np.concatenate(parts)
        assert image_hwc.shape == (reader.info.height, reader.info.width, reader.info.channels)
        assert image_hwc.dtype == reader.info.dtype
        return image_hwc, reader.info


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def exif_block(orientation=1):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", orientation
    exif[0x011A], exif[0x011B], exif[0x0128] = 300.0, 300.0, 2
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 10:00:00"
    exif.get_ifd(0x8769)[0xA002] = 99_999
    exif.get_ifd(0x8825)[1] = "N"
    return exif.tobytes()
