"""Which images to do, what each becomes, and the refusals: files, folders and globs to a list of (source, target)."""

import glob  # pathlib has no glob over patterns with their own root
import mimetypes
import os
import stat
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Literal

from sr_tile.errors import ArgumentError, ImageReadError, ImageWriteError
from sr_tile.images import READABLE_SUFFIXES, format_of, suffix_for_result
from sr_tile.images.content_type import FILM_SUFFIXES
from sr_tile.images.formats import same_format
from sr_tile.jobs.report import FileResult
from sr_tile.system.atomic_file import EXISTS, refusal
from sr_tile.system.folders import make_folders

Existing = Literal["refuse", "overwrite", "skip"]
"""What becomes of a target that is there already."""

_TYPES = mimetypes.MimeTypes()  # Python's own table, the same on every machine
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class FilePair:
    """One image to do: where it is and where the result goes, each a path or a URL; or why it cannot be done."""

    source: str
    target: str
    problem: str | None = None

    @property
    def source_path(self) -> Path:
        """Of a source on this machine."""
        return Path(self.source)

    @property
    def target_path(self) -> Path:
        """Of a target on this machine."""
        return Path(self.target)


@dataclass
class Selection:
    """The images to do, and what of the inputs is none of them.

    Attributes:
        pairs: sources and targets.
        left_out: names of files in input folders that are not done, by the reason.
    """

    pairs: list[FilePair] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, name: str, reason: str) -> None:
        """Note a file that is not done."""
        self.left_out.setdefault(reason, []).append(name)

    def describe_left_out(self, every_name: bool = False) -> list[str]:
        """One line for each reason: how many files, and some of their names, or all."""
        lines = []
        for reason, names in self.left_out.items():
            most = len(names) if every_name else _NAMES_SHOWN
            shown = ", ".join(names[:most]) + (", ..." if len(names) > most else "")
            lines.append(f"left out, {reason}: {len(names)} file{'s' if len(names) > 1 else ''} ({shown})")
        return lines


def is_url(name: str) -> bool:
    """Whether a name is none of this machine's files, such as s3://bucket/in.png."""
    return "://" in name


def is_hidden(place: PurePath) -> bool:
    """Whether a file is hidden, or lies in a hidden folder, by its place below the folder that is looked through."""
    return any(part.startswith(".") for part in place.parts)


def screen(
    pairs: Sequence[FilePair],
    existing: Existing,
    *,
    exists: Callable[[str], bool] = os.path.exists,
    is_ours: Callable[[str], bool] = lambda target: False,
) -> Iterator[FilePair | FileResult]:
    """Each pair that is to be done, or what became of it where it is not.

    Args:
        pairs: sources and targets.
        existing: what becomes of targets that exist.
        exists: whether there is a target.
        is_ours: whether a target that exists was made by this very job, and may be replaced.
    """
    for pair in pairs:
        if pair.problem:
            yield FileResult(pair.source, pair.target, "failed", pair.problem)
        elif existing != "overwrite" and exists(pair.target) and not is_ours(pair.target):
            skipped = existing == "skip"
            error = None if skipped else f"{pair.target}: {EXISTS}"
            yield FileResult(pair.source, pair.target, "skipped" if skipped else "failed", error)
        elif problem := unwritable(pair.target):
            yield FileResult(pair.source, pair.target, "failed", problem)
        else:
            yield pair


def unwritable(target: str) -> str | None:
    """Why nothing can be written under a name, as far as that is known before it is tried; None where it can."""
    path = Path(target)
    if problem := _no_format(target):
        return problem
    if is_url(target):
        return None
    try:
        folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
        if not _is_folder(str(folder)):
            return f"{path.parent}: the folder cannot be made: {folder} is no folder; choose another output"
        if not os.access(folder, os.W_OK | os.X_OK):
            return f"{target}: cannot be written: the folder {folder} may not be written to; choose another output"
        path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{target}: cannot be written: {error.strerror}"
    return f"{target}: {reason}" if (reason := refusal(path, overwrite=True)) else None


def _no_format(target: str) -> str | None:
    """Why a name is none of a picture or film that is written; None where it is."""
    try:
        if Path(target).suffix.lower() not in FILM_SUFFIXES:
            format_of(target)
    except ImageWriteError as error:
        return str(error)
    return None


def make_folder(pair: FilePair) -> FileResult | None:
    """Make the folder of a target; the failure where that cannot be."""
    try:
        make_folders(pair.target_path.parent)
    except OSError as problem:
        error = f"{pair.target_path.parent}: the folder cannot be made: {problem.strerror}; choose another output"
        return FileResult(pair.source, pair.target, "failed", error)
    return None


