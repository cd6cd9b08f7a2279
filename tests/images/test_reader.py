import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps
from skimage.metrics import peak_signal_noise_ratio
from support.image_files import SUFFIXES, exif_block, names, noise, photograph, read, write

from sr_tile.errors import ArgumentError, ImageReadError, ImageWriteError
from sr_tile.images import (
    READABLE_SUFFIXES,
    ImageInfo,
    ImageReader,
    ImageWriter,
    Metadata,
    WriteOptions,
    format_of,
    holds_alpha,
    holds_gray,
    holds_sixteen_bits,
    suffix_for_result,
)

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("strip", [1, 7, 10_000])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (37, 53), (300, 200)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("format_name", ["png", "tiff"])
def test_png_and_tiff_keep_every_bit(tmp_path, format_name, dtype, channels, size, strip):
    image_hwc, path = noise(*size, channels, dtype), tmp_path / f"a{SUFFIXES[format_name]}"
    write(path, image_hwc, strip)
    again_hwc, info = read(path, strip)
    np.testing.assert_array_equal(again_hwc, image_hwc)
    assert info.dtype == dtype
    assert names(tmp_path) == [path.name]
    if format_name == "tiff":
        np.testing.assert_array_equal(tifffile.imread(path).reshape(image_hwc.shape), image_hwc)
    elif dtype == np.uint8:
        np.testing.assert_array_equal(np.asarray(Image.open(path)).reshape(image_hwc.shape), image_hwc)
    elif channels == 1:
        np.testing.assert_array_equal(np.asarray(Image.open(path)), image_hwc[:, :, 0])


@pytest.mark.parametrize("compression", ["none", "deflate", "lzw"])
def test_every_tiff_compression_keeps_every_bit(tmp_path, compression):
    image_hwc = photograph(3, np.uint16)
    write(tmp_path / "a.tif", image_hwc, tiff_compression=compression)
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[0], image_hwc)


