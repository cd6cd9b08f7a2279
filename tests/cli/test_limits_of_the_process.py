"""Few descriptors, and names that are legal but long: the image fails in one line or is done, and nothing is left."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from onnx import helper
from support.image_files import noise, read, write
from support.toys import conv_model, identity_model, save_model

resource = pytest.importorskip("resource")


@pytest.mark.slow
def test_without_descriptors_an_image_fails_and_the_others_go_on(tmp_path):
    (tmp_path / "in").mkdir()
    for index in range(12):
        write(tmp_path / "in" / f"{index}.png", noise(60, 80, 3))
    model = identity_model(tmp_path / "m.onnx", 2)
    command = [sys.executable, "-m", "sr_tile", "enhance", "in", "out", "--model", model, "--device", "cpu", "-q"]
    for most in (24, 28, 48):
        code = f"import resource, os, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({most}, {most})); "
        code += "os.execv(sys.argv[1], sys.argv[1:])"
        done = subprocess.run(
            [sys.executable, "-c", code, *command, "--overwrite"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "Traceback" not in done.stderr
        assert "did not expect" not in done.stderr
        assert done.returncode in (0, 1)
        out = list((tmp_path / "out").glob("*")) if (tmp_path / "out").is_dir() else []
        assert [path for path in out if path.name.startswith(".")] == []
        if most == 48:
            assert len(out) == 12


@pytest.mark.slow
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_streams_that_are_closed_cost_nothing(tmp_path, closed):
    """And no file that is opened gets their numbers, with what is printed."""
    write(tmp_path / "in.png", noise(20, 20, 3))
    model = identity_model(tmp_path / "m.onnx", 2)
    command = [sys.executable, "-m", "sr_tile", "enhance", "in.png", "out.png", "--model", model, "--device", "cpu"]
    code = f"import os, sys; [os.close(number) for number in {closed}]; os.execv(sys.argv[1], sys.argv[1:])"
    for extra, expected in (((), 0), (("--overwrite", "--stats"), 0), ((), 1)):  # done, told, refused
        done = subprocess.run(
            [sys.executable, "-c", code, *command, *extra], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert (done.returncode, done.stdout) == (expected, ""), done.stderr
        assert ("exists already" in done.stderr) == (expected == 1 and 2 not in closed)
        source_hwc, result_hwc = (read(tmp_path / name)[0] for name in ("in.png", "out.png"))
        assert np.array_equal(result_hwc, source_hwc.repeat(2, 0).repeat(2, 1))


def test_a_legal_name_of_eighty_wide_characters_is_written(run, tmp_path):
    write(tmp_path / "in.png", noise(20, 20, 3))
    name = "漢" * 80 + ".png"
    model = identity_model(tmp_path / "m.onnx", 2)
    assert run("enhance", "in.png", name, "--model", model, "--device", "cpu")[0] == 0
    assert (tmp_path / name).is_file()
    code, _, err = run("enhance", "in.png", "b" * 300 + ".png", "--model", model, "--device", "cpu")
    assert code == 1
    assert len(err.splitlines()) == 1
    code, _, err = run("enhance", "in.png", "x/" * 2000 + "y.png", "--model", model, "--device", "cpu")
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "did not expect" not in err
    assert run("enhance", "in.png", "a\x1b]0;x\x07.tga", "--model", model, "--device", "cpu")[2].count("\x1b") == 0


@pytest.mark.slow
def test_what_may_not_be_read_or_written_is_named(tmp_path):
    import shutil

    command = [sys.executable, "-m", "sr_tile", "enhance", "--device", "cpu", "-q"]
    if os.getuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root may read and write everything, and there is no setpriv to give that up")
        rights = "-dac_override,-dac_read_search"
        command = ["setpriv", "--bounding-set", rights, "--inh-caps", rights, *command]
    model = identity_model(tmp_path / "m.onnx", 1)
    for folder in ("in", "in/sub", "shut"):
        (tmp_path / folder).mkdir()
    write(tmp_path / "in" / "a.png", noise(20, 20, 3))
    (tmp_path / "shut" / "m.onnx").write_bytes(model.read_bytes())
    for folder in ("in/sub", "shut"):
        (tmp_path / folder).chmod(0)
    cases = {
        "shut/x.png": ("in/a.png", "shut/x.png", "--model", model),
        "shut/m.onnx": ("in/a.png", "o.png", "--model", "shut/m.onnx"),
        "shut/job": ("in/a.png", "o.png", "--model", model, "--job", "shut/job"),
        "in/sub": ("in", "out", "-r", "--model", model),
    }
    for name, arguments in cases.items():
        done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1, name
        assert name in done.stderr
        assert "Traceback" not in done.stderr
        assert "did not expect" not in done.stderr
        assert [line for line in done.stderr.splitlines() if not line.startswith("sr-tile: ")] == []
    assert (tmp_path / "out" / "a.png").is_file()
    for folder in ("in/sub", "shut"):
        (tmp_path / folder).chmod(0o700)


WAITING = [
    ("enhance", "pipe.png", "out.png", "--model", "m.onnx"),
    ("enhance", "folder", "out", "--model", "m.onnx"),
    ("enhance", "pipe.png", "out.png", "--server", "http://127.0.0.1:9"),
    ("enhance", "good.png", "out.png", "--model", "m.onnx", "--job", "job"),
    ("enhance", "good.png", "out.png", "--model", "pipe.onnx"),
    ("enhance", "good.png", "out.png", "--model", "pipe.param"),
    ("plan", "pipe.png", "--model", "m.onnx"),
    ("export-onnx", "pipe.param", "out.onnx"),
    ("export-onnx", "half.param", "out.onnx"),
    ("export-onnx", "pipe.pth", "out.onnx"),
    ("job", "status", "job"),
]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("command", WAITING, ids=lambda command: " ".join(command[:2]))
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path, command):
    conv_model(tmp_path / "m.onnx", 2)
    (tmp_path / "folder").mkdir()
    (tmp_path / "job").mkdir()
    write(tmp_path / "good.png", noise(20, 20, 3))
    (tmp_path / "half.param").write_text("7767517\n2 2\nInput in 0 1 in\nConvolution c 1 1 in out 0=3 1=1 6=9\n")
    for name in ("pipe.png", "folder/pipe.png", "pipe.onnx", "pipe.param", "pipe.pth", "half.bin", "job/journal.jsonl"):
        os.mkfifo(tmp_path / name)
    process = [sys.executable, "-m", "sr_tile", *command]
    done = subprocess.run(process, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    assert "did not expect" not in done.stderr
    if command[0] != "plan":  # which leaves out what it cannot read
        assert done.returncode == 1
        assert re.search(r"(pipe|half|job)\S*: |pipe\.\w+: ", done.stderr), done.stderr


def model_that_takes(path, how):
    """A picture as it is, after 32 GiB were filled: by one operator, or by doubling."""
    if how == "one operator":
        nodes = [
            helper.make_node("Expand", ["one", "shape"], ["large"]),
            helper.make_node("ReduceMax", ["large"], ["most"], keepdims=0),
            helper.make_node("Mul", ["input", "most"], ["output"]),
        ]
        return save_model(path, nodes, weights={"one": np.float32(1), "shape": np.array([2**33])})
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Concat", ["before", "before"], ["after"], axis=3),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", 7, []),
            helper.make_tensor_value_info("go", 9, []),
            helper.make_tensor_value_info("before", 1, None),
        ],
        [helper.make_tensor_value_info("on", 9, []), helper.make_tensor_value_info("after", 1, None)],
    )
    nodes = [
        helper.make_node("Loop", ["times", "true", "input"], ["wide"], body=body),
        helper.make_node("ReduceMax", ["wide"], ["most"], keepdims=0),
        helper.make_node("Mul", ["input", "most"], ["output"]),
    ]
    return save_model(path, nodes, weights={"times": np.array(19), "true": np.array(True)})


@pytest.mark.skipif(sys.platform != "linux" or os.path.exists("/proc/driver/nvidia"), reason="no such limit here")
@pytest.mark.parametrize("device", ["cpu", "openvino"])
@pytest.mark.parametrize("how", ["one operator", "a loop"])
def test_a_model_that_takes_all_memory_is_refused_and_not_the_process_ended(tmp_path, how, device):
    write(tmp_path / "in.png", noise(20, 20, 3))
    model_that_takes(tmp_path / "m.onnx", how)
    command = [sys.executable, "-m", "sr_tile", "enhance", "in.png", "out.png", "--model", "m.onnx", "--device", device]
    code = "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]).returncode; "
    code += "print(done, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--mem-limit", "300MiB"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    returned, peak = map(int, done.stdout.split())
    assert (returned, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "memory" in done.stderr
    assert peak < 4 * 2**20  # KiB
    assert not (tmp_path / "out.png").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="stacks count for this limit on Linux")
@pytest.mark.parametrize("most", [2**20, 2**25], ids=["none", "few"])
def test_where_no_thread_can_be_started_one_line_says_so(tmp_path, most):
    """From the first thread on, which waits for signals: each would have a stack of 64 MiB, and there is no room for it."""
    write(tmp_path / "in.png", noise(20, 20, 3))
    model = identity_model(tmp_path / "m.onnx", 2)
    code = f"""
