"""What is told of a run of `sr-tile enhance`, and where that is written."""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from sr_tile.errors import ArgumentError
from sr_tile.system.atomic_file import refusal
from sr_tile.system.plain_file import open_plain


@dataclass(frozen=True)
class ReportOptions:
    """What is told of it."""

    report: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write what became of each file, as JSON.")
    ] = None
    stats: Annotated[
        str | None,
        typer.Option(metavar="[FILE.json]", help="Print figures of each stage and the bottleneck, or write them."),
    ] = None
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Name every file that is left out.")] = False

    def __post_init__(self) -> None:
        """What is written when all is done must be possible: that is to be known before hours of work, not after."""
        files = [file for file in (self.report, self.stats_file) if file]
        for file in files:
            if not os.path.isdir(file.parent):
                raise ArgumentError(f"{file}: the folder {file.parent} does not exist; create it first")
            if os.path.isdir(file):
                raise ArgumentError(f"{file}: is a folder; give the name of a file")
            if reason := refusal(Path(os.path.realpath(file)), overwrite=True):
                raise ArgumentError(f"{file}: {reason}")
            with contextlib.suppress(OSError), open_plain(file) as old:
                if old.read(1) not in (b"", b"{"):  # `--report a.png b.png`
                    raise ArgumentError(f"{file}: exists and is no report; give another name, or remove it")
        if len({file.absolute() for file in files}) < len(files):
            raise ArgumentError(f"--report and --stats would both write {files[0]}; give two names")

    @property
    def stats_file(self) -> Path | None:
        """Where figures are written; None where they are printed or not wanted."""
        return Path(self.stats) if self.stats and self.stats != "-" else None

    def check_targets(self, targets: Iterable[str]) -> None:
        """No report takes the place of a result.

        Raises:
            ArgumentError: one would.
        """
        written = {os.path.realpath(file) for file in (self.report, self.stats_file) if file}
        for target in targets if written else ():
            if os.path.realpath(target) in written:
                raise ArgumentError(f"{target}: a result and a report would both be written there; give two names")
