import numpy as np
import onnx
import pytest
from onnx import helper
from support.toys import conv_model, identity_model, save_model

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.errors import ModelLoadError
from sr_tile.export.inspect import inspect
from sr_tile.planner import Settings, make_plan


def kinds(port):
    return [dim["kind"] for dim in port["shape"]]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (("n", 3, "h", "w"), ["symbolic", "fixed", "symbolic", "symbolic"]),
        ((None, 3, None, None), ["dynamic", "fixed", "dynamic", "dynamic"]),
        ((-1, 3, -1, -1), ["dynamic", "fixed", "dynamic", "dynamic"]),
        ((2, 3, 24, 32), ["fixed"] * 4),
    ],
)
def test_every_dimension_is_told(tmp_path, shape, expected):
    found = inspect(identity_model(tmp_path / "m.onnx", 2, shape=shape), "cpu")
    assert kinds(found["inputs"][0]) == expected
    assert found["spec"]["scale"] == 2


def test_the_plan_is_the_one_that_enhance_makes(tmp_path):
    path = conv_model(tmp_path / "m.onnx", metadata='{"scale": 2, "multiple": 8, "halo": 3, "tile": 64}')
    found, plan = inspect(path, "cpu")["enhance"], make_plan(OnnxEngine(path, "cpu"), Settings())
    assert found == {
        "device": "cpu",
        "tile": plan.tile,
        "overlap": plan.overlap,
        "halo": 3,
        "multiple": 8,
        "batch": plan.batch,
    }


def test_parameters_and_nodes_are_counted(tmp_path):
    found = inspect(conv_model(tmp_path / "m.onnx", depth=2, scale=1), "cpu")
    assert found["parameters"] == 3 * 8 * 9 + 8 * 3 * 9
    assert found["operators"] == {"Conv": 2, "Tanh": 1, "DepthToSpace": 1}
    assert found["opset"] == {"ai.onnx": 17}


def test_a_model_that_enhance_refuses_is_described_all_the_same(tmp_path):
    nodes = [helper.make_node("Relu", ["input"], ["output"])]
    found = inspect(save_model(tmp_path / "m.onnx", nodes, shape=(1, 64, 64, 3)), "cpu")
    assert "(N, H, W, C)" in found["enhance"]["refused"]
    assert [dim["size"] for dim in found["inputs"][0]["shape"]] == [1, 64, 64, 3]


def test_metadata_of_others_is_shown_as_it_is(tmp_path):
    path = identity_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    helper.set_model_props(model, {"author": "A. Name", "sr_tile": '{"licence": "MIT"}'})
    onnx.save(model, path)
    found = inspect(path, "cpu")
    assert found["metadata"] == {"author": "A. Name", "sr_tile": {"licence": "MIT"}}
    assert found["spec"]["details"] == {"licence": "MIT", "receptive_field": 1, "seam": 0.0}  # the last two measured


def test_forged_files_are_refused_as_a_whole(tmp_path):
    path = save_model(
        tmp_path / "m.onnx",
        [helper.make_node("Add", ["input", "w"], ["output"])],
        weights={"w": np.zeros((1, 3, 1, 1), np.float32)},
    )
    model = onnx.load(path)
    model.graph.initializer[0].dims[2] = 10**10
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelLoadError, match="claims 30000000000 values"):
        inspect(path, "cpu")
