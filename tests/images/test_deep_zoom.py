import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.toys import noise_image

from sr_tile.errors import ImageReadError
from sr_tile.images import format_by_content
from sr_tile.images.deep_zoom import write_pyramid


def whole(folder, pyramid, level, mode):
    """One level put together again."""
    shrink = 2 ** (pyramid.levels - 1 - level)
    image = Image.new(mode, (-(-pyramid.width // shrink), -(-pyramid.height // shrink)))
    for path in (folder / str(level)).iterdir():
        column, row = map(int, path.stem.split("_"))
        image.paste(Image.open(path), (column * pyramid.tile, row * pyramid.tile))
    return np.asarray(image).astype(int)


def test_tiles_make_up_the_image_at_every_level(tmp_path):
    pixels = noise_image(150, 333, 4)
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    pyramid = write_pyramid(tmp_path / "a.png", tmp_path / "view", tile=64)
    assert (pyramid.height, pyramid.width, pyramid.suffix) == (150, 333, "png")
    assert np.array_equal(whole(tmp_path / "view", pyramid, pyramid.levels - 1, "RGBA"), pixels)
    assert len(list((tmp_path / "view" / "0").iterdir())) == 1
    for level in range(pyramid.levels - 1):
        mean = whole(tmp_path / "view", pyramid, level, "RGBA")[..., :3].mean()
        assert abs(mean - pixels[..., :3].mean()) < 2


@pytest.mark.parametrize("mode", ["L", "I;16", "RGB", "CMYK"])
def test_every_kind_becomes_rgb_for_the_eye(tmp_path, mode):
    if mode == "I;16":
        image = Image.fromarray(np.full((40, 30), 200 * 257, np.uint16))
    else:
        image = Image.new(mode, (30, 40), {"L": 200, "RGB": (200, 200, 200), "CMYK": (0, 0, 0, 55)}[mode])
    image.save(tmp_path / "a.tif")
    pyramid = write_pyramid(tmp_path / "a.tif", tmp_path / "view")
    assert (pyramid.levels, pyramid.suffix) == (1, "jpg")
    shown = whole(tmp_path / "view", pyramid, 0, "RGB")
    assert shown.shape == (40, 30, 3)
    assert abs(shown - 200).max() < (30 if mode == "CMYK" else 3)


def test_a_turned_photograph_is_turned(tmp_path):
    image = Image.new("RGB", (100, 60), "black")
    image.paste("white", (0, 0, 50, 60))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise: the left half is on top
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    pyramid = write_pyramid(tmp_path / "a.jpg", tmp_path / "view")
    assert (pyramid.width, pyramid.height) == (60, 100)
    shown = whole(tmp_path / "view", pyramid, 0, "RGB")
    assert shown[10, 30].min() > 240
    assert shown[90, 30].max() < 15


def test_a_damaged_file_is_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    with pytest.raises(ImageReadError, match="cannot be shown"):
        write_pyramid(tmp_path / "a.png", tmp_path / "view")


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "webp", "avif"])
def test_formats_are_known_by_their_content(tmp_path, kind):
    Image.fromarray(noise_image(20, 20)).save(tmp_path / "a", kind.upper())
    assert format_by_content((tmp_path / "a").read_bytes()[:16]) == kind


@pytest.mark.parametrize("content", [b"", b"BM", b"RIFF....WAVE", b"....ftypqt  ", b"II", b"<svg", b"%PDF-1.7"])
def test_other_formats_are_not(content):
    assert format_by_content(content) is None


def test_big_tiffs_are_tiffs():
    assert format_by_content(b"II+\0") == format_by_content(b"MM\0+") == "tiff"


def test_a_server_reads_nothing_else(tmp_path):
    for kind in ("gif", "png"):
        Image.fromarray(noise_image(9, 9)).save(tmp_path / f"a.{kind}")
    code = (
        "import sys; from sr_tile.images import vips; vips.allow_only_known_formats()\n"
        "for name in sys.argv[1:]:\n"
        "    try: print(vips.vips().Image.new_from_file(name).width)\n"
        "    except vips.vips().Error: print('refused')\n"
    )
    names = [str(tmp_path / "a.gif"), str(tmp_path / "a.png")]
    result = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["refused", "9"]
