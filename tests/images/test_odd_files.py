"""Files that every viewer opens, though something about them is odd; and others that must be refused by their name."""

import io
import logging
import struct
import threading

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image
from support.image_files import noise, photograph, read
from support.tiff_files import ASCII, SHORT, gray_and_alpha, tiff

from sr_tile.errors import ImageReadError
from sr_tile.images import ImageReader
from sr_tile.images.avif_boxes import read_avif
from sr_tile.images.png_chunks import chunk

PIXELS = noise(40, 56, 3)
TIFFS = {
    "unsorted": {"ordered": False},
    "no counts": {"drop": (279,)},
    "counts of 0": {"change": {279: 0}},
    "counts too large": {"change": {279: 10**6}},
    "counts too small": {"change": {279: 10}},
    "orientation 0": {"extra": [(274, SHORT, 1, 0)]},
    "orientation 9": {"extra": [(274, SHORT, 1, 9)]},
    "unit 0": {"extra": [(296, SHORT, 1, 0)]},
    "unit 7": {"extra": [(296, SHORT, 1, 7)]},
    "text without zero": {"extra": [(270, ASCII, 8, b"abcdefgh")]},
    "short text without zero": {"extra": [(305, ASCII, 4, b"name")]},
    "short date": {"extra": [(306, ASCII, 10, b"2020:01:01")]},
    "width twice": {"twice": (256,)},
    "next directory beyond the end": {"following": 0x7FFFFFE},
    "everything at once": {
        "ordered": False, "drop": (279,), "extra": [(274, SHORT, 1, 0), (305, ASCII, 4, b"name")], "following": 10**9,
    },
}  # fmt: skip
SILENT = {
    "private tag of an unknown type": {"extra": [(50_000, 99, 1, 7)]},
    "text that lies outside": {"extra": [(270, ASCII, 10**6, 10**6)]},
    "no rows per strip": {"drop": (278,)},
    "sample format of 0": {"extra": [(339, SHORT, 3, struct.pack("<3H", 1, 1, 1))]},
    "bits said once": {"drop": (258,), "extra": [(258, SHORT, 1, 8)]},
}


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", list(TIFFS))
def test_what_libtiff_only_warns_about_is_read_with_one_warning(tmp_path, name, dtype, order, caplog):
    pixels_hwc = noise(40, 56, 3, dtype)
    (tmp_path / "a.tif").write_bytes(tiff(pixels_hwc, order=order, **TIFFS[name]))
    np.testing.assert_array_equal(read(tmp_path / "a.tif", 7)[0], pixels_hwc)
    assert len(warnings_of(caplog)) == 1


@pytest.mark.parametrize("name", list(SILENT))
def test_what_says_nothing_about_the_pixels_does_not_matter(tmp_path, name):
    (tmp_path / "a.tif").write_bytes(tiff(PIXELS, **SILENT[name]))
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[0], PIXELS)


@pytest.mark.parametrize("channels", [2, 4])
def test_a_channel_that_nothing_is_said_about_is_alpha(tmp_path, channels):
    pixels_hwc = noise(20, 30, channels)
    (tmp_path / "a.tif").write_bytes(tiff(pixels_hwc))
    again_hwc, info = read(tmp_path / "a.tif")
    assert info.has_alpha
    np.testing.assert_array_equal(again_hwc, pixels_hwc)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("name", ["no counts", "counts of 0", "counts too large", "text without zero"])
def test_an_odd_tiff_that_lacks_pixels_is_an_error(tmp_path, name, share):
    data = bytearray(tiff(PIXELS, **TIFFS[name]))
    (directory,) = struct.unpack_from("<I", data, 4)
    cut = data[: 8 + int(PIXELS.size * share)]
    # the directory moves in front of what is left, so that only pixels are missing
    moved = bytes(cut) + bytes(len(cut) % 2)
    table = bytes(data[directory:])
    struct.pack_into("<I", data, 4, len(moved))
    bits = table.find(struct.pack("<HHI", 258, SHORT, 3)) + 8
    table = table[:bits] + struct.pack("<I", len(moved) + len(table)) + table[bits + 4 :]
    (tmp_path / "a.tif").write_bytes(
        bytes(data[:8]) + moved[8:] + table + struct.pack("<3H", 8, 8, 8)
    )  # fmt: skip
    # What lies behind the pixels is not pixels: only what would be read beyond the end of the file can be known.
    try:
        read(tmp_path / "a.tif")
    except ImageReadError:
        return
    assert len(moved) + len(table) >= PIXELS.size * share


