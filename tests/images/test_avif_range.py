"""AVIF: which range its values have, and how many pictures it holds."""

import struct

import numpy as np
import pytest
from PIL import Image
from support.image_files import read
from support.odd_files import PIXELS

from sr_tile.images.avif_boxes import read_avif
from sr_tile.images.png_chunks import chunk


@pytest.mark.parametrize("levels", ["full", "limited"])
@pytest.mark.parametrize("subsampling", ["4:0:0", "4:2:0", "4:4:4"])
def test_gray_avif_covers_the_whole_range(tmp_path, subsampling, levels):
    ramp = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    Image.fromarray(ramp).save(tmp_path / "a.avif", subsampling=subsampling, range=levels, quality=100)
    pixels_hwc, _ = read(tmp_path / "a.avif")
    np.testing.assert_allclose(pixels_hwc, np.repeat(ramp[..., None], 3, axis=2), atol=2)


@pytest.mark.parametrize("levels", ["full", "limited"])
def test_gray_avif_that_says_its_range_in_its_codec_only(tmp_path, levels):
    """libheif gives luma as it is coded; without a `colr` box only the AV1 header knows from where to where that goes."""
    ramp = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    Image.fromarray(ramp).save(tmp_path / "a.avif", subsampling="4:0:0", range=levels, quality=100)
    data = (tmp_path / "a.avif").read_bytes()
    assert data.count(b"colrnclx") == 1
    (tmp_path / "a.avif").write_bytes(data.replace(b"colrnclx", b"skipnclx"))
    assert read_avif(tmp_path / "a.avif").cicp is None
    pixels_hwc, _ = read(tmp_path / "a.avif")
    np.testing.assert_allclose(pixels_hwc, np.repeat(ramp[..., None], 3, axis=2), atol=2)


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4", "4:0:0"])
@pytest.mark.parametrize(("codec", "box"), [("full", 0), ("limited", 0x80), ("full", 0x80), ("limited", 0)])
def test_the_range_in_the_box_of_an_avif_holds_as_in_browsers(tmp_path, codec, box, subsampling):
    """libheif believes the codec; libavif, by which Pillow reads, the box."""
    ramp = np.tile(np.linspace(40, 200, 256).astype(np.uint8), (64, 1))
    Image.fromarray(np.dstack([ramp, ramp[::-1], ramp[:, ::-1]])).save(
        tmp_path / "a.avif", subsampling=subsampling, range=codec, quality=100
    )
    data = bytearray((tmp_path / "a.avif").read_bytes())
    at = data.index(b"colrnclx") + 14
    assert data[at] == (0x80 if codec == "full" else 0)
    data[at] = box
    (tmp_path / "a.avif").write_bytes(data)
    expected_hwc = np.asarray(Image.open(tmp_path / "a.avif").convert("RGB")).astype(int)
    np.testing.assert_allclose(read(tmp_path / "a.avif")[0], expected_hwc, atol=3)


@pytest.mark.parametrize("count", [2**31, 2**31 + 1, 2**32 - 1])
def test_an_impossible_number_of_frames_is_one_picture(tmp_path, count):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    animated = chunk(b"acTL", struct.pack(">II", count, 0))
    (tmp_path / "a.png").write_bytes(data[:33] + animated + data[33:])
    np.testing.assert_array_equal(read(tmp_path / "a.png")[0], PIXELS)
