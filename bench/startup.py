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

from common import machine, photograph, yes_no

from sr_tile.engines.openvino_runtime import version


def slowest_imports(command: list[str], environment: dict[str, str], most: int = 15) -> list[tuple[float, str]]:
    """Milliseconds that modules take by themselves, without what they import in turn, the slowest first."""
    python = [sys.executable, "-X", "importtime", *command[1:]]
    done = subprocess.run(python, env=environment, capture_output=True, text=True, check=True)
    rows = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines() if "|" in line]
    found = [(int(row[0]) / 1e3, row[2].strip()) for row in rows if row[0].strip().isdigit()]
    return sorted(found, reverse=True)[:most]


BOUND = 1.2
FIRST, AGAIN, OPENVINO = "enhance, first run", "enhance", "enhance --device openvino"


def commands_of(folder: Path, side: int, model: str) -> dict[str, list[str]]:
    """What is timed, by name."""
    source = photograph(folder / "in.png", side, side)
    tool = [sys.executable, "-m", "sr_tile"]
    enhance = [*tool, "enhance", str(source), str(folder / "out.png"), "--model", model, "--overwrite", "--quiet"]
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "sr-tile --version": [*tool, "--version"],
        AGAIN: enhance,
        FIRST: enhance,
    }
    return {**commands, OPENVINO: [*enhance, "--device", "openvino"]} if version() else commands


def measure(commands: dict[str, list[str]], folder: Path, repeat: int) -> dict[str, list[float]]:
    """Seconds of each command, all in turn; the first round, which fills the caches, does not count."""
    warm = {**os.environ, "XDG_CACHE_HOME": f"{folder}/cache"}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(-1, repeat):
        for name, command in commands.items():
            cold = {**os.environ, "XDG_CACHE_HOME": f"{folder}/cache{number}"}
            start = time.perf_counter()
            subprocess.run(command, env=cold if name == FIRST else warm, check=True, stdout=subprocess.DEVNULL)
            if number >= 0:
                times[name].append(time.perf_counter() - start)
    return times


def table(times: dict[str, list[float]]) -> str:
    """Median, shortest and longest of each."""
    return "\n".join(
        f"{name:28}{statistics.median(values):6.2f} s   ({min(values):.2f} to {max(values):.2f})"
        for name, values in times.items()
    )


def section(folder: Path, quick: bool) -> str:
    """The part of RESULTS.md."""
    times = measure(commands_of(folder, 256, "x2"), folder, 5 if quick else 15)
    again, first = (statistics.median(times[name]) for name in (AGAIN, FIRST))
    return (
        f"## Start-up\n\n256 x 256 pixels through `x2`, the whole process, under {BOUND} s: {yes_no(again < BOUND)} "
        f"({again:.2f} s), on a user's first run {yes_no(first < BOUND)} ({first:.2f} s).\n\n```\n{table(times)}\n```"
    )


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--model", default="x2")
    parser.add_argument("--imports", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        commands = commands_of(Path(folder), arguments.side, arguments.model)
        print(machine())
        print(table(measure(commands, Path(folder), arguments.repeat)))
        if arguments.imports:
            warm = {**os.environ, "XDG_CACHE_HOME": f"{folder}/cache"}
            for milliseconds, module in slowest_imports(commands[AGAIN], warm):
                print(f"{milliseconds:8.1f} ms  {module}")


if __name__ == "__main__":
    main()
