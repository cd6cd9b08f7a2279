"""The ceiling that no GPU can pass: the pipeline around an engine that takes no time, x2, arrays to arrays and PNG to PNG.

    python bench/host.py [--megapixels 12] [--repeat 3] [--tile 512] [--batch 4] [--floats]

Printed are megapixels of input a second, and a core: by the processor time of the process, without the engine's own. The
engine takes bytes and gives them with their channels last in memory, as on CUDA, or floats. It answers with its first batch,
enlarged as smoothly as a network does, so that a PNG is as much work as that of a photograph; floats are copied for each
call, for blending writes on them.
"""

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from common import machine, photograph

from sr_tile.engines.base import BaseEngine
from sr_tile.enhancer import Enhancer
from sr_tile.images import ImageReader
from sr_tile.models.spec import ModelSpec
from sr_tile.planner import Settings
from sr_tile.system import memory
from sr_tile.tiling.channels import enlarge_bicubic


class NoTime(BaseEngine):
    """Answers every batch with the first one, enlarged; called by two threads, as a GPU is."""

    max_concurrency = 2
    uses_host_memory = False
    device = "none"
    identity = "none"
    spec = ModelSpec(name="none", scale=2, multiple=1, halo=8)

    def __init__(self, takes_pixels: bool) -> None:
        self.takes_pixels = takes_pixels
        self._output = np.empty((0, 0, 0, 0), np.float32)
        self.seconds = 0.0  # of the processor, in calls
        self._lock = threading.Lock()

    def run(self, batch_nchw: np.ndarray) -> np.ndarray:
        """See `Engine.run`."""
        start = time.thread_time()
        rows, channels, height, width = batch_nchw.shape
        shape, dtype = (channels, 2 * height, 2 * width), batch_nchw.dtype
        if self._output.shape[1:] != shape or self._output.dtype != dtype or len(self._output) < rows:
            enlarged = np.stack([enlarge_bicubic(tile_chw.astype(np.float32), 2) for tile_chw in batch_nchw])
            if self.takes_pixels:
                pixels_nhwc = np.clip(np.rint(enlarged), 0, 255).astype(dtype).transpose(0, 2, 3, 1)
                enlarged = np.ascontiguousarray(pixels_nhwc).transpose(0, 3, 1, 2)
            self._output = enlarged
            self._output.flags.writeable = False
        output = self._output[:rows]
        output = output if self.takes_pixels else output.copy()
        with self._lock:
            self.seconds += time.thread_time() - start
        return output

    def memory_free(self) -> int:
        """See `Engine.memory_free`."""
        return memory.free_ram()

    def memory_used(self) -> int:
        """See `Engine.memory_used`."""
        return memory.process_ram()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=12.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--floats", action="store_true")
    arguments = parser.parse_args()
    height = round((arguments.megapixels * 1e6 * 3 / 4) ** 0.5)
    settings = Settings(tile=arguments.tile, batch=arguments.batch)
    engine = NoTime(not arguments.floats)
    with tempfile.TemporaryDirectory() as folder, Enhancer(engine, settings=settings) as enhancer:
        source = photograph(Path(folder) / "in.png", height, height * 4 // 3)
        with ImageReader(source) as reader:
            pixels = reader.read_rows(reader.info.height)
        megapixels = pixels.shape[0] * pixels.shape[1] / 1e6
        ways = {
            "arrays": lambda: enhancer.enhance(pixels),
            "PNG": lambda: enhancer.enhance_file(source, Path(folder) / "out.png", overwrite=True),
        }
        enhancer.enhance(pixels)  # the first picture of the engine
        for name, way in ways.items():
            speeds = []
            for _ in range(arguments.repeat):
                wall, cores = time.perf_counter(), time.process_time() - engine.seconds
                way()
                ends = time.perf_counter(), time.process_time() - engine.seconds
                speeds.append((megapixels / (ends[0] - wall), megapixels / (ends[1] - cores)))
            a_second, a_core = (statistics.median(values) for values in zip(*speeds, strict=True))
            print(f"{name} to {name}: {a_second:.1f} MP/s, {a_core:.1f} MP/s a core", flush=True)
    print(machine())


if __name__ == "__main__":
    main()
