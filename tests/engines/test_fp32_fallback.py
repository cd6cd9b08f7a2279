import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from support.toys import conv_model, overflowing_model, save_model

from sr_tile.engines.fp32_fallback import as_float32
from sr_tile.engines.onnx_runtime import OnnxEngine


def test_a_model_in_float32_has_no_twin(tmp_path):
    path = conv_model(tmp_path / "m.onnx")
    assert as_float32(path) is None
    assert OnnxEngine(path, "cpu").run_exact(np.zeros((1, 3, 8, 8), np.float32)) is None


def test_the_twin_holds_no_float16_anywhere(tmp_path):
    half = numpy_helper.from_array(np.array([0.5], np.float16))
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["k"], value=half)],
        "inner",
        [],
        [helper.make_tensor_value_info("k", TensorProto.FLOAT16, [1])],
    )
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["yes"], ["k_out"], then_branch=inner, else_branch=inner),
        helper.make_node("Add", ["input", "k_out"], ["output"]),
    ]
    path = save_model(tmp_path / "m.onnx", nodes, dtype=TensorProto.FLOAT16)
    model = onnx.load_model_from_string(as_float32(path))
    assert "float16" not in onnx.printer.to_text(model)
    batch = np.full((1, 3, 4, 4), 0.3, np.float32)
    engine = OnnxEngine(path, "cpu")
    np.testing.assert_allclose(engine.run_exact(batch), batch + 0.5, rtol=1e-6)
    assert np.abs(engine.run(batch) - batch - 0.5).max() > 1e-6


def test_the_twin_is_right_where_float16_overflows(tmp_path):
    engine = OnnxEngine(overflowing_model(tmp_path / "m.onnx"), "cpu")
    batch = np.ones((2, 3, 8, 8), np.float32)
    assert not np.isfinite(engine.run(batch)).any()
    np.testing.assert_allclose(engine.run_exact(batch), batch, rtol=1e-3)
    engine.rebuild()
    np.testing.assert_allclose(engine.run_exact(batch), batch, rtol=1e-3)
