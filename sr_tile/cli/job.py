"""`sr-tile job status`: how far a job with a journal is."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sr_tile.cli.grouped import StrictCommand
from sr_tile.cli.options import show

app = typer.Typer(name="job", help="Look at jobs that `sr-tile enhance --job DIR` keeps.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Look at jobs that `sr-tile enhance --job DIR` keeps."""


@app.command(cls=StrictCommand)
def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the job.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print how far a job is, and what failed and why."""
    from sr_tile.jobs.journal import is_locked, read_state

    state = read_state(folder)
    images = state.images.values()
    found: dict[str, Any] = {
        "folder": str(folder),
        "running": is_locked(folder),
        "runs": state.runs,
        "total": max(state.total, len(images)),  # the last process may have been given others
        "done": sum(image.status == "done" for image in images),
        "failed": [{"source": i.source, "target": i.target, "error": i.error} for i in images if i.status == "failed"],
        "in_progress": [
            {
                "source": i.source,
                "target": i.target,
                "rows_done": max((sum_of(strips) for strips in i.strips.values()), default=0),
            }
            for i in images
            if i.status == "begun"
        ],
        "settings": state.started.get("settings", {}),
        "plan": state.started.get("plan", {}),
    }
    show(json.dumps(found, indent=2) if as_json else _text(found))


def sum_of(strips: dict[int, int]) -> int:
    """Rows of the result that lie in strips."""
    return sum(end - first for first, end in strips.items())


def _text(found: dict[str, Any]) -> str:
    plural = "" if found["runs"] == 1 else "s"
    lines = [
        f"{found['folder']}: {'running' if found['running'] else 'not running'}, {found['runs']} run{plural} so far",
        f"  done     {found['done']} of {found['total']} images",
    ]
    for image in found["in_progress"]:
        rows = f", {image['rows_done']} rows of the result are kept" if image["rows_done"] else ""
        lines.append(f"  begun    {image['source']}{rows}")
    if found["failed"]:
        lines.append(f"  failed   {len(found['failed'])}; try them again with --retry-failed")
        lines += [f"           {image['error']}" for image in found["failed"]]
    return "\n".join(lines)
