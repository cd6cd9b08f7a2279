"""Files that appear complete or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sr_tile.system import stopping


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """A new file in the folder of `target` that takes its name when the block ends well, and is removed when it fails.

    Whoever reads `target` meanwhile sees the old file or none, and two writers never share a file aside.

    Args:
        target: the name; replaced if it exists.

    Raises:
        OSError: the folder is missing, full or may not be written.
    """
    with stopping.making() as unfinished:
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:80]}.", suffix=".part", dir=target.parent)
        temporary = Path(name)
        unfinished.add(temporary)
    os.close(handle)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp's files are for the owner alone
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
        stopping.keep(temporary)
