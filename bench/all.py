"""Measure everything that is claimed of speed and write `bench/RESULTS.md`.

    python bench/all.py [--quick] [PART ...]

Parts: redundancy, startup, cells, x2, denoise, nafnet and scunet (the races of peers/), encode, folder, large; all where
none is named. Parts that were measured before and are not named stay in RESULTS.md as they are.

`--quick` takes smaller pictures and fewer rounds, 20 minutes in all on two cores. Needs the extras `bench`, `export` and
`test`, MONAI and pnnx (`pip install --no-deps monai pnnx`).
"""

import argparse
import datetime
import functools
import re
import tempfile
import time
from pathlib import Path

import cells
import encode
import folder
import large
import redundancy
import startup
from common import ROOT, machine, note
from peers import race

RESULTS = ROOT / "bench" / "RESULTS.md"
PARTS = {
    "redundancy": redundancy.section,
    "startup": startup.section,
    "cells": cells.section,
    **{name: functools.partial(race.section, name) for name in race.TITLES},
    "encode": encode.section,
    "folder": folder.section,
    "large": large.section,
}


def write(name: str, text: str) -> None:
    """Put a part into RESULTS.md in place of what it was; what else is written there stays."""
    block = f"<!-- {name} -->\n{text}\n<!-- end -->"
    before = RESULTS.read_text() if RESULTS.exists() else "# Measured\n"
    pattern = rf"<!-- {name} -->\n.*?\n<!-- end -->"
    after, found = re.subn(pattern, lambda _: block, before, flags=re.S)
    RESULTS.write_text(after if found else f"{before}\n{block}\n")


def main() -> None:
    """Run the parts; what is measured is written at once, so that stopping loses one part at most."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    begin, here = time.perf_counter(), machine()
    for name in arguments.parts or PARTS:
        start = time.perf_counter()
        note(name)
        with tempfile.TemporaryDirectory() as scratch:
            text = PARTS[name](Path(scratch), arguments.quick)
        kind = "quick run" if arguments.quick else "full run"
        took = f"*{datetime.date.today()}, {kind}, {time.perf_counter() - start:.0f} s. {here}.*"
        write(name, f"{text}\n\n{took}")
    note(f"all in {time.perf_counter() - begin:.0f} s: {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
