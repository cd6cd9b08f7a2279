"""A file put together from pieces of another one and of new bytes, which libvips reads without a copy of it."""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sr_tile.images.vips import vips


@dataclass(frozen=True)
class Piece:
    """`size` bytes of the file from `start` on, or the bytes of `data`."""

    start: int = 0
    size: int = 0
    data: bytes | None = None

    def __len__(self) -> int:
        return self.size if self.data is None else len(self.data)


class VirtualFile:
    """Pieces one after the other, as `vips()` reads them; the real file stays open as long as this lives."""

    def __init__(self, path: Path, pieces: Sequence[Piece]) -> None:
        self._file = path.open("rb", buffering=0)
        self._pieces, self._position, self._lock = [piece for piece in pieces if len(piece)], 0, threading.Lock()
        self._size = sum(len(piece) for piece in self._pieces)

    def source(self) -> Any:
        """A source for libvips' loaders; it must live as long as the image made of it."""
        source = vips().SourceCustom()
        source.on_read(self.read)
        source.on_seek(self.seek)
        return source

    def read(self, size: int) -> bytes | None:
        """The next bytes, as many as one piece has; None at the end."""
        with self._lock:
            start = self._position
            for piece in self._pieces:
                if start < len(piece):
                    break
                start -= len(piece)
            else:
                return None
            if piece.data is not None:
                part = piece.data[start : start + size]
            else:
                self._file.seek(piece.start + start)
                part = self._file.read(min(size, len(piece) - start))
            self._position += len(part)
            return part or None

    def seek(self, offset: int, whence: int) -> int:
        """Go elsewhere; as `io.seek`, -1 where that is before the start."""
        with self._lock:
            base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
            if base + offset < 0:
                return -1
            self._position = base + offset
            return self._position
