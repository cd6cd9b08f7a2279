import pytest

from sr_tile.engines import openvino_runtime
from sr_tile.engines.openvino_runtime import speedup, version

pytestmark = pytest.mark.skipif(version() is None, reason="OpenVINO is not installed")


@pytest.fixture
def fresh():
    speedup.cache_clear()
    yield
    speedup.cache_clear()


def test_how_fast_a_precision_is_is_measured_once_for_this_processor(monkeypatch, tmp_path, fresh):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = speedup("bf16")
    assert 0.05 < found < 50
    speedup.cache_clear()
    monkeypatch.setattr(openvino_runtime, "_seconds", lambda hints: pytest.fail("measured again"))
    assert speedup("bf16") == found
    speedup.cache_clear()
    monkeypatch.setattr(openvino_runtime, "_seconds", lambda hints: {"f32": 3.0, "f16": 6.0})
    assert speedup("fp16") == 0.5
    speedup.cache_clear()
    monkeypatch.setattr(openvino_runtime, "processor_kind", lambda: "another")
    monkeypatch.setattr(openvino_runtime, "_seconds", lambda hints: {"f32": 3.0, "bf16": 1.0})
    assert speedup("bf16") == 3.0
