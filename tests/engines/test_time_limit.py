import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.image_files import noise, write
from support.toys import save_model

from sr_tile.engines import time_limit
from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.engines.onnx_sessions import runtime
from sr_tile.errors import ModelTimeoutError, StoppedError


def endless_model(path, metadata=None):
    """The input, after a loop that ends when a constant becomes false."""
    picture = helper.make_tensor_value_info("body_out", TensorProto.FLOAT, None)
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Identity", ["before"], ["body_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []), picture],
    )
    true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    faces = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"]) for name in ("x", "y")]
    loop = helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)
    model = helper.make_model(
        helper.make_graph([loop], "endless", faces[:1], faces[1:], [true]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    if metadata:
        helper.set_model_props(model, {"sr_tile": metadata})
    onnx.save(model, path)
    return path


def test_a_model_that_never_ends_is_named_when_it_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(time_limit, "LEAST_SECONDS", 0.3)
    monkeypatch.setattr(time_limit, "SECONDS_PER_PIXEL", 0.0)
    with pytest.raises(ModelTimeoutError, match=r"endless\.onnx: one call did not end"):
        OnnxEngine(endless_model(tmp_path / "endless.onnx"), "cpu")


def test_a_call_is_cancelled_from_another_thread_and_later_ones_run(tmp_path, monkeypatch):
    path = endless_model(tmp_path / "endless.onnx", '{"scale": 1, "multiple": 1}')
    engine = OnnxEngine(path, "cpu")
    batch = np.zeros((1, 3, 8, 8), np.float32)

    def cancel():
        time.sleep(0.3)
        engine.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(StoppedError):
        engine.run(batch)
    thread.join()
    monkeypatch.setattr(time_limit, "LEAST_SECONDS", 0.3)
    with pytest.raises(ModelTimeoutError):
        engine.run(batch)


@pytest.mark.slow
def test_ctrl_c_ends_a_command_inside_of_a_call_that_never_ends(tmp_path):
    write(tmp_path / "in.png", noise(20, 20, 3))
    model = endless_model(tmp_path / "endless.onnx")
    command = [sys.executable, "-m", "sr_tile", "enhance", "in.png", "out.png", "--model", model, "--device", "cpu"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    time.sleep(3.0)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "sr-tile: stopped by SIGINT\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["endless.onnx", "in.png"]


def folding_model(path, products):
    """The picture and a constant, which takes a tenth of a second for each of its products of matrices."""
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["c0"])]
    nodes += [helper.make_node("MatMul", [f"c{index}", "c0"], [f"c{index + 1}"]) for index in range(products)]
    nodes += [helper.make_node("ReduceMax", [f"c{products}"], ["most"], keepdims=0)]
    nodes += [helper.make_node("Add", ["input", "most"], ["output"])]
    metadata = '{"scale": 1, "multiple": 1, "halo": 0}'
    return save_model(path, nodes, weights={"shape": np.array([1500, 1500])}, metadata=metadata)


RUN = """
import sys
from sr_tile.engines import time_limit
from sr_tile.__main__ import main
time_limit.OPENING_SECONDS = float(sys.argv.pop(1))
in_time = time_limit.in_time
time_limit.in_time = lambda *arguments: print("opening", flush=True) or in_time(*arguments)
main()
"""


def enhance(folder, device, seconds):
    write(folder / "in.png", noise(20, 20, 3))
    folding_model(folder / "m.onnx", 3000)
    options = ["enhance", "in.png", "out.png", "--model", "m.onnx", "--device", device]
    command = [sys.executable, "-c", RUN, str(seconds), *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_a_model_that_is_never_opened_is_named_and_the_process_ends(tmp_path, device):
    process = enhance(tmp_path, device, 1.0)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("\n")) == (1, 1), err
    assert "m.onnx: opening it did not end within 1 s" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "m.onnx"]


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "openvino"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_that_opens_a_model_for_ever(tmp_path, device, number):
    process = enhance(tmp_path, device, 600)
    assert process.stdout.readline() == "opening\n"  # not while libraries are imported
    time.sleep(1.0)
    assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (128 + number, f"sr-tile: stopped by {number.name}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "m.onnx"]


def test_what_was_left_behind_is_refused_until_it_ended():
    begun, over = threading.Event(), threading.Event()

    def make():
        begun.set()
        over.wait(60)
        return "late"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time_limit, "OPENING_SECONDS", 0.1)
        patch.setattr(time_limit.stopping, "leave_at_end", lambda: None)
        with pytest.raises(ModelTimeoutError, match="a/m"):
            time_limit.opened(make, "a/m")
        begun.clear()
        with pytest.raises(ModelTimeoutError, match="a/m"):
            time_limit.opened(make, "a/m")
        assert not begun.is_set()
        assert time_limit.opened(lambda: 1, "b/m") == 1
    over.set()
    time_limit._left_behind["a/m"].join(60)
    assert time_limit.opened(lambda: 2, "a/m") == 2


