"""Memory for images that their library takes as a whole: WebP, AVIF, GIF, and interlaced, progressive and turned ones."""

import threading
from collections.abc import Callable

from sr_tile.errors import OutOfMemoryError
from sr_tile.system import memory

_STEP_SECONDS = 0.2  # between looks at whether an image that waits is still wanted

Token = tuple[object, int]
"""A run of images, and the place of one among them."""


class WholeImages:
    """Lets images wait until those before them have given back what they take; any number of runs may share it.

    Args:
        capacity: bytes for all of them together; None for no bound.
    """

    def __init__(self, capacity: float | None) -> None:
        self.capacity = capacity
        self._held: dict[Token, int] = {}
        self._changed = threading.Condition()

    def reserve(self, token: Token, name: str, size: int, is_wanted: Callable[[], bool], writing: int = 0) -> bool:
        """Wait for room; `release` gives it back.

        Images of one run go on in their order, so one never waits for those behind it.

        Args:
            token: of the image.
            name: what messages call it.
            size: bytes that decoding, its rows and encoding take; 0 waits for nothing.
            is_wanted: whether to go on waiting.
            writing: of these, what rows and encoding take.

        Returns:
            False where it is not wanted any more.

        Raises:
            OutOfMemoryError: there never will be room.
        """
        if self.capacity is None or not size:
            return True
        if size > self.capacity:
            what = "the format of its result is encoded" if 2 * writing > size else "its format is decoded"
            streaming = "write" if 2 * writing > size else "convert it to"
            kinds = "PNG, JPEG or TIFF" + (
                "" if 2 * writing > size else " that is not interlaced, progressive or turned"
            )
            raise OutOfMemoryError(
                f"{name}: {what} as a whole, which takes about {memory.format_size(size)}, and "
                f"{memory.format_size(max(0.0, self.capacity))} are left for that; give it more memory (--mem-limit), or "
                f"{streaming} a {kinds}"
            )
        with self._changed:
            while sum(self._before(token)) + size > self.capacity:
                if not is_wanted():
                    return False
                self._changed.wait(_STEP_SECONDS)
            self._held[token] = size
        return True

    def release(self, token: Token, keep: int = 0) -> None:
        """Give back what an image took, all but `keep` bytes; harmless where it took nothing."""
        with self._changed:
            if (held := self._held.pop(token, 0)) and keep:
                self._held[token] = min(held, keep)
            self._changed.notify_all()

    def _before(self, token: Token) -> list[int]:
        run, index = token
        return [size for (other, place), size in self._held.items() if other is not run or place < index]
