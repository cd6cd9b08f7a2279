"""From a checkpoint, or an ONNX file, to the precision that is wanted: export first, then fewer bits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sr_tile.errors import ArgumentError
from sr_tile.export.precision import PRECISIONS, PrecisionReport, convert
from sr_tile.system.stopping import temporary_folder


@dataclass(frozen=True)
class ExportOptions:
    """What the written model shall be.

    Attributes:
        precision: `fp32`, or one of `PRECISIONS`.
        calibrate: a folder of images like those to come, for fp16 and int8; None takes rendered ones.
        max_loss_db: PSNR that int8 may lose against float32.
        pooling: `local` gives NAFNet the windows of TLC, so that large tiles keep the checkpoint's published behaviour.
        opset: version of the ONNX operators.
        name: how the model is called; None takes the checkpoint's file name.
        licence: of the weights, stored as it is.
    """

    precision: str = "fp32"
    calibrate: Path | None = None
    max_loss_db: float = 0.2
    pooling: Literal["global", "local"] = "global"
    opset: int = 18
    name: str | None = None
    licence: str | None = None


def export_as(source: Path, target: Path, options: ExportOptions) -> tuple[Any, PrecisionReport | None]:
    """Write `source` as an ONNX model in the precision wanted; `target` appears whole or not at all.

    Args:
        source: a checkpoint (`.pth`, `.pt`, `.ckpt`, `.safetensors`), or an `.onnx` file in float32.
        target: the `.onnx` file; replaced if it exists.
        options: what the model shall be.

    Returns:
        The report of the export (None for an ONNX file), and that of the precision (None for fp32).

    Raises:
        ArgumentError: an option that does not fit.
        ModelLoadError: the source cannot be read or is not understood.
        ModelOutputError: the graph differs from PyTorch.
        PrecisionLossError: fewer bits lose more than they may.
    """
    if options.precision not in ("fp32", *PRECISIONS):
        raise ArgumentError(
            f"precision {options.precision!r} is not known; choose one of fp32, {', '.join(PRECISIONS)}"
        )
    if target.suffix.lower() != ".onnx" or not target.parent.is_dir():
        raise ArgumentError(f"output {target}: must end in .onnx and lie in a folder that exists")
    if source.suffix.lower() == ".onnx":
        if options.precision == "fp32":
            raise ArgumentError(f"{source} is an ONNX file already; give --precision, or see `sr-tile rebatch`")
        return None, _convert(source, target, options)
    from sr_tile.export.checkpoint import export  # torch: only where there is a checkpoint

    keywords: dict[str, Any] = {"pooling": options.pooling, "opset": options.opset, "licence": options.licence}
    name = options.name or source.stem
    if options.precision == "fp32":
        return export(source, target, name=name, **keywords), None
    with temporary_folder(".sr-tile-", target.parent) as folder:
        between = folder / "float32.onnx"
        report = export(source, between, name=name, **keywords)
        return report, _convert(between, target, options)


def _convert(source: Path, target: Path, options: ExportOptions) -> PrecisionReport:
    return convert(source, target, options.precision, calibrate=options.calibrate, max_loss_db=options.max_loss_db)