class Stuck:
    """A session whose one operator ends when it is let go, whatever it is asked."""

    def __init__(self):
        self.begun, self.over = 0, threading.Event()

    def get_inputs(self):
        return [SimpleNamespace(name="x")]

    get_outputs = get_inputs

    def run(self, wanted, feeds, options):
        self.begun += 1
        self.over.wait(60)
        return [feeds["x"]]


def test_a_call_within_one_operator_without_end_is_left_behind_and_named(monkeypatch):
    monkeypatch.setattr(time_limit, "LEAST_SECONDS", 0.1)
    monkeypatch.setattr(time_limit, "MORE_SECONDS", 0.1)
    left = []
    monkeypatch.setattr(time_limit.stopping, "leave_at_end", lambda: left.append(True))
    session, calls, batch = Stuck(), time_limit.TimedCalls("m.onnx"), np.ones((1, 3, 2, 2), np.float32)
    for _ in range(2):
        with pytest.raises(ModelTimeoutError, match=r"m\.onnx: one call did not end"):
            calls.run(session, runtime().RunOptions(), batch, in_thread=True)
    assert (session.begun, left) == (1, [True])
    session.over.set()
    time_limit._left_behind[calls].join(60)
    monkeypatch.setattr(time_limit, "LEAST_SECONDS", 60.0)
    assert np.array_equal(calls.run(session, runtime().RunOptions(), batch, in_thread=True)[0], batch)


def test_a_call_for_which_there_is_no_thread_runs_without(monkeypatch):
    session, calls, batch = Stuck(), time_limit.TimedCalls("m.onnx"), np.ones((1, 3, 2, 2), np.float32)
    session.over.set()
    calls.run(session, runtime().RunOptions(), batch)  # the thread that watches has begun
    monkeypatch.setattr(threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError("can't start")))
    assert np.array_equal(calls.run(session, runtime().RunOptions(), batch, in_thread=True)[0], batch)
    assert time_limit.opened(lambda: 1, "m") == 1


LONG = """
import sys
from sr_tile.engines import openvino, time_limit
from sr_tile.__main__ import main
time_limit.LEAST_SECONDS, time_limit.SECONDS_PER_PIXEL = 1.0, 0.0
time_limit.MORE_SECONDS = openvino.MORE_SECONDS = 0.5
main()
"""


def long_model(path):
    """The picture, and nothing of what one operator makes of ten million steps."""
    steps, hidden = 10**7, 1
    weights = {
        "zeros": np.zeros(1, np.float32),
        "W": np.full((1, 4, 1), 0.1, np.float32),
        "R": np.full((1, 4, hidden), 0.1, np.float32),
        "shape": np.array([steps, 1, 1]),
        "none": np.zeros(1, np.float32),
        "axes": np.array([0, 1]),
    }
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], keepdims=0),
        helper.make_node("Expand", ["mean", "shape"], ["sequence"]),
        helper.make_node("LSTM", ["sequence", "W", "R"], ["", "last", ""], hidden_size=hidden),
        helper.make_node("Mul", ["last", "none"], ["nothing"]),
        helper.make_node("Add", ["input", "nothing"], ["output"]),
    ]
    return save_model(path, nodes, weights=weights, metadata='{"scale": 1, "multiple": 1, "halo": 0}')


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_one_operator_that_does_not_end_is_named_and_the_process_ends(tmp_path, device):
    write(tmp_path / "in.png", noise(20, 20, 3))
    long_model(tmp_path / "m.onnx")
    command = [sys.executable, "-c", LONG, "enhance", "in.png", "out.png", "--model", "m.onnx", "--device", device]
    done = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "m.onnx: one call did not end within 1 s" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "m.onnx"]


def test_what_opening_raises_is_raised_here():
    with pytest.raises(TimeoutError, match="of its own"):
        time_limit.opened(lambda: (_ for _ in ()).throw(TimeoutError("of its own")), "m")
