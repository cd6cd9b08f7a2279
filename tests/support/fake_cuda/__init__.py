"""Tests on a GPU that is pretended: ONNX Runtime's own CUDA provider, on a library in place of CUDA's (see runtime.cpp).

    @on_fake_gpu(FAKE_TOTAL_MB=8192)
    def test_something(gpu, tmp_path): ...

runs the test in a process of its own, for a process has one set of CUDA libraries; `gpu` counts, and makes things fail.
"""

import ctypes
import functools
import hashlib
import importlib.util
import inspect
import json
import mmap
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("runtime.cpp")
TESTS = Path(__file__).parents[2]
NAMES = (
    "libcuda.so.1",
    "libcudart.so.13",
    "libcublas.so.13",
    "libcublasLt.so.13",
    "libcudnn.so.9",
    "libcufft.so.12",
    "libcurand.so.10",
    "libnvrtc.so.13",
    "libnvidia-ml.so.1",
)
COUNTERS = (
    "malloc",
    "launch",
    "up",
    "down",
    "bytes_up",
    "bytes_down",
    "pinned_up",
    "pinned_down",
    "plans",
    "executions",
    "replays",
)
OFFERED = ("gpu", "tmp_path", "monkeypatch")  # what a test may ask for besides its parameters
KINDS = ("malloc", "run", "plan", "execute", "down", "pin")
_SYMBOL = re.compile(rb"(?<=\0)((?:__cuda|cuda|cublas|cudnn|curand|cufft)[A-Z]\w+)(?=\0)")
_NVML = ("nvmlInit_v2", "nvmlShutdown")
_WORK = re.compile(r"cublas.*(?:[gG]e(?:mm|am)|scal|copy|getr)|cublasLtMatmul$|cudnn.*(?:Forward|ForwardInference)$")


class Gpu:
    """The pretended GPU, from inside the process that uses it."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcudart.so.13")
        for name in ("fake_live", "fake_peak", "fake_pinned"):
            getattr(self._library, name).restype = ctypes.c_size_t
        self._library.fake_count.restype = ctypes.c_long

    def count(self, name: str) -> int:
        """How often something happened since `reset`, or its bytes."""
        return self._library.fake_count(COUNTERS.index(name))

    def reset(self) -> None:
        """Count from 0; all but launches, which say whether kernels were loaded."""
        self._library.fake_reset()

    def live(self, device: int = 0) -> int:
        """Bytes that this process holds."""
        return self._library.fake_live(device)

    def peak(self, device: int = 0, *, reset: bool = False) -> int:
        """The most that it held."""
        return self._library.fake_peak(device, int(reset))

    def pinned(self) -> int:
        """Bytes of the host that are page-locked."""
        return self._library.fake_pinned()

    def others(self, mib: int, device: int = 0) -> None:
        """Let other programs hold this much."""
        self._library.fake_others(device, ctypes.c_long(mib))

    def fail(self, kind: str, code: int, *, after: int = 0, times: int = 0) -> None:
        """Let something of `KINDS` fail, for ever or some times; 0 heals. `down` are our own copies from the
        device, `pin` is the locking of pages."""
        self._library.fake_fail(KINDS.index(kind), code, ctypes.c_long(after), ctypes.c_long(times))


def _provider() -> Path | None:
    found = importlib.util.find_spec("onnxruntime")
    path = Path(found.origin).parent / "capi" / "libonnxruntime_providers_cuda.so" if found and found.origin else None
    return path if path and path.is_file() else None


@functools.cache
def build() -> Path:
    """The folder of the libraries, built where it is not; skips the test where that cannot be done."""
    compiler, provider = shutil.which("c++") or shutil.which("g++"), _provider()
    if not compiler:
        pytest.skip("there is no C++ compiler to build the pretended GPU")
    if provider is None:
        pytest.skip("there is no onnxruntime-gpu whose CUDA provider could run on the pretended GPU")
    key = hashlib.sha256(SOURCE.read_bytes() + Path(__file__).read_bytes() + str(provider.stat()).encode())
    folder = Path(tempfile.gettempdir()) / f"sr-tile-fake-cuda-{os.getuid()}-{key.hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        stubs, library = Path(name) / "stubs.h", Path(name) / "libs" / "libfake.so"
        library.parent.mkdir()
        stubs.write_text(_stubs(provider))
        command = [compiler, "-std=c++17", "-shared", "-fPIC", "-O1", "-w", f'-DSTUBS="{stubs}"', SOURCE, "-o", library]
        subprocess.run(command, check=True)
        for soname in NAMES:
            (library.parent / soname).symlink_to(library.name)
        try:
            library.parent.rename(folder)
        except OSError:  # another process was faster
            assert folder.is_dir()
    return folder


def _stubs(provider: Path) -> str:
    """Every function of CUDA that the provider names and runtime.cpp has not, whatever ONNX Runtime's version."""
    with provider.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        named = {match.decode() for match in _SYMBOL.findall(content)}
    written = set(re.findall(r"^API [\w *]*?(\w+)\(", SOURCE.read_text(), re.M))
    lines = []
    for name in sorted((named | set(_NVML)) - written):
        kind = "MAKE" if re.match(r"cudnnCreate", name) else "WORK" if _WORK.match(name) else "NOTHING"
        lines.append(f"{kind}({name})")
    return "\n".join(lines)


def environment(cache: Path, **settings: object) -> dict[str, str]:
    """What a process needs to see the pretended GPU."""
    paths = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "LD_LIBRARY_PATH": str(build()),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "XDG_CACHE_HOME": str(cache),
        **{name: str(value) for name, value in settings.items()},
    }


def on_fake_gpu(**settings):
    """Run a test in a process with a pretended GPU; `settings` are environment variables, see runtime.cpp."""

    def decorate(body):
        def test(**arguments):
            tmp_path = arguments["tmp_path"]
            call = {"file": inspect.getfile(body), "name": body.__name__}
            call["arguments"] = {name: str(value) if name == "tmp_path" else value for name, value in arguments.items()}
            command = [sys.executable, "-c", "from support import fake_cuda; fake_cuda.child()", json.dumps(call)]
            done = subprocess.run(
                command, env=environment(tmp_path / "cache", **settings), capture_output=True, text=True, timeout=300
            )
            if done.returncode:
                pytest.fail(f"{done.stdout[-2000:]}\n{done.stderr[-8000:]}", pytrace=False)

        signature = inspect.signature(body)
        kept = [parameter for name, parameter in signature.parameters.items() if name not in OFFERED]
        kept.append(inspect.Parameter("tmp_path", inspect.Parameter.KEYWORD_ONLY))
        test.__signature__ = signature.replace(
            parameters=[p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in kept]
        )
        test.__name__, test.__doc__, test.__module__ = body.__name__, body.__doc__, body.__module__
        test.body = body
        return test

    return decorate


def child() -> None:
    """The process of a test."""
    call = json.loads(sys.argv[1])
    spec = importlib.util.spec_from_file_location("test_on_fake_gpu", call["file"])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    body, arguments = getattr(module, call["name"]).body, call["arguments"]
    arguments["tmp_path"] = Path(arguments["tmp_path"])
    with pytest.MonkeyPatch.context() as monkeypatch:
        offered = arguments | {"gpu": Gpu(), "monkeypatch": monkeypatch}
        body(**{name: offered[name] for name in inspect.signature(body).parameters})
