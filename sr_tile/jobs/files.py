"""Files, folders and globs to a list of (source, target); what became of each, in a report."""

import glob  # pathlib has no glob over patterns with their own root
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sr_tile.errors import ArgumentError, ImageReadError, ImageWriteError
from sr_tile.images import READABLE_SUFFIXES, WriteOptions
from sr_tile.pipeline.job import ImageJob, Outcome
from sr_tile.system.atomic_file import atomic_write

log = logging.getLogger("sr_tile")


@dataclass(frozen=True)
class FilePair:
    """One image to do: where it is, and where the result goes; or why an input cannot be done."""

    source: Path
    target: Path
    problem: str | None = None


@dataclass
class FileResult:
    """What became of one file: `done`, `skipped` or `failed`."""

    source: str
    target: str
    status: str
    error: str | None = None


@dataclass
class Report:
    """What became of all files."""

    files: list[FileResult] = field(default_factory=list)

    @property
    def failed(self) -> list[FileResult]:
        """The files that have no result."""
        return [result for result in self.files if result.status == "failed"]

    def write(self, path: Path, stats: dict[str, Any]) -> None:
        """Store the report as JSON, beside the target first and then renamed."""
        counts = Counter(result.status for result in self.files)
        content = {"counts": counts, "files": [asdict(result) for result in self.files], "stats": stats}
        write_json(path, content)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Store figures for other programs: written beside the target, then renamed.

    Raises:
        ImageWriteError: the folder is missing or cannot be written.
    """
    try:
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise ImageWriteError(
            f"{path}: cannot be written: {error.strerror}; name a file in a folder that exists"
        ) from None


def pair_files(
    inputs: Sequence[str], output: str, *, recursive: bool = False, suffix: str | None = None
) -> list[FilePair]:
    """Which file becomes which.

    One file, and an output with a suffix that is no folder, make one pair. Otherwise the output is a folder, in which every
    image keeps its name, and those below an input folder their place below it. What lies in the output folder is no input.

    Args:
        inputs: files, folders, and globs that the shell left alone; one that does not exist becomes a pair with a problem.
        output: a file, or a folder, which need not exist.
        recursive: also take what lies in folders below an input folder; `**` in globs.
        suffix: ending of all targets, such as `.png`; None keeps each source's own.

    Raises:
        ImageReadError: nothing was found.
        ArgumentError: two inputs would become one file, several inputs one file, or output and suffix contradict.
    """
    target = Path(output)
    single = len(inputs) == 1 and Path(inputs[0]).is_file() and not target.is_dir() and not output.endswith(("/", "\\"))
    if single and target.suffix:
        if suffix and suffix != target.suffix.lower():
            raise ArgumentError(f"output {output} and --format {suffix[1:]} contradict each other; give one of them")
        return [FilePair(Path(inputs[0]), target)]
    if target.exists() and not target.is_dir():
        raise ArgumentError(f"output {output} is a file; several images need a folder")
    pairs: list[FilePair] = []
    seen: dict[Path, FilePair] = {}
    for item in inputs:
        for source, relative in _find(item, recursive):
            if relative is None:
                pairs.append(FilePair(source, target, f"{source}: there is no such file or folder"))
                continue
            if source.resolve().is_relative_to(target.resolve()):
                continue
            pair = FilePair(source, target / (relative.with_suffix(suffix) if suffix else relative))
            other = seen.setdefault(pair.target, pair)
            if other.source != pair.source:
                raise ArgumentError(
                    f"{other.source} and {source} would both become {pair.target}; rename one, or do them apart"
                )
            if other is pair:
                pairs.append(pair)
    if not pairs:
        raise ImageReadError(_nothing(inputs, recursive))
    return pairs


def find_images(inputs: Sequence[str], recursive: bool = False) -> list[Path]:
    """All files that `inputs` name, each once; inputs are as for `pair_files`.

    Raises:
        ImageReadError: an input does not exist, or nothing was found.
    """
    found: dict[Path, None] = {}
    for item in inputs:
        for source, relative in _find(item, recursive):
            if relative is None:
                raise ImageReadError(f"{source}: there is no such file or folder")
            found[source] = None
    if not found:
        raise ImageReadError(_nothing(inputs, recursive))
    return list(found)


def _nothing(inputs: Sequence[str], recursive: bool) -> str:
    hint = "" if recursive else "; --recursive also looks into folders below"
    return f"{', '.join(inputs)}: holds no image ({', '.join(sorted(READABLE_SUFFIXES))}){hint}"


def _find(item: str, recursive: bool) -> Iterator[tuple[Path, Path | None]]:
    """(file, its place below the output folder) of one input; None as place where there is nothing."""
    path = Path(item)
    if path.is_file():
        yield path, Path(path.name)
    elif path.is_dir():
        for file in sorted(path.rglob("*") if recursive else path.glob("*")):
            if file.suffix.lower() in READABLE_SUFFIXES and file.is_file() and not file.name.startswith("."):
                yield file, file.relative_to(path)
    elif glob.has_magic(item):
        for name in sorted(glob.iglob(item, recursive=recursive)):  # noqa: PTH207
            if Path(name).is_file():
                yield Path(name), Path(Path(name).name)
    else:
        yield path, None


class Runner(Protocol):
    """What does the jobs: an `Enhancer`, or a server through `RemoteEnhancer`."""

    def file_job(
        self, source: Path | str, target: Path | str, *, overwrite: bool = False, options: WriteOptions | None = None
    ) -> ImageJob:
        """See `Enhancer.file_job`."""
        ...

    def run(self, jobs: Iterable[ImageJob]) -> Iterator[Outcome]:
        """See `Enhancer.run`."""
        ...


def run_files(
    enhancer: Runner,
    pairs: Sequence[FilePair],
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
    options: WriteOptions | None = None,
) -> Iterator[FileResult]:
    """Enhance files; results come as they are ready, and one that fails never stops the rest.

    Args:
        enhancer: does the work.
        pairs: sources and targets; folders of targets are made.
        overwrite: replace targets that exist.
        skip_existing: leave targets that exist alone, and do not read their sources.
        options: quality and compression of the targets.
    """
    wanted = []
    for pair in pairs:
        if pair.problem:
            yield FileResult(str(pair.source), str(pair.target), "failed", pair.problem)
            continue
        if skip_existing and pair.target.exists():
            yield FileResult(str(pair.source), str(pair.target), "skipped")
            continue
        try:
            pair.target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            yield FileResult(str(pair.source), str(pair.target), "failed", f"{pair.target.parent}: {problem.strerror}")
            continue
        wanted.append(pair)
    jobs = (enhancer.file_job(pair.source, pair.target, overwrite=overwrite, options=options) for pair in wanted)
    for outcome in enhancer.run(jobs):
        pair = wanted[outcome.index]
        error = str(outcome.error) if outcome.error else None
        yield FileResult(str(pair.source), str(pair.target), "failed" if error else "done", error)
