"""Files, folders and globs to a list of (source, target); what became of each, in a report."""

import glob  # pathlib has no glob over patterns with their own root
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError, ImageReadError
from sr_tile.images import READABLE_SUFFIXES, WriteOptions

log = logging.getLogger("sr_tile")


@dataclass(frozen=True)
class FilePair:
    """One image to do: where it is, and where the result goes."""

    source: Path
    target: Path


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
        temporary = path.with_name(f".{path.name}.part")
        counts = Counter(result.status for result in self.files)
        content = {"counts": counts, "files": [asdict(result) for result in self.files], "stats": stats}
        temporary.write_text(json.dumps(content, indent=2) + "\n")
        temporary.replace(path)


def pair_files(
    inputs: Sequence[str], output: Path, *, recursive: bool = False, suffix: str | None = None
) -> list[FilePair]:
    """Which file becomes which.

    One file and an output that is no folder make one pair. Otherwise the output is a folder, in which every image keeps
    its name, and those below an input folder their place below it.

    Args:
        inputs: files, folders, and globs that the shell left alone.
        output: a file or a folder, which need not exist.
        recursive: also take what lies in folders below an input folder; `**` in globs.
        suffix: ending of all targets, such as `.png`; None keeps each source's own.

    Raises:
        ImageReadError: an input does not exist, or nothing was found.
        ArgumentError: two inputs would become one file, or several inputs one file.
    """
    found = [pair for item in inputs for pair in _find(item, recursive)]
    if not found:
        hint = "" if recursive else "; --recursive also looks into folders below"
        raise ImageReadError(f"{', '.join(inputs)}: holds no image ({', '.join(sorted(READABLE_SUFFIXES))}){hint}")
    single = len(inputs) == 1 and Path(inputs[0]).is_file() and not output.is_dir() and not str(output).endswith("/")
    if single and (output.suffix or suffix):
        return [FilePair(found[0][0], output.with_suffix(suffix) if suffix else output)]
    if output.exists() and not output.is_dir():
        raise ArgumentError(f"output {output} is a file; {len(found)} images need a folder")
    pairs = [
        FilePair(source, output / (relative.with_suffix(suffix) if suffix else relative)) for source, relative in found
    ]
    sources: dict[Path, Path] = {}
    for pair in pairs:
        other = sources.setdefault(pair.target, pair.source)
        if other != pair.source:
            raise ArgumentError(
                f"{other} and {pair.source} would both become {pair.target}; rename one, or do them apart"
            )
    return [FilePair(source, target) for target, source in sources.items()]


def _find(item: str, recursive: bool) -> Iterator[tuple[Path, Path]]:
    """(file, its place below the output folder) of one input."""
    path = Path(item)
    if path.is_file():
        yield path, Path(path.name)
    elif path.is_dir():
        for file in sorted(path.rglob("*") if recursive else path.iterdir()):
            if file.suffix.lower() in READABLE_SUFFIXES and file.is_file() and not file.name.startswith("."):
                yield file, file.relative_to(path)
    elif glob.has_magic(item):
        for name in sorted(glob.iglob(item, recursive=recursive)):  # noqa: PTH207
            if Path(name).is_file():
                yield Path(name), Path(Path(name).name)
    else:
        raise ImageReadError(f"{item}: there is no such file or folder")


def run_files(
    enhancer: Enhancer,
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