import resource, sys, threading
import numpy, onnx, onnxruntime, psutil, pyvips, tqdm, typer  # whose own threads are not what this is about
import sr_tile.cli.main, sr_tile.enhancer
from sr_tile.__main__ import main
held = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
threading.stack_size(2**26)
resource.setrlimit(resource.RLIMIT_DATA, (held + {most}, held + {most}))
sys.argv = ["sr-tile", "enhance", "in.png", "out.png", "--model", {str(model)!r}, "--device", "cpu", "-q"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "no more threads or memory" in done.stderr or "no memory left" in done.stderr, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "m.onnx"]


@pytest.mark.skipif(sys.platform == "win32", reason="a folder that is in use stays there")
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("enhance", ".", "out"), "the current folder was removed"),
        (("enhance", "{}/in.png", "{}/a.png", "--report", "r.json"), "the current folder was removed"),
        (("enhance", "{}/in.png", "b.png"), "b.png: cannot be written: "),
        (("enhance", "{}/in.png", "{}/c.png"), ""),
    ],
)
def test_a_current_folder_that_was_removed_is_named_where_it_is_needed(tmp_path, command, expected):
    write(tmp_path / "in.png", noise(20, 20, 3))
    model = identity_model(tmp_path / "m.onnx", 2)
    (tmp_path / "gone").mkdir()
    code = "import os, sys; os.rmdir(os.getcwd()); from sr_tile.__main__ import main; main()"
    words = [word.format(tmp_path) for word in command]
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--model", model, "--device", "cpu", "-q"],
        cwd=tmp_path / "gone", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == ((1, 1) if expected else (0, 0)), done.stderr
    assert expected in done.stderr
