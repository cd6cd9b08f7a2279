"""The ONNX file of a model, whatever form it has: a checkpoint or an ncnn network is exported on the fly, once."""

import logging
from pathlib import Path

import sr_tile
from sr_tile.export.ncnn.param import is_ncnn
from sr_tile.models import zoo
from sr_tile.system.cache import cache_folder
from sr_tile.system.hashes import sha256_of

log = logging.getLogger("sr_tile")


def find_model(model: str | Path | None = None, scale: int | None = None) -> Path:
    """The ONNX file of a model.

    Args:
        model: a path, or the name of a bundled or pulled model; None chooses by `scale`. A checkpoint (`.pth`, `.pt`,
            `.ckpt`, `.safetensors`) or an ncnn network (`.param` beside its `.bin`) is exported and verified the first
            time, and kept in the cache under the hash of its weights.
        scale: output pixels per input pixel, where `model` is None.

    Raises:
        ModelLoadError: there is no such model, or the checkpoint is not understood.
        ModelOutputError: its graph differs from the checkpoint.
        ArgumentError: no bundled model has this scale.
    """
    path = zoo.find(model, scale)
    return _exported(path) if path.suffix.lower() in zoo.CHECKPOINT_SUFFIXES or is_ncnn(path) else path


def _exported(path: Path) -> Path:
    weights = path.with_suffix(".bin") if path.suffix.lower() == ".param" else path
    hashed = sha256_of(weights if weights.is_file() else path)
    target = cache_folder("exported", f"{sr_tile.__version__}-{hashed[:32]}", f"{path.stem}.onnx")
    if not target.is_file():
        from sr_tile.export.checkpoint import export  # torch: only where there is a checkpoint

        log.warning("%s: exporting to ONNX once; the result is kept in the cache", path)
        target.parent.mkdir(parents=True, exist_ok=True)
        export(path, target)
    return target
