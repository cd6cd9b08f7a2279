"""GPUs as the driver shows them: one that is pretended."""

import pytest
from support.fake_cuda import on_fake_gpu
from support.fake_cuda.calls import X2

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.errors import DeviceError
from sr_tile.system import nvidia


@on_fake_gpu(FAKE_DEVICES=2, FAKE_TOTAL_MB="80000,8000", FAKE_OTHERS_MB="1000,2000")
def test_memory_is_that_of_the_gpu_that_computes(gpu):
    mib = 2**20  # NVML shows them the other way round
    engines = [OnnxEngine(X2, f"cuda:{index}") for index in (0, 1)]
    for index, (total, others) in enumerate(((80000, 1000), (8000, 2000))):
        free = engines[index].memory_free()
        assert free == (total - others - 500) * mib - gpu.live(index)
        assert engines[index].memory_used() == total * mib - free
        assert engines[index].identity.count(f"Pretended-GPU-{index}") == 1
    with pytest.raises(DeviceError, match="CUDA shows 2 GPUs here"):
        OnnxEngine(X2, "cuda:2")


@pytest.mark.parametrize(
    ("visible", "expected"), [("1", [8000]), ("GPU-1,GPU-0", [8000, 80000]), ("MIG-1", [8000]), ("-1", []), ("", [])]
)
@on_fake_gpu(FAKE_DEVICES=2, FAKE_TOTAL_MB="80000,8000", FAKE_NO_NVML=1)
def test_only_what_cuda_shows_is_there(gpu, monkeypatch, visible, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [nvidia.memory_of(index)[1] >> 20 for index in range(nvidia.gpu_count())] == expected
    engine = OnnxEngine(X2, "auto")
    assert engine.device == ("cuda:0" if expected else "cpu")
    if expected:
        assert engine.memory_free() < expected[0] << 20
    else:
        with pytest.raises(DeviceError, match="CUDA_VISIBLE_DEVICES"):
            OnnxEngine(X2, "cuda")
