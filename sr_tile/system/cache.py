"""The user's cache folder: what may be deleted at any time and is then measured, pulled or exported again.

What was measured is kept with a checksum over it and the name of its file: a disk, an editor or a copy under another name
makes files that are complete and wrong, and nothing else would tell.
"""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sr_tile.system.atomic_file import atomic_write
from sr_tile.system.folders import make_folders

log = logging.getLogger("sr_tile")

Found = TypeVar("Found")


def cache_folder(*names: str) -> Path:
    """A folder inside the cache of sr-tile; it need not exist.

    Args:
        names: `models`, `costs`, ...
    """
    import platformdirs

    return Path(platformdirs.user_cache_dir("sr-tile", appauthor=False), *names)


def measured_file(folder: Path, *facts: object) -> Path:
    """The file of what was measured under these facts: another one where any of them differs."""
    return folder / f"{hashlib.sha256(chr(10).join(map(str, facts)).encode()).hexdigest()[:32]}.json"


def recall(path: Path, read: Callable[[str], Found]) -> Found | None:
    """What `read` makes of what was kept in a file; None where there is none, or it is not what `remember` wrote there.

    Then it is measured and written anew.
    """
    try:
        if not path.is_file():
            return None
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["sha256"] != _checksum(path, kept["content"]):
            raise ValueError("changed since it was written")
        return read(kept["content"])
    except (OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        log.debug("%s is measured anew: %s", path, error)
        return None


def remember(path: Path, text: str) -> None:
    """Keep what was measured; a cache that cannot be written is no error."""
    try:
        make_folders(path.parent)
        with atomic_write(path) as temporary:
            content = json.dumps({"sha256": _checksum(path, text), "content": text})
            temporary.write_text(content, encoding="utf-8")
    except OSError as error:
        log.debug("what was measured is not remembered: %s", error)


def _checksum(path: Path, text: str) -> str:
    return hashlib.sha256(json.dumps([path.name, text]).encode()).hexdigest()
