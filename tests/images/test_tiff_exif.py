"""EXIF in TIFFs: what goes in comes out, for every reader, and oddities cost no pixel."""

import struct

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image
from PIL.TiffImagePlugin import IFDRational
from support.toys import noise_image

from sr_tile.images import ImageInfo, ImageReader, ImageWriter, Metadata, WriteOptions, encoder
from sr_tile.images.tiff_exif import append_exif, read_exif

USER_COMMENT = b"UNICODE\0" + "ä ö".encode("utf-16-le")
LATITUDE = (48.0, 30.5, 12.25)


def exif_of(orientation=1):
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "Maker", "Model of the maker", orientation
    exif[0x8298] = "Photographer\0Editor\0"
    exif[0x9C9B], exif[0x4746] = "title".encode("utf-16-le"), 4
    exif[0x0100], exif[0x0111] = 12_345, 7  # of other pixels
    exif.get_ifd(0x8769).update(
        {0x9003: "2020:01:01 10:00:00", 0x829A: IFDRational(1, 125), 0x9286: USER_COMMENT, 0xA002: 99_999}
    )
    exif.get_ifd(0x8825).update({0: b"\2\3\0\0", 1: "N", 2: LATITUDE})
    return exif


def block(order="<", big=False, entries=(), exif=()):
    """A TIFF without pixels: entries of IFD0 and of the Exif directory, as (tag, type, count, bytes of the field)."""
    count, entry, offset = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")

    def table(rows):
        body = b"".join(struct.pack(order + entry, *row) for row in rows)
        return struct.pack(order + count, len(rows)) + body + struct.pack(order + offset, 0)

    start = 16 if big else 8
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + "HHQ", 8, 0, start) if big else struct.pack(order + "I", start)
    pointer = start + len(table([*entries, (0x8769, 4, 1, b"")]))
    return head + table([*entries, (0x8769, 4, 1, struct.pack(order + "I", pointer))]) + table(exif)


def write(path, image_hwc, exif, **options):
    info = ImageInfo(*image_hwc.shape, image_hwc.dtype, Metadata(exif=exif))
    with ImageWriter(path, info, options=WriteOptions(**options)) as writer:
        writer.write_rows(image_hwc)


def read(path):
    with ImageReader(path) as reader:
        return reader.read_rows(reader.rows_left), reader.info


def noise(height, width, channels, dtype=np.uint8):
    high = np.iinfo(dtype).max + 1
    return np.random.default_rng(0).integers(0, high, (height, width, channels)).astype(dtype)


@pytest.fixture(params=[False, True], ids=["classic", "big"])
def big(request, monkeypatch):
    plain = encoder._SAVER_OPTIONS["tiff"]
    monkeypatch.setitem(encoder._SAVER_OPTIONS, "tiff", lambda *given: {**plain(*given), "bigtiff": request.param})
    return request.param


