"""`sr-tile`: the commands, and how errors are shown. Heavy imports happen inside the command that needs them."""

import logging
import sys
import warnings
from typing import Annotated, Any

import typer

from sr_tile import __version__
from sr_tile.cli import bench, enhance, export_onnx, inspect, job, models, plan, rebatch, serve
from sr_tile.cli.grouped import StrictCommand, UsageError, grouped
from sr_tile.errors import MOST_CHARACTERS, SrTileError, printable, shortened, unexpected
from sr_tile.system import stopping

_EXAMPLES = """\b
Examples:
  sr-tile enhance in.png out.png                 twice as large
  sr-tile enhance photos/ results/ --scale 4     a folder, four times as large
  sr-tile enhance in.jpg out.jpg --model denoise
"""

app = typer.Typer(
    name="sr-tile",
    help="Restore or enlarge images of any size with an ONNX network.",
    epilog=_EXAMPLES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("bench", cls=StrictCommand)(bench.bench)
app.command("enhance", cls=StrictCommand)(grouped(enhance.enhance))
app.command("export-onnx", cls=StrictCommand)(export_onnx.export_onnx)
app.command("inspect", cls=StrictCommand)(inspect.inspect)
app.command("plan", cls=StrictCommand)(grouped(plan.plan))
app.command("rebatch", cls=StrictCommand)(rebatch.rebatch)
app.command("serve", cls=StrictCommand)(grouped(serve.serve))
app.add_typer(job.app, name="job", context_settings={"help_option_names": ["-h", "--help"]})
app.add_typer(models.app, name="models", context_settings={"help_option_names": ["-h", "--help"]})


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sr-tile {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error that sr-tile did not expect.")
    ] = (False),
) -> None:
    """Restore or enlarge images of any size with an ONNX network."""


def _normalise(arguments: list[str]) -> list[str]:
    """Give `--stats` its value where it stands alone: it takes a file only if that ends in .json. `--debug` goes first."""
    following = [*arguments, ""][1:]
    found = [
        "--stats=-" if argument == "--stats" and not after.endswith(".json") else argument
        for argument, after in zip(arguments, following, strict=True)
        if argument != "--debug"
    ]
    return ["--debug", *found] if "--debug" in arguments else found


class _Handler(logging.Handler):
    """One line on stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        message = shortened(printable(record.getMessage()), MOST_CHARACTERS)
        tqdm.write(f"sr-tile: {record.levelname.lower()}: {message}", file=sys.stderr)


_HANDLER = _Handler()  # one, however often `main` is called


def main() -> None:
    """Run the command line: exit code 0 done, 1 a run that failed, 2 wrong usage, 128 + N stopped by signal N."""
    logger = logging.getLogger("sr_tile")
    logger.addHandler(_HANDLER)
    logger.propagate = False
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # libraries' warnings; ours go through the logger
    try:
        code = app(_normalise(sys.argv[1:]), prog_name="sr-tile", standalone_mode=False)
        sys.stdout.flush()  # while it can still be said that it fails
        sys.exit(code or 0)
    except UsageError as error:
        _refuse(error)
    except SrTileError as error:
        _fail(str(error), error.exit_code)
    except MemoryError:
        _fail("this machine has no memory left; use a smaller --tile-size, or --mem-limit")
    except stopping.Stopped:
        stopping.end()
    except BrokenPipeError:  # whoever read our output has seen enough
        sys.exit(1)
    except Exception as error:
        if stopping.received():  # raised in the middle of an import, `Stopped` may come back as anything
            stopping.end()
        if "--debug" in sys.argv:
            raise
        _fail(unexpected(error))


def _refuse(error: Any) -> None:
    """Wrong usage, which click would tell in four lines."""
    message = error.format_message()
    if "\n" in message:  # the help, for want of any argument
        error.show()
        sys.exit(error.exit_code)
    where = error.ctx.command_path if error.ctx else "sr-tile"
    _fail(f"{message.rstrip('.?').replace('Value error, ', '')}; see `{where} --help`", error.exit_code)


def _fail(message: str, code: int = 1) -> None:
    print(f"sr-tile: error: {message}", file=sys.stderr)
    sys.exit(code)
