import numpy as np
import pytest
from PIL import Image
from skimage import data

from sr_tile.errors import ArgumentError
from sr_tile.jobs.default_model import choose_default
from sr_tile.models import zoo


@pytest.fixture
def files(tmp_path):
    image = Image.fromarray(data.astronaut()).resize((256, 256), Image.Resampling.BICUBIC)
    image.save(tmp_path / "clean.png")
    image.save(tmp_path / "fine.jpg", quality=97)
    image.save(tmp_path / "usual.jpg", quality=75)
    image.save(tmp_path / "lossy.webp", quality=75)
    Image.open(tmp_path / "usual.jpg").save(tmp_path / "converted.png")
    noise = np.random.default_rng(0).normal(0, 8, (256, 256, 3))
    Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8)).save(tmp_path / "noisy.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path


@pytest.mark.parametrize("scale", [None, 2, 4])
def test_clean_pictures_get_the_clean_model(files, scale):
    name, _ = choose_default([files / "clean.png", files / "fine.jpg"], scale)
    assert name == zoo.CLEAN[scale or 2]


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("usual.jpg", "JPEG of quality 75"),
        ("lossy.webp", "loss"),
        ("converted.png", "earlier JPEG"),
        ("noisy.png", "noise of about"),
    ],
)
def test_one_damaged_picture_decides_and_is_named(files, file, why):
    name, reason = choose_default([files / "clean.png", files / file])
    assert name == zoo.DEFAULT[2]
    assert file in reason
    assert why in reason


def test_what_cannot_be_looked_at_does_not_count(files):
    assert choose_default([files / "broken.png", files / "gone.png", files / "clean.png"])[0] == zoo.CLEAN[2]
    for sources in ([], [files / "broken.png"], [files / "clean.png"] * 501):
        assert choose_default(sources)[0] == zoo.DEFAULT[2]


def test_a_scale_without_a_model_is_refused(files):
    with pytest.raises(ArgumentError, match="7"):
        choose_default([files / "clean.png"], 7)
