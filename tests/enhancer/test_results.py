"""Pixels that come out, files, and settings."""

import numpy as np
import pytest
from PIL import Image
from skimage import data
from support.toys import conv_model, identity_model, noise_image, repeat

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError, ImageReadError, ImageWriteError, ModelLoadError, ModelOutputError
from sr_tile.images import ImageReader
from sr_tile.planner import Settings


def whole_image(path, image):
    """The independent reference: the network once, on all of the image."""
    engine = OnnxEngine(path, "cpu")
    output = engine.run((image.astype(np.float32) / np.float32(255)).transpose(2, 0, 1)[None])[0]
    return output.transpose(1, 2, 0)


@pytest.mark.parametrize("batch", [1, 3, 8, "auto"])
@pytest.mark.parametrize("tile", [48, 64, "auto"])
def test_a_convolutional_model_gives_the_whole_images_pixels(tmp_path, batch, tile):
    path = conv_model(tmp_path / "m.onnx", metadata='{"halo": 3, "scale": 2, "multiple": 1, "tile": 96}')
    image = data.astronaut()[:200, :231]
    whole = whole_image(path, image).clip(0, 1)
    with Enhancer(path, device="cpu", settings=Settings(tile=tile, batch=batch)) as enhancer:
        assert len(enhancer.plan.grid(200, 231)) > 1
        floats = enhancer.enhance((image / np.float32(255)).astype(np.float32))
        np.testing.assert_allclose(floats, whole, atol=1e-5)
        steps = np.abs(enhancer.enhance(image).astype(int) - np.rint(whole * 255))
        assert steps.max() <= 1
        assert (steps > 0).mean() < 1e-4  # rounding ties only


def test_batch_size_never_changes_a_pixel(tmp_path):
    path = conv_model(tmp_path / "m.onnx")
    image = noise_image(150, 170, 3, np.float32)
    results = []
    for batch in (1, 3, 8, "auto"):
        with Enhancer(path, device="cpu", settings=Settings(tile=64, overlap=16, batch=batch)) as enhancer:
            results.append(enhancer.enhance(image))
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-6)


def test_a_list_equals_single_calls_in_order(tmp_path):
    path = conv_model(tmp_path / "m.onnx")
    shapes = [(70, 50, 3), (9, 100, 1), (1, 1, 4), (64, 64, 2), (33, 20), (200, 30, 3)]
    images = [noise_image(*shape[:2], shape[2] if len(shape) > 2 else 1, seed=i) for i, shape in enumerate(shapes)]
    images[4] = images[4][..., 0]
    with Enhancer(path, device="cpu", settings=Settings(tile=32, batch=3)) as enhancer:
        together = enhancer.enhance_batch(images)
        for image, result in zip(images, together, strict=True):
            alone = enhancer.enhance(image)
            assert result.shape == (image.shape[0] * 2, image.shape[1] * 2, *image.shape[2:])
            assert np.abs(result.astype(int) - alone).max() <= 1
        assert enhancer.enhance_batch([]) == []


def test_files_keep_16_bits_and_alpha(identity, tmp_path):
    from sr_tile.images import ImageInfo, ImageWriter

    pixels = noise_image(40, 50, 4, np.uint16)
    with ImageWriter(tmp_path / "in.png", ImageInfo(40, 50, 4, np.dtype(np.uint16))) as writer:
        writer.write_rows(pixels)
    identity.enhance_file(tmp_path / "in.png", tmp_path / "out.tif")
    with ImageReader(tmp_path / "out.tif") as reader:
        result = reader.read_rows(80)
    assert result.dtype == np.uint16
    assert np.array_equal(result[..., :3], repeat(pixels[..., :3], 2))
    assert result.shape == (80, 100, 4)
    with pytest.raises(ImageWriteError, match="exists already"):
        identity.enhance_file(tmp_path / "in.png", tmp_path / "out.tif")
    identity.enhance_file(tmp_path / "in.png", tmp_path / "out.tif", overwrite=True)


