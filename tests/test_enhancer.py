import io
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from skimage import data
from support.stand_ins import Threads
from support.toys import ToyEngine, conv_model, identity_model, noise_image, repeat

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError, DeviceError, ImageReadError, ImageWriteError, ModelLoadError, ModelOutputError
from sr_tile.images import ImageReader
from sr_tile.images.arrays import ArraySink, ArraySource
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.planner import Settings


@pytest.fixture
def identity(tmp_path):
    with Enhancer(identity_model(tmp_path / "m.onnx", 2), settings=Settings(tile=32, overlap=8, batch=4)) as enhancer:
        yield enhancer


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


def test_warm_up_survives_a_batch_that_does_not_fit():
    engine = ToyEngine(fails=lambda call, shape: shape[0] > 2)
    enhancer = Enhancer(engine, settings=Settings(tile=64, batch=8), warmup="zeros")
    assert enhancer.plan.batch == 2
    enhancer.warm_up("random", (20, 30))
    assert engine.shapes[-1] == (1, 3, 20, 30)


def test_warm_up_runs_the_batches_that_an_image_will_run():
    engine = ToyEngine()
    enhancer = Enhancer(engine, settings=Settings(tile=64, overlap=0, batch=2))
    for width, batches in ((150, [1, 2]), (128, [2]), (60, [1])):
        del engine.shapes[:]
        enhancer.warm_up("zeros", (64, width))
        warmed = list(engine.shapes)
        assert [shape[0] for shape in warmed] == batches
        del engine.shapes[:]
        enhancer.enhance(noise_image(64, width))
        assert set(engine.shapes) == set(warmed)


def test_a_closed_enhancer_says_so(tmp_path):
    enhancer = Enhancer(identity_model(tmp_path / "m.onnx"))
    enhancer.close()
    with pytest.raises(ModelLoadError, match="was closed"):
        enhancer.enhance(noise_image(4, 4))


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


def test_several_devices_give_what_one_gives(tmp_path):
    path = conv_model(tmp_path / "m.onnx")
    image = noise_image(150, 170)
    settings = Settings(tile=48, overlap=16, batch=2)
    with (
        Enhancer(path, device="cpu", settings=settings) as one,
        Enhancer(path, device="cpu,cpu", settings=settings) as two,
    ):
        assert len(two.engines) == 2
        two.warm_up("zeros")
        assert np.array_equal(one.enhance(image), two.enhance(image))
        assert {stage.name: stage.workers for stage in two.stats.stages}["infer"] == 2
    with pytest.raises(ModelLoadError, match="closed"):
        two.engines[1].run(np.zeros((1, 3, 8, 8), np.float32))


def test_engines_that_are_passed_in_share_the_plan_of_the_smallest_and_stay_open():
    class Sized(ToyEngine):
        def __init__(self, free):
            super().__init__()
            self.free = free

        def memory_free(self):
            return self.free

        def close(self):
            raise AssertionError("closed")

    large, small = Sized(2**34), Sized(2**20)
    image = noise_image(300, 300)
    with Enhancer([large, small]) as both, Enhancer([small]) as alone:
        assert both.plan.batch == alone.plan.batch
        assert np.array_equal(both.enhance(image), image)


def test_a_list_of_devices_is_opened_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = conv_model(tmp_path / "m.onnx")
    closed = []
    monkeypatch.setattr(OnnxEngine, "close", lambda self: closed.append(self.device))
    with pytest.raises(DeviceError, match="cuda"):
        Enhancer(path, device="cpu,cuda:0")
    assert closed == ["cpu"]
    with pytest.raises(ArgumentError, match="auto"):
        Enhancer(path, device="cpu,auto")
    with pytest.raises(ArgumentError, match="not known"):
        Enhancer(path, device="cpu,")


def test_a_scale_beside_a_model_or_an_engine_is_its_own():
    assert Enhancer(ToyEngine(), scale=ToyEngine().spec.scale).scale == ToyEngine().spec.scale
    for model in ("x2", ToyEngine()):
        with pytest.raises(ArgumentError, match="leave out the scale"):
            Enhancer(model, scale=7)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_an_enhancer_that_was_used_and_forked_says_so_and_does_not_hang():
    code = (
        "import os, sys, warnings, numpy as np, sr_tile\n"
        "warnings.simplefilter('ignore')\n"
        "enhancer = sr_tile.Enhancer('x2', device='cpu')\n"
        "image = np.zeros((20, 20, 3), np.uint8)\n"
        "enhancer.enhance(image)\n"
        "if os.fork() == 0:\n"
        "    try: enhancer.enhance(image)\n"
        "    except sr_tile.SrTileError as error: print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "enhancer.enhance(image)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "after a fork" in done.stdout


def test_threads_share_an_enhancer_and_its_figures_are_of_all_of_them(tmp_path):
    path = conv_model(tmp_path / "m.onnx")
    images = [[noise_image(40 + thread, 50 + number, seed=thread) for number in range(5)] for thread in range(8)]
    with Enhancer(path, device="cpu") as enhancer:
        expected = [[enhancer.enhance(image) for image in mine] for mine in images]
        enhancer.reset_stats()
        results = Threads(*[lambda mine=mine: [enhancer.enhance(image) for image in mine] for mine in images]).get()
        stats = enhancer.stats
    for mine, alone in zip(results, expected, strict=True):
        for result, one in zip(mine, alone, strict=True):
            assert np.array_equal(result, one)
    assert stats.images == 40
    assert stats.megapixels == pytest.approx(sum(math.prod(image.shape[:2]) for mine in images for image in mine) / 1e6)
    counts = {stage.name: (stage.items_in, stage.items_out) for stage in stats.stages}
    assert counts["decode"][0] == counts["encode"][1] == 40
    assert counts["infer"][0] == counts["tile"][1]
    assert 0 <= stats.engine_idle < 1


def test_a_thread_that_stops_early_ends_no_call_of_another():
    class Cancelled(ToyEngine):
        """Knows whether its calls were ended."""

        cancelled = 0

        def cancel(self):
            self.cancelled += 1

    engine = Cancelled()
    enhancer = Enhancer(engine)
    jobs = [ImageJob("image", lambda: ArraySource(noise_image(40, 40)), ArraySink)] * 3
    first, second = enhancer.run(jobs), enhancer.run(jobs)
    next(first)
    next(second)
    first.close()
    assert not engine.cancelled
    assert len(list(second)) == 2
    begun = enhancer.run(jobs)
    next(begun)
    with pytest.raises(ArgumentError, match="under way"):
        enhancer.reset_stats()
    begun.close()
    assert engine.cancelled


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
