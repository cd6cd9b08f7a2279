"""A runtime is one file and one line."""

import numpy as np
import pytest
from support.toys import ToyEngine, conv_model, identity_model, noise_image

from sr_tile.engines import factory, openvino_runtime
from sr_tile.engines.base import Engine
from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError, DeviceError


def test_a_runtime_that_is_registered_is_a_device_like_the_others(tmp_path, monkeypatch):
    class Fourth(ToyEngine):
        device = "fourth"

        def __init__(self, path):
            super().__init__()
            self.path = path

    monkeypatch.setitem(factory.RUNTIMES, "fourth", Fourth)
    path = identity_model(tmp_path / "model.onnx")
    first, second = factory.open_engines(path, "cpu,Fourth")
    assert isinstance(first, Engine)
    assert isinstance(second, Fourth)
    assert second.path == path
    with Enhancer(path, device="fourth") as enhancer:
        assert enhancer.device == "fourth"
    with pytest.raises(ArgumentError, match=r"'sixth:1' is not known; choose one of auto, cpu, .*, openvino, fourth"):
        factory.open_engine(path, "sixth:1")


def test_a_precision_that_is_none_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="'fp8' is not known; choose one of auto, fp32, bf16, fp16, int8"):
        Enhancer(identity_model(tmp_path / "model.onnx"), precision="fp8")


@pytest.mark.parametrize(("device", "precision"), [("cpu", "bf16"), ("cpu", "fp16"), ("auto", "bf16")])
def test_a_precision_that_cannot_be_had_is_an_error(tmp_path, monkeypatch, device, precision):
    monkeypatch.setattr("sr_tile.engines.openvino_runtime.supports", lambda name: False)
    monkeypatch.setattr("sr_tile.system.nvidia.driver_installed", lambda: False)
    with pytest.raises(DeviceError, match=f"device {device}: has no {precision}"):
        factory.open_engine(conv_model(tmp_path / "model.onnx"), device, factory.Precision(precision))


@pytest.mark.parametrize("missing", [True, False])
def test_auto_is_float32_where_nothing_else_can_be_had(tmp_path, monkeypatch, missing):
    monkeypatch.setattr("sr_tile.system.nvidia.driver_installed", lambda: False)
    if missing:
        monkeypatch.setattr("sr_tile.engines.openvino_runtime.version", lambda: None)
    else:
        monkeypatch.setattr("sr_tile.engines.openvino_runtime.supports", lambda name: name == "fp32")
    path = conv_model(tmp_path / "model.onnx", metadata='{"scale": 2, "multiple": 1}')
    image = noise_image(520, 510)
    with Enhancer(path) as auto, Enhancer(path, precision="fp32") as exact:
        assert np.array_equal(auto.enhance(image), exact.enhance(image))
        assert auto.stats.precision == "fp32"
        assert auto.stats.exact_images == 1


@pytest.mark.skipif(openvino_runtime.version() is None, reason="OpenVINO is not installed")
@pytest.mark.parametrize(("speedup", "taken"), [(0.6, "fp32"), (2.0, "bf16")])
def test_auto_takes_fewer_bits_only_where_the_processor_is_faster_with_them(tmp_path, monkeypatch, speedup, taken):
    class Narrow(ToyEngine):
        precision = "bf16"

        def answer(self, batch_nchw):
            return OnnxEngine(path, "cpu").run(batch_nchw)

    monkeypatch.setattr("sr_tile.system.nvidia.driver_installed", lambda: False)
    monkeypatch.setattr("sr_tile.engines.openvino_runtime.supports", lambda name: True)
    monkeypatch.setattr("sr_tile.engines.openvino_runtime.speedup", lambda name: speedup)
    monkeypatch.setattr("sr_tile.engines.openvino.OpenVinoEngine", lambda *_: Narrow())
    path = conv_model(tmp_path / "model.onnx")
    with Enhancer(path) as enhancer:
        enhancer.enhance(noise_image(520, 510))
        assert enhancer.stats.precision == taken
        if taken == "fp32":
            assert "bf16: 0.60 times as fast as float32 on this processor" in enhancer.stats.why


def test_auto_opens_nothing_else_for_small_work(tmp_path, monkeypatch):
    monkeypatch.setattr("sr_tile.engines.openvino.OpenVinoEngine", lambda *_: pytest.fail("opened"))
    monkeypatch.setattr("sr_tile.system.nvidia.driver_installed", lambda: False)
    path = conv_model(tmp_path / "model.onnx")
    auto = factory.Precision("auto")
    assert isinstance(factory.open_engine(path, "auto", auto, 256 * 256), OnnxEngine)
    assert isinstance(factory.open_engine(path, "cpu", auto, 10**9), OnnxEngine)
    with Enhancer(path) as enhancer:  # nor where it is not known how much there is
        enhancer.enhance(noise_image(64, 64))
        enhancer.enhance(noise_image(520, 510, dtype=np.uint16))


def test_explicit_float32_is_onnx_runtime(tmp_path):
    path = conv_model(tmp_path / "model.onnx")
    assert isinstance(factory.open_engine(path, "cpu", factory.Precision("fp32"), 10**9), OnnxEngine)
    assert isinstance(factory.open_engine(path, "auto", factory.Precision("fp32"), 10**9), OnnxEngine)
