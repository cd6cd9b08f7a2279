"""Sizes of one's own on the command line: pixels against the same steps in float, and what the file says of itself."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage import data
from support.lanczos import reduced
from support.toys import conv_model

from sr_tile.enhancer import Enhancer
from sr_tile.images import ImageReader


def jpeg(path, pixels_hwc):
    exif = Image.Exif()
    exif[0x010F] = "maker"
    Image.fromarray(pixels_hwc).save(path, quality=95, dpi=(300, 300), exif=exif)
    with Image.open(path) as image:
        return np.asarray(image)


def mosaic(height, width):
    """A photograph beside itself, as often as it takes."""
    photo = data.astronaut()
    times = -(-height // photo.shape[0]), -(-width // photo.shape[1]), 1
    return np.tile(photo, times)[:height, :width]


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width", "after"), [(1500, 2000, (1080, 1440)), (300, 512, (1080, 1843))])
def test_a_jpeg_that_fits_a_screen(run, tmp_path, height, width, after):
    decoded = jpeg(tmp_path / "in.jpg", mosaic(height, width))
    model = conv_model(tmp_path / "four.onnx", 4)
    common = ("enhance", "in.jpg", "--model", model, "--device", "cpu", "--fit", "1920x1080")
    for name in ("out.png", "out.jpg"):
        assert run(*common, "-o", name)[0] == 0
    reference = decoded.astype(np.float32) / np.float32(255)
    if height < after[0]:  # else it is reduced as it is
        with Enhancer(model, device="cpu") as enhancer:
            reference = enhancer.enhance(reference)
    with Image.open(tmp_path / "out.png") as result:
        assert (result.height, result.width) == after
        assert abs(np.asarray(result) - np.rint(reduced(reference, *after) * 255)).max() <= 1
    with Image.open(tmp_path / "out.jpg") as result:
        assert (result.height, result.width) == after
        assert result.info["dpi"][1] == pytest.approx(300 * after[0] / height, abs=1)
        assert result.getexif()[0x010F] == "maker"


@pytest.mark.slow
def test_a_tiff_of_sixteen_bits_with_alpha_three_times_as_large(run, tmp_path):
    height, width = 90, 110
    unit = data.astronaut()[100 : 100 + height, 100 : 100 + width] / 255
    y, x = np.mgrid[:height, :width]
    alpha = 0.6 + 0.4 * np.sin(y / 17) * np.cos(x / 23)
    pixels = np.rint(np.dstack([unit**0.7, alpha]) * 65_535).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "in.tif", pixels, photometric="rgb", extrasamples=["unassalpha"], resolution=(300, 300, "INCH")
    )
    assert run("enhance", "in.tif", "out.tif", "--scale", "3", "--device", "cpu", "--precision", "fp32")[0] == 0
    with ImageReader(tmp_path / "out.tif") as reader:
        assert (reader.info.height, reader.info.width, reader.info.dtype) == (270, 330, np.uint16)
        result = reader.read_rows(270)
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        numerator, denominator = file.pages[0].tags["XResolution"].value
    assert numerator / denominator == pytest.approx(900, rel=1e-3)
    with Enhancer("clean-x4", device="cpu") as enhancer:
        enlarged = enhancer.enhance(pixels.astype(np.float32) / np.float32(65_535))
    assert abs(result - np.rint(reduced(enlarged, 270, 330) * 65_535)).max() <= 1


@pytest.mark.slow
def test_eight_times_is_four_times_and_then_twice(run, tmp_path):
    Image.fromarray(data.astronaut()[100:140, 100:150]).save(tmp_path / "in.png")
    code, _, said = run("enhance", "in.png", "out.png", "--scale", "8", "--device", "cpu", "--precision", "fp32")
    assert code == 0, said
    assert "photo-x4,clean-x2" in said or "clean-x4,clean-x2" in said
    first = said.split("sr-tile: ")[1].split(",")[0]
    with Enhancer([first, "clean-x2"], device="cpu", precision="fp32") as enhancer:
        expected = enhancer.enhance(data.astronaut()[100:140, 100:150])
    with Image.open(tmp_path / "out.png") as result:
        assert (result.width, result.height) == (400, 320)
        assert np.array_equal(np.asarray(result), expected)


def test_what_two_models_reach_is_reduced(run, tmp_path):
    Image.fromarray(data.astronaut()[100:140, 100:150]).save(tmp_path / "in.png")
    assert run("enhance", "in.png", "out.png", "--width", "250", "--device", "cpu")[0] == 0
    with Image.open(tmp_path / "out.png") as result:
        assert (result.width, result.height) == (250, 200)


def test_the_size_of_a_window_is_reached_from_the_window(run, tmp_path):
    Image.fromarray(data.astronaut()).save(tmp_path / "in.png")
    model = conv_model(tmp_path / "two.onnx", 2)
    code, _, err = run("enhance", "in.png", "out.png", "--model", model, "--crop", "8,8,20,20", "--width", 70)
    assert code == 0, err  # the model runs twice; of the whole picture it would not have to
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (70, 70)