def select_files(
    inputs: Sequence[str], output: str, *, recursive: bool = False, suffix: str | None = None
) -> Selection:
    """Which file becomes which.

    One file, and an output with a suffix that is no folder, make one pair. Otherwise the output is a folder, in which every
    image keeps its name, and those below an input folder their place below it. What a scan of a folder finds inside the
    output folder are results, and no inputs; a file that is named is always one.

    Args:
        inputs: files, folders, and globs that the shell left alone; one that does not exist becomes a pair with a problem.
        output: a file, or a folder, which need not exist.
        recursive: also take what lies in folders below an input folder; `**` in globs.
        suffix: ending of all targets, such as `.png`; None keeps each source's own.

    Raises:
        ImageReadError: nothing was found.
        ArgumentError: two inputs would become one file, or one another's place; several inputs one file; output and
            suffix contradict; or a name cannot be one of a file.
    """
    for name in (*inputs, output):
        check_name(name, "output" if name is output else "input")
    target = Path(output)
    if len(inputs) == 1 and _is_file_name(output) and not _is_folder(inputs[0]) and not _is_glob(inputs[0]):
        if suffix and not same_format(suffix, target.suffix.lower()):
            raise ArgumentError(f"output {output} and --format {suffix[1:]} contradict each other; give one of them")
        if problem := _no_format(output):
            raise ArgumentError(f"{problem}; for a folder end its name in /")
        return Selection([FilePair(str(Path(inputs[0])), str(target), _missing(inputs[0]))])
    _check_folder(target, output, inputs)
    found = Selection()
    sources: dict[str, str] = {}
    for item in inputs:
        _add(found, sources, item, target, recursive=recursive, suffix=suffix)
    if not found.pairs:
        raise ImageReadError(_nothing(inputs, recursive, found))
    _check_no_input_is_replaced(found.pairs)
    return found


def find_images(inputs: Sequence[str], recursive: bool = False) -> list[Path]:
    """All files that `inputs` name, each once; inputs are as for `select_files`.

    Raises:
        ImageReadError: an input does not exist, or nothing was found.
        ArgumentError: an input is no name of a file.
    """
    images: dict[Path, None] = {}
    left_out = Selection()
    for item in inputs:
        check_name(item, "input")
        for found in _find(item, recursive, left_out):
            if found.problem:
                raise ImageReadError(found.problem)
            images[found.path] = None
    if not images:
        raise ImageReadError(_nothing(inputs, recursive, left_out))
    return list(images)


def check_name(name: str, role: str) -> None:
    """Refuse what is no name of a file on this machine.

    Args:
        name: as the user gave it.
        role: `input` or `output`.

    Raises:
        ArgumentError: it is empty, `-`, or a URL.
    """
    if not name.strip():
        raise ArgumentError(f"an {role} is empty; name a file or folder, `.` for the current folder")
    if name == "-":
        raise ArgumentError(
            f"{role} `-`: only `enhance` of one picture takes pipes; name a file, ./- for a file of this name"
        )
    if name.startswith("file://"):
        raise ArgumentError(f"{name}: give the path without file://")
    if is_url(name):
        elsewhere = "download it first" if role == "input" else "write a file here and upload it"
        kind = name.partition("://")[0]
        raise ArgumentError(f"{name}: {kind}:// needs --engine ray (pip install 'sr-tile[ray]'); or {elsewhere}")


def _check_folder(target: Path, output: str, inputs: Sequence[str]) -> None:
    """Refuse an output that several images cannot have.

    Raises:
        ArgumentError: it is a file, or has the name of one.
    """
    several = f"{len(inputs)} inputs" if len(inputs) > 1 else f"the images of {inputs[0]}"
    if _is_file_name(output) and _names_one_file(target):
        raise ArgumentError(
            f"output {output} is the name of one file, but {several} need a folder; name a folder, with a `/` at its end "
            f"if it is to be called so: {output}/"
        )
    try:
        kind = target.stat().st_mode
    except OSError:
        return  # that it cannot be made is said when it is
    if not stat.S_ISDIR(kind):
        raise ArgumentError(f"output {output} is a file, but {several} need a folder; name a folder")


def _check_no_input_is_replaced(pairs: Sequence[FilePair]) -> None:
    """Refuse a result in the place of an input of another one, which may have been read by then or not.

    Raises:
        ArgumentError: there is one.
    """
    inputs = {os.path.realpath(pair.source): pair for pair in pairs}
    for pair in pairs:
        other = inputs.get(os.path.realpath(pair.target), pair)
        if other is not pair:
            raise ArgumentError(
                f"{pair.source} would become {pair.target}, which is an input as well; choose another output folder"
            )


def _names_one_file(target: Path) -> bool:
    """Whether nobody calls a folder so: the suffix is one of images, documents or archives."""
    kind, packed = _TYPES.guess_type(target.name)
    image = target.suffix.lower() in READABLE_SUFFIXES or str(kind).startswith(("image/", "video/"))
    return image or packed is not None or kind in ("application/pdf", "application/zip")