@pytest.mark.parametrize("compression", ["none", "deflate"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_reader_sees_the_exif_and_the_same_pixels(tmp_path, big, dtype, channels, compression):
    image_hwc, path = noise(150, 301, channels, dtype), tmp_path / "a.tif"
    write(path, image_hwc, exif_of(6).tobytes(), tiff_compression=compression)
    plain = tmp_path / "plain.tif"
    write(plain, image_hwc, None, tiff_compression=compression)
    before, after = plain.read_bytes(), path.read_bytes()
    header = 16 if big else 8
    assert after[header : len(before)] == before[header:]  # only added to
    assert after[2] == (43 if big else 42)

    again = pyvips.Image.new_from_file(str(path), fail_on="warning")
    assert again.get("n-pages") == 1
    np.testing.assert_array_equal(again.numpy().reshape(image_hwc.shape), image_hwc)
    np.testing.assert_array_equal(read(path)[0], image_hwc)
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == 1
        tags = file.pages[0].tags
        assert list(tags.keys()) == sorted(tags.keys())
        assert file.pages[0].is_tiled
        np.testing.assert_array_equal(file.asarray().reshape(image_hwc.shape), image_hwc)
        assert (tags["Make"].value, tags["Orientation"].value, tags["ImageWidth"].value) == ("Maker", 1, 301)
        assert tags["Copyright"].value == "Photographer; Editor"  # libtiff would warn of a zero
        assert tags["ExifTag"].value["ExposureTime"] == (1, 125)
        assert tags["ExifTag"].value["PixelXDimension"] == 301
        assert tags["ExifTag"].value["PixelYDimension"] == 150
        assert tags["GPSTag"].value["GPSLatitudeRef"] == "N"
    if (dtype, channels) != (np.uint16, 2) and (dtype, channels) != (np.uint16, 4):  # which Pillow does not know
        with Image.open(path) as image:
            exif = image.getexif()
            assert (exif[0x010F], exif[0x0110], exif[0x0112]) == ("Maker", "Model of the maker", 1)
            assert (exif[0x9C9B], exif[0x4746]) == ("title".encode("utf-16-le"), 4)
            details = exif.get_ifd(0x8769)
            assert (details[0x9003], details[0x829A], details[0xA002]) == ("2020:01:01 10:00:00", 1 / 125, 301)
            assert details[0x9286] == USER_COMMENT
            assert exif.get_ifd(0x8825)[2] == LATITUDE


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_jpeg_to_tiff_and_back(tmp_path, big, dtype):
    Image.fromarray(noise(40, 60, 3)).save(tmp_path / "a.jpg", exif=exif_of(6).tobytes())
    image_hwc, info = read(tmp_path / "a.jpg")
    assert image_hwc.shape == (60, 40, 3)
    write(tmp_path / "b.tif", image_hwc.astype(dtype), info.metadata.exif)
    write(tmp_path / "c.jpg", image_hwc, read(tmp_path / "b.tif")[1].metadata.exif)
    with Image.open(tmp_path / "c.jpg") as image:
        assert image.size == (40, 60)
        exif = image.getexif()
        assert (exif[0x010F], exif[0x0110], exif[0x0112]) == ("Maker", "Model of the maker", 1)
        assert not {0x0100, 0x0111, 0x0144} & exif.keys()
        details = exif.get_ifd(0x8769)
        assert (details[0x9003], details[0x9286]) == ("2020:01:01 10:00:00", USER_COMMENT)
        assert (details[0x829A].numerator, details[0x829A].denominator) == (1, 125)
        assert (details[0xA002], details[0xA003]) == (40, 60)
        assert exif.get_ifd(0x8825)[2] == LATITUDE


def test_the_block_does_not_change_on_its_second_way(tmp_path, big):
    write(tmp_path / "a.tif", noise(8, 9, 3), exif_of().tobytes())
    first = read_exif(tmp_path / "a.tif")
    write(tmp_path / "b.tif", noise(8, 9, 3), first)
    assert read_exif(tmp_path / "b.tif") == first
    assert first.startswith(b"Exif\0\0II*\0")


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_say_the_same(tmp_path, order, big):
    inline = struct.pack(order + "HH", 7, 8)
    rows = [(0x010F, 2, 3, b"Me\0"), (0x9C9B, 1, 2, b"h\0"), (0x4746, 3, 1, struct.pack(order + "H", 5))]
    path = tmp_path / "a.tif"
    path.write_bytes(block(order, big, rows, [(0x9214, 3, 2, inline), (0x9000, 7, 4, b"0232")]))
    plain = tmp_path / "b.tif"
    rows[2] = (0x4746, 3, 1, struct.pack("<H", 5))
    plain.write_bytes(block("<", False, rows, [(0x9000, 7, 4, b"0232"), (0x9214, 3, 2, struct.pack("<HH", 7, 8))]))
    assert read_exif(path) == read_exif(plain)
    exif = Image.Exif()
    exif.load(read_exif(path))
    assert (exif[0x010F], exif[0x4746]) == ("Me", 5)
    assert exif.get_ifd(0x8769) == {0x9000: b"0232", 0x9214: (7, 8)}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}, {"bigtiff": True, "byteorder": ">"}])
def test_reads_the_tiffs_of_others(tmp_path, dtype, options):
    with tifffile.TiffWriter(tmp_path / "a.tif", **options) as writer:  # gray and alpha, which Pillow refuses
        writer.write(noise(20, 30, 2, dtype), photometric="minisblack", extrasamples=["unassalpha"], software="Soft")
    exif = Image.Exif()
    exif.load(read(tmp_path / "a.tif")[1].metadata.exif)
    assert dict(exif) == {0x0131: "Soft"}  # nor the description, by which tifffile would cut a larger output


