"""What models there are, with what is known of each; and the removal of those that were pulled."""

import contextlib
from pathlib import Path
from typing import Any

from sr_tile.errors import ArgumentError, ModelLoadError
from sr_tile.models import zoo
from sr_tile.models.onnx_files import load_model
from sr_tile.models.spec import METADATA_KEY, ModelSpec, short
from sr_tile.system.file_lock import locked

SUFFIXES = (".onnx", *zoo.CHECKPOINT_SUFFIXES, ".param")
"""Files that `--model` takes."""

Row = dict[str, Any]


def facts(path: Path) -> ModelSpec:
    """What an ONNX file says of itself; nothing is run.

    Raises:
        ModelLoadError: it is no ONNX file, or its metadata are damaged.
    """
    kept = {entry.key: entry.value for entry in load_model(path).metadata_props}
    return ModelSpec.from_metadata(kept.get(METADATA_KEY), path.stem)


def rows(folder: Path | None = None) -> list[Row]:
    """All models: bundled ones, those that were pulled, official ones that can be, and those of a folder.

    Args:
        folder: of the user's own models; those below it are listed as well.

    Returns:
        Of each `name`, `state` (bundled, pulled, available, own), `scale`, `bytes`, `licence`, `default` (the scale that it
        is the default for), `purpose`, `sha256` of what is downloaded, `url` and `path`; None is not known.

    Raises:
        ArgumentError: there is no such folder.
    """
    defaults = {name: scale for scale, name in zoo.DEFAULT.items()}
    found = [
        _of_file(name, path, "bundled") | {"default": defaults.get(name), "purpose": zoo.PURPOSE.get(name)}
        for name, path in zoo.bundled().items()
    ]
    pulled = zoo.pulled()
    found += [_of_file(name, path, "pulled") for name, path in pulled.items() if name not in zoo.OFFICIAL]
    for name, item in zoo.OFFICIAL.items():
        known = {"licence": item.licence, "purpose": item.task, "sha256": item.sha256, "url": item.url}
        if name in pulled:
            found.append(_of_file(name, pulled[name], "pulled") | known)
        else:
            found.append(_row(name, "available", scale=item.scale, bytes=item.size, **known))
    return found + (of_folder(folder) if folder else [])


def remove(name: str) -> int:
    """Remove a model that was pulled, and its checkpoint where no other model stems from it.

    Returns:
        Bytes that came free.

    Raises:
        ArgumentError: it is bundled, or was not pulled.
    """
    path = zoo.pulled().get(name)
    if path is None:
        why = "is bundled and belongs to the package" if name in (*zoo.bundled(), *zoo.OLD_NAMES) else "was not pulled"
        hint = zoo.meant(name, zoo.pulled()) or "`sr-tile models list` names those pulled"
        raise ArgumentError(f"model {name!r} {why}; there is nothing to remove: {hint}")
    with locked(zoo.pulled_folder() / f".{name}.lock"):
        checkpoint = _checkpoint(path)
        others = {_checkpoint(other) for other in zoo.pulled().values() if other != path}
        gone = [path, *([checkpoint] if checkpoint and checkpoint not in others else [])]
        freed = sum(file.stat().st_size for file in gone)
        for file in gone:
            file.unlink(missing_ok=True)
    return freed


def _checkpoint(path: Path) -> Path | None:
    """The file in the cache that a pulled model was exported from."""
    with contextlib.suppress(ModelLoadError):
        kept = facts(path).details.get("checkpoint_file")
        if isinstance(kept, str) and kept == Path(kept).name:
            checkpoint = zoo.checkpoint_folder() / kept
            return checkpoint if checkpoint.is_file() else None
    return None


def _row(name: str, state: str, **known: Any) -> Row:
    keys = ("scale", "bytes", "licence", "default", "purpose", "sha256", "url", "path")
    return {"name": name, "state": state, **dict.fromkeys(keys), **known}


def _of_file(name: str, path: Path, state: str) -> Row:
    row = _row(name, state, bytes=path.stat().st_size, path=str(path))
    if path.suffix.lower() != ".onnx":
        return row
    try:
        spec = facts(path)
    except ModelLoadError:
        return row | {"purpose": "damaged: no ONNX model"}
    said = {
        key: spec.details.get(name) for key, name in (("licence", "licence"), ("purpose", "purpose"), ("url", "source"))
    }
    return row | {key: value and short(value) for key, value in said.items()} | {"scale": spec.scale}


def of_folder(folder: Path) -> list[Row]:
    """A folder's models and those below it, called by their place in it; see `rows`.

    Raises:
        ArgumentError: there is no such folder.
    """
    if not folder.is_dir():
        raise ArgumentError(f"--models {folder}: is no folder; give one that holds models")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return [_of_file(str(path.relative_to(folder)), path, "own") for path in files]
