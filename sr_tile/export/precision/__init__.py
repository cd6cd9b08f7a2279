"""Fewer bits for an ONNX model: float16, float16 storage, int8; each measured before it gets its name.

report = convert(Path("model.onnx"), Path("model-int8.onnx"), "int8", calibrate=Path("photos"), max_loss_db=0.2)
print(report)
"""

from pathlib import Path

from sr_tile.errors import ArgumentError
from sr_tile.export.precision.compare import PrecisionReport
from sr_tile.export.precision.fp16 import store_fp16, to_fp16
from sr_tile.export.precision.int8 import to_int8

__all__ = ["PRECISIONS", "PrecisionReport", "convert", "store_fp16", "to_fp16", "to_int8"]

PRECISIONS = ("fp16", "fp16-storage", "int8")


def convert(
    source: Path, target: Path, precision: str, *, calibrate: Path | None = None, max_loss_db: float = 0.2
) -> PrecisionReport:
    """Convert a model in float32 to one of `PRECISIONS`, whatever exporter wrote it.

    Args:
        source: the model in float32.
        target: the file to write; what stood there is replaced once the new model has passed.
        precision: `fp16`, `fp16-storage` or `int8`.
        calibrate: a folder of images like those that the model will see; None takes rendered ones.
        max_loss_db: PSNR that int8 may lose.

    Raises:
        ArgumentError: another precision, or a folder without images.
        ModelLoadError: `source` is not a model in float32 that sr-tile can run.
        PrecisionLossError: the model loses more than it may; nothing was written.
    """
    if precision == "fp16":
        return to_fp16(source, target, calibrate=calibrate)
    if precision == "fp16-storage":
        return store_fp16(source, target, calibrate=calibrate)
    if precision == "int8":
        return to_int8(source, target, calibrate=calibrate, max_loss_db=max_loss_db)
    raise ArgumentError(f"precision {precision!r} is not known; choose one of {', '.join(PRECISIONS)}")
