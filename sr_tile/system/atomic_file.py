"""Files that appear complete or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sr_tile.system.part_file import CLOSED_FIRST, check_replaceable, create_part, keep_owner_and_mode, remove_part


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """A new file in the folder of `target` that takes its name when the block ends well, and is removed when it fails.

    Whoever reads `target` meanwhile sees the old file or none, and two writers never share a file aside.

    Args:
        target: the name; a file that has it is replaced, and its mode and owner are kept.

    Raises:
        OSError: the folder is missing, full or may not be written, or the target is a folder, device, pipe or socket.
    """
    target = Path(os.path.realpath(target))  # writes through a link, as open() does
    check_replaceable(target)
    temporary, descriptor = create_part(target)
    try:
        yield temporary
        keep_owner_and_mode(descriptor, target)
        if CLOSED_FIRST:
            os.close(descriptor)
            descriptor = -1
        temporary.replace(target)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
        remove_part(temporary)
