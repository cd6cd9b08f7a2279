"""`sr-tile plan`: how `enhance` would cut images, what else it could do, and why it does not."""

import json
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sr_tile.cli.options import (
    BatchSize,
    Halo,
    Headers,
    MemLimit,
    ModelOptions,
    Overlap,
    SizeOptions,
    TileSize,
    parsed,
    settings_of,
    show,
    without_effect,
)
from sr_tile.errors import ArgumentError, ImageReadError

if TYPE_CHECKING:
    from sr_tile.engines.base import Engine
    from sr_tile.images import TargetSize
    from sr_tile.planner import Settings

log = logging.getLogger("sr_tile")

STEPS_SHOWN = 5
EVERYTHING = 2**62  # pixels: work that pays for measuring


def plan(  # the options of `enhance` that decide how it cuts
    target: SizeOptions,
    network: ModelOptions,
    paths: Annotated[list[str] | None, typer.Argument(metavar="[IN...]", help="Images, folders or globs.")] = None,
    size: Annotated[
        list[str] | None, typer.Option(metavar="WxH", help="An image of this size, such as 4000x3000; repeatable.")
    ] = None,
    tile_size: TileSize = "auto",
    overlap: Overlap = "auto",
    halo: Halo = "auto",
    batch_size: BatchSize = "auto",
    mem_limit: MemLimit = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into folders below, too.")] = False,
    remeasure: Annotated[bool, typer.Option("--remeasure", help="Measure again what is remembered.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print how `enhance` would cut images, and why.

    Which model, tiles and batch it takes, and what the alternatives cost.

    Of images the headers are read and, without --model, what tells photographs from clean pictures. Some calls of the model
    are measured, once; what they cost is remembered, and `enhance` goes by it from then on. Predicted times are those of the
    network on this machine when it does nothing else.
    """
    from sr_tile.export.find_model import open_model
    from sr_tile.images import TargetSize
    from sr_tile.images.target_size import parse_box
    from sr_tile.jobs.selection import find_images

    sizes = [parsed("--size", parse_box, text) for text in size or ()]
    if not paths and not sizes:
        raise ArgumentError("nothing to plan for; give images (IN...), or --size 4000x3000")
    sources = find_images(paths, recursive) if paths else []
    sizes += Headers().sizes(sources)
    if not sizes:
        raise ImageReadError(f"{', '.join(paths or ())}: none of the files can be read as an image")
    settings = settings_of(tile_size, overlap, halo, batch_size, mem_limit)
    wanted = target.target(network.scale)
    for line in without_effect(network, target):
        log.warning("%s", line)
    plans: list[dict[str, Any]] = []
    names, reason = _models(network.model, wanted, sizes, sources)
    for name in names:
        pixels = sum(height * width for height, width in sizes)
        opening: Any = {"device": network.device, "precision": network.precision, "agreement": network.agreement}
        engines, last = open_model(name, **opening, expected_pixels=pixels), len(plans) == len(names) - 1
        plans.append(_planned(engines, settings, sizes, wanted if last else TargetSize(), remeasure))
        factor = engines[0].spec.scale or 1
        sizes, wanted = [(height * factor, width * factor) for height, width in sizes], wanted.behind(factor)
    plans[0]["model_why"] = reason
    found = {**plans[0], "then": plans[1:]} if plans[1:] else plans[0]
    show(json.dumps(found, indent=2) if as_json else "\n".join(map(_text, plans)))


def _models(
    model: str | None, wanted: "TargetSize", sizes: list[tuple[int, int]], sources: Sequence[Path]
) -> tuple[Sequence[str | Path], str | None]:
    """Those in turn that `enhance` would take, and why where none was named."""
    from sr_tile.export.find_model import models_reaching, most_in_turn, steps_of
    from sr_tile.jobs.default_model import default_steps
    from sr_tile.models import zoo

    named = steps_of(model)
    factor = wanted.scale or wanted.reach(sizes, most_in_turn(named) if named else max(zoo.DEFAULT) ** 2)
    return (models_reaching(named, factor), None) if named else default_steps(sources, factor or min(zoo.DEFAULT))


def _planned(
    engines: "list[Engine]", settings: "Settings", sizes: list[tuple[int, int]], wanted: "TargetSize", remeasure: bool
) -> dict[str, Any]:
    """What one network does with pictures; its engines are closed."""
    from sr_tile.engines.precision import built_in_pictures
    from sr_tile.models import zoo

    with ExitStack() as opened:
        for engine in engines:
            opened.callback(engine.close)
        if engines[0].bound is not None:  # the first call settles the precision
            engines[0].run(built_in_pictures(engines[0].spec)[0])
        scale = engines[0].spec.scale or 1
        zoo.check_scale(engines[0].spec.name, scale, wanted.scale)
        found = _weighed(engines, settings, sizes, remeasure)
        if wanted.is_explicit:
            found["steps"] = [_steps(height, width, scale, wanted) for height, width in sizes]
    return found


def _weighed(
    engines: "list[Engine]", settings: "Settings", sizes: list[tuple[int, int]], remeasure: bool
) -> dict[str, Any]:
    """The choice, its alternatives and the reasons, ready for JSON."""
    from sr_tile.planner import make_plan
    from sr_tile.planner.explain import alternatives, reasons, weigh

    chosen = make_plan(engines, settings, expected_pixels=EVERYTHING, remeasure=remeasure)
    others = alternatives(engines, chosen, settings, sizes)
    return {
        "model": engines[0].spec.name,
        "device": ",".join(engine.device for engine in engines),
        "precision": engines[0].precision,
        "precision_why": engines[0].why,
        "images": len(sizes),
        "megapixels": sum(height * width for height, width in sizes) / 1e6,
        "choice": asdict(weigh(chosen, sizes, chosen.costs)),
        "overlap": chosen.overlap,
        "halo": chosen.halo,
        "multiple": chosen.multiple,
        "why": reasons(engines[0].spec, chosen, settings),
        "alternatives": [asdict(option) for option in others],
        "measured": [point._asdict() for point in chosen.costs.points] if chosen.costs else [],
    }


def _steps(height: int, width: int, scale: int, wanted: "TargetSize") -> str:
    """What happens to the size of one picture, in a line."""
    from sr_tile.images import ImageInfo
    from sr_tile.pipeline.plan_image import is_only_reduced, result_of

    info = ImageInfo(height, width, 3, "uint8")  # type: ignore[arg-type]
    try:
        full = result_of(info, scale, wanted)
    except ArgumentError as error:
        return str(error)
    steps = [f"{width} x {height}"]
    if not is_only_reduced(info, scale, wanted):
        steps.append(f"network x{scale}: {full.width} x {full.height}")
    if full.reduction:
        light = " in linear light" if full.reduction.linear else ""
        steps.append(f"reduced{light}: {full.result.width} x {full.result.height}")
    return " -> ".join(steps)


def _text(found: dict[str, Any]) -> str:
    images = f"{found['images']} images" if found["images"] > 1 else "1 image"
    lines = [
        f"{found['model']} on {found['device']}, {images}, {found['megapixels']:.1f} megapixels",
        f"{'':12}{'tile':>12}{'batch':>7}{'calls':>8}{'redundancy':>12}{'predicted':>11}{'a call':>10}",
        _row("choice", found["choice"]),
    ]
    best = found["choice"]["seconds"]
    for option in found["alternatives"]:
        if all(option[key] == found["choice"][key] for key in ("tile", "batch", "calls")):
            continue  # it is the choice
        lines.append(_row(f"{option['seconds'] / best:.2f} x" if best else "", option))
    precision = f"precision {found['precision']}: {found['precision_why']}"
    steps = list(dict.fromkeys(found.get("steps", ())))
    shown = [*steps[:STEPS_SHOWN], *([f"... and {len(steps) - STEPS_SHOWN} more sizes"] if steps[STEPS_SHOWN:] else [])]
    model = [f"model {found['model']}: {found['model_why']}"] if found.get("model_why") else []
    return "\n".join([*lines, *(f"  {line}" for line in (*shown, *model, *found["why"], precision))])


def _row(label: str, option: dict[str, Any]) -> str:
    from sr_tile.system import memory

    seconds = "-" if option["seconds"] is None else f"{option['seconds']:.1f} s"
    size = "-" if option["call_bytes"] is None else memory.format_size(option["call_bytes"])
    tile = "{} x {}".format(*option["tile"])
    counts = f"{option['batch']:>7}{option['calls']:>8}{option['redundancy']:>12.3f}"
    return f"{label:12}{tile:>12}{counts}{seconds:>11}{size:>10}"
