"""One run of one contender in a process of its own, so that its peak memory is its own; prints one line of JSON."""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from peers.contenders import CONTENDERS, TILE
from sr_tile.system import memory


def peak_bytes() -> int:
    """The most memory this process held; what it was before it became Python does not count."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    except (OSError, StopIteration):
        return memory.peak_ram()


def main() -> None:
    """Build, warm up on one tile, run once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("network")
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path, help="(H, W, 3) as .npy")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    image = np.load(arguments.image)
    run = CONTENDERS[arguments.contender](arguments.network, arguments.model, image.shape[:2])
    run(image[:TILE, :TILE])
    start = time.perf_counter()
    output = run(image)
    seconds = time.perf_counter() - start
    peak = peak_bytes()
    if arguments.output:
        np.save(arguments.output, output)
    figures = {"seconds": seconds, "peak_bytes": peak}
    enhancer = getattr(run, "__self__", None)  # ours is a method of an Enhancer
    if enhancer:
        stats = enhancer.stats
        plan = f"{enhancer.engine.device}, tile {stats.tile[0]} x {stats.tile[1]}, batch {stats.batch}"
        figures |= {"redundancy": stats.redundancy, "plan": plan}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
