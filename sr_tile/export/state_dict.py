"""Read the weights of a Torch checkpoint without running anything that the file contains."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sr_tile.errors import ModelLoadError
from sr_tile.export.graph_writer import Array

PICKLES = (".pth", ".pt", ".ckpt")
WRAPPERS = ("params_ema", "ema", "params", "state_dict")
"""Keys under which checkpoints keep the state dict; averaged weights are what authors publish figures for."""


def load_state(path: Path) -> dict[str, Array]:
    """Read a state dict.

    Args:
        path: `.pth`, `.pt`, `.ckpt` (pickles, read by `torch.load(weights_only=True)`) or `.safetensors`.

    Returns:
        name -> weight, float32.

    Raises:
        ModelLoadError: the file is missing, of another kind, cut short, holds code or anything but weights.
    """
    if not path.is_file():
        raise ModelLoadError(f"checkpoint {path}: no such file")
    if path.suffix.lower() == ".safetensors":
        content: object = _read_safetensors(path)
    elif path.suffix.lower() in PICKLES:
        content = _read_pickle(path)
    else:
        kinds = ", ".join((*PICKLES, ".safetensors"))
        raise ModelLoadError(f"checkpoint {path}: {path.suffix or 'no suffix'} is not supported; use one of {kinds}")
    return _as_arrays(path, _unwrap(content))


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelLoadError(f"checkpoint {path}: not a complete safetensors file ({_first_line(error)})") from None


def _read_pickle(path: Path) -> object:
    import torch

    _refuse_inflating(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = _first_line(error)
        if "Unsupported" in str(error) or "GLOBAL" in str(error):
            reason = "it contains code or objects beyond plain weights, which sr-tile never runs"
        raise ModelLoadError(f"checkpoint {path}: refused: {reason}") from None
    except Exception as error:  # torch raises whatever a broken file makes it stumble over
        raise ModelLoadError(
            f"checkpoint {path}: not a complete Torch checkpoint ({type(error).__name__}: {_first_line(error)})"
        ) from None


def _refuse_inflating(path: Path) -> None:
    """Torch stores its archives uncompressed: one that unpacks to more than its own size is an attack."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ModelLoadError(f"checkpoint {path}: broken archive ({_first_line(error)})") from None
    if unpacked > path.stat().st_size:
        raise ModelLoadError(
            f"checkpoint {path}: refused: {path.stat().st_size} bytes that claim to unpack to {unpacked} bytes"
        )


def _unwrap(content: object) -> object:
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            return content[key]
    return content


def _as_arrays(path: Path, content: object) -> dict[str, Array]:
    import torch

    if not isinstance(content, Mapping) or not content:
        raise ModelLoadError(f"checkpoint {path}: holds {type(content).__name__}, not a state dict of named weights")
    result: dict[str, Array] = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ModelLoadError(
                f"checkpoint {path}: entry {str(name)[:80]!r} is {type(value).__name__}, not a weight; "
                f"expected a state dict, alone or under {', '.join(WRAPPERS)}"
            )
        if value.layout != torch.strided or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ModelLoadError(f"checkpoint {path}: weight {name} claims {value.numel()} values it does not hold")
        array = value.detach().to(torch.float32).numpy()
        if not np.isfinite(array).all():
            raise ModelLoadError(f"checkpoint {path}: weight {name} contains values that are no numbers")
        result[name.removeprefix("module.")] = array
    return result


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
