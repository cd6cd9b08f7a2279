"""Formats that are only read, and those that are refused by their name."""

import struct

import numpy as np
import pytest
from PIL import Image
from support.image_files import noise, photograph, read
from support.odd_files import PIXELS, warnings_of
from support.tiff_files import tiff

from sr_tile.errors import ImageReadError
from sr_tile.images import ImageReader


@pytest.mark.parametrize("kind", ["png", "gif", "webp", "avif"])
def test_animations_are_no_single_picture(tmp_path, kind):
    frames = [Image.fromarray(np.roll(PIXELS, 5 * k, 1)) for k in range(3)]
    frames[0].save(tmp_path / f"a.{kind}", kind.upper(), save_all=True, append_images=frames[1:], duration=100)
    with pytest.raises(ImageReadError, match="one picture is wanted"):
        ImageReader(tmp_path / f"a.{kind}")


WHOLE = {
    "bmp": ("BMP", ["1", "L", "P", "RGB"]), "ppm": ("PPM", ["RGB"]), "pgm": ("PPM", ["L", "I;16"]),
    "pbm": ("PPM", ["1"]), "tga": ("TGA", ["L", "LA", "P", "RGB", "RGBA"]), "gif": ("GIF", ["L", "P"]),
    "jp2": ("JPEG2000", ["L", "LA", "RGB", "RGBA", "I;16"]), "qoi": ("QOI", ["RGB", "RGBA"]),
    "ico": ("ICO", ["RGB", "RGBA"]), "pcx": ("PCX", ["1", "L", "P", "RGB"]), "sgi": ("SGI", ["L", "RGB", "RGBA"]),
    "dds": ("DDS", ["L", "LA", "RGB", "RGBA"]), "icns": ("ICNS", ["RGBA"]),
}  # fmt: skip


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, (_, modes) in WHOLE.items() for mode in modes])
def test_formats_that_are_only_read(tmp_path, suffix, mode):
    photo = Image.fromarray(photograph(4)).convert("RGBA" if mode in ("RGBA", "LA") else "RGB")
    photo = photo.resize({"ico": (128, 128), "icns": (1024, 1024)}.get(suffix, photo.size))
    image = photo.quantize(32) if mode == "P" else photo.convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    image.save(tmp_path / f"a.{suffix}", WHOLE[suffix][0], **({"sizes": [(128, 128)]} if suffix == "ico" else {}))
    expected = np.atleast_3d(np.asarray({"1": image.convert("L"), "P": image.convert("RGB")}.get(mode, image)))
    pixels_hwc, info = read(tmp_path / f"a.{suffix}")
    assert info.dtype == (np.uint16 if mode == "I;16" else np.uint8)
    np.testing.assert_array_equal(pixels_hwc, expected)


def test_of_several_sizes_the_largest_is_taken_with_a_line(tmp_path, caplog):
    image = Image.fromarray(photograph(4)).resize((96, 96))
    image.save(tmp_path / "a.ico", sizes=[(16, 16), (96, 96), (32, 32)])
    np.testing.assert_array_equal(read(tmp_path / "a.ico")[0], np.asarray(image))
    assert warnings_of(caplog) == [f"{tmp_path / 'a.ico'}: the largest of its pictures is taken"]


def test_a_photoshop_file_is_read_as_it_is_flattened(tmp_path):
    pixels_hwc = noise(9, 13, 3)
    planes = b"".join(np.ascontiguousarray(pixels_hwc[..., k]).tobytes() for k in range(3))
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 9, 13, 8, 3) + bytes(12)
    (tmp_path / "a.psd").write_bytes(head + b"\0\0" + planes)
    np.testing.assert_array_equal(read(tmp_path / "a.psd")[0], pixels_hwc)


def test_a_sun_raster_is_read(tmp_path):
    pixels_hwc = noise(8, 12, 3)
    head = struct.pack(">8I", 0x59A66A95, 12, 8, 24, pixels_hwc.size, 1, 0, 0)
    (tmp_path / "a.ras").write_bytes(head + pixels_hwc[..., ::-1].tobytes())
    np.testing.assert_array_equal(read(tmp_path / "a.ras")[0], pixels_hwc)


def test_a_tga_that_begins_like_a_cursor_is_a_tga(tmp_path):
    pixels_hwc = noise(9, 13, 3)
    Image.fromarray(pixels_hwc).save(tmp_path / "a.tga")
    assert (tmp_path / "a.tga").read_bytes()[:4] == b"\0\0\2\0"
    np.testing.assert_array_equal(read(tmp_path / "a.tga")[0], pixels_hwc)


UNSUPPORTED = {
    "PDF": b"%PDF-1.7\n" + bytes(50),
    "SVG": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
    "JPEG XL": b"\xff\x0a" + bytes(50),
    "OpenEXR": b"v/1\x01" + bytes(50),
    "FLI": b"\0\1\0\0\x11\xaf" + bytes(50),
    "DICOM": bytes(128) + b"DICM" + bytes(50),
    "EMF": b"\1\0\0\0" + bytes(50),
    "XPM": b"/* XPM */" + bytes(50),
    "ZIP": b"PK\3\4" + bytes(50),
    "FITS": b"SIMPLE  =                    T" + bytes(50),
}


@pytest.mark.parametrize("name", list(UNSUPPORTED))
def test_other_formats_are_named(tmp_path, name):
    (tmp_path / "a.png").write_bytes(UNSUPPORTED[name])
    with pytest.raises(ImageReadError, match=rf"{name}.* is not supported: convert it"):
        ImageReader(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("code", "name"), [(34661, "JBIG"), (34887, "LERC"), (50002, "JPEG XL"), (33003, "JPEG 2000"), (4711, "4711")]
)
def test_compressions_that_are_not_built_in_are_named(tmp_path, code, name):
    (tmp_path / "a.tif").write_bytes(tiff(PIXELS, change={259: code}))
    with pytest.raises(ImageReadError, match=rf"{name} compression is not supported"):
        read(tmp_path / "a.tif")


def test_a_raw_file_of_a_camera_is_named(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(PIXELS, extra=[(50706, 1, 4, b"\1\4\0\0")]))
    with pytest.raises(ImageReadError, match=r"raw file \(DNG\)"):
        ImageReader(tmp_path / "a.tif")
