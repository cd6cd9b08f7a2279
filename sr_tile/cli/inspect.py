"""`sr-tile inspect`: what a model file is, and what `enhance` will do with it."""

import json
from typing import Annotated, Any

import typer

from sr_tile.cli.options import show


def inspect(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Path of an ONNX file, or name of a model.")],
    device: Annotated[str, typer.Option(help="Where `enhance` would run: as its --device.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print what a model is, and how `enhance` would run it.

    Inputs, outputs, scale, metadata and size; tiles and batch.
    """
    from sr_tile.export.find_model import find_model
    from sr_tile.export.inspect import inspect

    found = inspect(find_model(model), device)
    show(json.dumps(found, indent=2) if as_json else _text(found))


def _text(found: dict[str, Any]) -> str:
    from sr_tile.models.spec import short

    opsets = ", ".join(f"{domain} {version}" for domain, version in found["opset"].items())
    commonest = ", ".join(f"{count} {name}" for name, count in list(found["operators"].items())[:5])
    lines = [
        found["file"],
        _line("size", f"{found['bytes']:,} bytes"),
        _line("sha256", found["sha256"]),
        _line("graph", f"{found['nodes']} nodes ({commonest}), {found['parameters']:,} parameters"),
        _line("opset", f"{opsets}; {short(found['producer']) or 'by an unnamed exporter'}"),
    ]
    for place in ("input", "output"):
        lines += [_line(place, f"{short(port['name'])}: {port['type']} {_shape(port)}") for port in found[f"{place}s"]]
    spec = found["spec"]
    if spec:
        low, high = spec["value_range"]
        facts = [f"{name} {spec[name]}" for name in ("scale", "channels", "multiple")]
        facts += [f"{name} {'not said' if spec[name] is None else spec[name]}" for name in ("halo", "tile")]
        lines.append(_line("model", f"{spec['name']}: {', '.join(facts)}, values {low:g} to {high:g}"))
        lines += _details(spec["details"])
    others = {key: value for key, value in found["metadata"].items() if key != "sr_tile"}
    return "\n".join([*lines, *_details(others), _line("enhance", _enhance(found["enhance"]))])


def _details(values: dict[str, Any]) -> list[str]:
    """One line each; what is nested as JSON."""
    from sr_tile.models.spec import short

    return [_line("", f"{short(key)}: {short(value, 1000)}") for key, value in values.items()]


def _line(label: str, text: str) -> str:
    return f"  {label:9}{text}"


def _shape(port: dict[str, Any]) -> str:
    """Each axis as a number, `name symbolic`, or `dynamic`."""
    if port["shape"] is None:
        return "of unknown shape"
    axes = [
        str(dim["size"]) + " fixed" if dim["kind"] == "fixed" else f"{dim.get('name', '')[:120]} {dim['kind']}".strip()
        for dim in port["shape"]
    ]
    return f"({', '.join(axes)})"


def _enhance(plan: dict[str, Any]) -> str:
    if "refused" in plan:
        return f"refuses it: {plan['refused']}"
    height, width = plan["tile"]
    return (
        f"on {plan['device']}: tiles of {height} x {width} or less, overlap {plan['overlap']}, halo {plan['halo']}, "
        f"batch {plan['batch']}"
    )
