"""Errors of CUDA, by ONNX Runtime's own provider on a GPU that is pretended."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.fake_cuda import environment, on_fake_gpu
from support.fake_cuda.calls import SOME, X2
from support.toys import conv_model, identity_model

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.errors import DeviceError, ModelOutputError, OutOfMemoryError
from sr_tile.system import nvidia


@on_fake_gpu()
def test_a_plan_that_fails_is_never_run_on_another_device(gpu):
    engine = OnnxEngine(X2, "cuda:0")
    gpu.fail("plan", 4000)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        with pytest.raises(OutOfMemoryError):  # a plan may fail for want of memory
            engine.run(SOME)
        engine.rebuild()
        with pytest.raises(ModelOutputError, match="EP_FAIL"):
            engine.run(SOME)
    assert said.getvalue() == ""
    gpu.fail("plan", 0)
    engine.rebuild()  # what a failure leaves behind in a session is not to be trusted
    launches = gpu.count("launch")
    engine.run(SOME)
    assert gpu.count("launch") > launches
    gpu.fail("plan", 4000)
    with pytest.raises(OutOfMemoryError):  # a call that worked lies between
        engine.run(SOME[:, :, :128])


@pytest.mark.parametrize(
    ("kind", "code", "error"),
    [
        *(("run", code, "DeviceError") for code in (35, 201, 209, 700, 719, 721, 802, 805, 810)),
        ("run", 400, "DeviceError"),  # ambiguous, and the context does not answer
        ("run", 2, "OutOfMemoryError"),
        ("malloc", 2, "OutOfMemoryError"),
        ("plan", 1001, "OutOfMemoryError"),
        ("plan", 4004, "OutOfMemoryError"),
        ("execute", 5000, "OutOfMemoryError"),
        ("execute", 4004, "OutOfMemoryError"),
    ],
)
@on_fake_gpu()
def test_what_each_error_of_cuda_becomes(gpu, tmp_path, kind, code, error):
    from sr_tile import errors

    engine = OnnxEngine(conv_model(tmp_path / "m.onnx"), "cuda:0")
    gpu.fail(kind, code)
    with pytest.raises(getattr(errors, error)) as caught:
        engine.run(SOME)
    assert type(caught.value).__name__ == error
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@on_fake_gpu()
def test_memory_may_run_out_at_every_allocation(gpu, dtype):
    engine, some = OnnxEngine(X2, "cuda:0"), SOME.astype(dtype)
    before = gpu.count("malloc")
    engine.run(some)  # of pixels, the session for them opens
    allocations = gpu.count("malloc") - before
    assert allocations > 1
    for number in range(allocations):
        engine.rebuild()
        gpu.fail("malloc", 2, after=number)
        with pytest.raises(OutOfMemoryError):
            engine.run(some)
        gpu.fail("malloc", 0)
    engine.rebuild()
    assert engine.run(some).shape == (4, 3, 512, 512)
    assert engine.run(some).dtype == dtype


@on_fake_gpu()
def test_rebuilding_waits_for_memory_that_others_give_back(gpu, monkeypatch):
    engine = OnnxEngine(X2, "cuda:0")
    waits = []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            gpu.others(500)

    monkeypatch.setattr("sr_tile.engines.onnx_runtime.time.sleep", wait)
    gpu.others(81559)
    engine.rebuild()
    assert len(waits) == 3
    assert engine.run(SOME).shape == (4, 3, 512, 512)
    gpu.others(81559)
    waits += [0, 0, 0]
    with pytest.raises(DeviceError, match="no memory left even for the weights"):
        engine.rebuild()


@pytest.mark.parametrize(
    ("name", "value", "words"), [("FAKE_DRIVER", "12040", "driver 580"), ("FAKE_MAJOR", "6", "compute capability 6.0")]
)
@on_fake_gpu()
def test_a_driver_or_gpu_that_is_too_old_is_named(monkeypatch, name, value, words):
    monkeypatch.setenv(name, value)
    with pytest.raises(DeviceError, match=words):
        OnnxEngine(X2, "cuda")
    assert OnnxEngine(X2, "auto").device == "cpu"


@on_fake_gpu()
def test_an_option_that_is_unknown_names_itself_and_true_is_one():
    with pytest.raises(DeviceError, match=r'Unknown provider option: "?bogus'):
        OnnxEngine(X2, "cuda:0", {"bogus": "1"})
    with pytest.raises(DeviceError, match="cudnn_conv_algo_search"):
        OnnxEngine(X2, "cuda:0", {"cudnn_conv_algo_search": "WRONG"})
    for value in ("1", "True"):
        engine = OnnxEngine(X2, "cuda:0", {"enable_cuda_graph": value})
        assert engine.max_concurrency == 1
        engine.close()


def test_standard_output_is_ours_where_libraries_are_missing(tmp_path):
    """A driver, and none of CUDA's libraries."""
    libraries = Path(environment(tmp_path)["LD_LIBRARY_PATH"])
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "libcuda.so.1").symlink_to(libraries / "libcuda.so.1")
    code = "from sr_tile.engines import onnx_sessions; onnx_sessions._load_cuda()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(tmp_path, LD_LIBRARY_PATH=tmp_path / "libs"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == ""


@on_fake_gpu(FAKE_TOTAL_MB=8192)
def test_on_windows_no_more_is_taken_than_there_is(gpu, monkeypatch):
    monkeypatch.setattr("sr_tile.engines.onnx_sessions.PAGES_INTO_RAM", True)
    free = nvidia.memory_of(0)[0]
    engine = OnnxEngine(X2, "cuda:0")
    limit = int(engine._session.get_provider_options()["CUDAExecutionProvider"]["gpu_mem_limit"])
    assert limit == int(0.9 * free)
    with pytest.raises(OutOfMemoryError):
        engine.run(np.zeros((1, 3, 3072, 3072), np.float32))


@pytest.mark.parametrize("code", [2, 700])
@on_fake_gpu()
def test_a_copy_from_the_gpu_that_fails_is_an_error_like_any_other(gpu, tmp_path, code):
    engine = OnnxEngine(identity_model(tmp_path / "m.onnx"), "cuda:0")
    engine.run(SOME)
    gpu.fail("down", code)
    with pytest.raises(OutOfMemoryError if code == 2 else DeviceError):
        engine.run(SOME)
    gpu.fail("down", 0)
    assert engine.run(SOME).shape == SOME.shape


@on_fake_gpu(FAKE_TOTAL_MB=8192)
def test_memory_that_falls_behind_the_plan_makes_batches_smaller_and_loses_no_image(gpu):
    from sr_tile.enhancer import Enhancer
    from sr_tile.planner import Settings

    with Enhancer(X2, device="cuda:0", settings=Settings(tile=256, batch=16), warmup="off") as enhancer:
        assert enhancer.plan.batch == 16
        gpu.others(8192 - 500 - (gpu.live() >> 20) - 200)  # another program, since the plan was made
        result = enhancer.enhance(np.zeros((2000, 2000, 3), np.uint8))
        assert result.shape == (4000, 4000, 3)
        assert enhancer.plan.batch < 16
