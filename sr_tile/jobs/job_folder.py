"""The folder of a job: what its journal says of each image, and the strips that are kept until an image is whole."""

import contextlib
import hashlib
import json
import logging
import math
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, get_args

from sr_tile.errors import ImageReadError, JobError
from sr_tile.export.find_model import find_model
from sr_tile.jobs.journal import NAME, STRIPS, Journal
from sr_tile.jobs.report import FileResult
from sr_tile.jobs.selection import FilePair
from sr_tile.jobs.strip_store import whole_strips
from sr_tile.planner import Plan
from sr_tile.planner.costs import Costs, Point
from sr_tile.planner.settings import LARGEST
from sr_tile.system.hashes import sha256_of
from sr_tile.system.part_file import remove_abandoned_parts
from sr_tile.tiling.grid import TileGrid
from sr_tile.tiling.padding import Padding

log = logging.getLogger("sr_tile")


@dataclass(frozen=True)
class FileFingerprint:
    """What tells one input from another: bytes, time of the last change, and hash."""

    size: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "FileFingerprint":
        """Read the whole file.

        Raises:
            ImageReadError: it cannot be read.
        """
        try:
            status = path.stat()
            digest = sha256_of(path)
        except OSError as error:
            raise ImageReadError(f"{path}: cannot be opened: {error.strerror}") from None
        return cls(status.st_size, status.st_mtime_ns, digest)


def describe(model: str | Path | None, scale: float | None, **settings: Any) -> dict[str, Any]:
    """All on which the bytes of a result depend, beside its input: the model's hash and the settings.

    Args:
        model: as for `Enhancer`.
        scale: as for `Enhancer`.
        settings: whatever the user chose, as plain values.
    """
    return {"model": sha256_of(find_model(model, scale)), **settings}


