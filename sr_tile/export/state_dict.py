"""Read the weights of a Torch checkpoint without running anything that the file contains."""

from __future__ import annotations

import logging
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sr_tile.errors import ModelLoadError, first_line
from sr_tile.export.graph_writer import Array
from sr_tile.system import memory
from sr_tile.system.plain_file import read_plain

log = logging.getLogger("sr_tile")

PICKLES = (".pth", ".pt", ".ckpt")
WRAPPERS = (
    *("params_ema", "params-ema", "ema", "ema_model", "model_ema", "g_ema", "ema_state_dict", "shadow", "params"),
    *("state_dict", "model_state_dict", "netG_state_dict", "model", "net", "net_g", "netG", "generator", "network"),
    *("weights", "models", "g"),
)
"""Keys under which checkpoints keep the state dict; averaged weights are what authors publish figures for."""
SHELLS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""
MEMBERS = ("model.", "net_g.", "netG.", "net.", "generator.", "network.", "ema_model.", "g_ema.")
"""Where a training program, such as Lightning's module, keeps the network; the names of ESRGAN begin so by themselves."""
_ROOM = 2**28
"""Bytes as float32 that weights may take beyond what their file holds: some are views of others, or of one value."""


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
    return _as_arrays(path, _unwrap(path, content))


def readings(state: dict[str, Array]) -> Iterator[dict[str, Array]]:
    """The state as it is, then what lies in each member of a training program: the first that is understood is meant."""
    yield state
    for member in MEMBERS:
        inner = {name.removeprefix(member): value for name, value in state.items() if name.startswith(member)}
        if inner:
            yield {_without_shells(name): value for name, value in inner.items()}


def _without_shells(name: str) -> str:
    while (shell := next((shell for shell in SHELLS if name.startswith(shell)), "")) and name != shell:
        name = name.removeprefix(shell)
    return name


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        # Read, not mapped: of a file that is cut meanwhile a map ends the process.
        return dict(sorted(load(read_plain(path)).items()))
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelLoadError(f"checkpoint {path}: not a complete safetensors file ({first_line(error)})") from None


def _read_pickle(path: Path) -> object:
    import torch

    _refuse_inflating(path)
    with path.open("rb") as file:
        start = file.read(2)
    if not zipfile.is_zipfile(path) and start[:1] != b"\x80":  # of every pickle that Torch ever wrote
        raise ModelLoadError(
            f"checkpoint {path}: is no Torch checkpoint: {path.stat().st_size} bytes of something else"
        )
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except EOFError:
        raise ModelLoadError(
            f"checkpoint {path}: not a complete Torch checkpoint: it ends after {path.stat().st_size} bytes"
        ) from None
    except pickle.UnpicklingError as error:
        reason = first_line(error)
        if "Unsupported" in str(error) or "GLOBAL" in str(error):
            reason = "it contains code or objects beyond plain weights, which is never run; save the state_dict() alone"
        raise ModelLoadError(f"checkpoint {path}: refused: {reason}") from None
    except Exception as error:  # torch raises whatever a broken file makes it stumble over
        raise ModelLoadError(
            f"checkpoint {path}: not a complete Torch checkpoint ({type(error).__name__}: "
            f"{first_line(error).partition('(Could this')[0].strip()})"
        ) from None


