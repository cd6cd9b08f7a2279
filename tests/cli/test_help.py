"""Help, version and completion."""

import re

import pytest

COMMANDS = ("bench", "enhance", "export-onnx", "inspect", "job", "models", "plan", "rebatch", "serve")


def test_version_and_help(run):
    alone = run()[1] + run()[2]
    assert "Usage" in alone
    examples = [line.split()[1:] for line in alone.splitlines() if line.startswith("    sr-tile enhance")]
    assert len(examples) == 3
    assert run("--version")[1].startswith("sr-tile ")
    assert "enhance" in run("--help")[1]


@pytest.mark.parametrize(
    "command", ["", *COMMANDS, *(f"models {name}" for name in ("list", "pull", "rm", "where")), "job status"]
)
def test_the_help_fits_a_terminal_and_speaks_of_no_type_of_python(run, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(*command.split(), "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert not [
        line for line in out.splitlines() if re.search(r"<(str|int|float|path|list)|None|[^]]\.\.\.$|\{[^}]*[.:]", line)
    ]


def test_options_stand_under_the_headings_of_their_groups(run):
    headings = [line for line in run("enhance", "--help")[1].splitlines() if re.fullmatch(r"[A-Z].*:", line)]
    assert headings[0] == "Arguments:"
    assert headings[1] == "Which network, and where it runs:"
    assert len(headings) == 9


def test_the_shell_completes_commands_and_options(run, monkeypatch):
    for words, place, expected in (("sr-tile en", 1, "enhance"), ("sr-tile enhance --skip", 2, "--skip-existing")):
        monkeypatch.setenv("_SR_TILE_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(place))
        assert run()[1].split() == [expected]
