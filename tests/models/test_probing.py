"""Tiled against whole on pictures that show the phase, for networks that work on a grid; and what else running tells."""

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from support.toys import identity_model, noise_image, save_model

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.enhancer import Enhancer
from sr_tile.errors import ModelError
from sr_tile.planner import Settings
from sr_tile.system.cache import remember

SPATIAL = {"one": np.array([2], np.int64), "zeros": np.zeros(2, np.int64), "axes": np.array([2, 3], np.int64)}


def cells(path, k, fill):
    """The mean of each cell of k x k pixels; behind the end `fill`, or just the pixels that there are."""
    weights = {**SPATIAL, "scales": np.array([1, 1, k, k], np.float32), "k": np.array([k], np.int64)}
    weights |= {"four": np.zeros(6, np.int64), "minus": np.array([-1], np.int64)}
    nodes = [
        helper.make_node("Shape", ["input"], ["size"], start=2),
        helper.make_node("Mul", ["size", "minus"], ["negative"]),
        helper.make_node("Mod", ["negative", "k"], ["missing"]),
        helper.make_node("Concat", ["four", "missing"], ["pads"], axis=0),
    ]
    last = "input"
    if fill != "own":
        mode = {"replicate": "edge", "reflect": "reflect", "zeros": "constant"}[fill]
        nodes.append(helper.make_node("Pad", ["input", "pads"], ["padded"], mode=mode))
        last = "padded"
    nodes += [
        helper.make_node("AveragePool", [last], ["mean"], kernel_shape=[k, k], strides=[k, k], ceil_mode=1),
        helper.make_node(
            "Resize",
            ["mean", "", "scales"],
            ["up"],
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
        helper.make_node("Slice", ["up", "zeros", "size", "axes"], ["output"]),
    ]
    return save_model(path, nodes, weights=weights)


def whole(path, image):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    picture = (image / np.float32(255)).transpose(2, 0, 1)[None].astype(np.float32)
    (result,) = session.run(None, {"input": picture})
    return np.rint(np.clip(result[0].transpose(1, 2, 0), 0, 1) * 255).astype(int)


@pytest.mark.parametrize(
    ("k", "fill"),
    [
        (2, "own"),
        (3, "replicate"),
        (4, "reflect"),
        (7, "own"),
        (7, "zeros"),
        (8, "own"),
        (8, "reflect"),
        (12, "replicate"),
    ],
)
def test_tiles_equal_the_whole_picture_for_networks_that_pad_inside(tmp_path, k, fill):
    path = cells(tmp_path / "m.onnx", k, fill)
    image = noise_image(131, 173)
    with Enhancer(path, device="cpu", settings=Settings(tile=8 * k)) as enhancer:
        assert enhancer.engine.spec.multiple == k
        result = enhancer.enhance(image)
    assert np.abs(result.astype(int) - whole(path, image)).max() <= 1


@pytest.mark.parametrize("k", [5, 7, 11, 12, 13, 24, 48, 72, 128])
def test_sizes_that_the_graph_takes_are_found(tmp_path, k):
    nodes = [
        helper.make_node("SpaceToDepth", ["input"], ["deep"], blocksize=k),
        helper.make_node("DepthToSpace", ["deep"], ["output"], blocksize=k),
    ]
    image = noise_image(70, 91)
    for metadata in (None, f'{{"multiple": {k}}}'):
        path = save_model(tmp_path / "m.onnx", nodes, metadata=metadata)
        with Enhancer(path, device="cpu") as enhancer:
            assert enhancer.engine.spec.multiple == k
            np.testing.assert_array_equal(enhancer.enhance(image), image)


@pytest.mark.parametrize("reach", [3, 21])
def test_small_pictures_are_padded_up_to_what_runs(tmp_path, reach):
    pads = {"pads": np.array([0, 0, reach, reach, 0, 0, reach, reach], np.int64)}
    window = {"from": np.array([reach] * 2, np.int64), "to": np.array([-reach] * 2, np.int64), "axes": SPATIAL["axes"]}
    nodes = [
        helper.make_node("Pad", ["input", "pads"], ["padded"], mode="reflect"),
        helper.make_node("Slice", ["padded", "from", "to", "axes"], ["output"]),
    ]
    path = save_model(tmp_path / "m.onnx", nodes, weights={**pads, **window})
    with Enhancer(path, device="cpu") as enhancer:
        assert enhancer.engine.spec.smallest == reach + 1
        for size in ((1, 1), (reach, 100), (100, reach + 1)):
            image = noise_image(*size)
            np.testing.assert_array_equal(enhancer.enhance(image), image)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_that_the_export_left_open_are_found(tmp_path, channels):
    weights = {"w": np.eye(channels, dtype=np.float32)[..., None, None]}
    nodes = [helper.make_node("Conv", ["input", "w"], ["output"])]
    path = save_model(tmp_path / "m.onnx", nodes, weights=weights, shape=tuple("abcd"), out_shape=tuple("efgh"))
    image = noise_image(20, 30)
    with Enhancer(path, device="cpu") as enhancer:
        assert enhancer.engine.spec.channels == channels
        np.testing.assert_array_equal(enhancer.enhance(image), image)


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_the_range_of_values_is_found_and_said(tmp_path, white, caplog):
    weights = {"low": np.array(0, np.float32), "high": np.array(white, np.float32)}
    nodes = [helper.make_node("Clip", ["input", "low", "high"], ["output"])]
    if white > 1:
        nodes = [
            helper.make_node("Clip", ["input", "low", "high"], ["clipped"]),
            helper.make_node("Round", ["clipped"], ["output"]),
        ]
    path = save_model(tmp_path / "m.onnx", nodes, weights=weights)
    image = noise_image(40, 50)
    with Enhancer(path, device="cpu") as enhancer:
        assert enhancer.engine.spec.value_range == (0.0, white)
        np.testing.assert_array_equal(enhancer.enhance(image), image)
    assert ("--value-range" in caplog.text) == (white > 1)


def test_values_far_from_those_of_the_picture_are_said(tmp_path, caplog):
    nodes = [helper.make_node("Mul", ["input", "white"], ["output"])]
    path = save_model(tmp_path / "m.onnx", nodes, weights={"white": np.array(255, np.float32)})
    for _ in range(2):  # measured, and remembered
        caplog.clear()
        OnnxEngine(path, "cpu").close()
        (line,) = [record.getMessage() for record in caplog.records]
        assert "to 255 for a picture of 0 to 1" in line
        assert "--value-range" in line


def test_what_was_found_is_kept_by_the_files_hash(tmp_path, monkeypatch):
    monkeypatch.setattr("sr_tile.models.probing.cache_folder", lambda *names: tmp_path / "cache")
    path = cells(tmp_path / "m.onnx", 4, "reflect")
    first = OnnxEngine(path, "cpu").spec
    monkeypatch.setattr("sr_tile.engines.onnx_runtime.probe", None)  # running again would fail
    second = OnnxEngine(path, "cpu").spec
    assert (second, second.details) == (first, first.details)
    assert second.padding == "reflect"


@pytest.mark.parametrize("text", ['{"scale": 2}', '{"multiple": 4}', '{"scale": 2, "multiple": 4}', "{}", "", "[]"])
def test_what_is_kept_in_part_is_found_again(tmp_path, monkeypatch, text):
    monkeypatch.setattr("sr_tile.models.probing.cache_folder", lambda *names: tmp_path / "cache")
    path = cells(tmp_path / "m.onnx", 4, "reflect")
    first = OnnxEngine(path, "cpu").spec
    (kept,) = (tmp_path / "cache").iterdir()
    remember(kept, text)
    second = OnnxEngine(path, "cpu").spec
    assert (second, second.details) == (first, first.details)


def test_a_scale_that_running_does_not_show_is_refused_with_both(tmp_path):
    path = identity_model(tmp_path / "m.onnx", 1, metadata='{"scale": 2}')
    with pytest.raises(ModelError, match="say scale 2, and running it shows 1"):
        OnnxEngine(path, "cpu")


def test_the_first_failure_is_what_is_said(tmp_path):
    weights = {"shape": np.array([1, 3, 17, 19], np.int64)}
    path = save_model(
        tmp_path / "m.onnx", [helper.make_node("Reshape", ["input", "shape"], ["output"])], weights=weights
    )
    with pytest.raises(ModelError, match="cannot be reshaped"):
        OnnxEngine(path, "cpu")


def test_a_scale_that_hangs_on_the_picture_is_refused(tmp_path):
    """The grey picture that is tried first comes back as large as it is, any other one twice as large."""

    def branch(name, nodes):
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, 1, None)])

    nodes = [
        helper.make_node("ReduceMax", ["input"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "half"], ["bright"]),
        helper.make_node(
            "If",
            ["bright"],
            ["output"],
            then_branch=branch("large", [helper.make_node("Resize", ["input", "", "scales"], ["large"])]),
            else_branch=branch("same", [helper.make_node("Identity", ["input"], ["same"])]),
        ),
    ]
    weights = {"half": np.float32(0.5), "scales": np.array([1, 1, 2, 2], np.float32)}
    path = save_model(tmp_path / "m.onnx", nodes, weights=weights)
    with pytest.raises(ModelError, match="its scale hangs on the picture"):
        OnnxEngine(path, "cpu")


def test_a_number_for_a_picture_is_refused(tmp_path):
    path = save_model(tmp_path / "m.onnx", [helper.make_node("ReduceMean", ["input"], ["output"], keepdims=0)])
    with pytest.raises(ModelError, match="came back as"):
        OnnxEngine(path, "cpu")
