"""Pixels in, pixels out, on the CPU provider: what a graph does at its ends, against NumPy around the plain graph."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from skimage import data
from support.pipelines import array_job, plan, run
from support.toys import conv_model, identity_model, noise_image, overflowing_model, save_model

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.engines.strength_grain_tta import Adjustment
from sr_tile.export.precision import convert
from sr_tile.pipeline.pipeline import Pipeline
from sr_tile.serving import SharedEngine

MODELS = Path(__file__).parents[2] / "models"


class PixelEngine(OnnxEngine):
    """On the CPU and with pixels, as a GPU has them; notes what it is given and what it answers."""

    def __init__(self, path):
        super().__init__(path, "cpu")
        self.takes_pixels = True
        self.taken, self.given = [], []

    def run(self, batch_nchw):
        output = super().run(batch_nchw)
        self.taken.append(batch_nchw.dtype)
        self.given.append(output.dtype)
        return output


def stretching_model(path, low, high, **keywords):
    """Neighbours' mean, stretched by a quarter beyond black and white, in a range of values of its own."""
    pool = helper.make_node("AveragePool", ["input"], ["mean"], kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=0)
    nodes = [
        pool,
        helper.make_node("Mul", ["mean", "gain"], ["gained"]),
        helper.make_node("Sub", ["gained", "offset"], ["output"]),
    ]
    weights = {"gain": np.float32([1.5]), "offset": np.float32([(low + high) / 4])}
    metadata = f'{{"scale": 1, "multiple": 1, "halo": 1, "value_range": [{low}, {high}]}}'
    return save_model(path, nodes, weights=weights, metadata=metadata, **keywords)


def rounded(floats, dtype, low, high):
    """By NumPy, in float32 as today's path."""
    white = np.iinfo(dtype).max
    unit = (floats - np.float32(low)) / np.float32(high - low)
    return np.rint(np.clip(unit * np.float32(white), 0, white)).astype(dtype)


def check_equal(found, expected):
    """At most 1 step of 255 in at most 1 of 10,000 values."""
    assert found.dtype == expected.dtype
    step = np.iinfo(found.dtype).max // 255
    assert np.abs(found.astype(int) - expected).max() <= step
    assert np.mean(found // step != expected // step) <= 1e-4
    assert np.mean((expected > 0) & (expected < np.iinfo(found.dtype).max)) > 0.2  # there was something to lose


def test_pixels_lie_in_memory_as_pictures_do(tmp_path):
    engine = OnnxEngine(identity_model(tmp_path / "m.onnx"), "cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 7), np.uint8)
    output = engine.run(pixels)
    assert (output == pixels).all()
    assert output.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["float32", "float16", "fixed batch", "operators of 2019"])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (-1, 1)])
def test_pixels_are_rounded_from_what_floats_become(tmp_path, dtype, kind, low, high):
    shape = (2, 3, 40, 48) if kind == "fixed batch" else ("n", 3, "h", "w")
    path = stretching_model(tmp_path / "m.onnx", low, high, shape=shape, out_shape=shape)
    if kind == "float16":
        convert(path, tmp_path / "half.onnx", "fp16")
        path = tmp_path / "half.onnx"
    if kind == "operators of 2019":
        model = onnx.load(path)
        model.opset_import[0].version = 11
        onnx.save(model, path)
    engine = OnnxEngine(path, "cpu")
    pixels = noise_image(3 * 40, 48, dtype=dtype).reshape(3, 40, 48, 3).transpose(0, 3, 1, 2)
    pixels[0, :, :20], pixels[0, :, 20:] = 0, np.iinfo(dtype).max
    floats = pixels / np.float32(np.iinfo(dtype).max) * np.float32(high - low) + np.float32(low)
    check_equal(engine.run(pixels), rounded(engine.run(floats), dtype, low, high))
    if kind == "float16":
        np.testing.assert_array_equal(engine.run_exact(pixels), engine.run_exact(floats))


