"""A window of a picture, against cutting the whole one with numpy."""

import numpy as np
import pytest
from PIL import Image
from support.toys import ToyEngine, noise_image

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError, ImageReadError
from sr_tile.images.frames.excerpt import Excerpt, parse_window


@pytest.mark.parametrize("kind", ["png", "tif", "jpg"])
@pytest.mark.parametrize("window", [(0, 0, 90, 700), (13, 500, 1, 1), (89, 699, 1, 1), (10, 300, 60, 400)])
def test_a_window_is_a_part_of_the_whole(tmp_path, kind, window):
    image = Image.fromarray(noise_image(90, 700))  # turned on its way: windows lie in the upright picture
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / f"a.{kind}", exif=exif)
    x, y, width, height = window
    with Enhancer(ToyEngine()) as enhancer:
        enhancer.enhance_file(tmp_path / f"a.{kind}", tmp_path / "whole.png", overwrite=True)
        enhancer.enhance_file(tmp_path / f"a.{kind}", tmp_path / "b.png", excerpt=Excerpt(crop=window))
    whole, found = (np.asarray(Image.open(tmp_path / name)) for name in ("whole.png", "b.png"))
    np.testing.assert_array_equal(found, whole[y : y + height, x : x + width])


def test_windows_that_cannot_be_are_one_line(tmp_path):
    Image.fromarray(noise_image(20, 30)).save(tmp_path / "a.png")
    Image.fromarray(noise_image(20, 30)).save(
        tmp_path / "a.webp", save_all=True, append_images=[Image.fromarray(noise_image(20, 30, seed=2))]
    )
    for text in ("1,2,3", "a,0,1,1", "-1,0,5,5", "0,0,0,5"):
        with pytest.raises(ArgumentError, match="--crop"):
            Excerpt(crop=parse_window(text))
    enhancer = Enhancer(ToyEngine())
    with pytest.raises(ArgumentError, match="not inside of its 30 x 20"):
        enhancer.enhance_file(tmp_path / "a.png", tmp_path / "b.png", excerpt=Excerpt(crop=(20, 0, 11, 5)))
    with pytest.raises(ImageReadError, match="files of one"):
        enhancer.enhance_file(tmp_path / "a.webp", tmp_path / "b.png", excerpt=Excerpt(crop=(0, 0, 5, 5)))
