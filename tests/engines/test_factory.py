"""A runtime is one file and one line."""

import pytest
from support.toys import ToyEngine, identity_model

from sr_tile.engines import factory
from sr_tile.engines.base import Engine
from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError


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
