"""Files that appear complete or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sr_tile.system.part_file import CLOSED_FIRST, create_part, remove_part


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """A new file in the folder of `target` that takes its name when the block ends well, and is removed when it fails.

    Whoever reads `target` meanwhile sees the old file or none, and two writers never share a file aside.

    Args:
        target: the name; replaced if it exists.

    Raises:
        OSError: the folder is missing, full or may not be written.
    """
    temporary, descriptor = create_part(target)
    try:
        yield temporary
        if CLOSED_FIRST:
            os.close(descriptor)
            descriptor = -1
        temporary.replace(target)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
        remove_part(temporary)
