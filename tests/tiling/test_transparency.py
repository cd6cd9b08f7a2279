import numpy as np
import pytest

from sr_tile.tiling import transparency
from sr_tile.tiling.transparency import fill_hidden, restore_hidden


def sparse(height, width, channels, share, dtype=np.uint8, seed=0):
    generator = np.random.default_rng(seed)
    image_hwc = generator.integers(1, 256, (height, width, channels)).astype(dtype)
    image_hwc[..., -1][generator.random((height, width)) >= share] = 0
    return image_hwc


@pytest.mark.parametrize("share", [0.002, 0.05, 0.5, 0.95])
@pytest.mark.parametrize(("height", "width"), [(1, 60), (60, 1), (37, 53), (20, 300)])
@pytest.mark.parametrize("channels", [2, 4])
def test_colours_come_from_a_visible_pixel_nearby(height, width, channels, share, monkeypatch):
    monkeypatch.setattr(transparency, "_COLUMNS", 64)  # several windows
    image_hwc = sparse(height, width, channels, share, np.uint16)
    image_hwc[height // 2, width // 2, -1] = 7
    before_hwc = image_hwc.copy()
    filled_hwc = fill_hidden(image_hwc)
    np.testing.assert_array_equal(image_hwc, before_hwc)
    visible = image_hwc[..., -1] > 0
    np.testing.assert_array_equal(filled_hwc[visible], image_hwc[visible])
    np.testing.assert_array_equal(filled_hwc[..., -1], image_hwc[..., -1])
    rows, columns = np.nonzero(visible)
    for y, x in zip(*np.nonzero(~visible), strict=True):
        distances = np.hypot(rows - y, columns - x)
        if distances.min() > transparency._MARGIN:
            continue
        near = distances <= 1.4143 * distances.min()
        assert (image_hwc[rows[near], columns[near], :-1] == filled_hwc[y, x, :-1]).all(axis=1).any()


def test_nothing_hidden_or_nothing_visible_is_left_alone():
    for image_hwc in (np.full((5, 6, 4), 9, np.uint8), np.zeros((5, 6, 2), np.float32)):
        assert fill_hidden(image_hwc) is image_hwc


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_what_is_hidden_comes_back_and_what_is_visible_stays(scale):
    alpha_chw = np.zeros((1, 20, 20), np.float32)
    alpha_chw[:, 8:12, 8:12] = 1
    original_chw = np.random.default_rng(0).random((3, 20, 20), np.float32)
    output_chw = np.full((3, 20 * scale, 20 * scale), 2, np.float32)
    restored_chw = restore_hidden(output_chw, original_chw, alpha_chw, scale)
    inside = slice(8 * scale, 12 * scale)
    assert (restored_chw[:, inside, inside] == 2).all()
    far = slice(0, 5 * scale)
    assert (restored_chw[:, far, far] < 1.3).all()
    if scale == 1:
        np.testing.assert_array_equal(restored_chw[:, :8], original_chw[:, :8])


def test_beside_a_channel_that_is_nan_the_others_are_kept():
    pixels_hwc = np.random.default_rng(0).random((6, 7, 4), np.float32) + np.float32(0.1)
    pixels_hwc[2, 3, 0] = np.nan
    pixels_hwc[4, 5, 1], pixels_hwc[4, 5, 3] = np.nan, 0  # under full transparency nothing is
    filled_hwc = fill_hidden(pixels_hwc)
    np.testing.assert_array_equal(filled_hwc[2, 3, 1:], pixels_hwc[2, 3, 1:])
    assert filled_hwc[2, 3, 0] in pixels_hwc[1:4, 2:5, 0]
    assert filled_hwc[4, 5, 0] != pixels_hwc[4, 5, 0]
    restored_chw = restore_hidden(
        np.moveaxis(filled_hwc[..., :3], -1, 0), np.moveaxis(pixels_hwc[..., :3], -1, 0), pixels_hwc[None, ..., 3], 1
    )
    np.testing.assert_array_equal(np.moveaxis(restored_chw, 0, -1)[2], pixels_hwc[2, :, :3])
