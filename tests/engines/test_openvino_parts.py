"""Fewer bits by OpenVINO: the picture's own path stays exact, and tiles still join."""

import numpy as np
import pytest
from onnx import helper
from skimage import data
from support.toys import conv_model, noise_image, save_model

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.engines.openvino import OpenVinoEngine
from sr_tile.engines.openvino_runtime import supports, version
from sr_tile.engines.precision import agreement
from sr_tile.enhancer import Enhancer
from sr_tile.errors import DeviceError
from sr_tile.models import zoo
from sr_tile.planner import Settings

pytestmark = pytest.mark.skipif(
    version() is None or not supports("bf16"), reason="OpenVINO is not installed, or has no bfloat16 on this processor"
)
CUBIC = np.array([-0.09375, 0.59375, 0.59375, -0.09375], np.float32)


def photograph(height, width):
    return np.ascontiguousarray(data.astronaut()[:height, :width])


def batch_of(image_hwc):
    return np.ascontiguousarray(image_hwc.transpose(2, 0, 1)[None] / np.float32(255))


def residual_model(path, skip, scale=2, gain=0.0, operator="Add", tail=False):
    """`skip` plus `gain` times three convolutions with Tanh between them."""
    rng = np.random.default_rng(0)
    wide = 3 * scale**2
    weights = {
        "first": rng.standard_normal((64, 3, 3, 3)).astype(np.float32) / 5,
        "second": rng.standard_normal((64, 64, 3, 3)).astype(np.float32) / 24,
        "third": gain * rng.standard_normal((wide, 64, 3, 3)).astype(np.float32) / 24,
        "scales": np.array([1, 1, scale, scale], np.float32),
        "interpolate": np.zeros((wide, 3, 5, 5), np.float32),
        "mean": np.full((1, 3, 1, 1), 0.25, np.float32),
    }
    kernel = np.outer(CUBIC, CUBIC) / CUBIC.sum() ** 2
    for channel in range(3):
        weights["interpolate"][channel * scale**2 : (channel + 1) * scale**2, channel, :4, :4] = kernel
    nodes = [
        helper.make_node("Conv", ["input", "first"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "third"], ["e"], pads=[1, 1, 1, 1]),
        helper.make_node("DepthToSpace", ["e"], ["body"], blocksize=scale, mode="CRD"),
    ]
    if skip == "nothing":
        nodes.append(helper.make_node("Identity", ["input"], ["skip"]))
    elif skip == "convolution":
        nodes.append(helper.make_node("Conv", ["input", "interpolate"], ["dense"], pads=[2, 2, 2, 2]))
        nodes.append(helper.make_node("DepthToSpace", ["dense"], ["skip"], blocksize=scale, mode="CRD"))
    else:
        nodes.append(helper.make_node("Resize", ["input", "", "scales"], ["skip"], mode=skip))
    operands = ["skip", "body"] if operator == "Sub" else ["body", "skip"]
    nodes.append(helper.make_node(operator, operands, ["sum" if tail else "output"]))
    if tail:
        nodes.append(helper.make_node("Add", ["sum", "mean"], ["output"]))
    return save_model(path, nodes, weights=weights, metadata=f'{{"scale": {scale}, "multiple": 1}}')


@pytest.mark.parametrize("operator", ["Add", "Sub"])
@pytest.mark.parametrize("tail", [False, True])
@pytest.mark.parametrize(
    ("skip", "scale"), [("nothing", 1), ("nearest", 2), ("linear", 2), ("cubic", 3), ("convolution", 2)]
)
def test_a_skip_is_exact(tmp_path, skip, scale, operator, tail):
    path = residual_model(tmp_path / "m.onnx", skip, scale, operator=operator, tail=tail)
    batch = batch_of(photograph(48, 64))
    found = OpenVinoEngine(path, precision="bf16").run(batch)
    np.testing.assert_allclose(found, OpenVinoEngine(path).run(batch), rtol=0, atol=2e-7)
    np.testing.assert_allclose(found, OnnxEngine(path, "cpu").run(batch), rtol=0, atol=3e-6)


