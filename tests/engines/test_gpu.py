"""What sr-tile does with a GPU, on a session that is none."""

import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.toys import ToyEngine, conv_model, identity_model, save_model

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.engines.onnx_sessions import open_session
from sr_tile.engines.providers import Device
from sr_tile.engines.tensorrt import load_libraries, tensorrt_options
from sr_tile.errors import DeviceError, ModelOutputError, ModelTimeoutError
from sr_tile.models.spec import ModelSpec
from sr_tile.planner import Settings, make_plan


class Session:
    """Runs on the CPU, and records the shapes of its calls."""

    def __init__(self, session):
        self.session, self.shapes, self.before = session, [], lambda: None
        self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs

    def run(self, names, feeds, options=None):
        (pixels,) = feeds.values()
        self.shapes.append(pixels.shape)
        self.before()
        return self.session.run(names, feeds)


def on_gpu(path, monkeypatch, device="cuda:0"):
    """An engine that takes a CPU session for one on a GPU."""
    engine = OnnxEngine(path, "cpu")

    def opened(*_, **__):
        return Session(engine._real)

    engine._real = engine._session
    engine._device, engine.device, engine._session = Device.parse(device), device, opened()
    engine.max_concurrency = 2
    monkeypatch.setattr("sr_tile.engines.onnx_runtime.open_session", opened)
    return engine


def run(engine, rows, tile=(24, 32)):
    batch = np.random.default_rng(rows).random((rows, 3, *tile), np.float32)
    assert np.array_equal(engine.run(batch), batch.repeat(2, axis=2).repeat(2, axis=3))
    return engine._session.shapes[-1][0]


def test_few_shapes_reach_a_gpu(tmp_path, monkeypatch):
    engine = on_gpu(identity_model(tmp_path / "m.onnx", 2), monkeypatch)
    assert [run(engine, rows) for rows in (12, 12, 7, 11, 6, 5, 4, 3, 2, 1)] == [12] * 10
    assert run(engine, 3, (32, 32)) == 3  # another shape of tiles has its own full batch
    engine.rebuild()  # after it, batches are smaller
    assert [run(engine, rows) for rows in (6, 5, 1)] == [6, 6, 6]


def test_tensorrt_builds_for_one_number_of_rows(tmp_path, monkeypatch):
    engine = on_gpu(identity_model(tmp_path / "m.onnx", 2), monkeypatch, "tensorrt:0")
    assert [run(engine, rows) for rows in (12, 7, 1)] == [12, 12, 12]


def test_a_cpu_is_not_asked_for_rows_that_nobody_wants(tmp_path):
    engine = OnnxEngine(identity_model(tmp_path / "m.onnx", 2), "cpu")
    engine._session = Session(engine._session)
    assert [run(engine, rows) for rows in (12, 7, 1)] == [12, 7, 1]


