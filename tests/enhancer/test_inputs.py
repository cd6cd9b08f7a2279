"""What may be given: arrays, PIL images, tensors, bytes, lists; and what may not."""

import io

import numpy as np
import pytest
from PIL import Image
from support.toys import ToyEngine, noise_image, repeat

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_pil_transparency_becomes_alpha(identity, mode):
    image = Image.fromarray(noise_image(20, 30)).convert(mode)
    image.info["transparency"] = image.getpixel((3, 4))
    assert identity.enhance(image).mode == ("LA" if mode == "L" else "RGBA")


@pytest.mark.parametrize("mode", ["RGBa", "La"])
def test_premultiplied_pil_images_are_what_pillow_makes_of_them(identity, mode):
    pixels = noise_image(20, 30, 4)
    pixels[..., 3] = np.maximum(pixels[..., 3], 64)
    whole = "RGBA" if mode == "RGBa" else "LA"
    image = Image.fromarray(pixels).convert(whole).convert(mode)
    np.testing.assert_array_equal(identity.enhance(image), identity.enhance(image.convert(whole)))
    assert np.ptp(np.asarray(image.convert(whole))[..., 0] - np.asarray(image)[..., 0].astype(int)) > 50


def test_a_profile_that_no_longer_fits_is_dropped(identity):
    image = Image.fromarray(noise_image(20, 30)).convert("CMYK")
    image.info["icc_profile"] = b"of inks"
    assert "icc_profile" not in identity.enhance(image).info
    rgb = Image.fromarray(noise_image(20, 30))
    rgb.info["icc_profile"] = b"of light"
    assert identity.enhance(rgb).info["icc_profile"] == b"of light"


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "CMYK"])
def test_pil_images_come_back_as_pil_images(identity, mode):
    image = Image.fromarray(noise_image(20, 30)).convert(mode)
    image.info["dpi"] = (300, 300)
    result = identity.enhance(image)
    assert result.size == (60, 40)
    assert result.info["dpi"] == (300, 300)
    expected = image.convert({"P": "RGB", "1": "L", "CMYK": "RGB"}.get(mode, mode))
    assert result.mode == expected.mode
    alpha = mode.endswith("A")
    colours, wanted = np.atleast_3d(np.asarray(result)), repeat(np.atleast_3d(np.asarray(expected)), 2)
    assert np.array_equal(colours[..., :-1] if alpha else colours, wanted[..., :-1] if alpha else wanted)


def test_pil_16_bit_gray_is_not_cut_to_8(identity):
    pixels = noise_image(20, 30, 1, np.uint16)[..., 0]
    assert np.array_equal(np.asarray(identity.enhance(Image.fromarray(pixels))), repeat(pixels, 2))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((3, 32, 32), np.uint8), r"image has shape \(3, 32, 32\).*channels come last"),
        (np.zeros((2, 8, 8, 3), np.uint8), "enhance_batch a list"),
        (np.zeros((8, 8, 5), np.uint8), "C from 1 to 4"),
        (np.zeros((0, 8, 3), np.uint8), "at least one pixel"),
        (np.zeros((8, 8, 3), np.float64), "float64.*astype"),
        (np.zeros((8, 8, 3), np.int32), "dtype int32"),
        ([[1, 2], [3, 4]], "image is a list"),
        ("photo.png", "enhance_file"),
        (None, "NoneType"),
        (Image.new("F", (4, 4)), "mode F"),
        (np.full((8, 8, 3), 254, np.float32), "values from 254 to 254.*divide by 255"),
        (np.linspace(-1, 1, 48, dtype=np.float32).reshape(4, 4, 3), r"values from -1 to 1.*\[-1, 1\]"),
        (np.full((4, 4), np.inf, np.float32), "to inf"),
    ],
)
def test_what_is_no_image_is_named(identity, image, words):
    with pytest.raises(ArgumentError, match=words):
        identity.enhance(image)


def test_floats_a_little_beyond_white_and_nan_pass(identity):
    image = np.linspace(-0.2, 1.3, 48, dtype=np.float32).reshape(4, 4, 3)
    image[0, 0] = np.nan
    result = identity.enhance(image)
    np.testing.assert_array_equal(result, repeat(np.clip(image, 0, 1), 2))


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "int64", "bool", "complex64"])
def test_a_tensor_of_another_number_type_is_named(identity, kind):
    torch = pytest.importorskip("torch")
    with pytest.raises(ArgumentError, match=kind):
        identity.enhance(torch.zeros(3, 8, 8).to(getattr(torch, kind)))


@pytest.mark.parametrize("model", [5, [], [None], {"a": 1}])
def test_what_is_no_model_is_named(model):
    with pytest.raises(ArgumentError, match="expected a name, a path"):
        Enhancer(model)


def test_any_iterable_is_a_batch(identity):
    images = [noise_image(4, 5), noise_image(7, 3)]
    for found, image in zip(identity.enhance_batch(image for image in images), images, strict=True):
        assert np.array_equal(found, repeat(image, 2))


def test_the_bad_item_of_a_list_is_named_and_nothing_is_computed():
    engine = ToyEngine()
    with pytest.raises(ArgumentError, match=r"images\[2\] has dtype int64"):
        Enhancer(engine).enhance_batch([noise_image(4, 4), noise_image(4, 4), np.zeros((4, 4, 3), np.int64)])
    assert all(shape[2:] != (4, 4) for shape in engine.shapes)
    with pytest.raises(ArgumentError, match="takes a list"):
        Enhancer(engine).enhance_batch(noise_image(4, 4))


@pytest.mark.parametrize("shape", [(20, 30), (1, 20, 30), (3, 20, 30)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_tensor_gives_a_tensor_channels_first(identity, shape, dtype):
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).random(shape, np.float32)
    image = torch.from_numpy(values if dtype == "float32" else (values * 255).astype(np.uint8))
    result = identity.enhance(image)
    assert result.dtype == image.dtype
    scale = result.shape[-1] // shape[-1]
    expected = image.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    torch.testing.assert_close(result, expected, atol=1e-6 if dtype == "float32" else 0, rtol=0)


def test_the_bytes_of_a_file_give_a_picture(identity):
    file = io.BytesIO()
    Image.fromarray(noise_image(20, 30)).save(file, "PNG")
    result = identity.enhance(file.getvalue())
    np.testing.assert_array_equal(np.asarray(result), identity.enhance(noise_image(20, 30)))
    with pytest.raises(ArgumentError, match="no whole picture"):
        identity.enhance(file.getvalue()[:100])


def test_bytes_that_are_no_picture_are_named_and_no_object_of_python(identity):
    with pytest.raises(ArgumentError, match="image: 9 bytes are no picture") as caught:
        identity.enhance(b"something")
    assert "0x" not in str(caught.value)
