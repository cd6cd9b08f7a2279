import math
import time

import numpy as np
import pytest
from onnx import TensorProto
from support.toys import conv_model, identity_model, overflowing_model, save_model

from sr_tile.engines.base import Engine
from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.engines.openvino import SHAPES_KEPT, OpenVinoEngine, _Compiled
from sr_tile.engines.openvino_runtime import supports, version
from sr_tile.errors import DeviceError, ModelLoadError, ModelOutputError, OutOfMemoryError
from sr_tile.models import zoo

pytestmark = pytest.mark.skipif(version() is None, reason="OpenVINO is not installed")


def noise(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


def test_it_is_an_engine_on_the_host(tmp_path):
    engine = OpenVinoEngine(conv_model(tmp_path / "m.onnx"))
    assert isinstance(engine, Engine)
    assert engine.device == "openvino"
    assert engine.uses_host_memory
    assert engine.memory_free() > 0 < engine.memory_used()


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", ["x2", "x4", "denoise"])
def test_bundled_models_answer_as_onnx_runtime_does(name, rows):
    path, batch = zoo.find(name), noise(rows, 3, 64, 96)
    engine, reference = OpenVinoEngine(path), OnnxEngine(path, "cpu")
    assert engine.spec == reference.spec
    np.testing.assert_allclose(engine.run(batch), reference.run(batch), rtol=0, atol=1e-4)


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_toy_models_answer_as_onnx_runtime_does(tmp_path, scale, channels):
    path = conv_model(tmp_path / "m.onnx", scale, channels=channels, shape=("n", channels, "h", "w"))
    engine, reference = OpenVinoEngine(path), OnnxEngine(path, "cpu")
    for height, width in ((8, 8), (31, 17), (64, 40)):
        batch = noise(3, channels, height, width)
        np.testing.assert_allclose(engine.run(batch), reference.run(batch), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "shape", [("n", 3, "h", "w"), (1, 3, 24, 32), (4, 3, 24, 32), ("n", 3, 24, 32), (4, 3, "h", "w")]
)
@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_any_way_to_write_a_dimension(tmp_path, shape, dtype):
    engine = OpenVinoEngine(identity_model(tmp_path / "m.onnx", 2, shape=shape, dtype=dtype))
    for rows in (1, 4, 5):
        batch = noise(rows, 3, 24, 32).astype(np.float16).astype(np.float32)
        result = engine.run(batch)
        assert result.dtype == np.float32
        assert result.flags.writeable
        assert np.array_equal(result, batch.repeat(2, axis=2).repeat(2, axis=3))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["x2", "denoise"])
def test_rows_side_by_side_have_the_bits_of_rows_alone(name, precision):
    if not supports(precision):
        pytest.skip(f"no {precision} here")
    engine, batch = OpenVinoEngine(zoo.find(name), precision=precision), noise(5, 3, 64, 96)
    engine.parallel_rows = 2
    together = engine.run(batch)
    assert together.transpose(0, 2, 3, 1).flags.c_contiguous
    assert list(engine._compiled) == [(64, 96, 2)]  # the last row has paid for no other
    engine._compiled[64, 96, 2].lost = math.inf
    assert np.array_equal(together, engine.run(batch))
    assert list(engine._compiled) == [(64, 96, 2), (64, 96, 1)]
    engine.parallel_rows = 1
    assert np.array_equal(together, engine.run(batch))


def test_a_row_that_fails_waits_for_those_beside_it(tmp_path, monkeypatch):
    engine = OpenVinoEngine(conv_model(tmp_path / "m.onnx"))
    engine.parallel_rows = 2
    call, ended = engine._call, []

    def failing(calls, piece_nchw, room_nhwc):
        if piece_nchw[0, 0, 0, 0] < 0:
            raise ModelOutputError("failed")
        time.sleep(0.2)
        call(calls, piece_nchw, room_nhwc)
        ended.append(True)

    monkeypatch.setattr(engine, "_call", failing)
    batch = noise(2, 3, 20, 24)
    batch[0] = -1
    with pytest.raises(ModelOutputError):
        engine.run(batch)
    assert ended


