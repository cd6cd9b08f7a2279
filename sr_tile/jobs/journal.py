"""The journal of a resumable job: one JSON object a line, only ever appended, on disk before anything relies on it.

A folder holds `journal.jsonl`, `lock`, and `strips/`, the finished rows of images that are not finished. The events:

========  ==========================================================================================
`start`   settings, plan of tiles, number of images: what comes before it belongs to other settings
`resume`  the same job again, by another process
`begin`   an image is under way: source, its size, time and sha256 (with Ray, unknown yet), target
`strip`   rows `first` to `end` of an image's result lie in `folder`
`done`    a target is whole: its bytes
`failed`  an image has no result, and why
========  ==========================================================================================

A process that dies leaves at most half a line at the end, which the next one cuts off. A full disk may leave one anywhere:
what could not be written as a whole is cut off again, and where even that failed, the next line follows on a line of its own
or right behind the torn one. Either way a torn line says nothing, and costs doing again what it would have said.
"""

import contextlib
import errno
import json
import logging
import os
import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from sr_tile.errors import JobError
from sr_tile.system.file_lock import try_lock
from sr_tile.system.folders import make_folders
from sr_tile.system.plain_file import read_plain

log = logging.getLogger("sr_tile")

NAME = "journal.jsonl"
_SHAPES: dict[str, dict[str, type]] = {
    "start": {"total": int, "settings": dict, "device": str, "plan": dict},
    "resume": {"total": int},
    "begin": {"source": str, "target": str, "size": int, "mtime_ns": int, "sha256": str},
    "strip": {"target": str, "folder": str, "first": int, "end": int},
    "done": {"target": str, "bytes": int},
    "failed": {"source": str, "target": str, "error": str, "size": int, "mtime_ns": int},
}
STRIPS = re.compile(r"[0-9a-f]{24}")
"""Name of a folder of strips: no other is ever removed, whatever a journal says."""
_EVENT, _START = b'{"event": "', b'{"event": "start"'


@dataclass
class Image:
    """What the journal says of one image; `status` is `begun`, `done` or `failed`."""

    source: str
    target: str
    status: str = "begun"
    size: int = -1
    mtime_ns: int = -1
    sha256: str = ""
    bytes: int = -1
    error: str | None = None
    strips: dict[str, dict[int, int]] = field(default_factory=dict)


@dataclass
class State:
    """All that a journal says, by its last `start`.

    Attributes:
        started: the `start` line, {} where there is none.
        total: images of the job, by the last process that ran it.
        runs: processes that worked on it.
        images: by target.
        owned: targets that any line says were begun: what lies there is this job's, and may be replaced.
    """

    started: dict[str, Any] = field(default_factory=dict)
    total: int = 0
    runs: int = 0
    images: dict[str, Image] = field(default_factory=dict)
    owned: set[str] = field(default_factory=set)

    def forget(self) -> None:
        """Nothing counts that came so far, but what the job owns."""
        self.started, self.total, self.runs, self.images = {}, 0, 0, {}

    def add(self, line: dict[str, Any]) -> None:
        """Take in the next line; events of later versions are passed over, and what belongs to a line that was torn."""
        event, target = line.get("event"), str(line.get("target"))
        if any(type(line[key]) is not kind for key, kind in _SHAPES.get(str(event), {}).items()):
            raise TypeError("a value of another type")
        if event == "strip" and not STRIPS.fullmatch(line["folder"]):
            raise ValueError("no folder of strips")
        if event in ("strip", "done") and target not in self.images:
            return
        if event == "start":
            self.started, self.total, self.runs, self.images = line, line["total"], 1, {}
        elif event == "resume":
            self.total, self.runs = line["total"], self.runs + 1
        elif event == "begin":
            before = self.images.get(target)
            facts = {key: line[key] for key in ("source", "target", "size", "mtime_ns", "sha256")}
            self.images[target] = Image(**facts, strips=before.strips if before else {})
            self.owned.add(target)
        elif event == "strip":
            self.images[target].strips.setdefault(line["folder"], {})[line["first"]] = line["end"]
        elif event == "done":
            image = self.images[target]
            image.status, image.bytes, image.error, image.strips = "done", line["bytes"], None, {}
            for key in ("size", "mtime_ns", "sha256"):  # of an image that another process read
                setattr(image, key, line.get(key, getattr(image, key)))
        elif event == "failed":
            image = self.images.setdefault(target, Image(line["source"], target))
            image.status, image.error = "failed", line["error"]
            image.size, image.mtime_ns = line["size"], line["mtime_ns"]


