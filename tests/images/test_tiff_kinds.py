"""TIFFs of kinds that libvips does not know or reads wrongly: odd depths, Lab, plain YCbCr, old LZW, old JPEG, LZMA."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms
from support.image_files import noise, photograph, read
from support.tiff_files import LONG, SHORT, tiff

from sr_tile.errors import ImageReadError


def shorts(*numbers):
    return struct.pack(f"<{len(numbers)}H", *numbers)


def pack(numbers, bits):
    """Rows of numbers as bits without gaps, each row from a new byte."""
    flat = numbers.reshape(len(numbers), -1, 1).astype(np.uint32)
    places = np.arange(bits - 1, -1, -1)
    return np.packbits(((flat >> places) & 1).astype(np.uint8).reshape(len(numbers), -1), axis=1)


def packed_tiff(numbers_hwc, bits, *, planar=False, photometric=None, extra=()):
    height, width, channels = numbers_hwc.shape
    planes = [numbers_hwc[..., [k]] for k in range(channels)] if planar else [numbers_hwc]
    raw = np.concatenate([pack(plane, bits) for plane in planes])
    size = len(raw[0]) * height
    change = {256: width, 257: height, 262: (2 if channels > 2 else 1) if photometric is None else photometric}
    change |= {258: shorts(*[bits] * channels), 277: channels, 278: height}
    entries = [(258, SHORT, channels, shorts(*[bits] * channels)), (284, SHORT, 1, 2 if planar else 1), *extra]
    if planar:
        entries += [(273, LONG, channels, struct.pack(f"<{channels}I", *(8 + size * k for k in range(channels))))]
        entries += [(279, LONG, channels, struct.pack(f"<{channels}I", *[size] * channels))]
    drop = (258, 273, 279) if planar else (258,)
    return tiff(raw[..., None], change=change, drop=drop, extra=entries)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 9, 10, 12, 14, 15])
def test_samples_of_any_number_of_bits(tmp_path, bits, channels, planar):
    numbers_hwc = np.random.default_rng(bits).integers(0, 2**bits, (70, 37, channels))
    (tmp_path / "a.tif").write_bytes(packed_tiff(numbers_hwc, bits, planar=planar and channels > 1))
    pixels_hwc, info = read(tmp_path / "a.tif", 9)
    full = 255 if bits <= 8 else 65_535
    assert info.dtype == (np.uint8 if bits <= 8 else np.uint16)
    # half a step is 0.5; libvips reads 2 and 4 bits itself, and 15 bits are no multiple
    np.testing.assert_allclose(pixels_hwc, numbers_hwc * (full / (2**bits - 1)), atol=0.51)


@pytest.mark.parametrize("bits", [3, 6, 12])
def test_numbers_that_count_from_white_to_black(tmp_path, bits):
    numbers_hwc = np.random.default_rng(bits).integers(0, 2**bits, (20, 37, 1))
    (tmp_path / "a.tif").write_bytes(packed_tiff(numbers_hwc, bits, photometric=0))
    full = 255 if bits <= 8 else 65_535
    expected_hwc = full - numbers_hwc * (full / (2**bits - 1))
    np.testing.assert_allclose(read(tmp_path / "a.tif")[0], expected_hwc, atol=0.51)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_odd_depths_are_turned_upright(tmp_path, orientation):
    numbers_hwc = np.random.default_rng(1).integers(0, 4096, (20, 37, 1))
    (tmp_path / "a.tif").write_bytes(packed_tiff(numbers_hwc, 12, extra=[(274, SHORT, 1, orientation)]))
    (tmp_path / "b.tif").write_bytes(
        tiff((numbers_hwc * 16 + (numbers_hwc >> 8)).astype(np.uint16), extra=[(274, SHORT, 1, orientation)])
    )
    np.testing.assert_allclose(read(tmp_path / "a.tif")[0], read(tmp_path / "b.tif")[0].astype(int), atol=1)


def test_odd_depths_that_cannot_be_unpacked_are_named(tmp_path):
    numbers_hwc = np.zeros((20, 37, 1), int)
    (tmp_path / "a.tif").write_bytes(packed_tiff(numbers_hwc, 12, photometric=3))
    with pytest.raises(ImageReadError, match=r"TIFF of 12 bits a channel with .* a palette .* save it with 8 or 16"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_odd_depths_that_end_early_are_an_error(tmp_path, share):
    data = packed_tiff(np.ones((200, 37, 1), int), 12)
    (directory,) = struct.unpack_from("<I", data, 4)
    moved = 8 + int((directory - 8) * share) // 2 * 2
    (tmp_path / "a.tif").write_bytes(data[:4] + struct.pack("<I", moved) + data[8:moved] + data[directory:])
    with pytest.raises(ImageReadError, match=r"beyond its end|damaged"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("coefficients", "weights"),
    [
        (None, (0.299, 0.587, 0.114)),
        ((2126, 10_000, 7152, 10_000, 722, 10_000), (0.2126, 0.7152, 0.0722)),
        ((1, 0, 1, 0, 1, 0), (0.299, 0.587, 0.114)),  # a division by nothing
    ],
)
@pytest.mark.parametrize("planar", [False, True])
def test_luma_and_chroma_of_equal_size_become_rgb(tmp_path, coefficients, weights, planar):
    ycc_hwc = noise(24, 36, 3)
    extra = [(530, SHORT, 2, shorts(1, 1))]
    if coefficients:
        extra += [(529, 5, 3, struct.pack("<6I", *coefficients))]
    (tmp_path / "a.tif").write_bytes(packed_tiff(ycc_hwc, 8, planar=planar, photometric=6, extra=extra))
    red, green, blue = weights
    y, cb, cr = np.moveaxis(ycc_hwc.astype(float), 2, 0)
    r, b = y + 2 * (1 - red) * (cr - 128), y + 2 * (1 - blue) * (cb - 128)
    expected_hwc = np.clip(np.dstack([r, (y - red * r - blue * b) / green, b]), 0, 255)
    np.testing.assert_allclose(read(tmp_path / "a.tif")[0], expected_hwc, atol=0.51)


def lab_of(rgb_hwc):
    """By LittleCMS, a and b around 128."""
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    image = ImageCms.applyTransform(Image.fromarray(rgb_hwc), ImageCms.buildTransform(srgb, lab, "RGB", "LAB"))
    return np.asarray(image).copy()  # a and b in two's complement


@pytest.mark.parametrize("photometric", [8, 9])
@pytest.mark.parametrize("wide", [False, True])
def test_lab_becomes_srgb(tmp_path, photometric, wide, caplog):
    rgb_hwc = photograph(3)
    lab_hwc = lab_of(rgb_hwc)
    if photometric == 9:
        lab_hwc[..., 1:] ^= 0x80
    if wide:
        top = 65_535 if photometric == 8 else 65_280
        lab_hwc = np.dstack([np.rint(lab_hwc[..., :1] * (top / 255)), lab_hwc[..., 1:].astype(int) * 256])
        lab_hwc = lab_hwc.astype(np.uint16)
    data = tiff(lab_hwc, change={262: photometric})
    (tmp_path / "a.tif").write_bytes(data)
    pixels_hwc, info = read(tmp_path / "a.tif", 33)
    assert info.channels == 3
    assert info.dtype == lab_hwc.dtype
    difference = np.abs(pixels_hwc / (257 if wide else 1) - rgb_hwc.astype(float))
    assert difference.mean() < 1.5  # Lab of 8 bits has fewer steps than RGB
    assert np.quantile(difference, 0.999) < 12
    assert "Lab is converted to sRGB" in caplog.text


@pytest.mark.parametrize("photometric", [8, 9])
def test_gray_in_lab_stays_gray(tmp_path, photometric):
    lightness = np.arange(256, dtype=np.uint8).reshape(16, 16)
    middle = np.full_like(lightness, 0 if photometric == 8 else 128)
    (tmp_path / "a.tif").write_bytes(tiff(np.dstack([lightness, middle, middle]), change={262: photometric}))
    pixels_hwc = read(tmp_path / "a.tif")[0].astype(int)
    assert np.ptp(pixels_hwc, axis=2).max() <= 1
    assert pixels_hwc[0, 0].tolist() == [0, 0, 0]
    assert pixels_hwc[-1, -1].tolist() == [255, 255, 255]


def old_lzw(data):
    """Codes from the lowest bit on, as before TIFF 6: the table is cleared so often that all have 9 bits."""
    codes = []
    for start in range(0, len(data), 250):
        codes += [256, *data[start : start + 250]]
    codes.append(257)
    bits = (np.array(codes)[:, None] >> np.arange(9)) & 1
    return np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


def test_old_lzw_codes_are_read(tmp_path):
    pixels_hwc = noise(40, 56, 3)
    codes = old_lzw(pixels_hwc.tobytes())
    raw = np.frombuffer(codes, np.uint8).reshape(1, -1, 1)
    change = {256: 56, 257: 40, 259: 5, 262: 2, 277: 3, 278: 40}
    data = tiff(raw, change=change, drop=(258,), extra=[(258, SHORT, 3, shorts(8, 8, 8))])
    (tmp_path / "a.tif").write_bytes(data)
    np.testing.assert_array_equal(read(tmp_path / "a.tif", 7)[0], pixels_hwc)
    damaged = raw.copy()
    damaged[0, raw.shape[1] // 2 :] = 255
    (tmp_path / "b.tif").write_bytes(
        tiff(damaged, change=change, drop=(258,), extra=[(258, SHORT, 3, shorts(8, 8, 8))])
    )
    with pytest.raises(ImageReadError, match="damaged"):
        read(tmp_path / "b.tif")


@pytest.mark.parametrize("orientation", [1, 6])
def test_old_jpeg_is_read_by_pillow(tmp_path, orientation):
    out = io.BytesIO()
    Image.fromarray(photograph(3)).save(out, "JPEG", quality=90, subsampling=0)
    raw = np.frombuffer(out.getvalue(), np.uint8).reshape(1, -1, 1)
    change = {256: 300, 257: 200, 259: 6, 262: 6, 277: 3, 278: 200}
    extra = [(258, SHORT, 3, shorts(8, 8, 8)), (512, SHORT, 1, 1), (513, LONG, 1, 8), (514, LONG, 1, raw.size)]
    extra += [(530, SHORT, 2, shorts(1, 1)), (274, SHORT, 1, orientation), (282, 5, 1, struct.pack("<2I", 300, 1))]
    extra += [(283, 5, 1, struct.pack("<2I", 300, 1)), (296, SHORT, 1, 2)]
    (tmp_path / "a.tif").write_bytes(tiff(raw, change=change, drop=(258,), extra=extra))
    expected_hwc = np.rot90(np.asarray(Image.open(out)), 3 if orientation == 6 else 0)
    pixels_hwc, info = read(tmp_path / "a.tif")
    np.testing.assert_allclose(pixels_hwc, expected_hwc.astype(int), atol=1)
    assert info.metadata.xres == pytest.approx(300 / 25.4)


def test_what_libvips_has_no_codec_for_is_read_by_pillow(tmp_path):
    image = Image.fromarray(photograph(4))
    image.save(tmp_path / "a.tif", compression="lzma", dpi=(300, 300), exif=exif())
    pixels_hwc, info = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels_hwc, np.asarray(image))
    assert info.metadata.xres == pytest.approx(300 / 25.4)
    assert b"A camera" in info.metadata.exif


def exif():
    block = Image.Exif()
    block[0x0110] = "A camera"
    return block


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (1, np.uint16), (3, np.uint8), (4, np.uint8)])
def test_where_nothing_says_what_values_mean_they_are_gray_or_rgb(tmp_path, channels, dtype, caplog):
    pixels_hwc = noise(20, 30, channels, dtype)
    (tmp_path / "a.tif").write_bytes(tiff(pixels_hwc, drop=(262,)))
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[0], pixels_hwc)
    assert "no word on what its values mean" in caplog.text
