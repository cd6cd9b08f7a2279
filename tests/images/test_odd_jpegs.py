"""JPEGs that every viewer opens, though something about them is odd."""

import io

import numpy as np
import pytest
import pyvips
from PIL import Image
from support.image_files import photograph, read
from support.odd_files import jpeg, warnings_of

from sr_tile.errors import ImageReadError


def with_scan_header(data, header):
    data = bytearray(data)
    at = data.index(b"\xff\xda")
    end = at + 5 + 2 * data[at + 4]
    data[end : end + 3] = header
    return bytes(data)


def before(data, marker, put):
    at = data.index(marker)
    return data[:at] + put + data[at:]


JPEGS = {
    "Se of 0": lambda: with_scan_header(jpeg(), bytes(3)),
    "Se of 64": lambda: with_scan_header(jpeg(), b"\0\x40\0"),
    "Ss of 1": lambda: with_scan_header(jpeg(), b"\1\x3f\0"),
    "a byte before the tables": lambda: before(jpeg(), b"\xff\xdb", b"\0"),
    "bytes before the frame": lambda: before(jpeg(), b"\xff\xc0", b"\1\2\3\4"),
    "bytes before the Huffman tables": lambda: before(jpeg(), b"\xff\xc4", bytes(20)),
    "bytes before the scan": lambda: before(jpeg(), b"\xff\xda", b"\0\0"),
    "255 and 0 before the tables": lambda: before(jpeg(), b"\xff\xdb", b"\xff\0\0\2"),
    "255 and 0 twice before the scan": lambda: before(jpeg(), b"\xff\xda", b"\xff\0\7\7\xff\0"),
    "a later JFIF": lambda: jpeg().replace(b"JFIF\0\1", b"JFIF\0\2", 1),
    "bytes before the second scan": lambda: (
        before(jpeg(progressive=True)[700:], b"\xff\xda", b"\0\0") and _second_scan()
    ),
    "everything at once": lambda: with_scan_header(before(jpeg(), b"\xff\xc4", bytes(3)), bytes(3)),
}


def _second_scan():
    data = jpeg(progressive=True)
    first = data.index(b"\xff\xda")
    at = data.index(b"\xff\xc4", first)
    return data[:at] + bytes(3) + data[at:]


@pytest.mark.parametrize("name", list(JPEGS))
def test_what_libjpeg_only_warns_about_is_read_with_one_warning(tmp_path, name, caplog):
    (tmp_path / "a.jpg").write_bytes(JPEGS[name]())
    with Image.open(tmp_path / "a.jpg") as image:
        expected_hwc = np.asarray(image)
    np.testing.assert_array_equal(read(tmp_path / "a.jpg", 13)[0], expected_hwc)
    # Between scans, libjpeg takes a few zeros for the end of the pixels and says nothing.
    assert len(warnings_of(caplog)) == (0 if name == "bytes before the second scan" else 1)


@pytest.mark.parametrize("junk", [b"", b"\0", b"\0" * 100, b"\xff\xd9", b"trailer"])
def test_bytes_behind_the_last_pixel_do_not_matter(tmp_path, junk):
    (tmp_path / "a.jpg").write_bytes(jpeg() + junk)
    with Image.open(io.BytesIO(jpeg())) as image:
        np.testing.assert_array_equal(read(tmp_path / "a.jpg")[0], np.asarray(image))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_that_lacks_its_end_marker_only_is_whole(tmp_path, mode, caplog):
    out = io.BytesIO()
    Image.fromarray(photograph()).convert(mode).save(out, "JPEG")
    (tmp_path / "a.jpg").write_bytes(out.getvalue()[:-2])
    np.testing.assert_array_equal(read(tmp_path / "a.jpg")[0], np.atleast_3d(np.asarray(Image.open(out))))
    assert warnings_of(caplog) == [f"{tmp_path / 'a.jpg'}: taken in spite of no end marker"]


@pytest.mark.parametrize("behind", [0, 1, 2, 30])
def test_a_jpeg_that_lacks_pixels_and_its_end_is_an_error(tmp_path, behind):
    (tmp_path / "a.jpg").write_bytes(jpeg()[: -4 - behind])
    with pytest.raises(ImageReadError, match="ends early, before its end marker"):
        read(tmp_path / "a.jpg")


def test_a_progressive_jpeg_that_ends_between_two_scans_lacks_pixels(tmp_path):
    data = jpeg(progressive=True)
    scans = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    tables = data.rindex(b"\xff\xc4", 0, scans[-1])
    (tmp_path / "a.jpg").write_bytes(data[:tables])
    with pytest.raises(ImageReadError, match="ends early"):
        read(tmp_path / "a.jpg")


@pytest.mark.parametrize("share", [0.3, 0.7])
@pytest.mark.parametrize("name", ["Se of 0", "a byte before the tables", "everything at once"])
def test_an_odd_jpeg_that_lacks_pixels_is_an_error(tmp_path, name, share):
    whole = JPEGS[name]()
    (tmp_path / "a.jpg").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ImageReadError, match="truncated"):
        read(tmp_path / "a.jpg")


def test_a_gain_map_is_left_out_with_a_warning(tmp_path, caplog):
    light = (np.random.default_rng(0).random((64, 64, 3)) * 4).astype(np.float32)
    pyvips.Image.new_from_array(light).copy(interpretation="scrgb").uhdrsave(str(tmp_path / "a.jpg"))
    with Image.open(tmp_path / "a.jpg") as image:
        np.testing.assert_array_equal(read(tmp_path / "a.jpg")[0], np.asarray(image))
    assert "gain map" in warnings_of(caplog)[0]
