"""Calls recorded as CUDA graphs, on a GPU that is pretended."""

import numpy as np
from support.fake_cuda import on_fake_gpu
from support.fake_cuda.calls import X2

from sr_tile.engines.onnx_runtime import OnnxEngine


@on_fake_gpu()
def test_recordings_are_replayed_and_dropped_when_old(gpu):
    engine = OnnxEngine(X2, "cuda:0", {"enable_cuda_graph": "True"})
    batch = np.zeros((1, 3, 64, 64), np.float32)
    engine.run(batch)
    gpu.reset()
    engine.run(batch)
    assert (gpu.count("replays"), gpu.count("executions")) == (1, 0)
    for side in range(65, 75):
        engine.run(np.zeros((1, 3, side, 64), np.float32))
    assert len(engine._graphs._recordings) == 4
    assert engine.run(batch).shape == (1, 3, 128, 128)