class JobFolder:
    """A folder with a journal, ready to begin or to go on.

    Args:
        folder: of the job; made where it is missing.
        settings: see `describe`.
        restart: start afresh where the journal's settings are others; else that is refused.
        read_only: only look at it: nothing is made or changed.

    Raises:
        JobError: another process has the folder, it cannot be written, its journal is damaged, or of other settings.
    """

    def __init__(
        self, folder: Path | str, settings: dict[str, Any], *, restart: bool = False, read_only: bool = False
    ) -> None:
        self.folder = Path(folder)
        self.journal = Journal(self.folder, read_only=read_only)
        self._settings = json.loads(json.dumps(settings))
        started = self.journal.state.started
        self.is_new = started.get("settings") != self._settings
        if started and self.is_new:
            changed = _changes(started["settings"], self._settings)
            if not restart:
                self.close()
                raise JobError(
                    f"job {self.folder}: was begun with other options: {changed}; give the same, another folder, or "
                    "--overwrite to start afresh"
                )
            log.warning("job %s: starting afresh: %s", self.folder, changed)
        if self.is_new and not read_only:
            shutil.rmtree(self.strips, ignore_errors=True)

    @property
    def strips(self) -> Path:
        """Where finished strips lie."""
        return self.folder / "strips"

    @property
    def plan(self) -> Plan | None:
        """The tiles with which the job was begun; None for a new one."""
        if self.is_new:
            return None
        try:
            return _plan_of(self.journal.state.started["plan"])
        except (KeyError, TypeError, ValueError):
            raise JobError(
                f"{self.folder / NAME}: its plan of tiles is damaged; remove the folder to start afresh"
            ) from None

    @property
    def device(self) -> str | None:
        """Where the job was begun: another may round differently. None for a new one."""
        return None if self.is_new else self.journal.state.started["device"]

    def start(self, plan: Plan, device: str, total: int) -> None:
        """Note that a process begins or goes on with `total` images."""
        if self.is_new:
            facts = {"settings": self._settings, "device": device, "plan": asdict(plan)}
            self.journal.append("start", sync=True, **facts, total=total, pid=os.getpid())
            self.is_new = False
        else:
            state = self.journal.state
            done = sum(image.status == "done" for image in state.images.values())
            for folder in {Path(image.target).parent for image in state.images.values()}:
                remove_abandoned_parts(folder)
            log.info("job %s: going on, %d images are done", self.folder, done)
            self._sweep()
            self.journal.append("resume", total=total, pid=os.getpid())

    def _sweep(self) -> None:
        """Remove the strips of finished images, where a kill came between the last line and that."""
        kept = {folder for image in self.journal.state.images.values() for folder in image.strips}
        for folder in self.strips.iterdir() if self.strips.is_dir() else ():
            if STRIPS.fullmatch(folder.name) and folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def known(self, pair: FilePair, retry_failed: bool = False) -> FileResult | None:
        """What the journal says of an image that need not be done: it is whole, or failed and is not to be tried again.

        An input counts as unchanged where size and time are the same, or else its hash; a result that is gone, or has
        another size, is made again, and so is one whose source is a new one.
        """
        image = None if self.is_new else self.journal.state.images.get(absolute(pair.target))
        if image is None or image.status == "begun" or image.source != absolute(pair.source):
            return None
        try:
            status = pair.source_path.stat()
            same = (status.st_size, status.st_mtime_ns) == (image.size, image.mtime_ns)
            if image.status == "done":
                same = same or (
                    status.st_size == image.size and FileFingerprint.of(pair.source_path).sha256 == image.sha256
                )
                same = same and pair.target_path.stat().st_size == image.bytes
        except (OSError, ImageReadError):
            same = image.status == "failed" and image.size < 0
        if not same or (image.status == "failed" and retry_failed):
            return None
        return FileResult(pair.source, pair.target, image.status, image.error)

    def owns(self, target: Path | str) -> bool:
        """Whether what lies at `target` was made by this job, and may be replaced."""
        return absolute(target) in self.journal.state.owned

    def begin(self, pair: FilePair, facts: FileFingerprint) -> None:
        """Note that an image is under way."""
        self.journal.append(
            "begin", sync=False, source=absolute(pair.source), target=absolute(pair.target), **asdict(facts)
        )

    def done(self, pair: FilePair, facts: FileFingerprint | None = None) -> None:
        """Note that an image is whole, with the facts of its source where they were not known when it was begun.

        What was kept of it is removed.
        """
        size, known, kept = (
            pair.target_path.stat().st_size,
            asdict(facts) if facts else {},
            list(self.recorded(pair.target)),
        )
        self.journal.append("done", sync=True, target=absolute(pair.target), bytes=size, **known)
        for name in kept:
            shutil.rmtree(self.strips / name, ignore_errors=True)

    def failed(self, pair: FilePair, error: str) -> FileResult:
        """Note that an image has no result, and why."""
        size = mtime_ns = -1
        with contextlib.suppress(OSError):
            status = pair.source_path.stat()
            size, mtime_ns = status.st_size, status.st_mtime_ns
        source, target = absolute(pair.source), absolute(pair.target)
        self.journal.append("failed", source=source, target=target, error=error, size=size, mtime_ns=mtime_ns)
        return FileResult(pair.source, pair.target, "failed", error)

    def strip(self, target: Path | str, folder: Path, first: int, end: int) -> None:
        """Note that rows `first` to before `end` of a result lie in `folder`."""
        self.journal.append("strip", target=absolute(target), folder=folder.name, first=first, end=end)

    def recorded(self, target: Path | str) -> dict[str, dict[int, int]]:
        """The strips of an image that the journal knows: folder to first row to end."""
        image = self.journal.state.images.get(absolute(target))
        return image.strips if image else {}

    def finished(self, target: Path | str, folder: Path) -> dict[int, int]:
        """First row to end of those of an image's strips that are in the journal and on disk, as they were written."""
        return whole_strips(folder, self.recorded(target).get(folder.name, {}))

    def close(self) -> None:
        """Let other processes have the folder; idempotent."""
        self.journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _plan_of(values: dict[str, Any]) -> Plan:
    """A plan as `asdict` and JSON leave it.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    points = tuple(Point(*point) for point in values["costs"]["points"]) if values["costs"] is not None else ()
    values = {**values, "tile": tuple(values["tile"]), "sides": tuple(values["sides"])}
    plan = Plan(**{**values, "costs": Costs(points) if points else None})
    counts = [*plan.tile, *plan.sides, plan.multiple, plan.batch, plan.smallest, plan.width_step]
    counts += [count for point in points for count in point[:3]]
    sizes = [
        0 if plan.strip_budget is None else plan.strip_budget,
        *(number for point in points for number in point[3:]),
    ]
    if not (
        len(plan.tile) == 2
        and all(point.seconds > 0 for point in points)
        and all(type(count) is int and 1 <= count <= LARGEST for count in counts)
        and all(type(count) is int and 0 <= count <= LARGEST for count in (plan.overlap, plan.halo))
        and all(type(size) in (int, float) and 0 <= size < math.inf for size in sizes)
        and all(type(flag) is bool for flag in (plan.fitted, plan.equalised, plan.whole))
        and plan.padding in get_args(Padding)
    ):
        raise ValueError("a value that no plan has")
    return plan


def _changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What of a job's settings is another than it was, in words."""
    old, new = _flat(before), _flat(now)
    changed = {name: (old.get(name), new.get(name)) for name in {**old, **new} if old.get(name) != new.get(name)}
    said = [
        "another model" if name == "model" else f"{name} was {_said(was)} and is {_said(is_now)}"
        for name, (was, is_now) in changed.items()
    ]
    return ", ".join(said) or "those of another version"


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """What was set, also within settings, by names that are those of options."""
    return {
        name: value
        for key, group in settings.items()
        for name, value in (group.items() if isinstance(group, dict) else [(key, group)])
        if value is not None and value is not False
    }


def _said(value: Any) -> Any:
    return "not given" if value is None else value


def strips_name(target: Path | str, facts: FileFingerprint, grid: TileGrid, picture: int | None = None) -> str:
    """The folder of a picture's strips: another for another input, for other tiles, and for each picture of a file."""
    return folder_name(target, facts, asdict(grid.y), asdict(grid.x), picture)


def folder_name(target: Path | str, facts: FileFingerprint, *what: Any) -> str:
    """A folder for what is kept of a result; `what` tells it from others of the same input and target."""
    return hashlib.sha256(json.dumps([absolute(target), facts.sha256, *what]).encode()).hexdigest()[:24]


def absolute(path: Path | str) -> str:
    """A file whatever the current folder is."""
    return os.path.abspath(path)  # noqa: PTH100  # Path.absolute keeps `..`
