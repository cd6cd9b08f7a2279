"""`sr-tile models`: those at hand, and those that can be had."""

import json
import sys
from typing import Annotated, Any

import typer

from sr_tile.cli.options import show

app = typer.Typer(help="List models, get official ones, and say where they are.", no_args_is_help=True)


@app.command("list")
def list_models(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print all models by name: bundled, pulled, and official ones that can be pulled."""
    rows = _rows()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = [("NAME", "STATE", "LICENCE", "HASH", "SIZE", "TASK")]
    for row in rows:
        size = f"{row['bytes'] / 1e6:.1f} MB" if row["bytes"] else "-"
        hashed = "known" if row["sha256"] else "-" if row["state"] == "bundled" else "needs --sha256"
        table.append((row["name"], row["state"], row["licence"] or "-", hashed, size, row["task"] or "-"))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        show("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@app.command("pull")
def pull_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An official model, see `sr-tile models list`.")],
    sha256: Annotated[
        str | None, typer.Option(help="Hash of the checkpoint, for models whose hash is not known here.")
    ] = None,
    pooling: Annotated[
        str | None, typer.Option(help="For NAFNet: global, or local (TLC) for tiles beyond 384 pixels.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Export again what is here already.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Download a checkpoint, verify its hash, export it, and keep it for `enhance --model NAME`.

    A download that broke off goes on where it stopped.
    """
    from sr_tile.export.pull import pull

    with _Progress(name, shown=not quiet and sys.stderr.isatty()) as progress:
        path = pull(name, sha256=sha256, pooling=pooling, overwrite=overwrite, on_bytes=progress.show)
    show(path)


@app.command("where")
def where(name: Annotated[str, typer.Argument(metavar="NAME", help="A bundled or pulled model.")]) -> None:
    """Print the path of a model, and nothing else."""
    from sr_tile.models import zoo

    show(zoo.named(name))


def _rows() -> list[dict[str, Any]]:
    from sr_tile.models import zoo

    here = zoo.pulled()
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "state": "bundled",
            "licence": None,
            "task": None,
            "bytes": path.stat().st_size,
            "sha256": None,
            "url": None,
            "path": str(path),
        }
        for name, path in zoo.bundled().items()
    ]
    for name, item in zoo.OFFICIAL.items():
        path = here.get(name)
        rows.append(
            {
                "name": name,
                "state": "pulled" if path else "available",
                "licence": item.licence,
                "task": item.task,
                "bytes": path.stat().st_size if path else item.size,
                "sha256": item.sha256,
                "url": item.url,
                "path": str(path) if path else None,
            }
        )
    return rows


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
