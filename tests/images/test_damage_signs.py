import io

import numpy as np
import pytest
from PIL import Image
from skimage import data

from sr_tile.images.damage_signs import block_steps, condition_of, jpeg_quality, noise_deviation


def small(picture):
    """Reduced by two: sharp, and without the marks of the file it comes from."""
    image = Image.fromarray(picture)
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)


def saved(image, **options):
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def luma(image):
    return np.asarray(image.convert("L"), np.float32)


@pytest.mark.parametrize("quality", [25, 50, 75, 90, 95, 99])
@pytest.mark.parametrize("progressive", [False, True])
def test_quality_of_a_jpeg_is_read_from_its_tables(quality, progressive):
    content = saved(small(data.astronaut()), format="JPEG", quality=quality, progressive=progressive, exif=b"Exif\0\0")
    assert abs(jpeg_quality(content) - quality) <= 1


def test_no_quality_without_tables():
    content = saved(small(data.astronaut()), format="JPEG")
    for cut in range(2, 200, 7):
        jpeg_quality(content[:cut])  # cut anywhere: None or a number, no error
    assert jpeg_quality(content[:20]) is None
    assert jpeg_quality(b"\x89PNG") is None


@pytest.mark.parametrize("sigma", [4, 8, 16])
def test_noise_is_estimated(sigma):
    image = np.asarray(small(data.astronaut()), np.float32)
    noise = np.random.default_rng(0).normal(0, sigma, image.shape[:2])
    assert noise_deviation(luma(small(data.astronaut())) + noise) == pytest.approx(sigma, rel=0.35)
    assert noise_deviation(luma(small(data.astronaut()))) < 2.9


def test_the_grid_of_an_earlier_jpeg_shows_wherever_it_begins():
    image = small(data.astronaut())
    assert block_steps(luma(image)) < 1.1
    decoded = Image.open(io.BytesIO(saved(image, format="JPEG", quality=40)))
    for corner in ((0, 0), (3, 5)):
        assert block_steps(luma(decoded)[corner[0] :, corner[1] :]) > 1.15


def test_flat_and_tiny_pictures_have_no_signs():
    for shape in ((1, 1), (3, 200), (64, 64)):
        flat = np.full(shape, 7, np.float32)
        assert noise_deviation(flat) == 0
        assert block_steps(flat) <= 1


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("a.jpg", {"quality": 80}, (80, False)),
        ("a.png", {}, (None, False)),
        ("a.webp", {"quality": 80}, (None, True)),
        ("a.webp", {"lossless": True}, (None, False)),
    ],
)
def test_condition_of_files(tmp_path, name, options, expected):
    for picture in (small(data.astronaut()), small(data.camera())):
        picture.save(tmp_path / name, **options)
        condition = condition_of(tmp_path / name)
        assert (condition.jpeg_quality, condition.lossy) == expected


def test_sixteen_bits_are_on_the_same_scale(tmp_path):
    gray = np.random.default_rng(0).normal(128, 8, (64, 64)).clip(0, 255).astype(np.uint8)
    Image.fromarray(gray).save(tmp_path / "8.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "16.png")
    assert condition_of(tmp_path / "16.png").noise == pytest.approx(condition_of(tmp_path / "8.png").noise)