def test_a_result_is_the_callers_and_does_not_depend_on_the_batch(tmp_path):
    engine = OpenVinoEngine(conv_model(tmp_path / "m.onnx"))
    batch = noise(3, 3, 20, 24)
    together = engine.run(batch)
    kept = together.copy()
    alone = np.concatenate([engine.run(batch[row : row + 1]) for row in range(3)])
    assert np.array_equal(together, kept)
    assert np.array_equal(together, alone)


def test_it_computes_in_float32_whatever_the_processor_offers(tmp_path):
    path = conv_model(tmp_path / "m.onnx", 1, depth=6)
    batch = noise(1, 3, 64, 64)
    reference = OnnxEngine(path, "cpu").run(batch)
    assert np.abs(OpenVinoEngine(path).run(batch) - reference).max() < 1e-5  # bfloat16 has 3 digits


def test_float16_does_not_overflow(tmp_path):
    engine = OpenVinoEngine(overflowing_model(tmp_path / "m.onnx"))
    batch = np.ones((2, 3, 8, 8), np.float32)
    np.testing.assert_allclose(engine.run(batch), batch, rtol=1e-3)
    assert engine.run_exact(batch) is None


def test_few_shapes_are_kept_and_all_answer(tmp_path):
    engine = OpenVinoEngine(identity_model(tmp_path / "m.onnx"))
    for _ in range(2):
        for side in range(8, 8 + 2 * SHAPES_KEPT):
            batch = noise(1, 3, side, side)
            assert np.array_equal(engine.run(batch), batch)
            assert len(engine._compiled) <= SHAPES_KEPT


def test_rebuild_and_close(tmp_path):
    engine = OpenVinoEngine(conv_model(tmp_path / "m.onnx"))
    batch = noise(2, 3, 20, 20)
    before = engine.run(batch)
    engine.rebuild()
    assert np.array_equal(engine.run(batch), before)
    engine.close()
    engine.close()
    with pytest.raises(ModelLoadError, match="was closed"):
        engine.run(batch)


def test_identity_tells_models_and_runtimes_apart(tmp_path):
    paths = [conv_model(tmp_path / f"{seed}.onnx", seed=seed) for seed in range(2)]
    engines = [*map(OpenVinoEngine, paths), *(OnnxEngine(path, "cpu") for path in paths)]
    assert len({engine.identity for engine in engines}) == 4


def test_a_model_that_is_none_or_lies_is_refused(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"hello")
    with pytest.raises(ModelLoadError):
        OpenVinoEngine(tmp_path / "m.onnx")
    liar = identity_model(tmp_path / "liar.onnx", 2, metadata='{"scale": 3, "multiple": 1}')
    with pytest.raises(ModelOutputError, match=r"came back as \(1, 3, 16, 16\)"):
        OpenVinoEngine(liar).run(noise(1, 3, 8, 8))


def test_out_of_memory_is_told_from_other_failures(tmp_path, monkeypatch):
    engine = OpenVinoEngine(identity_model(tmp_path / "m.onnx"))

    class Request:
        def __init__(self, error):
            self.error, self.requests = error, [self]

        def give(self, room):
            return False

        def start_async(self, *_, **__):
            raise self.error

    for error, kind in (
        (RuntimeError("std::bad_alloc"), OutOfMemoryError),
        (MemoryError(), OutOfMemoryError),
        (RuntimeError("Check failed: something"), ModelOutputError),
    ):
        monkeypatch.setitem(engine._compiled, (8, 8, 1), _Compiled([Request(error)], 0.0))
        with pytest.raises(kind):
            engine.run(noise(1, 3, 8, 8))


def test_without_openvino_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(DeviceError, match=r"install sr-tile\[openvino\]"):
        OpenVinoEngine(save_model(tmp_path / "m.onnx", []))
