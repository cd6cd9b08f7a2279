import sys

import pytest

from sr_tile.cli import main as cli


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs a command line in `tmp_path` and gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["sr-tile", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return code, output.out, output.err

    return call
