"""What the benchmarks share: photographs of any size, tiny models, the machine's description."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from sr_tile.images import ImageInfo, ImageWriter

ROOT = Path(__file__).parents[1]


def photograph(path: Path, height: int, width: int, rows: int = 256) -> Path:
    """Write a picture of any size, made of scikit-image's photographs side by side, mirrored at each join."""
    from skimage import data

    picture = data.astronaut()
    mirrored = np.concatenate([picture, picture[:, ::-1]], axis=1)
    mirrored = np.concatenate([mirrored, mirrored[::-1]], axis=0)
    columns = np.arange(width) % mirrored.shape[1]
    with ImageWriter(path, ImageInfo(height, width, 3, np.dtype(np.uint8)), overwrite=True) as writer:
        for first in range(0, height, rows):
            lines = np.arange(first, min(first + rows, height)) % mirrored.shape[0]
            writer.write_rows(mirrored[lines][:, columns])
    return path


def tiny_model(path: Path, scale: int = 2) -> Path:
    """One 3 x 3 convolution and a pixel shuffle: as little work as a model can be."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from sr_tile.models.spec import METADATA_KEY, ModelSpec

    weights = np.zeros((3 * scale**2, 3, 3, 3), np.float32)
    for channel in range(3):
        weights[channel * scale**2 : (channel + 1) * scale**2, channel, 1, 1] = 1
    nodes = [
        helper.make_node("Conv", ["input", "weights"], ["wide"], pads=[1, 1, 1, 1]),
        helper.make_node("DepthToSpace", ["wide"], ["output"], blocksize=scale, mode="CRD"),
    ]
    picture = ("n", 3, "h", "w")
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, picture)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    spec = ModelSpec("tiny", scale=scale, multiple=1, halo=1, tile=512)
    helper.set_model_props(model, {METADATA_KEY: spec.to_metadata()})
    onnx.save(model, path)
    return path


def machine() -> str:
    """Processor, cores and versions, for tables."""
    from sr_tile.benchmark.machine import describe, sentence

    return sentence(describe())


@dataclass(frozen=True)
class CommandRun:
    """One `sr-tile enhance` in a process of its own.

    Attributes:
        seconds: from start to end of the process.
        peak_bytes: the most memory it held.
        stats: what `--stats` wrote.
    """

    seconds: float
    peak_bytes: int
    stats: dict[str, Any]

    @property
    def rate(self) -> float:
        """Seconds per megapixel of input, without start-up, which would flatter large images."""
        return self.stats["seconds"] / self.stats["megapixels"]


def enhance_command(*arguments: str | Path) -> CommandRun:
    """Run `sr-tile enhance` with the given arguments."""
    with tempfile.TemporaryDirectory() as folder:
        stats = Path(folder) / "stats.json"
        command = [sys.executable, "-m", "sr_tile", "enhance", *map(str, arguments), "--stats", str(stats), "--quiet"]
        start = time.perf_counter()
        subprocess.run(command, check=True, cwd=ROOT)
        seconds = time.perf_counter() - start
        content = json.loads(stats.read_text())
    return CommandRun(seconds, content["peak_ram_bytes"], content)


class ServerProcess:
    """`sr-tile serve` on a free port, with a home, a log and a spool of its own in `place`."""

    def __init__(self, place: Path, *options: str | Path) -> None:
        self._log, self._spool = place / "log", place / "spool"
        self._spool.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "HOME": str(place),
            "XDG_CACHE_HOME": str(place / "cache"),
            "TMPDIR": str(self._spool),
        }
        command = [sys.executable, "-m", "sr_tile", "serve", "-q", "--port", "0", *map(str, options)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=place, env=environment, stdout=log, stderr=log)

    def port(self, seconds: float = 60.0) -> int:
        """The port, once it serves; 0 where the process ended before."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            if found := re.search(r"serving on http://.*:(\d+)/", self.said()):
                return int(found[1])
            time.sleep(0.02)
        return 0

    def said(self) -> str:
        """All that it has printed."""
        return self._log.read_text(errors="replace")

    def memory(self) -> int:
        """Bytes that it holds; 0 once it has ended."""
        return psutil.Process(self.process.pid).memory_info().rss if self.process.poll() is None else 0

    def spooled(self) -> list[Path]:
        """Files and folders of requests in its spool."""
        return [path for path in self._spool.glob("*/*") if path.name != "lock"]

    def left(self) -> list[Path]:
        """All that stands where its spool does, once it has ended."""
        return list(self._spool.iterdir())


def markdown(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def yes_no(reached: bool) -> str:
    """Whether a bound is kept."""
    return "yes" if reached else "**no**"


def note(text: str) -> None:
    """Progress, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