def test_operators_that_cannot_round_leave_floats_as_they_were(tmp_path):
    path = stretching_model(tmp_path / "m.onnx", 0, 255)
    model = onnx.load(path)
    model.opset_import[0].version = 10
    onnx.save(model, path)
    engine = OnnxEngine(path, "cpu")
    pixels = noise_image(40, 48).transpose(2, 0, 1)[None]
    np.testing.assert_array_equal(engine.run(pixels), engine.run(pixels.astype(np.float32)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tile", "halo", "multiple"), [("clean-x2", 96, 9, 1), ("photo-x2", 232, 56, 4), ("denoise", 224, 48, 4)]
)
@pytest.mark.parametrize("ramp", [0, 1])
def test_photographs_by_pixels_equal_those_by_floats(name, tile, halo, multiple, ramp):
    photographs = [data.astronaut()[60:300, :250], data.coffee()[100:330, 200:400]]
    layout = plan(tile, (2 + ramp) * halo, halo, multiple, batch=2)
    engine = PixelEngine(MODELS / f"{name}.onnx")
    found = run(photographs, engine, layout)
    assert set(engine.taken) == set(engine.given) == {np.dtype(np.uint8)}
    for one, other in zip(found, run(photographs, OnnxEngine(engine._path, "cpu"), layout), strict=True):
        check_equal(one, other)


@pytest.mark.parametrize(
    ("image", "channels", "alpha", "taken"),
    [
        (noise_image(40, 50), 3, "bicubic", np.uint8),
        (noise_image(40, 50, dtype=np.uint16), 3, "bicubic", np.uint16),
        (noise_image(40, 50, dtype=np.float32), 3, "bicubic", np.float32),
        (noise_image(40, 50, 4), 3, "bicubic", np.uint8),
        (noise_image(40, 50, 4), 3, "model", np.float32),  # alpha is the mean of three
        (noise_image(40, 50, 1), 3, "bicubic", np.float32),
        (noise_image(40, 50, 4), 1, "model", np.uint8),
    ],
)
def test_what_goes_as_pixels_comes_out_as_by_floats(tmp_path, image, channels, alpha, taken):
    facts = f'{{"scale": 2, "multiple": 1, "halo": 3, "channels": {channels}}}'
    path = conv_model(tmp_path / "m.onnx", channels=channels, shape=("n", channels, "h", "w"), metadata=facts)
    image[:12, :12, -1] = 0  # of alpha: colours that are filled for the network, and come back
    engine = PixelEngine(path)
    (found,) = run([image], engine, plan(24, 6, 3, batch=2), alpha=alpha)
    assert set(engine.taken) == {np.dtype(taken)}
    (expected,) = run([image], OnnxEngine(path, "cpu"), plan(24, 6, 3, batch=2), alpha=alpha)
    assert np.abs(found.astype(float) - expected).max() <= 1
    assert np.mean(found != expected) <= 1e-4


class CroppingEngine(PixelEngine):
    """Of each result only what is needed is there."""

    def run_cropped(self, batch_nchw, regions):
        output = self.run(batch_nchw)
        scale = self.spec.scale
        for row, region in zip(output, regions, strict=True):
            outside = np.ones(row.shape[1:], bool)
            outside[region.scale(scale).slices] = False
            row[:, outside] = 0
        return output


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("overlap", "halo", "said"), [(6, 3, 3), (9, 3, 3), (9, 2, None), (0, 0, None)])
def test_what_lies_around_the_region_of_a_tile_is_never_seen(tmp_path, channels, overlap, halo, said):
    facts = '{"scale": 2, "multiple": 2' + (f', "halo": {said}}}' if said else ', "pooling": "global"}')
    path = conv_model(tmp_path / "m.onnx", metadata=facts)
    images = [noise_image(*size, channels, dtype=t) for size in ((41, 50), (9, 70)) for t in (np.uint8, np.float32)]
    for image in images:
        image[:12, :12, -1] = 0  # of alpha: colours that are hidden
    layout = plan(24, overlap, halo, 2, batch=3)
    for alpha in ("bicubic", "model"):
        found = run(images, CroppingEngine(path), layout, alpha=alpha)
        with SharedEngine(CroppingEngine(path), layout) as shared, shared.client() as client:
            served = run(images, client, layout, alpha=alpha)
        expected = run(images, PixelEngine(path), layout, alpha=alpha)
        for one, two, other in zip(found, served, expected, strict=True):
            assert np.array_equal(one, other)
            assert np.array_equal(two, other)


