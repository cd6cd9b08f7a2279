"""One picture of several while it is written: a part file of its own, which goes into the whole one and then disappears."""

import os
import weakref
from collections.abc import Callable
from pathlib import Path

from sr_tile.images.formats import ImageInfo
from sr_tile.system.part_file import create_part, remove_part


class FramePart:
    """See `UnfinishedFile`.

    Args:
        target: beside which it lies.
        info: of the picture.
        hand_on: called when it is whole; `remove` is its business then.

    Raises:
        OSError: the folder is full, or may not be written.
    """

    def __init__(self, target: Path, info: ImageInfo, hand_on: Callable[["FramePart"], None]) -> None:
        self.path, self.descriptor = create_part(target)
        self.info, self._hand_on, self._committed = info, hand_on, False
        self._close = weakref.finalize(self, os.close, self.descriptor)

    def commit(self) -> None:
        """The picture is whole."""
        self._committed = True
        self._hand_on(self)

    def discard(self) -> None:
        """See `UnfinishedFile.discard`."""
        if not self._committed:
            self.remove()

    def remove(self) -> None:
        """It is not needed any more; idempotent."""
        remove_part(self.path)
        self._close()