@pytest.mark.parametrize(
    "options", [{}, {"tile": (16, 32)}, {"bigtiff": True}, {"rowsperstrip": 5}, {"byteorder": ">"}]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_reads_what_tifffile_writes(tmp_path, dtype, options):
    image_hwc = noise(61, 45, 3, dtype)
    kept = {key: value for key, value in options.items() if key not in ("bigtiff", "byteorder")}
    opened = {key: value for key, value in options.items() if key in ("bigtiff", "byteorder")}
    with tifffile.TiffWriter(tmp_path / "a.tif", **opened) as writer:
        writer.write(image_hwc, photometric="rgb", **kept)
    np.testing.assert_array_equal(read(tmp_path / "a.tif", 7)[0], image_hwc)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("format_name", ["webp", "avif"])
def test_lossless_webp_and_avif_keep_every_bit(tmp_path, format_name, channels):
    image_hwc = noise(37, 53, channels)
    write(tmp_path / f"a.{format_name}", image_hwc, lossless=True)
    np.testing.assert_array_equal(read(tmp_path / f"a.{format_name}")[0], image_hwc)


def test_avif_keeps_the_upper_twelve_bits_rounded(tmp_path):
    image_hwc = noise(37, 53, 3, np.uint16)
    image_hwc[0, 0], image_hwc[0, 1] = 0, 65_535
    write(tmp_path / "a.avif", image_hwc, lossless=True)
    again_hwc, info = read(tmp_path / "a.avif")
    assert info.dtype == np.uint16
    assert np.abs(again_hwc.astype(int) - image_hwc).max() <= 9
    assert (again_hwc[0, 0] == 0).all()
    assert (again_hwc[0, 1] == 65_535).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("format_name", ["jpeg", "webp", "avif"])
def test_lossy_formats_stay_close(tmp_path, format_name, channels):
    if channels in (2, 4) and not holds_alpha(format_name):
        pytest.skip("no alpha")
    image_hwc, path = photograph(channels), tmp_path / f"a{SUFFIXES[format_name]}"
    write(path, image_hwc)
    again_hwc, info = read(path)
    assert info.has_alpha == (channels in (2, 4))
    if not holds_gray(format_name) and channels < 3:
        image_hwc = image_hwc[:, :, [0, 0, 0, 1][: channels + 2]]
    assert peak_signal_noise_ratio(image_hwc, again_hwc) > 38
    if format_name == "jpeg":
        assert path.read_bytes().count(b"\xff\xc0") == 1
        if channels == 3:
            assert all(layer[1:3] == (1, 1) for layer in Image.open(path).layer)  # no chroma subsampling


@pytest.mark.parametrize("format_name", ["jpeg", "webp"])
def test_eight_bit_formats_ask_for_eight_bits(tmp_path, format_name):
    info = ImageInfo(4, 5, 3, np.dtype(np.uint16))
    assert not holds_sixteen_bits(format_name)
    with ImageWriter(tmp_path / f"a{SUFFIXES[format_name]}", info) as writer:
        assert writer.dtype == np.uint8
        writer.write_rows(np.zeros((4, 5, 3), np.uint8))
    with ImageWriter(tmp_path / "a.png", info) as writer:
        assert writer.dtype == np.uint16
        with pytest.raises(ArgumentError, match="uint16"):
            writer.write_rows(np.zeros((4, 5, 3), np.uint8))
        writer.write_rows(np.zeros((4, 5, 3), np.uint16))


@pytest.mark.parametrize("target", list(SUFFIXES))
@pytest.mark.parametrize("source", ["jpeg", "png", "webp", "tiff"])
def test_metadata_go_from_every_format_to_every_other(tmp_path, source, target):
    before, after = tmp_path / f"before{SUFFIXES[source]}", tmp_path / f"after{SUFFIXES[target]}"
    write(before, photograph(), metadata=Metadata(ICC, exif_block(6), XMP, None, 300 / 25.4, 300 / 25.4))
    image_hwc, info = read(before)
    write(after, image_hwc, metadata=info.metadata)
    with Image.open(after) as image:
        assert image.size == (300, 200)
        assert image.info["icc_profile"] == ICC
        xmp = image.info.get("xmp") or image.info["XML:com.adobe.xmp"].encode()
        assert xmp.rstrip(b"\0") == XMP
        exif = image.getexif()
        assert exif.get(0x0112, 1) == 1
        assert exif[0x010F] == "Maker"
        assert exif[0x011A] == pytest.approx(300, abs=0.1)
        assert exif.get_ifd(0x8769)[0x9003] == "2020:01:01 10:00:00"
        assert exif.get_ifd(0x8769)[0xA002] == 300
        assert exif.get_ifd(0x8825)[1] == "N"
        if "dpi" in image.info:
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    metadata = read(after)[1].metadata
    assert (metadata.xres, metadata.yres) == pytest.approx((300 / 25.4, 300 / 25.4), rel=1e-3)


def test_profile_of_another_colour_space_is_left_out(tmp_path):
    write(tmp_path / "a.png", photograph(1), metadata=Metadata(icc=ICC))
    assert read(tmp_path / "a.png")[1].metadata.icc is None


def test_unknown_density_and_no_metadata(tmp_path):
    Image.fromarray(photograph()).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png")[1].metadata == Metadata()


@pytest.mark.parametrize("target", list(SUFFIXES))
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(tmp_path, orientation, target):
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(photograph()).resize((20, 10)).save(buffer, "png")
    exif.get_ifd(0x8769)[0xA002] = 20
    path = tmp_path / "turned.png"
    Image.open(buffer).save(path, exif=exif)
    with Image.open(path) as image:
        expected_hwc = np.asarray(ImageOps.exif_transpose(image))
    image_hwc, info = read(path, 3)
    np.testing.assert_array_equal(image_hwc, expected_hwc)
    after = tmp_path / f"after{SUFFIXES[target]}"
    write(after, image_hwc, metadata=info.metadata)
    with Image.open(after) as image:
        assert image.size == expected_hwc.shape[1::-1]
        assert image.getexif().get(0x0112, 1) == 1
        assert ImageOps.exif_transpose(image).size == image.size
        assert image.getexif().get_ifd(0x8769).get(0xA002, image.size[0]) == image.size[0]
    assert read(after)[0].shape == expected_hwc.shape


def test_exif_thumbnail_does_not_survive(tmp_path):
    thumbnail = io.BytesIO()
    Image.new("RGB", (8, 8)).save(thumbnail, "jpeg")
    body = thumbnail.getvalue()
    ifd0 = struct.pack("<H", 1) + struct.pack("<HHII", 0x0112, 3, 1, 1) + struct.pack("<I", 26)
    ifd1 = struct.pack("<H", 2) + struct.pack("<HHII", 0x0201, 4, 1, 56) + struct.pack("<HHII", 0x0202, 4, 1, len(body))
    block = b"Exif\0\0II*\0\x08\0\0\0" + ifd0 + ifd1 + struct.pack("<I", 0) + body
    Image.fromarray(photograph()).save(tmp_path / "a.jpg", exif=block)
    image_hwc, info = read(tmp_path / "a.jpg")
    write(tmp_path / "b.jpg", image_hwc, metadata=info.metadata)
    with Image.open(tmp_path / "a.jpg") as image:
        assert 0x0201 in image.getexif().get_ifd(-1)
    with Image.open(tmp_path / "b.jpg") as image:
        assert 0x0201 not in image.getexif().get_ifd(-1)


def test_palette_one_bit_and_transparent_colour(tmp_path):
    photo = Image.fromarray(photograph())
    palette = photo.quantize(16)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read(tmp_path / "p.png")[0], np.asarray(palette.convert("RGB")))
    palette.save(tmp_path / "t.png", transparency=3)
    with Image.open(tmp_path / "t.png") as image:
        np.testing.assert_array_equal(read(tmp_path / "t.png")[0], np.asarray(image.convert("RGBA")))
    for suffix in ("png", "tif"):
        bits = photo.convert("1")
        bits.save(tmp_path / f"bits.{suffix}")
        np.testing.assert_array_equal(read(tmp_path / f"bits.{suffix}")[0][:, :, 0], np.asarray(bits.convert("L")))


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_becomes_srgb(tmp_path, suffix):
    flat = np.zeros((20, 30, 4), np.uint8)
    flat[:, 10:20] = (0, 255, 255, 0)
    flat[:, 20:] = (0, 0, 0, 255)
    Image.fromarray(flat, "CMYK").save(tmp_path / f"a.{suffix}", **({"quality": 100} if suffix == "jpg" else {}))
    image_hwc, info = read(tmp_path / f"a.{suffix}")
    assert (info.channels, info.dtype, info.metadata.icc) == (3, np.uint8, None)
    assert image_hwc[10, 2].min() > 245
    red, green, blue = (int(value) for value in image_hwc[10, 14])
    assert red > 180
    assert max(green, blue) < 90
    assert image_hwc[10, 28].max() < 80