def test_two_threads_are_inside_the_session_at_once(tmp_path, monkeypatch):
    engine = on_gpu(conv_model(tmp_path / "m.onnx"), monkeypatch)
    batches = [np.random.default_rng(seed).random((2, 3, 24, 24), np.float32) for seed in range(2)]
    expected = [engine.run(batch) for batch in batches]
    both = threading.Barrier(2)
    engine._session.before = lambda: both.wait(10)  # neither call ends before the other has begun
    results = [None, None]

    def work(number):
        results[number] = engine.run(batches[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, wanted in zip(results, expected, strict=True):
        assert np.array_equal(result, wanted)


@pytest.mark.parametrize(
    ("message", "device", "kind"),
    [
        ("CUDA failure 719: unspecified launch failure ; GPU=0 ; expr=cudaStreamSynchronize", "cuda:0", DeviceError),
        ("CUDA failure 700: an illegal memory access was encountered", "cuda:0", DeviceError),
        ("CUDA failure 999: unknown error", "tensorrt:0", DeviceError),
        ("887A0005 The GPU device instance has been suspended", "directml:0", DeviceError),
        ("CUDA failure 9: invalid configuration argument", "cuda:0", ModelOutputError),
        ("CUDA failure 700: an illegal memory access was encountered", "cpu", ModelOutputError),
    ],
)
def test_a_lost_device_is_told_from_a_model_that_fails(tmp_path, monkeypatch, message, device, kind):
    engine = on_gpu(conv_model(tmp_path / "m.onnx"), monkeypatch, device)

    def fail():
        raise RuntimeError(message)

    engine._session.before = fail
    with pytest.raises(kind):
        engine.run(np.zeros((1, 3, 8, 8), np.float32))


def test_tensorrt_keeps_what_it_built_by_model_and_version(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    one, two = conv_model(tmp_path / "one.onnx"), conv_model(tmp_path / "two.onnx", seed=1)  # alike but for the weights
    options = tensorrt_options(one, "1.31-A100")
    assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "True"
    assert Path(options["trt_engine_cache_path"]).is_dir()
    assert Path(options["trt_engine_cache_path"]).is_relative_to(tmp_path / "cache" / "sr-tile")
    assert "trt_fp16_enable" not in options
    assert tensorrt_options(one.read_bytes(), "1.31-A100") == options
    others = [tensorrt_options(two, "1.31-A100"), tensorrt_options(one, "1.32-A100"), tensorrt_options(one, "1.31-L4")]
    assert len({o["trt_engine_cache_path"] for o in (options, *others)}) == 4
    monkeypatch.setenv("XDG_CACHE_HOME", str(one))  # no folder can be made in a file
    assert tensorrt_options(one, "1.31-A100") == {}


def test_tensorrt_is_told_of_float16_and_trusts_no_weights_outside(tmp_path):
    weights = {"gain": np.array(2, np.float16)}
    node = helper.make_node("Mul", ["input", "gain"], ["output"])
    half = save_model(tmp_path / "half.onnx", [node], weights=weights, dtype=TensorProto.FLOAT16)
    assert tensorrt_options(half, "")["trt_fp16_enable"] == "True"
    model = onnx.load(conv_model(tmp_path / "m.onnx"))
    onnx.save(model, tmp_path / "outside.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    assert tensorrt_options(tmp_path / "outside.onnx", "") == {}


def test_the_session_is_opened_with_these_options(tmp_path, monkeypatch):
    seen = []

    class Runtime:
        __version__ = "1.31"
        SessionOptions = type("SessionOptions", (), {})

        @staticmethod
        def InferenceSession(content, options, providers, enable_fallback):
            assert not enable_fallback
            assert not options.enable_mem_pattern
            seen.extend(providers)
            return type("Session", (), {"get_providers": lambda self: [name for name, _ in providers]})()

    monkeypatch.setattr("sr_tile.engines.onnx_sessions.runtime", lambda: Runtime)
    monkeypatch.setattr("sr_tile.system.nvidia.gpu_name", lambda index: f"GPU-{index}")
    open_session(conv_model(tmp_path / "m.onnx"), Device.parse("tensorrt:1"))
    assert [name for name, _ in seen] == ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    assert seen[0][1]["device_id"] == seen[1][1]["device_id"] == "1"
    assert "trt_engine_cache_path" in seen[0][1]
    assert seen[1][1]["cudnn_conv_algo_search"] == "HEURISTIC"


def test_tensorrt_builds_one_engine_for_all_sizes_of_a_plan(tmp_path, monkeypatch):
    opened = []
    engine = on_gpu(identity_model(tmp_path / "m.onnx", 2), monkeypatch, "tensorrt:0")
    monkeypatch.setattr(
        "sr_tile.engines.onnx_runtime.open_session", lambda path, device: opened.append(device) or Session(engine._real)
    )
    engine.prepare(16, (256, 384))
    (device,) = opened
    options = device.provider_options()[0][1]
    assert options["trt_profile_min_shapes"] == "input:1x3x32x32"
    assert options["trt_profile_opt_shapes"] == options["trt_profile_max_shapes"] == "input:16x3x256x384"
    assert "trt_profile_max_shapes" not in device.provider_options()[1][1]  # of CUDA, which takes what TensorRT leaves
    engine.prepare(16, (256, 384))
    assert len(opened) == 1


def test_tensorrt_keeps_one_tile_for_all_images(monkeypatch):
    engine = ToyEngine(ModelSpec("toy", scale=1, multiple=1, halo=4, tile=256))
    engine.uses_host_memory, engine.prefers_few_shapes = False, True
    plan = make_plan(engine, Settings(), expected_pixels=10**12)
    assert {plan.grid(*size).tile for size in ((100, 80), (300, 5000), (3000, 4000))} == {(256, 256)}


def test_tensorrt_is_loaded_from_its_wheel_before_the_provider(tmp_path, monkeypatch):
    folder = tmp_path / "tensorrt_libs"
    folder.mkdir()
    for name in ("libnvonnxparser.so.10", "libnvinfer.so.10", "__init__.py"):
        (folder / name).touch()
    loaded = []
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("sr_tile.engines.tensorrt.ctypes.CDLL", lambda path, mode: loaded.append(Path(path).name))
    load_libraries()
    assert loaded == ["libnvinfer.so.10", "libnvonnxparser.so.10"]


class Memory:
    """A buffer on a device that is none."""

    def __init__(self, pixels):
        self.pixels = pixels

    @classmethod
    def ortvalue_from_numpy(cls, pixels, kind, index):
        assert (kind, index) == ("cuda", 1)
        return cls(pixels.copy())

    @classmethod
    def ortvalue_from_shape_and_type(cls, shape, dtype, kind, index):
        assert (kind, index) == ("cuda", 1)
        return cls(np.full(shape, np.nan, dtype))

    def update_inplace(self, pixels):
        self.pixels[:] = pixels

    def numpy(self):
        return self.pixels


class Binding:
    def bind_ortvalue_input(self, name, value):
        self.source = (name, value)

    def bind_ortvalue_output(self, name, value):
        self.target = (name, value)


class RunOptions:
    terminate = False

    def add_run_config_entry(self, key, value):
        assert key == "gpu_graph_id"
        self.graph = value


class Recorder(Session):
    """A session with CUDA graphs: its calls by recording, each with the thread that made it."""

    io_binding = Binding

    def __init__(self, session):
        super().__init__(session)
        self.calls, self.plain = [], []

    def run_with_iobinding(self, binding, options):
        (name, source), (output, target) = binding.source, binding.target
        self.calls.append((options.graph, source, target, threading.current_thread()))
        target.pixels[:] = self.session.run([output], {name: source.pixels})[0]

    def run(self, names, feeds, options=None):
        self.plain.append(options.graph)
        return self.session.run(names, feeds)


def test_cuda_graphs_keep_addresses_and_thread(tmp_path, monkeypatch):
    engine = OnnxEngine(identity_model(tmp_path / "m.onnx", 2), "cpu")
    plain = engine._session
    engine._device = Device("cuda", 1, (("enable_cuda_graph", "1"),))
    engine._session = session = Recorder(plain)
    runtime = type("Runtime", (), {"OrtValue": Memory, "RunOptions": RunOptions})
    monkeypatch.setattr("sr_tile.engines.onnx_runtime.runtime", lambda: runtime)
    results = []
    for rows, side in ((4, 8), (4, 8), (3, 8), (2, 16), (4, 8)):  # three rows are padded to four
        batch = np.random.default_rng(len(results)).random((rows, 3, side, side), np.float32)
        results.append((batch, engine.run(batch)))
    for batch, result in results:  # no result was overwritten by a later call
        assert np.array_equal(result, batch.repeat(2, axis=2).repeat(2, axis=3))
    assert [graph for graph, *_ in session.calls] == [
        "1",
        "1",
        "1",
        "1",
        "2",
        "2",
        "1",
    ]  # a plain run before each recording
    assert len({(graph, id(source), id(target)) for graph, source, target, _ in session.calls}) == 2
    (thread,) = {thread for *_, thread in session.calls}
    assert thread is not threading.current_thread()
    engine._float32 = Recorder(plain)
    engine.run_exact(batch)
    assert engine._float32.plain == ["-1"]
    assert not engine._float32.calls
    engine.close()
    thread.join(5)
    assert not thread.is_alive()


class Endless(Recorder):
    """A session whose calls end when they are told to."""

    def run_with_iobinding(self, binding, options):
        for _ in range(3000):
            if options.terminate:
                raise RuntimeError("terminated")
            time.sleep(0.01)


def test_cuda_graphs_have_the_time_limit_of_all_calls(tmp_path, monkeypatch):
    engine = OnnxEngine(identity_model(tmp_path / "m.onnx", 2), "cpu")
    engine._device = Device("cuda", 1, (("enable_cuda_graph", "1"),))
    engine._session = Endless(engine._session)
    runtime = type("Runtime", (), {"OrtValue": Memory, "RunOptions": RunOptions})
    monkeypatch.setattr("sr_tile.engines.onnx_runtime.runtime", lambda: runtime)
    monkeypatch.setattr("sr_tile.engines.time_limit.time_limit", lambda batch: 0.1)
    with pytest.raises(ModelTimeoutError):
        engine.run(np.zeros((1, 3, 8, 8), np.float32))
    engine.close()


def test_cuda_graphs_are_asked_for_by_an_option_of_the_provider():
    device = Device("cuda", 0, (("enable_cuda_graph", "1"), ("cudnn_conv_algo_search", "EXHAUSTIVE")))
    (_, options), _ = device.provider_options()
    assert device.graphs
    assert options["enable_cuda_graph"] == "1"
    assert options["cudnn_conv_algo_search"] == "EXHAUSTIVE"
    assert not Device("cuda").graphs