def test_pillows_tiff_keeps_its_exif(tmp_path):
    exif = exif_of(6)
    # Of the zero in the copyright libtiff warns, for which libvips refuses the file.
    del exif[0x0100], exif[0x0111], exif[0x8298]
    Image.fromarray(noise(20, 30, 3)).save(tmp_path / "a.tif", exif=exif.tobytes())
    image_hwc, info = read(tmp_path / "a.tif")
    write(tmp_path / "b.png", image_hwc, info.metadata.exif)
    with Image.open(tmp_path / "b.png") as image:
        exif = image.getexif()
        assert (exif[0x010F], exif[0x0112]) == ("Maker", 1)
        assert exif.get_ifd(0x8769)[0x9286] == USER_COMMENT
        assert exif.get_ifd(0x8825)[2] == LATITUDE


FAR = struct.pack("<I", 2**32 - 2)
ODD = {
    "empty": b"",
    "text": b"not EXIF at all",
    "head": b"Exif\0\0II*\0",
    "far directory": b"Exif\0\0II*\0" + FAR,
    "no entries": b"Exif\0\0II*\0\x08\0\0\0" + bytes(8),
    "version": b"II\x55\0" + bytes(40),
    "cut": exif_of().tobytes()[:60],
    "far value": block(entries=[(0x010F, 2, 90, FAR)]),
    "huge value": block(entries=[(0x010F, 2, 2**32 - 1, FAR)]),
    "no type": block(entries=[(0x010F, 99, 4, b"abcd")]),
    "wrong type": block(entries=[(0x010F, 7, 4, b"abcd")]),
    "no end": block(entries=[(0x010F, 2, 4, b"abcd")]),
    "zeros": block(entries=[(0x010F, 2, 4, bytes(4)), (0x010F, 2, 0, bytes(4))]),
    "itself": block(exif=[(0x8769, 4, 1, b"\x08\0\0\0"), (0xA005, 4, 1, b"\x08\0\0\0"), (0x9000, 7, 4, b"0232")]),
    "beyond": block(big=True, entries=[(0x010F, 2, 90, b"\xff" * 8)]),
}


@pytest.mark.parametrize("name", list(ODD))
def test_odd_exif_costs_no_pixel(tmp_path, name):
    image_hwc, path = noise(30, 40, 3), tmp_path / "a.tif"
    write(path, image_hwc, ODD[name])
    np.testing.assert_array_equal(read(path)[0], image_hwc)
    np.testing.assert_array_equal(tifffile.imread(path), image_hwc)
    with Image.open(path) as image:
        assert image.getexif().get(0x0112, 1) == 1
    for other in ("a.png", "a.jpg", "a.webp"):
        write(tmp_path / other, image_hwc, ODD[name])
        assert read(tmp_path / other)[0].shape == image_hwc.shape
    (tmp_path / "odd.tif").write_bytes(ODD[name].removeprefix(b"Exif\0\0"))
    read_exif(tmp_path / "odd.tif")


def test_damaged_anywhere_is_never_an_exception(tmp_path):
    whole, path, random = exif_of().tobytes().removeprefix(b"Exif\0\0"), tmp_path / "a.tif", np.random.default_rng(0)
    write(path, noise(8, 9, 3), None)
    plain = path.read_bytes()
    for _ in range(300):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[random.integers(4, len(damaged), 4)] = random.integers(0, 256, 4)
        path.write_bytes(plain)
        with path.open("r+b") as file:
            append_exif(file.fileno(), ImageInfo(8, 9, 3, np.uint8, Metadata(exif=damaged.tobytes())))
        np.testing.assert_array_equal(read(path)[0], noise(8, 9, 3))


def test_only_the_header_is_read(tmp_path, monkeypatch):
    write(tmp_path / "a.tif", noise(900, 900, 3), exif_of().tobytes())
    asked = []
    from sr_tile.images import tiff_exif

    plain = tiff_exif.bytes_at
    monkeypatch.setattr(tiff_exif, "bytes_at", lambda *arguments: asked.append(arguments[2]) or plain(*arguments))
    assert read_exif(tmp_path / "a.tif")
    assert sum(asked) < 2000


def test_a_file_without_exif_has_none(tmp_path):
    write(tmp_path / "a.tif", noise(8, 9, 3), None)
    assert read_exif(tmp_path / "a.tif") is None
    assert read_exif(tmp_path / "missing.tif") is None


def test_odd_tags_do_not_make_a_file_unreadable(tmp_path):
    pixels = noise_image(40, 50)
    copyright_with_two_parts = (33432, "s", 0, "Photographer\x00Editor", True)
    tifffile.imwrite(tmp_path / "odd.tif", pixels, photometric="rgb", extratags=[copyright_with_two_parts])
    with ImageReader(tmp_path / "odd.tif") as reader:
        assert np.array_equal(reader.read_rows(40), pixels)