@pytest.mark.parametrize(
    "options", [{}, {"rowsperstrip": 1}, {"rowsperstrip": 16}, {"tile": (16, 16)}, {"compression": "zlib"}]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_gray_and_alpha_in_separate_planes(tmp_path, dtype, options, bigtiff):
    pixels_hwc = gray_and_alpha(dtype=dtype)
    planes = np.moveaxis(pixels_hwc, -1, 0)
    tifffile.imwrite(
        tmp_path / "a.tif", planes, planarconfig="separate", photometric="minisblack", extrasamples=["unassalpha"],
        bigtiff=bigtiff, **options,
    )  # fmt: skip
    np.testing.assert_array_equal(read(tmp_path / "a.tif", 5)[0], pixels_hwc)


@pytest.mark.parametrize(
    "options", [{}, {"rowsperstrip": 1}, {"rowsperstrip": 16}, {"tile": (16, 16)}, {"compression": "zlib"}]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [3, 4])
def test_colours_in_separate_planes(tmp_path, channels, dtype, options):
    pixels_hwc = noise(61, 45, channels, dtype)
    kind = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.moveaxis(pixels_hwc, -1, 0),
        planarconfig="separate",
        photometric="rgb",
        **kind,
        **options,
    )
    np.testing.assert_array_equal(read(tmp_path / "a.tif", 5)[0], pixels_hwc)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 4])
def test_premultiplied_colours_are_divided_and_rounded(tmp_path, channels, dtype):
    top = np.iinfo(dtype).max
    generator = np.random.default_rng(0)
    alpha = generator.integers(0, top + 1, (30, 40, 1))
    colours = (generator.random((30, 40, channels - 1)) * (alpha + 1)).astype(int)
    alpha[0], alpha[1] = 0, top
    colours[0] = 0
    pixels_hwc = np.dstack([colours, alpha]).astype(dtype)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels_hwc, photometric="rgb" if channels == 4 else "minisblack", extrasamples=["assocalpha"],
        planarconfig="contig",
    )  # fmt: skip
    again_hwc, _ = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(again_hwc[..., -1:], alpha)
    exact = np.minimum(colours * top / np.maximum(alpha, 1), top)
    np.testing.assert_allclose(again_hwc[..., :-1], np.where(alpha > 0, exact, colours), atol=0.5)


@pytest.mark.parametrize("subsampling", [(2, 2), (2, 1), (1, 1)])
def test_luma_and_chroma_stay_rgb(tmp_path, subsampling):
    Image.fromarray(photograph()).convert("YCbCr").save(tmp_path / "whole.tif")
    _, info = read(tmp_path / "whole.tif")
    assert info.channels == 3
    h, w = 16, 16
    tile_h, tile_w = subsampling[1], subsampling[0]
    unit = bytes([100] * (tile_h * tile_w) + [120, 140])
    raw = unit * ((h // tile_h) * (w // tile_w))
    data = tiff(
        np.zeros((h, w, 3), np.uint8),
        change={262: 6, 279: len(raw)},
        extra=[(530, SHORT, 2, struct.pack("<2H", *subsampling))],
    )
    (tmp_path / "a.tif").write_bytes(data[:8] + raw + data[8 + len(raw) :])
    pixels_hwc, info = read(tmp_path / "a.tif")
    assert info.channels == 3
    if subsampling != (1, 1):
        expected = np.array(Image.new("YCbCr", (1, 1), (100, 120, 140)).convert("RGB"))[0, 0]
        np.testing.assert_allclose(pixels_hwc, np.broadcast_to(expected, pixels_hwc.shape), atol=2)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("first", ["picture", "reduced"])
@pytest.mark.parametrize("kind", [1, 4, 5])
def test_reduced_copies_and_masks_are_no_pages(tmp_path, first, kind, bigtiff):
    small = PIXELS[::4, ::4]
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=bigtiff) as writer:
        if first == "reduced":
            writer.write(small, photometric="rgb", subfiletype=1)
        writer.write(PIXELS, photometric="rgb", description="the picture")
        for _ in range(3):
            writer.write(small, photometric="rgb", subfiletype=1)
    form = "<HHQI" if bigtiff else "<HHII"
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data.replace(struct.pack(form, 254, 4, 1, 1), struct.pack(form, 254, 4, 1, kind)))
    pixels_hwc, info = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels_hwc, PIXELS)
    assert b"the picture" in info.metadata.exif


def test_a_single_page_that_calls_itself_reduced_is_read(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[0], PIXELS)


def jpeg(**options):
    buffer = io.BytesIO()
    Image.fromarray(photograph()).save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


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


def test_reasons_of_files_read_at_a_time_are_not_swapped(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(PIXELS, change={259: 34661}))
    damaged = bytearray(jpeg())
    damaged[len(damaged) // 2 :] = bytes(len(damaged) - len(damaged) // 2)
    (tmp_path / "b.jpg").write_bytes(damaged)
    png = io.BytesIO()
    Image.fromarray(photograph()).save(png, "PNG")
    broken = bytearray(png.getvalue())
    broken[20_000:20_100] = bytes(100)
    (tmp_path / "c.png").write_bytes(broken)
    belongs = {"a.tif": "JBIG", "b.jpg": "JPEG data", "c.png": "compressed pixels"}
    wrong = []

    def work(name):
        for _ in range(20):
            try:
                read(tmp_path / name)
            except ImageReadError as error:
                others = [word for other, word in belongs.items() if other != name]
                text = str(error).split(": ", 1)[1]
                if any(word in text for word in others):
                    wrong.append(str(error))

    threads = [threading.Thread(target=work, args=(name,)) for name in belongs for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