def test_a_failing_file_leaves_nothing(identity, tmp_path):
    Image.fromarray(noise_image(300, 300)).save(tmp_path / "in.png")
    whole = (tmp_path / "in.png").read_bytes()
    (tmp_path / "in.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageReadError, match=r"in\.png"):
        identity.enhance_file(tmp_path / "in.png", tmp_path / "out.png")
    assert {path.name for path in tmp_path.iterdir()} == {"in.png", "m.onnx"}


def test_wrong_settings_are_refused_by_name(tmp_path):
    path = identity_model(tmp_path / "m.onnx")
    for keywords, word in (
        ({"alpha": "none"}, "bicubic or model"),
        ({"decoders": 0}, "^decoders is 0; it must be 1 or more$"),
        ({"decoders": 2, "encoders": -1}, "^encoders is -1; it must be 1 or more$"),
        ({"max_in_flight": 0}, "^max_in_flight is 0; it must be 1 or more$"),
        ({"warmup": "hot"}, "warm-up"),
        ({"batch_size": 0}, "batch"),
    ):
        with pytest.raises(ArgumentError, match=word):
            Enhancer(path, **keywords)
    with pytest.raises(ModelLoadError, match="bundled models are"):
        Enhancer("no-such-model")


def test_nan_is_an_error(tmp_path):
    from onnx import helper
    from support.toys import save_model

    path = save_model(tmp_path / "nan.onnx", [helper.make_node("Log", ["input"], ["output"])])
    image = noise_image(20, 20)
    image[3, 4] = 0
    with Enhancer(path, device="cpu", batch_size=1) as enhancer, pytest.raises(ModelOutputError, match="no numbers"):
        enhancer.enhance(image)


@pytest.mark.parametrize("shape", [("n", 3, "h", "w"), (2, 3, 32, 32)])
def test_a_tile_that_overflows_in_float16_is_redone_in_float32(tmp_path, shape):
    from support.toys import overflowing_model

    path = overflowing_model(tmp_path / "half.onnx", shape=shape)
    image = noise_image(96, 64) // 3
    with Enhancer(path, device="cpu", settings=Settings(tile=32, overlap=0, halo=0, batch=2)) as enhancer:
        assert np.array_equal(enhancer.enhance(image), image)
        assert enhancer.stats.redone == 0
        image[40:44, 50:53] = 255
        assert np.array_equal(enhancer.enhance(image), image)
        assert enhancer.stats.redone == 1


def test_a_fixed_model_does_every_size(tmp_path):
    path = identity_model(tmp_path / "m.onnx", 2, shape=(4, 3, 32, 48))
    with Enhancer(path, device="cpu") as enhancer:
        for size in ((1, 1), (32, 48), (33, 49), (200, 100), (31, 300)):
            image = noise_image(*size)
            assert np.array_equal(enhancer.enhance(image), repeat(image, 2)), size


def test_the_bundled_model_enlarges_better_than_bicubic():
    from skimage.metrics import peak_signal_noise_ratio

    original = data.astronaut()
    small = Image.fromarray(original).resize((256, 256), Image.Resampling.BICUBIC)
    with Enhancer() as enhancer:
        result = np.asarray(enhancer.enhance(small))
    bicubic = np.asarray(small.resize((512, 512), Image.Resampling.BICUBIC))
    gain = peak_signal_noise_ratio(original, result) - peak_signal_noise_ratio(original, bicubic)
    assert gain > 1.0


def test_bits_that_a_format_cannot_hold_are_said_to_go(identity, tmp_path, caplog):
    Image.fromarray(noise_image(8, 8, 1, np.uint16)[..., 0]).save(tmp_path / "in.png")
    identity.enhance_file(tmp_path / "in.png", tmp_path / "kept.tif")
    assert not caplog.text
    identity.enhance_file(tmp_path / "in.png", tmp_path / "cut.jpg")
    assert "8 bits" in caplog.text
