"""Models by name: those bundled with the package, official ones that were pulled, and files."""

import difflib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sr_tile.errors import ArgumentError, ModelLoadError, UnknownModelError
from sr_tile.models.official import OFFICIAL, Official
from sr_tile.system.cache import cache_folder

__all__ = [
    "CLEAN",
    "DEFAULT",
    "OFFICIAL",
    "OLD_NAMES",
    "Official",
    "bundled",
    "bundled_folder",
    "check_scale",
    "checkpoint_folder",
    "find",
    "meant",
    "named",
    "pulled",
    "pulled_folder",
    "purpose_of",
    "reaching",
    "reaching_in_turn",
]

DEFAULT = {2: "photo-x2", 4: "photo-x4"}
"""Bundled models by scale, for pictures as they are."""

CLEAN = {2: "clean-x2", 4: "clean-x4"}
"""For pictures that were reduced and nothing else."""

PURPOSE = {
    "clean-x2": "enlarging pictures that were reduced and nothing else",
    "clean-x4": "enlarging pictures that were reduced and nothing else",
    "denoise": "denoising of photographs",
    "photo-x2": "enlarging photographs as they are",
    "photo-x4": "enlarging photographs as they are",
}
"""What bundled models are for."""


def purpose_of(name: str, details: Mapping[str, Any]) -> str | None:
    """What a bundled, official or other model is for, as far as that is known; `details`: what its file says."""
    return PURPOSE.get(name) or (OFFICIAL[name].task if name in OFFICIAL else None) or details.get("purpose")


OLD_NAMES = {"x2": "clean-x2", "x4": "clean-x4"}
"""Names that bundled models had once, and are still known by."""

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
"""Files of weights, which the exporter reads."""
_PACKAGE = Path(__file__).parent.parent


def bundled_folder() -> Path:
    """Where the bundled models lie: inside the installed package, or at the top of a checkout."""
    installed = _PACKAGE / "bundled"
    return installed if installed.is_dir() else _PACKAGE.parent / "models"


def bundled() -> dict[str, Path]:
    """Bundled models by name."""
    return {path.stem: path for path in sorted(bundled_folder().glob("*.onnx"))}


def pulled_folder() -> Path:
    """Where pulled models lie, in the user's cache."""
    return cache_folder("models")


def checkpoint_folder() -> Path:
    """Where what was downloaded is kept: whoever exports it again need not download it again."""
    return cache_folder("checkpoints")


def pulled() -> dict[str, Path]:
    """Models that were pulled, official ones and others, by name."""
    return {path.stem: path for path in sorted(pulled_folder().glob("*.onnx")) if path.is_file()}


def find(model: str | Path | None = None, scale: float | None = None) -> Path:
    """The file of a model.

    Args:
        model: a path, or the name of a bundled or pulled model; None chooses by `scale`.
        scale: output pixels per input pixel that the model must reach; 2 where nothing is said.

    Raises:
        ModelLoadError: there is neither such a file nor such a model, or it was not pulled yet.
        ArgumentError: no bundled model reaches this scale.
    """
    if model is None:
        return bundled()[DEFAULT[reaching(scale or 2)]]
    path = Path(model)
    try:
        found = stat.S_ISREG(path.stat().st_mode)
        if found and path.suffix.lower() not in CHECKPOINT_SUFFIXES:
            _refuse_checkpoint(path)
    except FileNotFoundError:
        found = False
    except OSError as error:
        raise ModelLoadError(f"model {model}: cannot be opened: {error.strerror}") from None
    return path if found else named(str(model))


def reaching(factor: float) -> int:
    """The least scale of a bundled model that is not below a factor.

    Raises:
        ArgumentError: there is none.
    """
    for scale in sorted(DEFAULT):
        if scale >= factor:
            return scale
    raise ArgumentError(
        f"no bundled model enlarges by {factor:g}: {max(DEFAULT)} is the most; give a smaller size, or models in "
        "turn, such as --model photo-x4,clean-x2"
    )


