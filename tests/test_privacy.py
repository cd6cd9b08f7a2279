"""Nothing about a run leaves the machine, or is noted for it to leave later."""

import ast
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest
from support import networks
from support.image_files import noise, write

ROOT = Path(__file__).parent.parent

# Python's own audit events show what Python opens; strace shows what libraries do in C.
RUNS = {
    "the Python face": "import numpy as np, sr_tile\n"
    "with sr_tile.Enhancer('x2', device='{device}') as enhancer: enhancer.enhance(np.zeros((40, 40, 3), np.uint8))",
    "a worker that imports an engine": "from sr_tile.engines.factory import open_engines\n"
    "from sr_tile.models import zoo\nopen_engines(zoo.find('x2'), '{device}')",
}


@pytest.mark.parametrize("device", ["cpu", "openvino"])
@pytest.mark.parametrize("run", RUNS)
def test_a_run_writes_nothing_but_its_own_cache_and_looks_nothing_up(tmp_path, run, device):
    if device == "openvino":
        pytest.importorskip("openvino")
    home = tmp_path / "home"
    home.mkdir()
    hidden = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "ORT_DISABLE_TELEMETRY", "CI", "TF_BUILD")
    environment = {key: value for key, value in os.environ.items() if key not in hidden} | {"HOME": str(home)}
    trace = tmp_path / "trace"
    watch = ["strace", "-f", "-qq", "-e", "trace=connect,sendto", "-o", trace] if shutil.which("strace") else []
    command = [*watch, sys.executable, "-c", RUNS[run].format(device=device)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    written = [path for path in home.rglob("*") if path.is_file() and "sr-tile" not in path.parts]
    assert written == []
    if watch:
        calls = [line for line in trace.read_text().splitlines() if "AF_INET" in line or "sun_path" in line]
        assert calls == []


COMMANDS = {
    "enhance": ["enhance", "in.png", "out.png", "--model", "clean-x2", "--device", "cpu", "-q"],
    "export-onnx": ["export-onnx", "net.pth", "net.onnx"],
    "serve": ["serve", "-q", "--port", "0", "--model", "clean-x2", "--device", "cpu"],
}


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed, which shows what libraries do in C")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_opens_no_socket_but_a_servers_own(tmp_path, command):
    write(tmp_path / "in.png", noise(40, 40, 3))
    if command == "export-onnx":
        torch = pytest.importorskip("torch")
        torch.save(networks.nafnet(**networks.SMALL_NAFNET).state_dict(), tmp_path / "net.pth")
    watch = ["strace", "-f", "-qq", "-e", "trace=network", "-o", "trace"]
    streams = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*watch, sys.executable, "-m", "sr_tile", *COMMANDS[command]], **streams)
    if command == "serve":
        url = re.search(r"http://\S+", process.stderr.readline())[0]
        body = (tmp_path / "in.png").read_bytes()
        with urllib.request.urlopen(urllib.request.Request(f"{url}v1/enhance", body)) as answer:
            assert answer.status == 200
        for child in psutil.Process(process.pid).children():
            child.terminate()
    assert process.wait(120) == 0, process.stderr.read()
    calls = (tmp_path / "trace").read_text().splitlines()
    opened = [call for call in calls if " socket(" in call and "AF_UNIX" not in call]
    assert len(opened) == (1 if command == "serve" else 0), opened
    # PyTorch asks the C library who runs it, which asks a service of this machine for user names, if there is one.
    assert [call for call in calls if " connect(" in call and "/nscd/" not in call] == []


def test_whatever_imports_a_runtime_imports_this_package_first():
    """ONNX Runtime reads its switch when it is loaded: at the top of a file it would come before `sr_tile`."""
    for path in [*(ROOT / "bench").rglob("*.py"), *(ROOT / "sr_tile").rglob("*.py")]:
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            assert not {name.split(".")[0] for name in names} & {"onnxruntime", "openvino"}, path
