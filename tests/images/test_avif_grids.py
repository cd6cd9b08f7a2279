import io

import numpy as np
import pytest
from PIL import Image
from support.avif_grids import coded, content, grid

from sr_tile.errors import ImageReadError
from sr_tile.images import ImageReader
from sr_tile.images.avif_boxes import read_avif

SIZE = (48, 64)
COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]
TILES, CONFIGURATIONS = zip(*(coded(np.full((*SIZE, 3), colour, np.uint8)) for colour in COLOURS), strict=True)
ALPHA, ALPHA_CONFIGURATION = coded(np.full(SIZE, 128, np.uint8))
OTHER = coded(np.full((96, 128, 3), 100, np.uint8))[0]


def rows_of(path):
    with ImageReader(path) as reader:
        return reader.read_rows(reader.info.height)


@pytest.mark.parametrize("with_alpha", [False, True])
def test_a_grid_of_pictures_is_one(tmp_path, with_alpha):
    path = tmp_path / "a.avif"
    alpha = ([ALPHA] * 4, ALPHA_CONFIGURATION) if with_alpha else None
    path.write_bytes(grid(TILES, CONFIGURATIONS[0], SIZE, 2, alpha=alpha))
    assert len(read_avif(path).tiles) == (8 if with_alpha else 4)
    image_hwc = rows_of(path)
    assert image_hwc.shape == (96, 128, 4 if with_alpha else 3)
    for colour, (y, x) in zip(COLOURS, ((0, 0), (0, 64), (48, 0), (48, 64)), strict=True):
        np.testing.assert_allclose(image_hwc[y : y + 48, x : x + 64, :3].mean(axis=(0, 1)), colour, atol=6)


@pytest.mark.parametrize("where", ["colour", "alpha"])
@pytest.mark.parametrize("bad", [b"", bytes(range(200)), TILES[1][:20], OTHER], ids=["empty", "other", "cut", "large"])
def test_a_tile_that_is_damaged_is_not_left_black_in_silence(tmp_path, where, bad):
    path = tmp_path / "a.avif"
    tiles, alpha = ([TILES[0], bad], [ALPHA] * 2) if where == "colour" else (TILES[:2], [ALPHA, bad])
    path.write_bytes(grid(tiles, CONFIGURATIONS[0], SIZE, 2, alpha=(alpha, ALPHA_CONFIGURATION)))
    with pytest.raises(ImageReadError, match="damaged"):
        rows_of(path)


@pytest.mark.parametrize("bad", [None, b"", bytes(range(200)), "cut"], ids=["none", "empty", "other", "cut"])
def test_nor_is_one_of_a_heic_which_phones_write_as_grids(tmp_path, bad):
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed: pip install 'sr-tile[heif]'")
    tiles = []
    for colour in COLOURS[:2]:
        pillow_heif.from_pillow(Image.new("RGB", (64, 64), colour)).save(file := io.BytesIO(), quality=90, chroma=444)
        tiles.append(content(file.getvalue(), b"mdat"))
        configuration = content(file.getvalue(), b"meta", b"iprp", b"ipco", b"hvcC")
    if bad is not None:
        tiles[1] = tiles[1][: len(tiles[1]) // 2] if bad == "cut" else bad
    file = grid(tiles, configuration, (64, 64), 2).replace(b"av1C", b"hvcC").replace(b"av01", b"hvc1")
    (tmp_path / "a.heic").write_bytes(file.replace(b"avif", b"heic", 1).replace(b"avif", b"heic", 1))
    if bad is not None:
        with pytest.raises(ImageReadError, match="damaged"):
            rows_of(tmp_path / "a.heic")
        return
    image_hwc = rows_of(tmp_path / "a.heic")
    for colour, half_hwc in zip(COLOURS[:2], np.split(image_hwc, 2, axis=1), strict=True):
        np.testing.assert_allclose(half_hwc.mean(axis=(0, 1)), colour, atol=6)
