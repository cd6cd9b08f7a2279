import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.toys import conv_model, identity_model, save_model

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.engines.providers import Device
from sr_tile.engines.warm_up import warm_up
from sr_tile.errors import ArgumentError, DeviceError, ModelLoadError, ModelOutputError, OutOfMemoryError, SrTileError


def relu(name="input"):
    return [helper.make_node("Relu", [name], ["output"])]


@pytest.mark.parametrize(
    "shape", [("n", 3, "h", "w"), (None, 3, None, None), (-1, 3, -1, -1), (1, 3, 24, 32), ("n", 3, 24, 32)]
)
@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_any_way_to_write_a_dimension(tmp_path, shape, scale, dtype):
    engine = OnnxEngine(identity_model(tmp_path / "m.onnx", scale, shape=shape, dtype=dtype), "cpu")
    assert (engine.spec.scale, engine.spec.channels, engine.device) == (scale, 3, "cpu")
    assert engine.spec.fixed_tile == ((24, 32) if shape[2] == 24 else None)
    assert engine.spec.fixed_batch == (1 if shape[0] == 1 else None)
    for rows in (1, 2, 5):
        batch = np.random.default_rng(0).random((rows, 3, 24, 32)).astype(np.float16).astype(np.float32)
        result = engine.run(batch)
        assert result.dtype == np.float32
        assert np.array_equal(result, batch.repeat(scale, axis=2).repeat(scale, axis=3))


@pytest.mark.parametrize("fixed", [1, 2, 4])
def test_a_fixed_batch_is_padded_and_no_row_is_lost(tmp_path, fixed):
    engine = OnnxEngine(identity_model(tmp_path / "m.onnx", 2, shape=(fixed, 3, "h", "w")), "cpu")
    for rows in range(1, 10):
        batch = np.random.default_rng(rows).random((rows, 3, 8, 8), np.float32)
        assert np.array_equal(engine.run(batch), batch.repeat(2, axis=2).repeat(2, axis=3))


def test_one_channel_models(tmp_path):
    engine = OnnxEngine(identity_model(tmp_path / "m.onnx", 2, shape=("n", 1, "h", "w")), "cpu")
    assert engine.spec.channels == 1


@pytest.mark.parametrize("multiple", [1, 2, 4, 8, 16])
def test_the_multiple_is_measured_where_the_file_does_not_say(tmp_path, multiple):
    weights = {"scales": np.array([1, 1, multiple, multiple], np.float32)}
    nodes = [
        helper.make_node("MaxPool", ["input"], ["small"], kernel_shape=[multiple] * 2, strides=[multiple] * 2),
        helper.make_node("Resize", ["small", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Add", ["large", "input"], ["output"]),
    ]
    engine = OnnxEngine(save_model(tmp_path / "m.onnx", nodes, weights=weights), "cpu")
    assert engine.spec.multiple == multiple


def test_metadata_is_believed_until_the_model_answers_otherwise(tmp_path):
    path = identity_model(tmp_path / "m.onnx", 2, metadata='{"scale": 3, "multiple": 1, "halo": 7, "name": "liar"}')
    engine = OnnxEngine(path, "cpu")
    assert (engine.spec.name, engine.spec.halo) == ("liar", 7)
    with pytest.raises(ModelOutputError, match=r"liar: x3 .* came back as \(1, 3, 16, 16\)"):
        engine.run(np.zeros((1, 3, 8, 8), np.float32))


def write(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: write(p, b""), "no ONNX model"),
        (lambda p: write(p, b"hello world"), "no ONNX model"),
        (lambda p: write(p, conv_model(p).read_bytes()[:-200]), "no ONNX model"),
        (lambda p: p, "no such file"),
        (
            lambda p: save_model(p, [helper.make_node("Add", ["input", "b"], ["output"])], extra_inputs=("b",)),
            "2 inputs",
        ),
        (lambda p: save_model(p, relu(), shape=("n", "h", "w", 3)), "(N, H, W, C)"),
        (lambda p: save_model(p, relu(), shape=(1, 64, 64, 3)), "(N, H, W, C)"),
        (lambda p: save_model(p, relu(), shape=("n", 4, "h", "w")), "4 channels"),
        (lambda p: save_model(p, relu(), shape=("n", 3, "h")), "3 axes"),
        (lambda p: save_model(p, relu(), shape=("n", 3, 64, "w")), "fixes one side"),
        (lambda p: save_model(p, relu(), shape=(1, 3, 2**31, 2**31)), "have no room in memory"),
        (
            lambda p: save_model(p, relu(), shape=(1, 3, 10**6, 10**6), metadata='{"scale": 1, "multiple": 1}'),
            "no room",
        ),
        (lambda p: save_model(p, relu(), shape=(10**9, 3, "h", "w")), "have no room in memory"),
        (lambda p: save_model(p, relu(), dtype=TensorProto.INT32), "tensor(int32)"),
        (lambda p: identity_model(p, 1, metadata="{broken"), "not the JSON"),
        (lambda p: identity_model(p, 1, metadata='{"scale": "2"}'), "whole number"),
        (lambda p: identity_model(p, 1, metadata='{"scale": 0}'), "whole number"),
        (lambda p: identity_model(p, 1, metadata='{"value_range": [1, 0]}'), "no range"),
    ],
)
def test_what_is_no_such_model_is_refused_in_one_line(tmp_path, make, words):
    with pytest.raises(ModelLoadError) as caught:
        OnnxEngine(make(tmp_path / "m.onnx"), "cpu")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_that_drops_channels_or_shrinks_is_refused(tmp_path):
    nodes = [helper.make_node("ReduceMean", ["input"], ["output"], axes=[1], keepdims=1)]
    with pytest.raises(ModelLoadError, match="same number of rows and channels"):
        OnnxEngine(save_model(tmp_path / "m.onnx", nodes), "cpu")
    nodes = [helper.make_node("MaxPool", ["input"], ["output"], kernel_shape=[2, 2], strides=[2, 2])]
    with pytest.raises(ModelLoadError, match="times one whole number"):
        OnnxEngine(save_model(tmp_path / "m.onnx", nodes), "cpu")


