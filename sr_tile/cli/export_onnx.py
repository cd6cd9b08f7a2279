"""`sr-tile export-onnx`: a checkpoint to a dynamic, verified ONNX graph."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from sr_tile.export.precision import PrecisionReport


def export_onnx(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Checkpoint (.pth, .pt, .ckpt, .safetensors), ncnn network (.param), or an .onnx file.",
        ),
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The model to write.")],
    precision: Annotated[
        Literal["fp32", "fp16", "fp16-storage", "int8"],
        typer.Option(metavar="fp32|fp16|...", help="fp32, fp16, fp16-storage (half the file, same speed), int8."),
    ] = "fp32",
    calibrate: Annotated[
        Path | None, typer.Option(help="Folder of images like those to come, for fp16 and int8.")
    ] = None,
    max_loss: Annotated[float, typer.Option(min=0.0, help="PSNR in dB that int8 may lose.")] = 0.2,
    pooling: Annotated[
        Literal["global", "local"],
        typer.Option(metavar="global|local", help="NAFNet's pooling: global, or local (TLC) for large tiles."),
    ] = "global",
    opset: Annotated[int, typer.Option(help="Version of the ONNX operators, 18 to 20.")] = 18,
    name: Annotated[str | None, typer.Option(help="How the model is called; else the checkpoint's name.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights, kept in the file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that exists.")] = False,
) -> None:
    """Write a checkpoint as an ONNX model, and verify it.

    SCUNet and NAFNet get graphs written for speed; other architectures are recognised by spandrel; ncnn networks
    (`.param` with `.bin`) need neither PyTorch nor ncnn.
    """
    from sr_tile.export.export import ExportOptions, export_as
    from sr_tile.models.onnx_files import check_target

    check_target(output, overwrite)
    options = ExportOptions(precision, calibrate, max_loss, pooling, opset, name, licence)
    exported, converted = export_as(checkpoint, output, options)
    _show(output, exported, converted)


def _show(output: Path, exported: Any, converted: "PrecisionReport | None") -> None:
    if exported is not None:
        facts = exported.metadata
        typer.echo(
            f"{facts['architecture']}: scale {facts['scale']}, channels {facts['channels']}, multiple {facts['multiple']}, "
            f"halo {facts['halo']}, receptive field {facts['receptive_field']}, tile {facts['tile']}"
        )
        against, cases = facts["verification"]["against"], len(exported.errors)
        typer.echo(f"licence: {facts['licence'] or 'not said; --licence names it'}")
        typer.echo(f"against {against}: worst relative error {exported.worst_error:.1e} of {cases} cases")
    if converted is not None:
        typer.echo(str(converted))
    typer.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB")
