"""What is said of files that cannot be read: one line with the true reason and a next step, no words of libraries."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.image_files import noise, photograph, read
from support.tiff_files import tiff

from sr_tile.errors import ImageReadError
from sr_tile.images import ImageReader
from sr_tile.images.png_chunks import SIGNATURE, chunk

PIXELS = noise(20, 30, 3)
OF_LIBRARIES = re.compile(r"vips|libpng|unable to|cannot identify|scanline 4294967295|Error|source_custom|PIL|None")
NEXT = re.compile(r"copy it again|convert it|save it|choose one")


def refusal(path):
    """The reason that a file is refused for, behind its name."""
    with pytest.raises(ImageReadError) as caught:
        read(path)
    reason = str(caught.value).removeprefix(f"{path}: ")
    assert "\n" not in reason
    assert not OF_LIBRARIES.search(reason), reason
    assert NEXT.search(reason), reason
    return reason


def png(pixels_hwc=PIXELS, *, header=None, edit=lambda data: data, before=(), between=(), first=b"IHDR"):
    """A PNG; edit: of the compressed rows; before and between: chunks in front of the pixels, and in their midst."""
    height, width, _ = pixels_hwc.shape
    rows = edit(zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels_hwc)))
    chunks = [(first, header or struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), *before]
    chunks += [(b"IDAT", rows[:100]), *between, (b"IDAT", rows[100:]), (b"IEND", b"")]
    return SIGNATURE + b"".join(chunk(*each) for each in chunks)


def with_wrong_checksum(data, kind):
    """Of the first chunk of a kind."""
    at = data.index(kind)
    (length,) = struct.unpack_from(">I", data, at - 4)
    end = at + 4 + length
    return data[:end] + bytes(byte ^ 0x55 for byte in data[end : end + 4]) + data[end + 4 :]


def header(width=30, height=20, depth=8, colour=2, interlace=0):
    return struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)


PNGS = {
    "a width of 0": (png(header=header(width=0)), "size is 0 x 20"),
    "a bit depth of 3": (png(header=header(depth=3)), "no bit depth of 3 for colour type 2"),
    "colour type 1": (png(header=header(colour=1)), "no colour type 1"),
    "interlacing 7": (png(header=header(interlace=7)), "interlacing 7"),
    "a short header": (png(header=header()[:9]), "IHDR has 9 bytes"),
    "another first chunk": (png(first=b"IDAT"), "begins with IDAT"),
    "a chunk that nobody knows": (png(before=[(b"ABCD", b"1")]), "the chunk ABCD"),
    "a wrong checksum of the header": (with_wrong_checksum(png(), b"IHDR"), "checksum of IHDR"),
    "chunks among the pixels": (png(between=[(b"tEXt", b"a\0b")]), "between its IDAT"),
    "no pixels": (SIGNATURE + chunk(b"IHDR", header()) + chunk(b"IEND", b""), "no pixels"),
    "too few rows": (png(noise(12, 30, 3), header=header()), r"pixels end after 1092 of 1820 bytes"),
    "too few rows, interlaced": (png(noise(12, 30, 3), header=header(interlace=1)), r"end after 1092 of 18\d\d bytes"),
    "damaged rows": (png(edit=lambda data: data[:200] + bytes(50) + data[250:]), "compressed pixels are damaged"),
    "a wrong sum of the rows": (png(edit=lambda data: data[:-1] + b"\0"), "incorrect data check"),
    "a file cut short": (png()[:400], "ends within the chunk IDAT"),
    "no chunks": (SIGNATURE + b"<html>not here</html>" * 9, "no chunk begins at byte 8"),
    "line ends of a transfer as text": (png().replace(b"\r\n", b"\n", 1), "first bytes are damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(PNGS))
def test_what_is_wrong_with_a_png_is_said(tmp_path, name):
    data, reason = PNGS[name]
    (tmp_path / "a.png").write_bytes(data)
    assert re.search(reason, refusal(tmp_path / "a.png"))


@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P"])
def test_wrong_checksums_of_pixels_that_are_whole_cost_one_warning(tmp_path, mode, interlace, caplog):
    rgb = Image.fromarray(photograph(3))
    image = rgb.quantize(7) if mode == "P" else rgb.convert("RGBA").convert(mode)
    image.save(tmp_path / "whole.png")
    data = with_wrong_checksum((tmp_path / "whole.png").read_bytes(), b"IDAT")
    (tmp_path / "a.png").write_bytes(data)
    expected_hwc, _ = read(tmp_path / "whole.png")
    pixels_hwc, _ = read(tmp_path / "a.png", 7)
    np.testing.assert_array_equal(pixels_hwc, expected_hwc)
    assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == [
        "taken in spite of: wrong checksums of its pixels"
    ]


def test_strips_beyond_the_end_of_a_tiff_are_counted(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(PIXELS, change={273: 10**6}))
    assert "1 of its strips or tiles lie beyond its end" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("code", [2, 3, 4])
def test_damaged_fax_codes_are_named(tmp_path, code):
    raw = noise(40, 7, 1)
    (tmp_path / "a.tif").write_bytes(tiff(raw, change={256: 56, 258: struct.pack("<H", 1), 259: code, 262: 0}))
    assert "CCITT" in refusal(tmp_path / "a.tif") or "Bad code word" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("directory", [b"\xff\xff\xff\x7f", b"\0\0\0\0"])
def test_a_tiff_without_a_directory_is_named(tmp_path, directory):
    (tmp_path / "a.tif").write_bytes(b"II*\0" + directory + bytes(100))
    assert "directory is damaged" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("tag", [256, 258, 270, 273, 279, 700])
def test_counts_beyond_all_memory_are_damage(tmp_path, tag):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, bigtiff=True, photometric="rgb", description="x", metadata=None)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    (position,) = struct.unpack_from("<Q", data, 8)
    (count,) = struct.unpack_from("<Q", data, position)
    found = [
        at for at in range(position + 8, position + 8 + 20 * count, 20) if struct.unpack_from("<H", data, at)[0] == tag
    ]
    for at in found:
        struct.pack_into("<Q", data, at + 4, 2**60)
    (tmp_path / "a.tif").write_bytes(data)
    if tag in (270, 279, 700):  # says nothing of the pixels, or what can be counted
        np.testing.assert_array_equal(read(tmp_path / "a.tif")[0], PIXELS)
    else:
        refusal(tmp_path / "a.tif")


@pytest.mark.parametrize(("kind", "bits"), [(2, 8), (2, 16), (2, 32), (1, 24), (1, 32), (1, 64), (3, 64)])
def test_measurements_are_named_by_their_numbers(tmp_path, kind, bits):
    raw = np.zeros((4, 4 * bits // 8, 1), np.uint8)
    data = tiff(raw, change={256: 4, 258: struct.pack("<H", bits)}, extra=[(339, 3, 1, kind)])
    (tmp_path / "a.tif").write_bytes(data)
    words = {1: "integers", 2: "signed integers", 3: "floats"}[kind]
    assert f"{bits}-bit {words} is not supported" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("code", [34676, 34677])
def test_logarithms_of_light_are_named(tmp_path, code):
    (tmp_path / "a.tif").write_bytes(
        tiff(noise(8, 8, 3, np.uint16), change={259: code, 262: 32845}, extra=[(339, 3, 1, 2)])
    )
    assert "SGI's LogLuv" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("bits", [12, 16])
def test_a_jpeg_of_more_bits_is_named_and_not_called_damaged(tmp_path, bits):
    out = io.BytesIO()
    Image.fromarray(photograph()).save(out, "JPEG")
    data = bytearray(out.getvalue())
    data[data.index(b"\xff\xc0") + 4] = bits
    (tmp_path / "a.jpg").write_bytes(data)
    reason = refusal(tmp_path / "a.jpg")
    assert f"JPEG of {bits} bits a channel is not supported" in reason
    assert "damaged" not in reason


CUT = {
    "bmp": "BMP",
    "tga": "TGA",
    "pcx": "PCX",
    "sgi": "SGI",
    "gif": "GIF",
    "qoi": "QOI",
    "ppm": "PPM",
    "jp2": "JPEG2000",
}


@pytest.mark.parametrize("suffix", [*CUT, "webp", "avif", "jpg"])
@pytest.mark.parametrize("share", [0.02, 0.7])
def test_files_that_end_early_are_refused_in_plain_words(tmp_path, suffix, share):
    out = io.BytesIO()
    Image.fromarray(photograph()).save(out, CUT.get(suffix, {"jpg": "JPEG"}.get(suffix, suffix.upper())))
    (tmp_path / f"a.{suffix}").write_bytes(out.getvalue()[: max(20, int(len(out.getvalue()) * share))])
    refusal(tmp_path / f"a.{suffix}")


def test_a_size_that_would_fill_the_memory_is_named(tmp_path):
    head = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, 3_000_000, 2_000_000, 1, 24, 0, 0, 0, 0, 0, 0)
    (tmp_path / "a.bmp").write_bytes(head)
    assert "more than 134217728" in refusal(tmp_path / "a.bmp")


@pytest.mark.parametrize(("comment", "fine"), [(100, True), (60_000, True), (2**16, False), (3 * 10**6, False)])
def test_a_pnm_behind_a_comment_without_end_is_refused_before_it_is_read_byte_by_byte(
    tmp_path, monkeypatch, comment, fine
):
    path = tmp_path / "a.ppm"
    path.write_bytes(b"P6 #" + b"a" * comment + b"\n3 3\n255\n" + bytes(27) + bytes(2**17))
    if fine:
        assert ImageReader(path).info.width == 3
        return
    opened = []
    monkeypatch.setattr("PIL.Image.open", lambda *arguments, **keywords: opened.append(arguments))
    with pytest.raises(ImageReadError, match="not within its first 65536 bytes"):
        ImageReader(path).read_rows(3)
    assert not opened
