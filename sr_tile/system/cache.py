"""The user's cache folder: what may be deleted at any time and is then measured, pulled or exported again."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sr_tile.system.atomic_file import atomic_write

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
    """What `read` makes of a file; None where there is none, or it was damaged: then it is measured and written anew."""
    try:
        return read(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None


def remember(path: Path, text: str) -> None:
    """Keep what was measured; a cache that cannot be written is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        log.debug("what was measured is not remembered: %s", error)