def _is_file_name(output: str) -> bool:
    """Whether an output can be meant as a file."""
    return bool(Path(output).suffix) and not output.endswith(("/", "\\")) and not _is_folder(output)


def _is_folder(name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name).st_mode)  # noqa: PTH116  # pathlib's hide some of the errors, by version
    except OSError:
        return False


def _is_glob(name: str) -> bool:
    return glob.has_magic(name) and not os.path.lexists(name)


def _missing(name: str) -> str | None:
    """Why there is no such input; None where there is one."""
    try:
        os.stat(name)  # noqa: PTH116
    except FileNotFoundError:
        return f"{Path(name)}: there is no such file or folder"
    except OSError as error:
        return f"{Path(name)}: cannot be opened: {error.strerror}"
    return None


@dataclass(frozen=True)
class _Found:
    """One file of an input: its place below the output, whether a scan found it, and why it cannot be done."""

    path: Path
    place: PurePath
    by_scan: bool = False
    problem: str | None = None


def _add(
    selection: Selection, sources: dict[str, str], item: str, output: Path, *, recursive: bool, suffix: str | None
) -> None:
    """Add the files of one input; `sources` knows the source of each target so far.

    Raises:
        ArgumentError: another file would become the same.
    """
    folder = os.path.realpath(output)
    images = list(_find(item, recursive, selection))
    places = {found.place for found in images}
    for found in images:
        if found.problem:
            selection.pairs.append(FilePair(str(found.path), str(output / found.place), found.problem))
            continue
        source = os.path.realpath(found.path)
        if found.by_scan and Path(source).is_relative_to(folder):
            selection.leave_out(str(found.path), "they lie in the output folder; name them to have them done")
            continue
        target = str(output / place_of_result(found.place, suffix, places))
        if target not in sources:
            sources[target] = str(found.path)
            selection.pairs.append(FilePair(str(found.path), target))
        elif os.path.realpath(sources[target]) != source:
            raise ArgumentError(
                f"{sources[target]} and {found.path} would both become {target}; rename one, or do them apart"
            )


def place_of_result(source: PurePath, suffix: str | None, taken: Set[PurePath] = frozenset()) -> PurePath:
    """Where the result of an image goes, below the output.

    Args:
        source: the image's place.
        suffix: wanted; None keeps the source's own, or takes `.png` where its format is only read.
        taken: places of all images, of which a suffix that nobody asked for must not make one.
    """
    if suffix:
        return source.with_suffix(suffix)
    own = suffix_for_result(source.suffix)
    if own == source.suffix:
        return source
    place = source.with_suffix(own)
    return place if place not in taken else source.with_name(source.name + own)


def _find(item: str, recursive: bool, selection: Selection) -> Iterator[_Found]:
    """The files of one input; what of a folder is none of them is left out in `selection`."""
    path = Path(item)
    if _is_folder(item):
        yield from _scan(path, recursive, selection)
    elif _is_glob(item):
        for name in sorted(glob.iglob(item, recursive=recursive)):  # noqa: PTH207
            if not _is_folder(name):
                yield _Found(Path(name), PurePath(Path(name).name), "**" in item, _missing(name))
    else:
        yield _Found(path, PurePath(path.name), problem=_missing(item))


def _scan(folder: Path, recursive: bool, selection: Selection) -> Iterator[_Found]:
    """The images in a folder in the order of their names; one below that cannot be read is a problem."""
    problems: list[OSError] = []
    found: list[_Found] = []
    for place, folders, files in os.walk(folder, onerror=problems.append):
        if not recursive:
            folders.clear()
        for name in sorted(files):
            path = Path(place, name)
            if Path(name).suffix.lower() not in READABLE_SUFFIXES:
                selection.leave_out(str(path), "no image by the suffix")
            elif is_hidden(path.relative_to(folder)):
                selection.leave_out(str(path), "hidden")
            else:
                found.append(_Found(path, path.relative_to(folder), True, _missing(str(path))))
    for error in problems:
        path = Path(error.filename)
        found.append(_Found(path, path.relative_to(folder), True, f"{path}: cannot be read: {error.strerror}"))
    yield from sorted(found, key=lambda one: one.path)


def _nothing(inputs: Sequence[str], recursive: bool, found: Selection) -> str:
    if all(map(_is_glob, inputs)) and not found.left_out:
        return f"{', '.join(inputs)}: no file has such a name; name a file, or a folder for all images in it"
    hint = "" if recursive else "; --recursive also looks into folders below"
    left_out = "".join(f"; {line}" for line in found.describe_left_out())
    return f"{', '.join(inputs)}: holds no image ({', '.join(sorted(READABLE_SUFFIXES))}){hint}{left_out}"