def read_state(folder: Path) -> State:
    """What the journal in `folder` says, without locking it.

    Raises:
        JobError: there is no journal, or it is damaged.
    """
    path = folder / NAME
    try:
        content = read_plain(path)
    except OSError as error:
        raise JobError(
            f"{folder}: holds no job ({error.strerror}); name the folder given to `sr-tile enhance --job`"
        ) from None
    return _fold(path, content[: content.rfind(b"\n") + 1])


def _fold(path: Path, content: bytes) -> State:
    state = State()
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        try:
            torn, whole = _parse(line)
            if torn:
                log.warning("%s: line %d is torn, most likely by a full disk; it is passed over", path, number)
            if torn.startswith(_START):  # what follows may belong to other settings than what comes before
                state.forget()
            if whole is not None:
                state.add(whole)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise JobError(
                f"{path}: line {number} is damaged; remove the folder to start afresh, or the line to do its image again"
            ) from None
    return state


def _parse(line: bytes) -> tuple[bytes, Any]:
    """(what was torn off at its beginning, the event) of a line; None as event where there is none.

    Raises:
        ValueError: it is damaged otherwise.
    """
    try:
        return b"", json.loads(line)
    except ValueError:
        if not _is_torn(line):
            raise
    behind = line.find(_EVENT, 1)  # in values, quotes are escaped: this begins another line
    if behind < 0:
        return line, None
    torn, (more, event) = line[:behind], _parse(line[behind:])
    return torn + more, event


def _is_torn(line: bytes) -> bool:
    """Whether a line is the beginning of an event, with nothing or another event behind it."""
    return (line.startswith(_EVENT[: len(line)]) and not line.endswith(b"}")) or line.find(_EVENT, 1) > 0


def is_locked(folder: Path) -> bool:
    """Whether a process works on the job now."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


class Journal:
    """The journal of one folder, locked for this process until `close`; threads may share it.

    Args:
        folder: made where it is missing.
        read_only: only look at it, without a lock: nothing is made, and nothing can be appended.

    Raises:
        JobError: another process has it, it cannot be written, or it is damaged.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.folder, self._mutex = folder, threading.Lock()
        self._lock_file = self._file = -1
        if read_only:
            self.state = read_state(folder) if os.path.lexists(folder / NAME) else State()
            return
        try:
            make_folders(folder)
            self._lock_file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
            if not try_lock(self._lock_file):
                raise JobError(f"{folder}: another process works on this job; wait for it, or give another folder")
            path = folder / NAME
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
            content = read_plain(path)
            whole = content.rfind(b"\n") + 1
            if whole < len(content):  # the last process died while writing it
                os.ftruncate(self._file, whole)
            self.state = _fold(path, content[:whole])
            _sync_folder(folder)
        except OSError as error:
            self.close()
            raise JobError(
                f"{folder}: cannot hold a job: {error.strerror}; give a folder that can be written"
            ) from None
        except JobError:
            self.close()
            raise

    def append(self, event: str, *, sync: bool = True, **values: Any) -> None:
        """Add one line; it is on disk when this returns, unless `sync` is False.

        Raises:
            JobError: the disk is full, or gone.
        """
        line = {"event": event, "time": round(time.time(), 3), **values}
        data = json.dumps(line).encode() + b"\n"
        with self._mutex:
            end = os.fstat(self._file).st_size
            try:
                if os.write(self._file, data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if sync:
                    os.fsync(self._file)
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, end)
                raise JobError(f"{self.folder / NAME}: cannot be written: {error.strerror}; make room") from None
            self.state.add(line)

    def close(self) -> None:
        """Let other processes have it; idempotent."""
        for descriptor in (self._file, self._lock_file):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock_file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _sync_folder(folder: Path) -> None:
    """Names of new files survive a power failure, where the system can say so."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