def reaching_in_turn(factor: float) -> tuple[int, ...]:
    """The scales of one or two bundled models that reach a factor one after the other, the largest first.

    Raises:
        ArgumentError: two do not.
    """
    most = max(DEFAULT)
    if factor > most**2:
        raise ArgumentError(
            f"no bundled models enlarge by {factor:g}: {most**2} is the most, by two in turn; give a smaller size"
        )
    if factor > most:
        return most, reaching(factor / most)
    return (reaching(factor),)


def check_scale(model: str, scale: int, wanted: float | None) -> None:
    """Refuse a scale that is asked for beside a model, and is more than the model's; from it, less is reduced.

    Args:
        model: its name, for the message.
        scale: of the model.
        wanted: what was asked for; None is any.

    Raises:
        ArgumentError: it is more.
    """
    if wanted is not None and wanted > scale:
        known = wanted <= max(DEFAULT)
        way_out = f"leave out the model (models by scale: {_scales()})" if known else "choose another model"
        raise ArgumentError(
            f"model {model} enlarges by {scale}, not by {wanted:g}, which is asked for as well: leave out the scale, or "
            f"{way_out}"
        )


def _scales() -> str:
    return ", ".join(f"{scale} is {name}" for scale, name in DEFAULT.items())


def _refuse_checkpoint(path: Path) -> None:
    """Name a file of weights, and what a failed download leaves, as such: to a runtime they would be damage.

    Raises:
        ModelLoadError: it holds weights for PyTorch, is a pointer of Git LFS, or a web page.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"version https://git-lfs"):
        raise ModelLoadError(f"model {path}: is a pointer of Git LFS, not the model itself; get that by `git lfs pull`")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html")):
        raise ModelLoadError(f"model {path}: is a web page, not an ONNX file; download the file itself")
    is_pickle = head.startswith((b"PK\x03\x04", b"\x80\x02"))
    is_safetensors = head[8:9] == b"{" and head[7:8] == b"\0"  # a size, then JSON
    if is_pickle or is_safetensors:
        raise ModelLoadError(
            f"model {path}: is a checkpoint of PyTorch, not an ONNX file; give it the suffix .pth (or .safetensors), and "
            "it is exported"
        )


def named(model: str) -> Path:
    """The file of a bundled or pulled model, whatever files the current folder holds.

    Raises:
        ModelLoadError: there is no such model, or it was not pulled yet.
    """
    model = OLD_NAMES.get(model, model)
    known = {**bundled(), **pulled()}
    if model in known:
        return known[model]
    if model in OFFICIAL:
        raise ModelLoadError(f"model {model!r} is not on this machine yet; get it with `sr-tile models pull {model}`")
    path = Path(model)
    if model.strip() and os.path.isdir(path):
        raise ModelLoadError(
            f"model {model}: is a folder; give the file of a model, or a name of `sr-tile models list`"
        )
    if not model.strip():
        raise UnknownModelError("a model's name is empty; give a name of `sr-tile models list`, or a path")
    near = meant(path.stem if path.suffix == ".onnx" else model, (*known, *OFFICIAL, *OLD_NAMES))
    hint = near or f"bundled models are {_listed(bundled())};"
    if path.suffix or len(path.parts) > 1:
        raise ModelLoadError(f"model {model}: there is no such file; {hint.removesuffix(';')}")
    raise UnknownModelError(f"model {model!r} is not known; {hint} `sr-tile models list` names all; or give a path")


def meant(name: str, names: Iterable[str]) -> str:
    """`did you mean photo-x2?`, of the names that are nearest to one that is none of them; empty where none is near."""
    near = difflib.get_close_matches(name.lower(), names)
    return f"did you mean {' or '.join(near)}?" if near else ""


def _listed(names: object) -> str:
    return ", ".join(str(name) for name in names)  # type: ignore[attr-defined]