def test_a_device_named_explicitly_never_falls_back(tmp_path):
    path = identity_model(tmp_path / "m.onnx")
    for device in ("cuda", "cuda:7", "directml", "coreml", "tensorrt"):
        with pytest.raises(DeviceError, match=device.split(":")[0]):
            OnnxEngine(path, device)
    for device in ("gpu", "cpu:1", "cuda:x", ""):
        with pytest.raises(ArgumentError, match="choose one of"):
            OnnxEngine(path, device)


def test_auto_falls_back_and_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("sr_tile.system.nvidia.driver_installed", lambda: True)
    monkeypatch.setattr("sr_tile.system.nvidia.gpu_count", lambda: 1)
    monkeypatch.setattr("sr_tile.system.nvidia.unusable", lambda index: None)
    with caplog.at_level(logging.WARNING, "sr_tile"):
        engine = OnnxEngine(identity_model(tmp_path / "m.onnx"), "auto")
    assert engine.device == "cpu"
    assert "CPU" in caplog.text


def test_out_of_memory_is_told_from_other_failures(tmp_path, monkeypatch):
    engine = OnnxEngine(identity_model(tmp_path / "m.onnx"), "cpu")

    class Session:
        def __init__(self, message):
            self.message = message

        def get_inputs(self):
            return [onnx.helper.make_tensor_value_info("input", 1, [])]

        get_outputs = get_inputs

        def run(self, *_):
            raise RuntimeError(self.message)

    for message, kind in (
        (
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 99",
            True,
        ),
        ("CUDNN_STATUS_ALLOC_FAILED", True),
        ("BFCArena::AllocateRawInternal Available memory of 0 is smaller than requested bytes", True),
        ("std::bad_alloc", True),
        ("Non-zero status code while running Conv: kernel shape", False),
    ):
        monkeypatch.setattr(engine, "_session", Session(message))
        with pytest.raises(SrTileError) as caught:
            engine.run(np.zeros((1, 3, 8, 8), np.float32))
        assert isinstance(caught.value, OutOfMemoryError if kind else ModelOutputError)


def test_rebuild_gives_the_same_engine_again(tmp_path):
    engine = OnnxEngine(conv_model(tmp_path / "m.onnx"), "cpu")
    batch = np.random.default_rng(0).random((2, 3, 20, 20), np.float32)
    before = engine.run(batch)
    engine.rebuild()
    assert np.array_equal(engine.run(batch), before)


def test_warm_up_runs_at_the_real_shape(tmp_path):
    engine = OnnxEngine(conv_model(tmp_path / "m.onnx"), "cpu")
    seen = []
    run = engine.run
    engine.run = lambda batch: seen.append((batch.shape, float(batch.std()) > 0)) or run(batch)
    for kind in ("off", "zeros", "random"):
        warm_up(engine, kind, [(1, (16, 24)), (3, (16, 24))])
    assert seen == [((rows, 3, 16, 24), kind) for kind in (False, True) for rows in (1, 3)]
    with pytest.raises(ArgumentError, match="off, zeros or random"):
        warm_up(engine, "hot", [(1, (8, 8))])


def test_identity_tells_models_apart(tmp_path):
    names = {OnnxEngine(conv_model(tmp_path / f"{i}.onnx", seed=i), "cpu").identity for i in range(3)}
    assert len(names) == 3


def test_providers_name_the_device_first():
    assert [name for name, _ in Device.parse("cuda:2").provider_options()] == [
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ]
    assert Device.parse("cuda:2").provider_options()[0][1]["device_id"] == "2"


def test_threads_that_the_runtime_is_refused_are_no_fault_of_the_model(tmp_path, monkeypatch):
    def create(*_):
        raise RuntimeError("env.cc:327 pthread_create failed, error code: 11")

    monkeypatch.setattr("sr_tile.engines.onnx_sessions._create", create)
    with pytest.raises(ModelLoadError, match="grants this process no more threads"):
        OnnxEngine(conv_model(tmp_path / "m.onnx"), "cpu")
