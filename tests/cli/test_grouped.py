from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from sr_tile.cli.grouped import StrictCommand, grouped
from sr_tile.system import memory, stopping


@dataclass(frozen=True)
class Paint:
    colour: Annotated[str, typer.Option("--colour", "-c", help="Of the paint.")] = "red"
    coats: Annotated[int, typer.Option(min=1)] = 1


@pytest.fixture
def call():
    app, seen = typer.Typer(), []

    def decorate(names: list[str], paint: Paint, dry: Annotated[bool, typer.Option("--dry")] = False) -> None:
        """Paint walls."""
        seen.append((names, paint, dry))

    app.command(cls=StrictCommand)(grouped(decorate))

    def run(*arguments):
        seen.clear()
        return CliRunner().invoke(app, arguments), list(seen)

    return run


def test_fields_are_options_and_come_as_one_value(call):
    assert call("wall")[1] == [(["wall"], Paint(), False)]
    assert call("a", "-c", "blue", "b", "--coats", "3", "--dry")[1] == [(["a", "b"], Paint("blue", 3), True)]
    text = call("--help")[0].output
    assert all(word in text for word in ("Paint walls", "Of the paint", "--coats", "--dry", "red"))


def test_bounds_of_fields_count(call):
    result, seen = call("a", "--coats", "0")
    assert (result.exit_code, seen) == (2, [])


def test_an_option_given_twice_is_refused_by_either_name_and_a_flag_is_not(call):
    result, seen = call("a", "--colour", "blue", "-c", "green")
    assert (result.exit_code, seen) == (2, [])
    assert "more than once" in result.output
    assert call("a", "--dry", "--dry")[1] == [(["a"], Paint(), True)]


@pytest.mark.parametrize(("engine", "limits"), [("local", [2**30]), ("ray", [])])
def test_what_ray_starts_inherits_no_limit_of_memory(monkeypatch, engine, limits):
    app, found = typer.Typer(), []

    @app.command(cls=StrictCommand)
    def enhance(engine: str = "local", mem_limit: str = "1GiB") -> None:
        pass

    monkeypatch.setattr(stopping, "installed", lambda: True)
    monkeypatch.setattr(memory, "free_ram", lambda: 2**40)
    monkeypatch.setattr(memory, "refuse_beyond", found.append)
    assert CliRunner().invoke(app, ["--engine", engine]).exit_code == 0
    assert found == limits
