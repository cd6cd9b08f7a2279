"""Options of ONNX Runtime and OpenVINO on the CPU, raced against the ones that sr-tile uses, interleaved, in one process.

    python bench/engine_options.py [--network x2|denoise|nafnet|scunet] [--tile 256] [--batch 1] [--rounds 5]

`nafnet` (GoPro, width 32) and `scunet` have random weights. Prints, per variant, the shortest and the median time of a call,
the ratio of sr-tile's shortest to its own (above 1 is faster), and the largest difference of the result. Shortest, because
what else runs on the machine can only add time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from common import machine
from random_networks import random_network

from sr_tile.engines.openvino import OpenVinoEngine
from sr_tile.engines.openvino_runtime import version
from sr_tile.models import zoo
from sr_tile.system.cpu import allowed_threads

ONNX: dict[str, dict[str, Any]] = {
    "ONNX Runtime, as in sr-tile": {},
    "1 thread": {"intra_op_num_threads": 1},
    "2 operators at a time": {"execution_mode": "ORT_PARALLEL", "inter_op_num_threads": 2},
    "no memory pattern": {"enable_mem_pattern": False},
    "no arena": {"enable_cpu_mem_arena": False},
    "threads do not spin": {"session.intra_op.allow_spinning": "0"},
    "denormals are zero": {"session.set_denormal_as_zero": "1"},
}
OPENVINO: dict[str, dict[str, Any]] = {
    "OpenVINO, as in sr-tile": {},
    "OpenVINO, threads bound to cores": {"ENABLE_CPU_PINNING": True},
    "OpenVINO, for throughput": {"PERFORMANCE_HINT": "THROUGHPUT"},
}


def onnx_call(path: Path, options: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """A function that runs the model with these session options."""
    import onnxruntime  # not above sr_tile, which switches its telemetry off

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = allowed_threads() or 0
    for key, value in options.items():
        if "." in key:
            settings.add_session_config_entry(key, value)
        else:
            kind = type(getattr(settings, key))  # an enumeration of ONNX Runtime where the value is its name
            setattr(settings, key, getattr(kind, value) if isinstance(value, str) else value)
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def two_sessions(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Two sessions of half the threads each, which share a batch; a batch of one goes to the first."""
    threads = max(1, (psutil.cpu_count(logical=False) or 2) // 2)
    calls = [onnx_call(path, {"intra_op_num_threads": threads}) for _ in range(2)]
    pool = ThreadPoolExecutor(2)

    def run(batch: np.ndarray) -> np.ndarray:
        halves = [half for half in np.array_split(batch, 2) if len(half)]
        return np.concatenate(list(pool.map(lambda call, half: call(half), calls, halves)))

    return run


def openvino_call(path: Path, options: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """A function that runs the model with these settings of OpenVINO in place of sr-tile's."""
    engine = OpenVinoEngine(path)
    engine.settings |= options
    return engine.run


def main() -> None:
    """Parse, race, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="x2", choices=["x2", "x4", "denoise", "nafnet", "scunet"])
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="race variants whose names hold this, and sr-tile's own")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = (
            random_network(Path(folder) / "net.onnx", arguments.network)
            if arguments.network in ("nafnet", "scunet")
            else zoo.find(arguments.network)
        )
        makers: dict[str, Callable[[], Callable[[np.ndarray], np.ndarray]]] = {
            name: lambda options=options: onnx_call(path, options) for name, options in ONNX.items()
        }
        makers["2 sessions of half the threads"] = lambda: two_sessions(path)
        if version():
            makers |= {name: lambda options=options: openvino_call(path, options) for name, options in OPENVINO.items()}
        calls = {
            name: make() for name, make in makers.items() if (name in ONNX and not ONNX[name]) or arguments.only in name
        }
        batch = np.random.default_rng(0).random((arguments.batch, 3, arguments.tile, arguments.tile), np.float32)
        results = {name: np.array(call(batch)) for name, call in calls.items()}
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(arguments.rounds):
            for name, call in calls.items():
                start = time.perf_counter()
                call(batch)
                times[name].append(time.perf_counter() - start)
    print(machine(), f"OpenVINO {version()}", sep=", ")
    print(f"{arguments.network}, tile {arguments.tile}, batch {arguments.batch}, {arguments.rounds} rounds")
    base = next(iter(calls))
    largest = max(1.0, float(np.abs(results[base]).max()))
    print(f"{'':34}{'shortest':>11}{'median':>11}{'ratio':>8}{'differs':>10}")
    for name, values in times.items():
        ratio = min(times[base]) / min(values)
        error = float(np.abs(results[name] - results[base]).max()) / largest
        print(
            f"{name:34}{min(values) * 1e3:>9.1f}ms{statistics.median(values) * 1e3:>9.1f}ms{ratio:>8.2f}{error:>10.0e}"
        )


if __name__ == "__main__":
    main()
