"""Models from their authors, or from any address: downloaded, verified, exported and kept in the user's cache."""

import contextlib
import importlib
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.errors import ArgumentError, DownloadError, ModelError, ModelLoadError
from sr_tile.export.source import as_source, unpacked
from sr_tile.models import zoo
from sr_tile.models.download import OnBytes, download
from sr_tile.models.licences import check_licence
from sr_tile.models.listing import facts
from sr_tile.models.onnx_files import load_model
from sr_tile.models.spec import write_spec
from sr_tile.system.atomic_file import atomic_write
from sr_tile.system.file_lock import locked
from sr_tile.system.folders import make_folders
from sr_tile.system.hashes import sha256_of
from sr_tile.system.stopping import temporary_folder

log = logging.getLogger("sr_tile")

Exporter = Callable[..., Any]


@dataclass(frozen=True)
class PullOptions:
    """What is to be pulled, and how.

    Attributes:
        sha256: of the file at the address; for official models only where the zoo does not know it.
        name: how `--model` shall call what comes from an address; None takes the name of the file.
        member: of an archive: the network's `.param`, or how its path ends; needed where it holds several.
        licence: of what comes from an address, as an SPDX identifier; kept in the model.
        accept_licence: the user takes on a licence that is not free, or not known.
        pooling: `global` or `local` for NAFNet, see `checkpoint.export`; None takes what is there, else `global`. A model
            that is there with the other kind is exported again.
        overwrite: export again, from the checkpoint that is kept if its hash is right.
    """

    sha256: str | None = None
    name: str | None = None
    member: str | None = None
    licence: str | None = None
    accept_licence: bool = False
    pooling: str | None = None
    overwrite: bool = False


def pull(
    model: str,
    options: PullOptions | None = None,
    *,
    exporter: Exporter | None = None,
    on_bytes: OnBytes | None = None,
) -> Path:
    """Get a model, so that `zoo.find(name)` knows it; does nothing where it is there already.

    Whoever pulls the same model meanwhile waits, and then finds it.

    Args:
        model: a name of `zoo.OFFICIAL`, or the http(s) address of a checkpoint, an ONNX file or a `.zip` of ncnn networks.
        options: None are the defaults.
        exporter: (checkpoint, output, pooling=...) to an ONNX file; None is the exporter of the extra `export`.
        on_bytes: is told (bytes so far, bytes in all or None).

    Returns:
        The model's path.

    Raises:
        ArgumentError: no such name, no hash to know the file by, or a licence that is not free and was not accepted.
        DownloadError: the checkpoint cannot be had.
        ModelError: it cannot be exported; the checkpoint is kept.
    """
    options = options or PullOptions()
    item = as_source(model, options.name, options.member, options.licence)
    if options.pooling not in (None, "global", "local"):
        raise ArgumentError(f"pooling {options.pooling!r} is not known; use global or local")
    expected = _expected(item, options.sha256)
    check_licence(item.name, item.licence or None, options.accept_licence)
    target = zoo.pulled_folder() / f"{item.name}.onnx"
    checkpoint = zoo.checkpoint_folder() / item.file
    try:
        for folder in (target.parent, checkpoint.parent):
            make_folders(folder)
        with _alone(target, item.name), _alone(checkpoint, item.name):
            if not _is_there(item, target, expected, options):
                if not (checkpoint.is_file() and sha256_of(checkpoint) == expected):
                    download(item.url, checkpoint, expected, on_bytes=on_bytes)
                _make(item, checkpoint, target, expected, options, exporter)
    except OSError as error:
        raise DownloadError(f"{error.filename or target}: cannot be written: {error.strerror or error}") from None
    return target


@contextlib.contextmanager
def _alone(path: Path, name: str) -> Iterator[None]:
    def tell() -> None:
        log.warning("%s: is being pulled by another process; waiting for it", name)

    with locked(path.with_name(f".{path.stem}.lock"), tell):
        yield


def _is_there(item: zoo.Official, target: Path, expected: str, options: PullOptions) -> bool:
    """Whether the model needs no work.

    Raises:
        ArgumentError: the name belongs to what was pulled from elsewhere.
    """
    if options.overwrite or not target.is_file():
        return False
    try:
        details = facts(target).details
    except ModelLoadError:
        return False  # damaged: made anew
    if details.get("checkpoint_sha256") != expected:
        raise ArgumentError(
            f"model {item.name}: was pulled already, from {details.get('source')} with another hash; give --overwrite to "
            "replace it, or for an address another --name"
        )
    return options.pooling in (None, details.get("pooling") or "global")


def _expected(item: zoo.Official, sha256: str | None) -> str:
    """The hash to hold the download against."""
    given = (sha256 or "").strip().lower()
    if given and not re.fullmatch(r"[0-9a-f]{64}", given):
        raise ArgumentError(f"--sha256 {sha256!r} is not 64 hexadecimal digits")
    if given and item.sha256 and given != item.sha256:
        raise ArgumentError(f"model {item.name}: --sha256 {given} contradicts the known hash {item.sha256}")
    if not given and not item.sha256:
        raise ArgumentError(
            f"model {item.name}: no hash of {item.url} is known to sr-tile, so that it cannot be told from a forged "
            "file; give the one you trust with --sha256"
        )
    return given or str(item.sha256)


def _make(
    item: zoo.Official, checkpoint: Path, target: Path, expected: str, options: PullOptions, exporter: Exporter | None
) -> None:
    """From the file that came to a model under its name; whole or not at all."""
    with temporary_folder() as temporary:
        model = temporary / target.name
        source = unpacked(item, checkpoint, temporary)
        if source.suffix.lower() == ".onnx":
            load_model(source)  # no weights from elsewhere
            shutil.copyfile(source, model)
        else:
            _export(item, source, checkpoint, model, options.pooling or "global", exporter)
        _describe(item, model, expected)
        with atomic_write(target) as part:
            shutil.copyfile(model, part)


def _export(
    item: zoo.Official, source: Path, checkpoint: Path, model: Path, pooling: str, exporter: Exporter | None
) -> None:
    try:
        run = exporter or importlib.import_module("sr_tile.export.checkpoint").export
        run(source, model, pooling=pooling)
    except ImportError as error:
        raise ModelError(
            f"model {item.name}: its checkpoint is kept as {checkpoint}, but exporting it needs {error.name or error}; "
            "pip install 'sr-tile[export]', then run the command again"
        ) from None
    if not model.is_file():
        raise ModelError(f"model {item.name}: the exporter wrote nothing; its checkpoint is kept as {checkpoint}")


def _describe(item: zoo.Official, model: Path, sha256: str) -> None:
    """See that the runtime takes the model, and store where it comes from."""
    engine = OnnxEngine(model, "cpu")
    engine.close()
    source: dict[str, Any] = {"source": item.url, "checkpoint_sha256": sha256, "checkpoint_file": item.file}
    source |= {key: value for key, value in (("licence", item.licence), ("purpose", item.task)) if value}
    write_spec(model, replace(engine.spec, name=item.name, details={**engine.spec.details, **source}))
