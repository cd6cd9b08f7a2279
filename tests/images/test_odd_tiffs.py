"""TIFFs that every viewer opens, though something about them is odd."""

import io
import struct
import threading

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.image_files import noise, photograph, read
from support.odd_files import PIXELS, jpeg, warnings_of
from support.tiff_files import ASCII, SHORT, gray_and_alpha, tiff

from sr_tile.errors import ImageReadError

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
