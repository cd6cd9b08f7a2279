"""EXIF and the density of pixels are kept, or said to be lost; none is made up."""

import struct
import zlib

import pytest
from PIL import Image, PngImagePlugin
from support.image_files import SUFFIXES, exif_block, photograph, read, write
from support.metadata import large_exif, said, through

from sr_tile.images import Metadata


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
@pytest.mark.parametrize("name", ["exif", "APP1"])
def test_exif_in_the_raw_profile_of_a_png_is_kept(tmp_path, prefix, name):
    if name == "APP1" and not prefix:
        prefix = b"Exif\0\0"
    block = prefix + exif_block().removeprefix(b"Exif\0\0")
    raw = PngImagePlugin.PngInfo()
    raw.add_text(f"Raw profile type {name}", f"\n{name}\n{len(block):8d}\n{block.hex()}\n", zip=True)
    Image.fromarray(photograph()).save(tmp_path / "a.png", pnginfo=raw)
    with Image.open(through(tmp_path, tmp_path / "a.png", "b.png")) as image:
        assert image.getexif()[0x010F] == "Maker"


@pytest.mark.parametrize("target", [*SUFFIXES, "gif"])
@pytest.mark.parametrize("exif", [False, True])
def test_no_density_is_invented(tmp_path, target, exif):
    block = Image.Exif()
    block[0x0110] = "Model X"
    path = tmp_path / f"a{ {**SUFFIXES, 'gif': '.gif'}[target] }"
    write(path, photograph(), metadata=Metadata(exif=block.tobytes() if exif else None))
    with Image.open(path) as image:
        image.load()
        # Pillow invents 1 for TIFF, and 72 where EXIF stands beside a JFIF header without a unit.
        assert "dpi" not in image.info or target in ("tiff", "jpeg")
        found = image.getexif()
        if exif and target != "gif":
            assert found[0x0110] == "Model X"
        if target == "tiff":
            assert [image.tag_v2.get(tag) for tag in (282, 283, 296)] == [1, 1, 1]
        elif 0x011A in found:
            assert [found[tag] for tag in (0x011A, 0x011B, 0x0128)] == [1, 1, 1]
        if target == "jpeg":
            assert image.info.get("jfif_unit", 0) == 0
    metadata = read(path)[1].metadata if target != "gif" else Metadata()
    assert (metadata.xres, metadata.yres) == (None, None)


@pytest.mark.parametrize("target", list(SUFFIXES))
@pytest.mark.parametrize("size", [30_720, 62_976, 80_128, 400_128])
def test_large_exif_is_kept_or_said(tmp_path, target, size, caplog):
    path = tmp_path / f"a{SUFFIXES[target]}"
    write(path, photograph(), metadata=Metadata(exif=large_exif(size)))
    with Image.open(path) as image:
        note, made = image.getexif().get_ifd(0x8769).get(0x927C, b""), image.getexif().get(0x010F)
    kept = bytes(note) == bytes(range(256)) * (size // 256)
    assert kept or [f"{target.upper()}" in line and "EXIF" in line for line in said(caplog)] == [True]
    assert kept or size > 65_000
    assert made == "Maker"
    assert not (kept and said(caplog))


@pytest.mark.parametrize(("unit", "per_mm"), [(1, 1 / 25.4), (2, 0.1)])
@pytest.mark.parametrize("exif", [None, "of a camera", "with a density"])
def test_the_density_of_a_jpeg_is_that_of_exif_or_else_of_jfif(tmp_path, unit, per_mm, exif):
    """libexif makes up 72 dpi for an EXIF without, which libvips takes."""
    block = Image.Exif()
    block[0x010F] = "Maker"
    if exif == "with a density":
        block[0x011A], block[0x011B], block[0x0128] = 240.0, 240.0, 2
    Image.fromarray(photograph()).save(tmp_path / "a.jpg", dpi=(300, 150), **({"exif": block} if exif else {}))
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    at = data.index(b"JFIF") + 7
    data[at : at + 5] = struct.pack(">BHH", unit, 300, 150)
    (tmp_path / "a.jpg").write_bytes(data)
    metadata = read(tmp_path / "a.jpg")[1].metadata
    expected = (240 / 25.4, 240 / 25.4) if exif == "with a density" else (300 * per_mm, 150 * per_mm)
    assert (metadata.xres, metadata.yres) == pytest.approx(expected)


def test_of_exif_that_is_too_large_only_the_largest_values_are_dropped(tmp_path, caplog):
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Camera 1"
    exif.get_ifd(0x8769)[0x927C], exif.get_ifd(0x8769)[0x9286] = b"n" * 60_000, b"ASCII\0\0\0" + b"c" * 30_000
    write(tmp_path / "a.jpg", photograph(), metadata=Metadata(exif=exif.tobytes()))
    with Image.open(tmp_path / "a.jpg") as image:
        kept = image.getexif()
    assert (kept.get(0x010F), kept.get(0x0110)) == ("Maker", "Camera 1")
    assert bytes(kept.get_ifd(0x8769)[0x9286]).endswith(b"c" * 30_000)
    assert 0x927C not in kept.get_ifd(0x8769)
    assert len(said(caplog)) == 1


@pytest.mark.parametrize("x", [0, 1, 2**31, 2**32 - 1])
def test_a_density_beyond_all_bounds_prints_nothing(tmp_path, capfd, x):
    """GObject says on standard error, by itself, which values it does not take."""
    Image.fromarray(photograph()).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    chunk = b"pHYs" + struct.pack(">IIB", x, 1, 1)
    at = content.index(b"IDAT") - 4
    made = content[:at] + struct.pack(">I", 9) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[at:]
    (tmp_path / "b.png").write_bytes(made)
    for suffix in (".png", ".jpg", ".tif"):
        with Image.open(through(tmp_path, tmp_path / "b.png", f"c{suffix}")) as image:
            assert image.size == photograph().shape[1::-1]
    assert capfd.readouterr().err == ""
