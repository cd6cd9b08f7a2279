"""What `enhance` shows: progress, and figures of the stages."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sr_tile.errors import printable

if TYPE_CHECKING:
    from sr_tile.pipeline.image_job import ImageJob, Stats


def table(figures: "Stats", device: str, peak: str) -> str:
    """What each stage did, which one holds the others up, and what it all came to."""
    lines = [
        f"{'stage':8}{'workers':>8}{'in':>8}{'out':>8}{'shortest':>10}{'mean':>10}{'longest':>10}{'busy':>10}{'items/s':>10}"
    ]
    for stage in figures.stages:
        times = "".join(f"{value * 1000:>8.1f}ms" for value in (stage.shortest, stage.mean, stage.longest))
        lines.append(
            f"{stage.name:8}{stage.workers:>8}{stage.items_in:>8}{stage.items_out:>8}{times}{stage.busy:>9.2f}s{stage.throughput:>10.1f}"
        )
    speed = figures.megapixels / figures.seconds if figures.seconds else 0.0
    lines.append(
        f"bottleneck: {figures.bottleneck}; engine idle {figures.engine_idle:.1%}; "
        f"{figures.megapixels:.2f} MP in {figures.seconds:.2f} s = {speed:.2f} MP/s"
    )
    lines.append(
        f"device {device}, tile {figures.tile[0]} x {figures.tile[1]}, batch {figures.batch}; "
        f"redundancy {figures.redundancy:.3f}; peak memory {peak}"
    )
    exact = f"; {figures.exact_images} of {figures.images} images in float32" if figures.precision != "fp32" else ""
    lines.append(f"precision {figures.precision} ({figures.why}){exact}")
    if figures.redone:
        lines.append(f"{figures.redone} tiles overflowed in float16 and were redone in float32")
    return "\n".join(lines)


def summary(figures: "Stats", left_out: int) -> str:
    """All in one line: `12 pictures, 144.0 megapixels, 31 s, bf16, 2 left out`."""
    pictures = f"{figures.images} picture{'' if figures.images == 1 else 's'}"
    parts = [pictures, f"{figures.megapixels:.1f} megapixels", f"{figures.seconds:.0f} s", figures.precision]
    return ", ".join([*parts, *([f"{left_out} left out"] if left_out else [])])


class Progress:
    """A bar on stderr in input megapixels, with the file under way, where stderr is a terminal.

    Args:
        work: all the pixels there are to do, where that is known.
        files: all that are to be done, in their order.
        quiet: show nothing.
    """

    def __init__(self, work: int | None, files: Sequence[str], quiet: bool) -> None:
        self._work, self._total, self._numbers = work, len(files), {name: n for n, name in enumerate(files, 1)}
        self._shown = not quiet and sys.stderr.isatty()

    def __enter__(self) -> "Progress":
        if self._shown:
            from tqdm import tqdm

            total = None if self._work is None else self._work / 1e6
            # tqdm forgets a total that is exceeded, so the last digit must not be lost.
            layout = _BAR if total is None else _BAR_WITH_TOTAL.replace("TOTAL", f"{total:.1f}")
            self._bar = tqdm(
                total=total and total + 1e-3, unit="MP", bar_format=layout, dynamic_ncols=True, leave=False
            )
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Make room for other lines."""
        if self._shown:
            self._bar.close()

    def add(self, job: "ImageJob", pixels: int) -> None:
        """Count input pixels of a job that were finished, or taken back."""
        if self._shown:
            source = job.name if job.name in self._numbers else job.name.rpartition(": ")[0]  # of pages and frames
            number = f"{self._numbers[source]}/{self._total} " if self._total > 1 and source in self._numbers else ""
            name = printable(Path(job.name).name)
            self._bar.set_description_str(
                f"{number}{name if len(name) <= _NAME else name[: _NAME - 3] + '...'} ", refresh=False
            )
            self._bar.update(pixels / 1e6)


MOST_HEADERS = 500  # files are quickly opened, but not any number of them
_NAME = 32  # letters of a file's name that are shown
_BAR = "{desc}{n:.1f} MP, {rate_fmt}, {elapsed} so far"
_BAR_WITH_TOTAL = "{desc}{percentage:3.0f}%|{bar}| {n:.1f}/TOTAL MP, {rate_fmt}, {remaining} left"
