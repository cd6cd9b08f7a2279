"""The models of a server, and the images that go through them."""

import logging
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sr_tile.engines.base import Engine
from sr_tile.engines.precision import LEAST_PSNR
from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError, SrTileError
from sr_tile.export.find_model import open_model
from sr_tile.images import ImageInfo, ImageReader, describe_content, format_by_content, is_written
from sr_tile.images.formats import listed
from sr_tile.models import zoo
from sr_tile.pipeline.image_job import ImageJob, Stats
from sr_tile.pipeline.pipeline import Pipeline
from sr_tile.pipeline.plan_image import result_of
from sr_tile.pipeline.whole_images import WholeImages
from sr_tile.planner import Plan, Settings, make_plan
from sr_tile.planner.tiles import plan_tiles
from sr_tile.serving.http.http_errors import HttpError
from sr_tile.serving.http.limits import Limits
from sr_tile.serving.http.metrics import Metrics
from sr_tile.serving.http.options import Options
from sr_tile.serving.shared_engine import SharedEngine, TileClient
from sr_tile.tiling.grid import TileGrid

log = logging.getLogger("sr_tile")


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
        tiles: that will be done, once the image's header was read; 0 until then.
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
    _client: TileClient | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def abandon(self) -> None:
        """End the work soon: nobody waits for it any more. From any thread."""
        with self._lock:
            self.abandoned = True
            if self._client:
                self._client.close()

    def begin(self, client: TileClient) -> None:
        """Say whose tiles are to leave the queue when the image is abandoned."""
        with self._lock:
            self._client = client
            if self.abandoned:
                client.close()

    @property
    def names(self) -> dict[str, str]:
        """What messages say in place of paths."""
        return {str(self.source): self.name, str(self.folder): "the server's disk"}

    def announce(self, grid: TileGrid) -> None:
        """Say how many tiles there will be."""
        self.tiles = len(grid)

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


@dataclass
class Model:
    """A model that is served."""

    name: str
    shared: SharedEngine
    whole_images: WholeImages = field(default_factory=lambda: WholeImages(None))

    @property
    def engine(self) -> Engine:
        """The first of its engines, for what they have in common."""
        return self.shared.engines[0]

    @property
    def plan(self) -> Plan:
        """Tiles where a request says nothing; smaller ones once the device ran out of memory."""
        return self.shared.plan

    @property
    def scale(self) -> int:
        """Output pixels per input pixel."""
        return self.engine.spec.scale or 1


