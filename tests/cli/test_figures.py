"""The bar, as a terminal gets it."""

import io
import sys

import pytest

from sr_tile.cli.figures import Progress
from sr_tile.pipeline.image_job import ImageJob


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(files, names, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(4_000_000, files, quiet=False) as progress:
        progress._bar.mininterval = 0
        for name in names:
            progress.add(ImageJob(name, lambda: None, lambda info: None), 1_000_000)
    return terminal.getvalue().split("\r")


@pytest.mark.parametrize(
    ("files", "name", "expected"),
    [
        (["in/a.png"], "in/a.png", "a.png "),
        (["in/a.png", "in/b: c.tif"], "in/b: c.tif", "2/2 b: c.tif "),
        (["in/a.png", "in/b.tif"], "in/b.tif: page 7", "2/2 b.tif: page 7 "),
        (["in/a.png", "in/b.tif"], "in/" + "x" * 50 + ".png", "x" * 29 + "... "),
        (["a.png", "b\x1b[31m.png"], "b\x1b[31m.png", "2/2 b\\x1b[31m.png "),
    ],
)
def test_the_bar_says_which_file_is_under_way(files, name, expected, monkeypatch):
    lines = shown(files, [name], monkeypatch)
    assert any(line.startswith(expected + " 25%|") for line in lines), lines
    assert not any("\x1b[3" in line for line in lines)
