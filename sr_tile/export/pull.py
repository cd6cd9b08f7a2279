"""Official checkpoints: downloaded, verified, exported and kept in the user's cache."""

import importlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.errors import ArgumentError, DownloadError, ModelError
from sr_tile.models import zoo
from sr_tile.models.download import OnBytes, download
from sr_tile.models.spec import write_spec
from sr_tile.system.hashes import sha256_of
from sr_tile.system.stopping import temporary_folder

Exporter = Callable[..., Any]


def pull(
    name: str,
    *,
    sha256: str | None = None,
    pooling: str | None = None,
    overwrite: bool = False,
    exporter: Exporter | None = None,
    on_bytes: OnBytes | None = None,
) -> Path:
    """Get an official model, so that `zoo.find(name)` knows it; does nothing where it is there already.

    Args:
        name: of `zoo.OFFICIAL`.
        sha256: of the checkpoint, for those whose hash the zoo does not know.
        pooling: `global` or `local` for NAFNet, see `to_onnx.export`; None takes what is there, else `global`. A model that
            is there with the other kind is exported again.
        overwrite: export again, from the checkpoint that is kept if its hash is right.
        exporter: (checkpoint, output, pooling=...) to an ONNX file; None is the exporter of the extra `export`.
        on_bytes: is told (bytes so far, bytes in all or None).

    Returns:
        The model's path.

    Raises:
        ArgumentError: no such name, or no hash to know the file by.
        DownloadError: the checkpoint cannot be had.
        ModelError: it cannot be exported; the checkpoint is kept.
    """
    item = _official(name)
    if pooling not in (None, "global", "local"):
        raise ArgumentError(f"pooling {pooling!r} is not known; use global or local")
    expected = _expected(item, sha256)
    target = zoo.pulled_folder() / f"{name}.onnx"
    if target.is_file() and not overwrite and pooling in (None, _pooling(target)):
        return target
    checkpoint = zoo.pulled_folder().parent / "checkpoints" / item.file
    try:
        for folder in (target.parent, checkpoint.parent):
            folder.mkdir(parents=True, exist_ok=True)
        if not (checkpoint.is_file() and sha256_of(checkpoint) == expected):
            download(item.url, checkpoint, expected, on_bytes=on_bytes)
        with temporary_folder(".sr-tile-", target.parent) as temporary:
            model = temporary / target.name
            _export(item, checkpoint, model, pooling or "global", exporter)
            _describe(item, model, expected)
            model.replace(target)
    except OSError as error:
        raise DownloadError(f"{error.filename or target}: cannot be written: {error.strerror or error}") from None
    return target


def _official(name: str) -> zoo.Official:
    if name in zoo.OFFICIAL:
        return zoo.OFFICIAL[name]
    if name in (*zoo.bundled(), *zoo.OLD_NAMES):
        raise ArgumentError(f"model {name!r} is bundled; there is nothing to pull")
    raise ArgumentError(f"model {name!r} is not known; choose one of {', '.join(zoo.OFFICIAL)}")


def _expected(item: zoo.Official, sha256: str | None) -> str:
    """The hash to hold the download against."""
    given = (sha256 or "").strip().lower()
    if given and not re.fullmatch(r"[0-9a-f]{64}", given):
        raise ArgumentError(f"--sha256 {sha256!r} is not 64 hexadecimal digits")
    if given and item.sha256 and given != item.sha256:
        raise ArgumentError(f"model {item.name}: --sha256 {given} contradicts the known hash {item.sha256}")
    if not given and not item.sha256:
        raise ArgumentError(
            f"model {item.name}: no hash of {item.file} is known to sr-tile, so that it cannot be told from a forged "
            "file; give the one you trust with --sha256"
        )
    return given or str(item.sha256)


def _pooling(model: Path) -> str:
    engine = OnnxEngine(model, "cpu")
    engine.close()
    return engine.spec.details.get("pooling") or "global"


def _export(item: zoo.Official, checkpoint: Path, model: Path, pooling: str, exporter: Exporter | None) -> None:
    try:
        run = exporter or importlib.import_module("sr_tile.export.checkpoint").export
        run(checkpoint, model, pooling=pooling)
    except ImportError as error:
        raise ModelError(
            f"model {item.name}: its checkpoint is kept as {checkpoint}, but exporting it needs {error.name or error}; "
            f"pip install 'sr-tile[export]', then run `sr-tile models pull {item.name}` again"
        ) from None
    if not model.is_file():
        raise ModelError(f"model {item.name}: the exporter wrote nothing; its checkpoint is kept as {checkpoint}")


def _describe(item: zoo.Official, model: Path, sha256: str) -> None:
    """See that the runtime takes the model, and store where it comes from."""
    engine = OnnxEngine(model, "cpu")
    engine.close()
    source = {"licence": item.licence, "source": item.url, "checkpoint_sha256": sha256}
    write_spec(model, replace(engine.spec, name=item.name, details={**engine.spec.details, **source}))