def test_premultiplied_tiff_is_undone(tmp_path):
    rgba_hwc = np.zeros((8, 8, 4), np.uint8)
    rgba_hwc[...] = (100, 50, 0, 128)
    tifffile.imwrite(tmp_path / "a.tif", rgba_hwc, photometric="rgb", extrasamples=["assocalpha"])
    image_hwc, info = read(tmp_path / "a.tif")
    assert info.channels == 4
    np.testing.assert_allclose(image_hwc[0, 0], (199, 100, 0, 128), atol=1)


def png_claiming(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    idat = b"IDAT" + zlib.compress(b"\0" * 100)
    parts = [struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) for body in (chunk, idat)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


BAD = {
    "empty.png": b"",
    "text.png": b"not a picture\n" * 50,
    "numbers.csv": b"1,2\n3,4\n",
    "header.png": b"\x89PNG\r\n\x1a\n",
    "huge.png": png_claiming(2**31 - 1, 2**31 - 1),
    "large.png": png_claiming(2**20, 2**20),
    "soi.jpg": b"\xff\xd8\xff\xe0",
    "head.tif": b"II*\0\x08\0\0\0",
    "riff.webp": b"RIFF\x10\0\0\0WEBPVP8 ",
    "ftyp.avif": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf",
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_files_are_refused_in_one_line(tmp_path, name, capfd):
    (tmp_path / name).write_bytes(BAD[name])
    with pytest.raises(ImageReadError) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_missing_folder_and_closed(tmp_path):
    for path in (tmp_path / "missing.png", tmp_path):
        with pytest.raises(ImageReadError, match=str(path)):
            ImageReader(path)
    write(tmp_path / "a.png", photograph())
    reader = ImageReader(tmp_path / "a.png")
    with pytest.raises(ArgumentError):
        reader.read_rows(0)
    reader.close()
    reader.close()
    with pytest.raises(ImageReadError, match="closed"):
        reader.read_rows(1)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("format_name", list(SUFFIXES))
def test_truncated_files_are_errors(tmp_path, format_name, share, capfd):
    path = tmp_path / f"a{SUFFIXES[format_name]}"
    write(path, photograph())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ImageReadError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("format_name", ["png", "tiff"])
def test_damaged_pixels_are_errors(tmp_path, format_name):
    path = tmp_path / f"a{SUFFIXES[format_name]}"
    write(path, photograph())
    damaged = bytearray(path.read_bytes())
    damaged[30_000:30_050] = bytes(50)  # JPEG and WebP have no checksum, nor has a deflated strip that ends early
    path.write_bytes(damaged)
    with pytest.raises(ImageReadError):
        read(path)


def test_what_would_lose_something_is_refused(tmp_path):
    small = Image.fromarray(photograph()).resize((20, 10))
    small.save(tmp_path / "pages.tif", save_all=True, append_images=[small.rotate(90, expand=True)])
    small.save(tmp_path / "moving.webp", save_all=True, append_images=[ImageOps.invert(small)])
    for name in ("pages.tif", "moving.webp"):
        with pytest.raises(ImageReadError, match="2 pages"):
            ImageReader(tmp_path / name)
    tifffile.imwrite(tmp_path / "double.tif", np.zeros((8, 8), np.float64))
    tifffile.imwrite(tmp_path / "long.tif", np.zeros((8, 8), np.uint32))
    tifffile.imwrite(tmp_path / "many.tif", np.zeros((8, 8, 6), np.uint8), photometric="rgb")
    for name in ("double.tif", "long.tif", "many.tif"):
        with pytest.raises(ImageReadError, match="supported"):
            ImageReader(tmp_path / name)


def test_content_decides_and_names_are_only_names(tmp_path):
    image_hwc = photograph()
    for name in ("a[1].png", "ä ö.png", "b.png"):
        write(tmp_path / name, image_hwc)
        np.testing.assert_array_equal(read(tmp_path / name)[0], image_hwc)
    (tmp_path / "b.png").rename(tmp_path / "b.jpg")
    np.testing.assert_array_equal(read(tmp_path / "b.jpg")[0], image_hwc)


def test_formats_by_suffix():
    written = {suffix for suffix in READABLE_SUFFIXES if suffix_for_result(suffix) == suffix}
    assert {suffix: format_of(f"x{suffix.upper()}") for suffix in written} == {
        ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".jfif": "jpeg", ".jpe": "jpeg", ".jif": "jpeg",
        ".tif": "tiff", ".tiff": "tiff", ".webp": "webp", ".avif": "avif", ".gif": "gif",
    }  # fmt: skip
    with pytest.raises(ImageWriteError, match=r"x\.bmp"):
        format_of("x.bmp")
    for options in ({"quality": 0}, {"format": "bmp"}, {"png_level": 10}, {"tiff_compression": "zip"}):
        with pytest.raises(ArgumentError):
            WriteOptions(**options)
    for arguments in ((0, 1, 3, np.uint8), (1, 1, 5, np.uint8), (1, 1, 3, np.float64)):
        with pytest.raises(ArgumentError):
            ImageInfo(*arguments)