def test_the_body_is_in_fewer_bits(tmp_path):
    path = residual_model(tmp_path / "m.onnx", "nothing", 1, gain=1.0)
    batch = batch_of(photograph(48, 64))
    error = np.abs(OpenVinoEngine(path, precision="bf16").run(batch) - OnnxEngine(path, "cpu").run(batch)).max()
    assert 1e-4 < error < 0.05


def test_a_first_layer_keeps_16_bits(tmp_path):
    path = conv_model(
        tmp_path / "m.onnx", 1, depth=1, metadata='{"scale": 1, "multiple": 1}'
    )  # the first layer is the last as well
    batch = batch_of(photograph(48, 64))
    error = np.abs(OpenVinoEngine(path, precision="bf16").run(batch) - OnnxEngine(path, "cpu").run(batch)).max()
    assert error < 4e-5  # one product of bfloat16 would be 1e-3 off


@pytest.mark.parametrize("value_range", [(0.0, 255.0), (-1.0, 1.0)])
def test_a_first_layer_keeps_16_bits_in_any_range(tmp_path, value_range):
    low, high = value_range
    path = conv_model(
        tmp_path / "m.onnx", 1, depth=1, metadata=f'{{"value_range": [{low}, {high}], "scale": 1, "multiple": 1}}'
    )
    batch = batch_of(photograph(48, 64)) * np.float32(high - low) + np.float32(low)
    error = np.abs(OpenVinoEngine(path, precision="bf16").run(batch) - OnnxEngine(path, "cpu").run(batch)).max()
    assert error < 4e-5 * (high - low)


@pytest.mark.parametrize("name", ["clean-x2", "clean-x4", "denoise"])
def test_bundled_models_agree_with_float32(name):
    path, batch = zoo.find(name), batch_of(photograph(160, 192))
    engine, exact = OpenVinoEngine(path, precision="bf16"), OnnxEngine(path, "cpu")
    found = agreement([engine.run(batch)], [exact.run(batch)], (0.0, 1.0))
    assert found.psnr > 65
    assert found.within > 0.9999


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clean-x2", "denoise"])
def test_tiles_join_in_fewer_bits_as_they_do_in_float32(name):
    image = photograph(400, 480)
    results = {}
    for precision in ("bf16", "fp32"):
        for tile in (176, 512):
            with Enhancer(name, precision=precision, settings=Settings(tile=tile)) as enhancer:
                results[precision, tile] = enhancer.enhance(image).astype(int)
                assert enhancer.stats.precision == precision
    for precision in ("bf16", "fp32"):
        assert np.abs(results[precision, 176] - results[precision, 512]).max() <= 1
    assert np.abs(results["bf16", 176] - results["fp32", 176]).max() <= 1


def test_the_same_call_gives_the_same_bytes():
    path, batch = zoo.find("clean-x2"), batch_of(photograph(160, 192))
    first, second = (OpenVinoEngine(path, precision="bf16").run(batch) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.slow
def test_auto_takes_what_a_picture_bears_whatever_the_cache_holds(monkeypatch, tmp_path):
    image, results = noise_image(512, 520), []
    image = (image // 4 + photograph(512, 512)[:, :1] // 2).astype(np.uint8)
    monkeypatch.setattr("sr_tile.engines.openvino_runtime.speedup", lambda precision: 2.0)
    for cache in ("one", "one", "two"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
        with Enhancer("clean-x2") as enhancer:
            results.append(enhancer.enhance(image))
            assert enhancer.stats.precision == "bf16"
            assert enhancer.stats.exact_images == 0
    assert all(np.array_equal(result, results[0]) for result in results)


def test_precisions_are_told_apart_by_identity():
    path = zoo.find("clean-x2")
    assert len({OpenVinoEngine(path, precision=name).identity for name in ("fp32", "bf16")}) == 2


def test_a_precision_that_cannot_be_had_is_an_error(monkeypatch):
    monkeypatch.setattr("sr_tile.engines.openvino_runtime.supports", lambda precision: precision == "fp32")
    with pytest.raises(DeviceError, match="this processor has no bf16"):
        OpenVinoEngine(zoo.find("clean-x2"), precision="bf16")
