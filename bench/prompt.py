"""From the shell's prompt to the file: 256 x 256 pixels through the bundled model."""

import statistics
from pathlib import Path

from common import enhance_command, photograph, yes_no

BOUND = 1.2


def section(folder: Path, quick: bool) -> str:
    """The part of RESULTS.md."""
    source = photograph(folder / "in.png", 256, 256)
    enhance_command(source, folder / "out.png", "--overwrite")  # what is kept on disk is made once
    times = [enhance_command(source, folder / "out.png", "--overwrite").seconds for _ in range(5 if quick else 15)]
    middle = statistics.median(times)
    return (
        f"## Start-up\n\n256 x 256 pixels through `x2`, the whole process: median {middle:.2f} s of {len(times)} runs "
        f"(shortest {min(times):.2f} s), under {BOUND} s: {yes_no(middle < BOUND)}."
    )