def test_tiles_that_may_disagree_where_they_are_blended_stay_floats(tmp_path):
    for halo, said, taken in ((3, 3, np.uint8), (2, 3, np.float32), (2, None, np.float32)):
        facts = '{"scale": 2, "multiple": 1' + (f', "halo": {said}}}' if said else ', "pooling": "global"}')
        engine = PixelEngine(conv_model(tmp_path / "m.onnx", metadata=facts))
        run([noise_image(40, 50)], engine, plan(24, 9, halo))
        assert set(engine.taken) == {np.dtype(taken)}
    run([noise_image(20, 20)], engine, plan(24, 9, 2))  # one tile agrees with itself
    assert engine.taken[-1] == np.uint8


def test_all_engines_must_take_pixels_and_what_is_done_to_results_is_done_to_floats(tmp_path):
    path = identity_model(tmp_path / "m.onnx", metadata='{"scale": 1, "multiple": 1, "halo": 0}')
    engine, image = PixelEngine(path), noise_image(40, 50)
    for engines in ([engine, OnnxEngine(path, "cpu")], Adjustment(strength=0.5).of(engine)):
        (found,) = run([image], engines, plan(24))
        assert np.array_equal(found, image)
    assert set(engine.taken) <= {np.dtype(np.float32)}


def test_what_overflows_is_found_behind_the_rounding_and_redone(tmp_path):
    dark, bright = noise_image(48, 48) // 3, noise_image(48, 48) // 3
    bright[24:, :24] = 200
    pipeline = Pipeline(engine := PixelEngine(overflowing_model(tmp_path / "m.onnx")), plan(24, batch=3))
    outcomes = {o.index: o for o in pipeline.run(map(array_job, [dark, bright, dark]))}
    for index, image in enumerate((dark, bright, dark)):
        assert np.array_equal(outcomes[index].sink.pixels_hwc, image)
    assert pipeline.stats().redone == 1
    assert set(engine.given) == {np.dtype(np.uint8), np.dtype(np.float32)}


def test_a_server_joins_pixels_with_floats_of_tiles_that_overflowed(tmp_path):
    image = noise_image(48, 48) // 3
    image[24:, :24] = 200
    engine = PixelEngine(overflowing_model(tmp_path / "m.onnx"))
    with SharedEngine(engine, plan(24, batch=1)) as shared, shared.client() as client:
        assert client.takes_pixels
        (found,) = run([image], client, plan(24, batch=4))
    assert np.array_equal(found, image)
    assert set(engine.given) == {np.dtype(np.uint8), np.dtype(np.float32)}


def test_a_device_that_cannot_have_such_ends_is_given_floats_and_that_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("sr_tile.engines.onnx_runtime.with_integer_ends", lambda *arguments: b"no model")
    engine = PixelEngine(stretching_model(tmp_path / "m.onnx", 0, 255))
    pixels = noise_image(40, 48).transpose(2, 0, 1)[None]
    for _ in range(2):
        np.testing.assert_array_equal(engine.run(pixels), engine.run(pixels.astype(np.float32)))
    assert caplog.text.count("pixels go there as floats") == 1


def test_pictures_of_all_number_types_in_one_list_come_out_as_alone(tmp_path):
    facts = '{"scale": 2, "multiple": 1, "halo": 3}'
    engine = PixelEngine(conv_model(tmp_path / "m.onnx", metadata=facts))
    pictures = [noise_image(30, 34, dtype=dtype) for dtype in (np.uint8, np.uint16, np.float32, np.uint8)]
    together = run(pictures, engine, plan(24, 6, 3, batch=8))
    for picture, found in zip(pictures, together, strict=True):
        assert found.dtype == picture.dtype
        assert np.array_equal(found, run([picture], engine, plan(24, 6, 3, batch=8))[0])
