"""HEIC and raw files, against pillow-heif, and against the known mosaic of a DNG that tifffile wrote."""

import logging

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage import data
from support.image_files import read

from sr_tile.errors import ImageReadError
from sr_tile.images import ImageReader, camera_files


def heic(path, image_hwc, **options):
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed: pip install 'sr-tile[heif]'")
    mode = {(np.uint8, 3): "RGB", (np.uint8, 4): "RGBA", (np.uint16, 3): "RGB;16"}[
        image_hwc.dtype.type, image_hwc.shape[2]
    ]
    pillow_heif.encode(mode, image_hwc.shape[1::-1], image_hwc.tobytes(), path, quality=-1, **options)
    return np.asarray(pillow_heif.open_heif(path, convert_hdr_to_8bit=False))


@pytest.mark.parametrize(("channels", "dtype"), [(3, np.uint8), (4, np.uint8), (3, np.uint16)])
def test_pixels_and_metadata_of_heic(tmp_path, channels, dtype):
    photo = np.dstack([data.astronaut()[:96, :128], data.camera()[:96, :128]])[..., :channels]
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    expected = heic(tmp_path / "a.heic", photo.astype(dtype) * (257 if dtype == np.uint16 else 1), exif=exif.tobytes())
    pixels_hwc, info = read(tmp_path / "a.heic")
    np.testing.assert_array_equal(pixels_hwc, expected)
    assert pixels_hwc.dtype == dtype
    assert b"Maker" in info.metadata.exif
    (tmp_path / "a.heic").rename(tmp_path / "b.jpg")  # by its content
    np.testing.assert_array_equal(read(tmp_path / "b.jpg")[0], expected)


def dng(path, mosaic):
    """A Bayer mosaic (RGGB) of 16 bits under the matrix of sRGB."""
    matrix = (32406, -15372, -4986, -9689, 18758, 415, 557, -2040, 10570)
    tags = [
        (33421, "H", 2, (2, 2), False),
        (33422, "B", 4, bytes((0, 1, 1, 2)), False),
        (50706, "B", 4, bytes((1, 4, 0, 0)), False),
        (50708, "s", 0, "Test", False),
        (50717, "I", 1, 65_535, False),
        (50728, "2I", 3, (1, 1) * 3, False),
        (50721, "2i", 9, tuple(number for value in matrix for number in (value, 10_000)), False),
        (271, "s", 0, "Maker", False),
    ]
    tifffile.imwrite(path, mosaic, photometric=32803, extratags=tags, metadata=None)


def test_a_raw_file_is_developed_and_says_so(tmp_path, caplog):
    pytest.importorskip("rawpy", reason="rawpy is not installed: pip install 'sr-tile[raw]'")
    mosaic = np.full((200, 300), 20_000, np.uint16)
    mosaic[:, 150:] = 5_000
    dng(tmp_path / "a.dng", mosaic)
    with caplog.at_level(logging.WARNING):
        pixels_hwc, info = read(tmp_path / "a.dng")
    assert camera_files.DEVELOPMENT in caplog.text
    assert (pixels_hwc.dtype, pixels_hwc.shape[2]) == (np.uint16, 3)
    assert pixels_hwc[:, 20:130].mean() > 1.5 * pixels_hwc[:, 170:280].mean()
    assert b"Maker" in info.metadata.exif


@pytest.mark.parametrize("name", ["a.dng", "a.heic"])
def test_what_is_damaged_is_one_line(tmp_path, name):
    start = {"a.dng": b"II*\0\x08\0\0\0", "a.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"}[name]
    (tmp_path / name).write_bytes(start + bytes(range(200)))
    with pytest.raises(ImageReadError, match=name) as caught:
        ImageReader(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("module", "kind"), [("pillow_heif", "heic"), ("rawpy", "dng")])
def test_without_the_library_a_line_says_what_to_install(tmp_path, monkeypatch, module, kind):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    start = {"dng": b"II*\0\x08\0\0\0", "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"}[kind]
    (tmp_path / f"a.{kind}").write_bytes(start + bytes(200))
    with pytest.raises(ImageReadError, match=r"pip install 'sr-tile\["):
        ImageReader(tmp_path / f"a.{kind}")
