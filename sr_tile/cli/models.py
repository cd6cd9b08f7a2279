"""`sr-tile models`: those at hand, and those that can be had."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sr_tile.cli.grouped import StrictCommand
from sr_tile.cli.options import show

app = typer.Typer(help="List models, get more, say where they are, remove them.", no_args_is_help=True)

_Folder = Annotated[Path | None, typer.Option("--models", metavar="DIR", help="A folder of your own models as well.")]


@app.command("list", cls=StrictCommand)
def list_models(
    models: _Folder = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Print all models by name.

    Bundled, pulled, official ones that can be pulled, and those of a folder.
    """
    from sr_tile.models.listing import rows

    found = rows(models)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    table = [("NAME", "STATE", "SCALE", "SIZE", "LICENCE", "PURPOSE")]
    for row in found:
        needs_hash = row["state"] == "available" and not row["sha256"]
        purpose = [row["purpose"], row["default"] and f"default of scale {row['default']}"]
        table.append(
            (
                row["name"],
                "needs --sha256" if needs_hash else row["state"],
                str(row["scale"] or "-"),
                f"{row['bytes'] / 1e6:.1f} MB" if row["bytes"] else "-",
                row["licence"] or "-",
                "; ".join(part for part in purpose if part) or "-",
            )
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        show("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@app.command("pull", cls=StrictCommand)
def pull_model(
    model: Annotated[
        str,
        typer.Argument(
            metavar="NAME|URL",
            help="An official model, see `sr-tile models list`; or the address of a checkpoint, an ONNX file, or a .zip of "
            "ncnn networks.",
        ),
    ],
    sha256: Annotated[
        str | None, typer.Option(help="Hash of the file, where it is not known here; for an address always.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="For an address: how --model shall call it.")] = None,
    member: Annotated[str | None, typer.Option(help="For a .zip: the network in it, e.g. models-se/up2x.")] = None,
    licence: Annotated[str | None, typer.Option(help="For an address: licence of the weights, e.g. MIT.")] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="I read the licence, which is not free or not known here.")
    ] = False,
    pooling: Annotated[
        Literal["global", "local"] | None,
        typer.Option(metavar="global|local", help="For NAFNet; local (TLC) is for tiles beyond 384 pixels."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Export again what is here already.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Download a model for `enhance --model NAME`.

    Its hash is verified, and a checkpoint is exported. A download that broke off goes on where it stopped. What has
    no free licence needs --accept-licence.
    """
    from sr_tile.export.pull import PullOptions, pull

    options = PullOptions(sha256, name, member, licence, accept_licence, pooling, overwrite)
    with _Progress(name or model, shown=not quiet and sys.stderr.isatty()) as progress:
        path = pull(model, options, on_bytes=progress.show)
    show(path)


@app.command("where", cls=StrictCommand)
def where(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A bundled or pulled model.")], models: _Folder = None
) -> None:
    """Print the path of a model, and nothing else."""
    from sr_tile.models import listing, zoo

    own = {row["name"]: row["path"] for row in listing.of_folder(models)} if models else {}
    show(own[name] if name in own else zoo.named(name))


@app.command("rm", cls=StrictCommand)
def remove(name: Annotated[str, typer.Argument(metavar="NAME", help="A pulled model.")]) -> None:
    """Remove a model that was pulled.

    Its checkpoint goes as well, where no other model needs it.
    """
    from sr_tile.models.listing import remove

    show(f"{name}: {remove(name) / 1e6:.1f} MB freed")


class _Progress:
    """A bar on stderr, from the first byte on."""

    def __init__(self, name: str, shown: bool) -> None:
        self._name, self._shown = name, shown
        self._bar: Any = None

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, done: int, total: int | None) -> None:
        """Bytes so far, and in all where that is known."""
        if not self._shown:
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit="B", unit_scale=True, desc=self._name, leave=False)
        self._bar.total = total
        self._bar.update(done - self._bar.n)
