"""Standard streams as Python was told to open them."""

import subprocess
import sys

import pytest

WRITES = """
import os, sys
from sr_tile.system.streams import open_streams
open_streams()
sys.stderr.write("half a line")
os._exit(0)  # nothing is flushed
"""


@pytest.mark.parametrize(("unbuffered", "said"), [("1", "half a line"), ("", "")])
def test_messages_are_held_back_only_where_python_would(monkeypatch, unbuffered, said):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    assert subprocess.run([sys.executable, "-c", WRITES], capture_output=True, text=True, check=True).stderr == said
