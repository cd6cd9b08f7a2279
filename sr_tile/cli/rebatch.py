"""`sr-tile rebatch`: existing ONNX files made dynamic, or described."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sr_tile.cli.options import show
from sr_tile.errors import ArgumentError


def rebatch(
    source: Annotated[Path, typer.Argument(metavar="IN.onnx", help="A model.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The file to write.")],
    batch: Annotated[
        str, typer.Option(metavar="dynamic|N|keep", help="Rows of a call: any number, N, or as it is.")
    ] = "dynamic",
    size: Annotated[
        str, typer.Option(metavar="dynamic|HxW|keep", help="Height and width: any, fixed, or as they are.")
    ] = "keep",
    layout: Annotated[
        Literal["nchw", "nhwc"], typer.Option(metavar="nchw|nhwc", help="What the graph takes and gives.")
    ] = "nchw",
    bgr: Annotated[bool, typer.Option("--bgr", help="The graph takes and gives blue first.")] = False,
    value_range: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="The graph's values of black and white, such as 0,255.")
    ] = None,
    channels: Annotated[int | None, typer.Option(help="1 or 3, of a graph that takes any.")] = None,
    scale: Annotated[int | None, typer.Option(min=1, help="Output pixels per input pixel.")] = None,
    multiple: Annotated[int | None, typer.Option(min=1, help="Sides of a tile must be multiples of it.")] = None,
    halo: Annotated[int | None, typer.Option(min=0, help="Pixels at a tile's edge to discard.")] = None,
    tile: Annotated[int | None, typer.Option(min=1, help="Recommended side of a tile.")] = None,
    name: Annotated[str | None, typer.Option(help="How messages call the model.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.onnx if it exists.")] = False,
) -> None:
    """Free or fix batch and size of an ONNX file, and prove it.

    It is run before and after: its pictures stay the same.

    Other layouts, blue first and other ranges of values are described by options, so that `enhance` just works.
    """
    if channels not in (None, 1, 3):
        raise ArgumentError(f"--channels {channels} is neither 1 nor 3")
    facts: dict[str, Any] = {"scale": scale, "multiple": multiple, "halo": halo, "tile": tile, "name": name}
    facts["channels"] = channels
    facts["value_range"] = _range(value_range)
    facts = {key: value for key, value in facts.items() if value is not None}
    rows, sides = _batch(batch), _size(size)

    from sr_tile.rebatch.rebatch import RebatchOptions, rebatch

    options = RebatchOptions(batch=rows, size=sides, nhwc=layout == "nhwc", bgr=bgr, facts=facts)
    report = rebatch(source, target, options, overwrite=overwrite)
    for line in (*report.changes, *report.runs):
        show(line)
    for note in report.notes:
        show(f"note: {note}")
    spec = report.spec
    rows_text = spec.fixed_batch or "any"
    sides_text = "{} x {}".format(*spec.fixed_tile) if spec.fixed_tile else f"any multiple of {spec.multiple}"
    show(f"{target}: batch {rows_text}, size {sides_text}, scale {spec.scale}; worst difference {report.worst:.1e}")


def _batch(text: str) -> "int | Literal['dynamic'] | None":
    if text == "keep":
        return None
    if text == "dynamic":
        return "dynamic"
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentError(f"--batch {text!r} is neither `dynamic`, `keep` nor a number from 1 up")
    return int(text)


def _size(text: str) -> "tuple[int, int] | Literal['dynamic'] | None":
    if text == "keep":
        return None
    if text == "dynamic":
        return "dynamic"
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise ArgumentError(f"--size {text!r} is neither `dynamic`, `keep` nor HxW such as 256x320")
    return int(height), int(width)


def _range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(value) for value in text.split(","))
        if low < high < float("inf"):
            return low, high
    except ValueError:
        pass
    raise ArgumentError(f"--value-range {text!r} is not LOW,HIGH such as 0,255")
