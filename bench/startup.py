"""From shell prompt to file: a small image through `sr-tile enhance` in a new process, and where the time goes.

    python bench/startup.py [--side 256] [--repeat 7] [--model x2]

Interleaved: Python alone, `sr-tile --version`, `enhance` with the caches of an earlier run, `enhance` of a user's first run
(empty caches), and `enhance --device openvino` where that is installed. Medians; `--imports` lists the slowest imports.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import machine, photograph

from sr_tile.engines.openvino import version


def slowest_imports(command: list[str], environment: dict[str, str], most: int = 15) -> list[tuple[float, str]]:
    """Milliseconds that modules take by themselves, without what they import in turn, the slowest first."""
    python = [sys.executable, "-X", "importtime", *command[1:]]
    done = subprocess.run(python, env=environment, capture_output=True, text=True, check=True)
    rows = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines() if "|" in line]
    found = [(int(row[0]) / 1e3, row[2].strip()) for row in rows if row[0].strip().isdigit()]
    return sorted(found, reverse=True)[:most]


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--model", default="x2")
    parser.add_argument("--imports", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, target = photograph(Path(folder) / "in.png", arguments.side, arguments.side), Path(folder) / "out.png"
        tool = [sys.executable, "-m", "sr_tile"]
        enhance = [*tool, "enhance", str(source), str(target), "--model", arguments.model, "--overwrite", "--quiet"]
        commands = {
            "python": [sys.executable, "-c", "pass"],
            "sr-tile --version": [*tool, "--version"],
            "enhance": enhance,
            "enhance, first run": enhance,
        }
        if version():
            commands["enhance --device openvino"] = [*enhance, "--device", "openvino"]
        warm = {**os.environ, "XDG_CACHE_HOME": f"{folder}/cache"}
        times: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(-1, arguments.repeat):  # the first round fills the caches
            for name, command in commands.items():
                cold = {**os.environ, "XDG_CACHE_HOME": f"{folder}/cache{number}"}
                start = time.perf_counter()
                subprocess.run(command, env=cold if "first" in name else warm, check=True, stdout=subprocess.DEVNULL)
                if number >= 0:
                    times[name].append(time.perf_counter() - start)
        print(machine())
        for name, values in times.items():
            print(f"{name:28}{statistics.median(values):6.2f} s   ({min(values):.2f} to {max(values):.2f})")
        for milliseconds, module in slowest_imports(enhance, warm) if arguments.imports else []:
            print(f"{milliseconds:8.1f} ms  {module}")


if __name__ == "__main__":
    main()
