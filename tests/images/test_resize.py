"""Reducing, against the same filter written out in NumPy."""

import numpy as np
import pytest
from skimage import data
from support.lanczos import reduced

from sr_tile.images import ImageInfo, ImageReader, ImageWriter, Metadata, Reduction, WriteOptions
from sr_tile.images.arrays import ArraySink
from sr_tile.images.resize import reduce_array


def photograph(channels, dtype):
    """(300, 400): colours of a photograph, alpha a smooth wave from 0.2 to 1."""
    pixels = data.astronaut()[:300, :400].astype(np.float64) / 255
    y, x = np.mgrid[:300, :400]
    alpha = (0.6 + 0.4 * np.sin(y / 17) * np.cos(x / 23))[..., None]
    colours = pixels if channels > 2 else pixels.mean(axis=2, keepdims=True)
    unit = np.concatenate([colours, alpha], axis=2) if channels in (2, 4) else colours
    return unit.astype(dtype) if dtype == np.float32 else np.rint(unit * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(225, 300), (150, 200), (31, 47), (299, 399)])
def test_eight_bits_within_one_step_of_the_filter_in_float(size, channels, linear):
    image = photograph(channels, np.uint8)
    result = reduce_array(image, Reduction(*size, linear=linear))
    assert result.shape == (*size, channels)
    assert result.dtype == np.uint8
    assert abs(result - reduced(image, *size, linear)).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_more_bits_keep_their_precision(dtype):
    image = photograph(4, dtype)
    top = 1 if dtype == np.float32 else 65_535
    error = abs(reduce_array(image, Reduction(150, 200)) - reduced(image, 150, 200)).max()
    assert error <= (1e-5 if dtype == np.float32 else 1), error * top


def test_what_is_transparent_leaves_no_fringe():
    image = np.zeros((64, 64, 4), np.uint8)
    image[:, :32] = (200, 100, 50, 255)
    image[:, 32:] = (0, 255, 0, 0)
    result = reduce_array(image, Reduction(23, 23))
    seen = result[..., 3] > 25
    assert abs(result[seen][:, :3].astype(int) - (200, 100, 50)).max() <= 1


def test_a_writer_and_an_array_are_reduced_alike_in_blocks_of_any_height(tmp_path):
    for name, channels, dtype in (("a.png", 4, np.uint16), ("b.tif", 3, np.uint8), ("c.png", 1, np.uint8)):
        image = photograph(channels, dtype)
        info = ImageInfo(300, 400, channels, dtype, Metadata(xres=10.0, yres=20.0), Reduction(100, 150))
        sink = ArraySink(info)
        with ImageWriter(tmp_path / name, info) as writer:
            for first, end in ((0, 1), (1, 130), (130, 300)):
                writer.write_rows(image[first:end])
                sink.write_rows(image[first:end])
        sink.close()
        with ImageReader(tmp_path / name) as reader:
            assert (reader.info.height, reader.info.width) == (100, 150)
            assert reader.info.metadata.xres == pytest.approx(10 * 150 / 400, rel=1e-3)
            assert reader.info.metadata.yres == pytest.approx(20 * 100 / 300, rel=1e-3)
            assert np.array_equal(reader.read_rows(100), sink.pixels_hwc)


def test_avif_is_rounded_once_to_its_twelve_bits(tmp_path):
    image = photograph(3, np.uint16)
    info = ImageInfo(300, 400, 3, np.uint16, reduction=Reduction(150, 200))
    with ImageWriter(tmp_path / "a.avif", info, options=WriteOptions(lossless=True)) as writer:
        writer.write_rows(image)
    with ImageReader(tmp_path / "a.avif") as reader:
        assert abs(reader.read_rows(150) - reduced(image, 150, 200)).mean() <= 65_535 / 4095
