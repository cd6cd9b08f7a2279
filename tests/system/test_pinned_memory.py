"""Page-locked memory, on a GPU that is pretended."""

import itertools
import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.fake_cuda import on_fake_gpu
from support.fake_cuda.calls import X2
from support.toys import identity_model

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.errors import DeviceError


@pytest.mark.slow
@on_fake_gpu()
def test_batches_are_gathered_in_page_locked_memory_and_results_come_down_into_it(gpu):
    from sr_tile.enhancer import Enhancer
    from sr_tile.planner import Settings
    from sr_tile.system.pinned_memory import is_pinned

    with Enhancer(X2, device="cuda:0", settings=Settings(tile=256, batch=4)) as enhancer:
        run, seen = enhancer.engine.run_cropped, []

        def noting(batch, regions):
            output = run(batch, regions)
            seen.extend([is_pinned(batch), is_pinned(output)])
            return output

        enhancer.engine.run_cropped = noting
        for dtype in (np.uint8, np.uint16, np.float32):
            image = np.zeros((1000, 1000, 3), dtype)
            enhancer.enhance(image)  # weights go up
            gpu.reset()
            enhancer.enhance(image)
            for way in ("up", "down"):
                rest = gpu.count(f"bytes_{way}") - gpu.count(f"pinned_{way}")
                assert 0 <= rest < 1000  # constants of the graph, and a sum for each tile
        assert all(seen)
        kept = gpu.pinned()
        for _ in range(5):
            enhancer.enhance(image)
        assert gpu.pinned() <= 1.5 * kept  # what is done with is used again
    del image
    assert gpu.pinned() == 0


@on_fake_gpu()
def test_results_are_their_callers_own_and_pages_are_unlocked_with_the_session(gpu, tmp_path):
    engine = OnnxEngine(identity_model(tmp_path / "m.onnx"), "cuda:0")
    batches = [np.full((2, 3, 64, 64), number, np.float32) for number in range(40)]

    def work(mine):
        return [engine.run(batch) for batch in mine]

    with ThreadPoolExecutor(2) as pool:
        halves = list(pool.map(work, [batches[:20], batches[20:]]))
    for batch, result in zip(batches, itertools.chain(*halves), strict=True):
        assert np.array_equal(batch, result)
        result += 1  # writable
    assert gpu.pinned() >= 40 * result.nbytes
    engine.rebuild()
    assert gpu.pinned() >= 40 * result.nbytes  # they are read still
    del halves, result
    assert gpu.pinned() == 0
    engine.run(batches[0])
    assert 0 < gpu.pinned() < 5 * batches[0].nbytes
    gpu.fail("run", 700)
    with pytest.raises(DeviceError):
        engine.run(batches[0])
    gpu.fail("run", 0)
    assert gpu.pinned() == 0
    engine.run(batches[0])
    engine.close()
    assert gpu.pinned() == 0


@on_fake_gpu()
def test_where_no_pages_can_be_locked_copies_go_through_ordinary_memory_and_that_is_said_once(gpu, tmp_path):
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("sr_tile").addHandler(handler)
    engine = OnnxEngine(identity_model(tmp_path / "m.onnx"), "cuda:0")
    batch = np.random.default_rng(0).random((2, 3, 64, 64), np.float32)
    for _ in range(2):
        gpu.fail("pin", 2)
        for _ in range(2):
            assert np.array_equal(engine.run(batch), batch)
            assert gpu.pinned() == 0
        gpu.fail("pin", 0)
        engine.rebuild()
        assert np.array_equal(engine.run(batch), batch)
        assert gpu.pinned() > 0
        engine.rebuild()
    assert len(said) == 1
    assert "no more memory of the host can be locked (CUDA error 2)" in said[0]
