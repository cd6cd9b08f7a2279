"""Files by path or URL (s3://, gs://, memory://, whatever fsspec knows), as the local files that libraries need."""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from sr_tile.errors import ArgumentError, ImageError, ImageReadError, ImageWriteError, one_line
from sr_tile.images import READABLE_SUFFIXES
from sr_tile.jobs.selection import (
    FilePair,
    Selection,
    check_name,
    is_hidden,
    is_url,
    place_of_result,
    select_files,
)
from sr_tile.system.folders import make_folders
from sr_tile.system.stopping import temporary_folder


def _open_system(url: str) -> tuple[Any, str]:
    """(file system, path in it) of a URL."""
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise ImageError(
            f"{url}: cannot be reached: {one_line(error)}; `pip install 'sr-tile[ray]'` brings fsspec, and most kinds of "
            "storage need a package of their own (s3fs, gcsfs)"
        ) from None
    return system, path


@contextlib.contextmanager
def reading(name: str) -> Iterator[Path]:
    """A local file with the content of `name`; a copy is removed afterwards.

    Raises:
        ImageReadError: it cannot be had.
    """
    if not is_url(name):
        yield Path(name)
        return
    with temporary_folder() as folder:
        copy = folder / PurePosixPath(name).name
        system, path = _open_system(name)
        try:
            system.get_file(path, str(copy))
        except Exception as error:  # each kind of storage raises its own
            raise ImageReadError(f"{name}: cannot be opened: {one_line(error)}") from None
        yield copy


@contextlib.contextmanager
def writing(name: str) -> Iterator[Path]:
    """A local path to write to; what lies there in the end is put at `name`, whole or not at all.

    Raises:
        ImageWriteError: it cannot be put there.
    """
    if not is_url(name):
        make_folders(Path(name).parent)
        yield Path(name)
        return
    with temporary_folder() as folder:
        copy = folder / PurePosixPath(name).name
        yield copy
        system, path = _open_system(name)
        # Object stores show an object when it is whole; other systems get a part file that is renamed.
        part = path if "s3" in system.protocol or "gs" in system.protocol else f"{path}.{_token(name)}.part"
        try:
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
            system.put_file(str(copy), part)
            if part != path:
                system.mv(part, path)
        except Exception as error:  # each kind of storage raises its own
            raise ImageWriteError(f"{name}: cannot be written: {one_line(error)}") from None


def exists(name: str) -> bool:
    """Whether there is such a file."""
    if not is_url(name):
        return os.path.exists(name)
    system, path = _open_system(name)
    return bool(system.exists(path))


def select_urls(inputs: Sequence[str], output: str, *, recursive: bool = False, suffix: str | None = None) -> Selection:
    """As `select_files`; inputs and output may be URLs.

    Raises:
        ImageReadError: nothing was found.
        ArgumentError: two inputs would become one file.
        ImageError: storage cannot be reached.
    """
    for name in (*inputs, output):
        if not is_url(name):
            check_name(name, "output" if name is output else "input")
    if not any(is_url(name) for name in (*inputs, output)):
        return select_files(inputs, output, recursive=recursive, suffix=suffix)
    found: dict[str, FilePair] = {}
    left_out = Selection()
    for item in inputs:
        for source, relative in _find(item, recursive, left_out):
            place = str(place_of_result(PurePosixPath(relative), suffix))
            target = f"{output.rstrip('/')}/{place}"
            if target in found and found[target].source != source:
                raise ArgumentError(
                    f"{found[target].source} and {source} would both become {target}; rename one, or do them apart"
                )
            found[target] = FilePair(source, target)
    if not found:
        raise ImageReadError(f"{', '.join(inputs)}: holds no image ({', '.join(sorted(READABLE_SUFFIXES))})")
    return Selection(list(found.values()), left_out.left_out)


def _find(item: str, recursive: bool, selection: Selection) -> Iterator[tuple[str, str]]:
    """(name, place below the output) of the images in one input: a file, a folder or a glob."""
    system, path = _open_system(item)
    prefix = f"{item.partition('://')[0]}://" if is_url(item) else ""
    root = path.rstrip("/")
    if system.isdir(path):
        names = system.find(path, maxdepth=None if recursive else 1)
    else:
        names = system.glob(path) if any(letter in path for letter in "*?[") else [path]
        root = ""
    for name in sorted(names):
        relative = name.removeprefix(root).lstrip("/") if root else PurePosixPath(name).name
        if root and PurePosixPath(name).suffix.lower() not in READABLE_SUFFIXES:
            selection.leave_out(f"{prefix}{name}", "no image by the suffix")
        elif root and is_hidden(PurePosixPath(relative)):
            selection.leave_out(f"{prefix}{name}", "hidden")
        else:
            yield f"{prefix}{name}", relative


def _token(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]
