"""What `sr-tile bench` says of the bundled model."""

import subprocess
import sys
from pathlib import Path

from common import ROOT


def section(folder: Path, quick: bool) -> str:
    """The part of RESULTS.md."""
    command = [sys.executable, "-m", "sr_tile", "bench", "--seams", *(["--quick"] if quick else [])]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
    table = text.split("\n\n", 1)[1].rstrip()  # its first line is the machine, which stands at the top of the page
    return f"## `sr-tile {' '.join(command[3:])}`\n\n```\n{table}\n```"
