"""What `pull` is asked for: an official model, or an address; and what an archive from there holds."""

import hashlib
import re
import urllib.parse
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from sr_tile.errors import ArgumentError, ModelLoadError, UnknownModelError, printable
from sr_tile.models import zoo

SUFFIXES = (*zoo.CHECKPOINT_SUFFIXES, ".onnx", ".zip")
"""Files that can be pulled from an address."""

LARGEST = {".param": 16 * 2**20, ".bin": 2**30}
"""Bytes of what is taken out of an archive: a few that unpack to a full disk are refused."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")


def as_source(model: str, name: str | None, member: str | None, licence: str | None) -> zoo.Official:
    """The checkpoint that is meant.

    Args:
        model: an official name, or an address.
        name: for an address: how the model shall be called.
        member: for an address of an archive: the network in it.
        licence: for an address.

    Raises:
        ArgumentError: there is no such model, no such kind of file, or a name that is taken or is none.
    """
    if "://" in model:
        return _from_address(model, name, member, licence)
    if name or member or licence:
        raise ArgumentError("--name, --member and --licence are for an address; official models have theirs")
    if model in zoo.OFFICIAL:
        return zoo.OFFICIAL[model]
    if model in (*zoo.bundled(), *zoo.OLD_NAMES):
        raise ArgumentError(f"model {model!r} is bundled; there is nothing to pull")
    hint = zoo.meant(model, zoo.OFFICIAL)
    raise UnknownModelError(
        f"model {model!r} is not known; {hint and f'{hint} '}`sr-tile models list` names those there are; or give an address"
    )


def _from_address(url: str, name: str | None, member: str | None, licence: str | None) -> zoo.Official:
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise ArgumentError(f"{printable(url)}: is no address: {error}") from None
    file = PurePosixPath(urllib.parse.unquote(parts.path))
    if parts.scheme not in ("http", "https") or file.suffix.lower() not in SUFFIXES:
        raise ArgumentError(
            f"{printable(url)}: give the http or https address of a file that ends in {', '.join(SUFFIXES)}"
        )
    stem = (PurePosixPath(member or file.name).stem if file.suffix.lower() == ".zip" else file.stem).lower()
    called = name or re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-.")
    if not _NAME.fullmatch(called):
        raise ArgumentError(
            f"--name {printable(called)!r} is no name of a model; use lower-case letters, digits, points, _ and -"
        )
    if called in (*zoo.bundled(), *zoo.OLD_NAMES, *zoo.OFFICIAL):
        raise ArgumentError(f"model {called!r} is another one, bundled or official; give another --name")
    kept = f"{hashlib.sha256(url.encode()).hexdigest()[:12]}{file.suffix.lower()}"
    return zoo.Official(called, kept, url, licence or "", "", scale=None, member=member)


def unpacked(item: zoo.Official, file: Path, folder: Path) -> Path:
    """The network in a file that was downloaded: itself, or, of a `.zip`, an ncnn network written to `folder`.

    Returns:
        A checkpoint, an ONNX file, or a `.param` beside its `.bin`.

    Raises:
        ModelLoadError: the archive is damaged or holds no such network.
        ArgumentError: it holds several and none is named.
    """
    if file.suffix.lower() != ".zip":
        return file
    try:
        with zipfile.ZipFile(file) as archive:
            param = PurePosixPath(_chosen(item, archive.namelist()))
            for suffix, limit in LARGEST.items():
                inside = str(param.with_suffix(suffix))
                if archive.getinfo(inside).file_size > limit:
                    raise ModelLoadError(f"{item.url}: {inside} unpacks to more than {limit} bytes; it is no network")
                with archive.open(inside) as content:  # reads no more than the size that was checked
                    (folder / f"{item.name}{suffix}").write_bytes(content.read())
    except KeyError as error:
        raise ModelLoadError(f"{item.url}: {error.args[0]}") from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise ModelLoadError(f"{item.url}: is a damaged or locked archive: {error}") from None
    return folder / f"{item.name}.param"


def _chosen(item: zoo.Official, names: list[str]) -> str:
    networks = [name for name in names if name.lower().endswith(".param")]
    wanted = item.member or ""
    if wanted and not wanted.endswith(".param"):
        wanted += ".param"
    found = [name for name in networks if name == wanted or name.endswith(f"/{wanted}" if wanted else "")]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(printable(name) for name in networks[:40]) or "none"
    if not found:
        raise ModelLoadError(f"{item.url}: holds no ncnn network {item.member or ''}; it has {listed}")
    raise ArgumentError(f"{item.url}: holds {len(found)} ncnn networks; name one with --member: {listed}")