class ModelPool:
    """Owns the models; runs images in threads of its own.

    Args:
        models: names or paths, or engines by name; the first is the default unless the bundled default is among them.
        device: as for `Enhancer`.
        precision: as for `Enhancer`.
        agreement: as for `Enhancer`.
        settings: of tiles and memory, where a request says nothing.
        limits: of sizes, and of images at a time.
        metrics: where to count.
    """

    def __init__(
        self,
        models: Sequence[str | Path] | dict[str, Engine],
        *,
        device: str = "auto",
        precision: str = "auto",
        agreement: float = LEAST_PSNR,
        settings: Settings | None = None,
        limits: Limits | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.limits, self.metrics = limits or Limits(), metrics or Metrics()
        self.models: dict[str, Model] = {}
        self._wanted, self._settings = models, settings or Settings()
        self._device: Any = {"device": device, "precision": precision, "agreement": agreement}
        self._executor = ThreadPoolExecutor(self.limits.running, "sr-tile image")
        self._loading = threading.Lock()

    def start(self) -> None:
        """Load the models; idempotent.

        Raises:
            ModelLoadError: one of them cannot be used.
            DeviceError: the device cannot be had.
        """
        with self._loading:
            if self.models:
                return
            if isinstance(self._wanted, dict):
                loaded = {name: self._load(name, [engine]) for name, engine in self._wanted.items()}
            else:
                loaded = {}
                for wanted in self._wanted:
                    name = Path(wanted).stem if os.path.isfile(wanted) else str(wanted)
                    if name in loaded:
                        raise ArgumentError(f"two models are called {name}; rename one of the files")
                    loaded[name] = self._load(name, open_model(wanted, **self._device))
            self.models = loaded

    def _load(self, name: str, engines: list[Engine]) -> Model:
        plan = make_plan(engines, self._settings, images_under_way=self.limits.running + 1)
        if not engines[0].uses_host_memory:  # images of many sizes come mixed, and a GPU pays for each change of shape
            plan = replace(plan, equalised=False)
        for engine in engines:
            engine.prepare(plan.batch, plan.tile)
        shared = SharedEngine(engines, plan, max_clients=self.limits.running, on_call=self.metrics.call)
        share = plan.strip_budget
        capacity = None if share is None else share * self.limits.running
        return Model(name, shared.start(), WholeImages(capacity))

    def stop(self, drain: bool = True) -> None:
        """Finish the images under way, or fail them at once, and give the models back."""
        if not drain:
            for model in self.models.values():
                model.shared.stop(drain=False)
        self._executor.shutdown(cancel_futures=not drain)
        for model in self.models.values():
            model.shared.stop()
            if not isinstance(self._wanted, dict):
                for engine in model.shared.engines:
                    engine.close()
        self.models = {}

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The threads that `run` belongs into."""
        return self._executor

    @property
    def queued(self) -> int:
        """Tiles that wait for their model."""
        return sum(model.shared.batcher.depth for model in self.models.values())

    @property
    def default(self) -> str:
        """The model of a request that names none."""
        return zoo.DEFAULT[2] if zoo.DEFAULT[2] in self.models else next(iter(self.models))

    def find(self, options: Options, before: tuple[int, int] | None = None) -> Model:
        """The model that a request means: the one it names, or that reaches its size with the least scale.

        Args:
            options: of the request.
            before: (height, width) of the picture, where it is known.

        Raises:
            HttpError: there is none.
        """
        if not self.models:
            raise HttpError(503, "loading", "the models are being loaded; try again", retry_after=2)
        names = ", ".join(self.models)
        try:
            size = options.target
        except ArgumentError as error:
            raise HttpError(422, "bad_option", str(error)) from None
        if options.model is not None:
            model = self.models.get(options.model) or self.models.get(zoo.OLD_NAMES.get(options.model, ""))
            if model is None:
                raise HttpError(
                    422, "unknown_model", f"model {options.model!r} is not served here; choose from {names}"
                )
            try:
                zoo.check_scale(options.model, model.scale, options.scale)
            except ArgumentError as error:
                raise HttpError(422, "bad_option", str(error)) from None
            return model
        factor = size.factor(*before) if before and options.scale is None else options.scale
        if factor is None:
            return self.models[self.default]
        reaching = [model.scale for model in self.models.values() if model.scale >= factor and model.scale > 1]
        reaching = reaching or [model.scale for model in self.models.values() if model.scale >= factor]
        if not reaching:
            raise HttpError(422, "unknown_model", f"no model served here enlarges by {factor:g}; there are {names}")
        fitting = [name for name, model in self.models.items() if model.scale == min(reaching)]
        preferred = zoo.DEFAULT.get(min(reaching))
        return self.models[preferred if preferred in fitting else fitting[0]]

    def plan(self, model: Model, options: Options) -> Plan:
        """Tiles as the request wants them, in batches that take no more memory than the model's own.

        Raises:
            GeometryError: tile, overlap and halo do not fit together.
            HttpError: the tile is larger than this server allows.
        """
        if options.tile_size is None and options.overlap is None and options.halo is None:
            return model.plan
        if options.tile_size is not None and options.tile_size > self.limits.tile:
            raise HttpError(422, "bad_option", f"tile_size is at most {self.limits.tile} here")
        explicit = options.settings
        wanted = replace(
            self._settings,
            tile=self._settings.tile if explicit.tile == "auto" else explicit.tile,
            overlap=self._settings.overlap if explicit.overlap == "auto" else explicit.overlap,
            halo=self._settings.halo if explicit.halo is None else explicit.halo,
        )
        own, engine = model.plan, model.engine
        plan = replace(plan_tiles(engine.spec, wanted), strip_budget=own.strip_budget, costs=own.costs)
        if options.tile_size is None:
            sides = tuple(side for side in plan.sides if side in own.sides)
            return replace(plan, tile=own.tile, batch=own.batch, equalised=own.equalised, sides=sides)
        batch = engine.spec.fixed_batch or max(1, own.batch * math.prod(own.tile) // math.prod(plan.tile))
        return replace(plan, batch=batch, equalised=plan.equalised and engine.uses_host_memory, sides=())

    def check(self, task: ImageRequest) -> tuple[str, ImageInfo]:
        """(format of the upload, its header), refused where they break a limit; nothing is decoded.

        Raises:
            HttpError: another format, or too large.
            ImageReadError: the header is damaged, or of a kind that is not supported.
        """
        with task.source.open("rb") as file:
            head = file.read(64)
        kind = format_by_content(head)
        if kind is None:
            known = describe_content(head)
            what = f"is {f'{known}, ' if known else ''}no {listed()}" if head else "is empty"
            raise HttpError(415, "unknown_format", f"{task.name}: {what}; convert it first")
        with ImageReader(task.source) as reader:
            info = reader.info
        self.limits.check_header(info, task.name)
        return kind if is_written(kind) else "png", info

    def run(self, task: ImageRequest) -> Done:
        """Do one image; call it in a thread of `executor`.

        The file is what `sr-tile enhance` would write.

        Raises:
            HttpError: the request breaks a limit.
            SrTileError: the image, its options or the model are at fault.
        """
        with self.metrics.image() as watch:
            kind, info = self.check(task)
            model = self.find(task.options, (info.height, info.width))
            kind = task.options.format or kind
            plan = self.plan(model, task.options)
            target = task.folder / f"result.{kind}"
            job = Enhancer.image_job(task.source, target, overwrite=True, options=task.options.write_options(kind))
            job = replace(job, on_grid=task.announce)
            with model.shared.client(task.name) as engine:
                task.begin(engine)
                pipeline = Pipeline(
                    engine,
                    plan,
                    alpha=task.options.alpha,
                    size=task.options.target,
                    decoders=1,
                    encoders=1,
                    on_progress=task.count,
                )
                pipeline.whole_images = model.whole_images
                for outcome in pipeline.run([job]):
                    if outcome.error:
                        raise outcome.error
            stats = pipeline.stats()
            watch.count(stats, task.tiles, info.pixels)
        after = result_of(info, model.scale, task.options.target).result
        return Done(target, kind, (info.height, info.width), (after.height, after.width), stats)