def _refuse_inflating(path: Path) -> None:
    """Torch stores its archives uncompressed: one that unpacks to more than its own size is an attack."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            names = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ModelLoadError(f"checkpoint {path}: broken archive ({first_line(error)})") from None
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise ModelLoadError(
            f"checkpoint {path}: is a TorchScript archive, a program in place of weights; save its weights with "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth') and export those"
        )
    if "data.pkl" not in names:
        raise ModelLoadError(f"checkpoint {path}: is no Torch checkpoint: an archive without data.pkl, which each has")
    if unpacked > path.stat().st_size:
        raise ModelLoadError(
            f"checkpoint {path}: refused: {path.stat().st_size} bytes that claim to unpack to {unpacked} bytes"
        )


def _numpy_scalars() -> list[Any]:
    """What a best score or a counter is made of in the pickles of numpy 1 and 2: numbers only."""
    scalar = np.array(0.0)[()].__reduce__()[0]
    kinds = [type(np.dtype(code)) for code in "?bBhHiIlLqQefdg"]
    names = [(scalar, f"numpy.{module}.multiarray.scalar") for module in ("core", "_core")]
    return [*names, np.dtype, *dict.fromkeys(kinds)]


def _unwrap(path: Path, content: object) -> object:
    """The innermost state dict, under the first of the usual keys that leads to weights, or under the only key there is."""
    seen: set[int] = set()

    def states(content: object, above: tuple[int, ...] = ()) -> Iterator[Mapping[Any, Any]]:
        if isinstance(content, list | tuple) and len(content) == 1:  # one network of several that there could be
            content = content[0]
        if id(content) in above:
            raise ModelLoadError(f"checkpoint {path}: refused: it holds itself under one of its keys")
        if not isinstance(content, Mapping) or not content or id(content) in seen:
            return
        seen.add(id(content))
        named = [content[key] for key in WRAPPERS if key in content]
        for inner in named or (content.values() if len(content) == 1 else ()):
            yield from states(inner, (*above, id(content)))
        yield content

    found = list(states(content))
    return next((state for state in found if _holds_weights(state)), found[0] if found else content)


def _holds_weights(state: Mapping[Any, Any]) -> bool:
    import torch

    return any(isinstance(value, torch.Tensor) for value in state.values())


def _as_arrays(path: Path, content: object) -> dict[str, Array]:
    import torch

    if not isinstance(content, Mapping) or not content:
        raise ModelLoadError(f"checkpoint {path}: holds {type(content).__name__}, not a state dict of named weights")
    result: dict[str, Array] = {}
    ignored = []
    room = _ROOM + 4 * path.stat().st_size  # a byte of the file is a number at most
    for name, value in content.items():
        if isinstance(value, int | float | str | np.generic | None) or str(name).split(".")[-1] == "n_averaged":
            ignored.append(str(name))  # counters and scores of the training
            continue
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ModelLoadError(
                f"checkpoint {path}: entry {str(name)[:80]!r} is {type(value).__name__}, not a weight; "
                f"expected a state dict, alone or under {', '.join(WRAPPERS)}"
            )
        room -= 4 * value.numel()
        if room < 0:
            raise ModelLoadError(
                f"checkpoint {path}: weight {name} claims {value.numel()} values it does not hold; views of what the "
                f"file holds may make {memory.format_size(_ROOM)} of it: save each weight by its own, with .contiguous()"
            )
        result[_without_shells(name)] = _as_array(path, name, value)
    if not result:
        raise ModelLoadError(f"checkpoint {path}: holds no weights, only {', '.join(ignored[:5])}")
    if ignored:
        log.info("checkpoint %s: no weights, so left out: %s", path, ", ".join(ignored))
    return result


def _as_array(path: Path, name: str, value: Any) -> Array:
    import torch

    where = f"checkpoint {path}: weight {name}"
    sparse = value.layout != torch.strided
    if value.is_nested or value.is_quantized or value.is_meta or value.dtype.is_complex or sparse:
        kinds = {"nested": value.is_nested, "quantized": value.is_quantized, "on the device meta": value.is_meta}
        kind = next((kind for kind, holds in kinds.items() if holds), "sparse" if sparse else str(value.dtype))
        raise ModelLoadError(f"{where} is {kind}, not plain real numbers; save it as float32")
    try:
        array = value.detach().resolve_neg().to(torch.float32).numpy()
    except (RuntimeError, TypeError) as error:  # number types that Torch stores and does not convert
        raise ModelLoadError(
            f"{where} is {value.dtype}, which Torch does not turn into float32 ({first_line(error)})"
        ) from None
    if not np.isfinite(array).all():
        raise ModelLoadError(f"{where} contains values that are no numbers")
    return array
