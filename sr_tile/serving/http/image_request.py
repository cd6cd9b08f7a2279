"""One image on its way through the server, and what became of it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sr_tile.errors import SrTileError
from sr_tile.pipeline.image_job import ImageJob, Stats
from sr_tile.serving.http.options import Options
from sr_tile.serving.shared_engine import TileClient
from sr_tile.tiling.grid import TileGrid


class Abandoned(SrTileError):  # noqa: N818  # nobody sees it
    """Nobody waits for this image any more."""


@dataclass(eq=False)
class ImageRequest:
    """One image on its way through the server.

    Attributes:
        source: the upload.
        folder: where the result goes.
        name: how the client calls the image.
        options: what the client asks for.
        tiles: that will be done by all models in turn, once the image's header was read; 0 until then.
        tiles_done: of these.
        on_tile: called from a thread of the pipeline after each tile.
    """

    source: Path
    folder: Path
    name: str = "image"
    options: Options = field(default_factory=lambda: Options.model_validate({}))
    tiles: int = 0
    tiles_done: int = 0
    on_tile: Callable[[], None] = lambda: None
    abandoned: bool = field(default=False, init=False)
    later: int = field(default=0, init=False)
    _clients: list[TileClient] = field(default_factory=list, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def abandon(self) -> None:
        """End the work soon: nobody waits for it any more. From any thread."""
        with self._lock:
            self.abandoned = True
            for client in self._clients:
                client.close()

    def begin(self, client: TileClient) -> None:
        """Say whose tiles are to leave the queue when the image is abandoned."""
        with self._lock:
            self._clients.append(client)
            if self.abandoned:
                client.close()

    @property
    def names(self) -> dict[str, str]:
        """What messages say in place of paths."""
        return {str(self.source): self.name, str(self.folder): "the server's disk"}

    def announce(self, grid: TileGrid) -> None:
        """Say how many tiles the first model does; `later` are those of further ones."""
        self.tiles = len(grid) + self.later

    def count(self, job: ImageJob, pixels: int) -> None:
        """Count a tile; pixels below 0 say that the image starts again.

        Raises:
            Abandoned: the image is not wanted any more.
        """
        if pixels <= 0:
            self.tiles_done = 0
            return
        if self.abandoned:
            raise Abandoned(f"{job.name}: abandoned")
        self.tiles_done += 1
        self.on_tile()


@dataclass(frozen=True)
class Done:
    """A finished image: its file, format, size before and after, and what each stage took."""

    path: Path
    format: str
    before: tuple[int, int]
    after: tuple[int, int]
    stats: Stats
