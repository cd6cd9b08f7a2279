"""The models of a server, and the images that go through them."""

import functools
import logging
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sr_tile.engines.base import Engine
from sr_tile.engines.precision import LEAST_PSNR
from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError, SrTileError
from sr_tile.export.find_model import open_model
from sr_tile.images import ImageInfo, ImageReader, describe_content, format_by_content, is_written
from sr_tile.images.camera_files import unread
from sr_tile.images.content_type import READ_ONLY
from sr_tile.images.edges import parse_edges
from sr_tile.images.formats import FILES, listed
from sr_tile.models import zoo
from sr_tile.models.spec import ModelSpec
from sr_tile.pipeline.chain import run_chain
from sr_tile.pipeline.image_job import ImageJob, Stats
from sr_tile.pipeline.pipeline import Pipeline
from sr_tile.pipeline.plan_image import result_of, tile_grid_for
from sr_tile.pipeline.whole_images import WholeImages
from sr_tile.planner import Plan, Settings, make_plan
from sr_tile.planner.tiles import plan_tiles
from sr_tile.serving.http.http_errors import HttpError
from sr_tile.serving.http.limits import Limits
from sr_tile.serving.http.metrics import Metrics
from sr_tile.serving.http.options import Options
from sr_tile.serving.shared_engine import SharedEngine, TileClient
from sr_tile.tiling.channels import Alpha
from sr_tile.tiling.grid import TileGrid

log = logging.getLogger("sr_tile")

_MOST_STEPS = 4  # models in turn


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
        plan = make_plan(engines, self._settings, images_in_flight=self.limits.running + 1)
        if not engines[0].uses_host_memory:  # images of many sizes come mixed, and a GPU pays for each change of shape
            plan = replace(plan, equalised=False)
        for engine in engines:
            engine.prepare(plan.batch, plan.tile)
        clients = self.limits.running * _MOST_STEPS
        shared = SharedEngine(engines, plan, max_clients=clients, on_call=self.metrics.call)
        share = plan.strip_budget
        capacity = None if share is None else share * (self.limits.running + 1)
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

    def find(self, options: Options, before: tuple[int, int] | None = None) -> list[Model]:
        """The models that a request means, in turn: those it names, or that reach its size with the least scale.

        Args:
            options: of the request.
            before: (height, width) of the picture, where it is known.

        Raises:
            HttpError: there are none.
        """
        if not self.models:
            raise HttpError(503, "loading", "the models are being loaded; try again", retry_after=2)
        try:
            size, named = options.target, options.model
            if named is None:
                factor = size.factor(*before) if before and size.scale is None else size.scale
                steps = [self.models[self.default]] if factor is None else self._reaching(factor)
            else:
                steps = [self._named(name.strip()) for name in named.split(",")]
                zoo.check_scale(named, math.prod(model.scale for model in steps), size.scale)
            options.adjustment.of(steps[-1].engine)
        except ArgumentError as error:
            raise HttpError(422, "bad_option", str(error)) from None
        if len(steps) > _MOST_STEPS:
            raise HttpError(422, "bad_option", f"model: {len(steps)} in turn, and {_MOST_STEPS} are the most here")
        if options.edges and len(steps) > 1:
            raise HttpError(422, "bad_option", "edges go with one model, not with a chain; leave one of them out")
        for model in steps:
            if options.precision == "fp32" and model.engine.bound is None and model.engine.precision != "fp32":
                what = f"{model.name} runs in {model.engine.precision} on this server"
                raise HttpError(422, "bad_option", f"precision: {what}; leave precision out")
        return steps

    def _named(self, name: str) -> Model:
        model = self.models.get(name) or self.models.get(zoo.OLD_NAMES.get(name, ""))
        if model is None:
            known = ", ".join(self.models)
            raise HttpError(422, "unknown_model", f"model {name!r} is not served here; choose from {known}")
        return model

    def _reaching(self, factor: float, preferred: dict[int, str] = zoo.DEFAULT) -> list[Model]:
        """The model of the least scale that is not below a factor, or the largest and one behind it."""
        scales = {model.scale for model in self.models.values()}
        most = max(scales)
        if most < factor <= most**2:
            return [*self._reaching(most, preferred), *self._reaching(factor / most, zoo.CLEAN)]
        reaching = [scale for scale in scales if scale >= factor and scale > 1] or [
            scale for scale in scales if scale >= factor
        ]
        if not reaching:
            known = ", ".join(self.models)
            raise HttpError(422, "unknown_model", f"no model served here enlarges by {factor:g}; there are {known}")
        fitting = [name for name, model in self.models.items() if model.scale == min(reaching)]
        name = preferred.get(min(reaching))
        return [self.models[name if name in fitting else fitting[0]]]

    def plan(self, model: Model, options: Options, spec: ModelSpec) -> Plan:
        """Tiles as the request wants them, in batches that take no more memory than the model's own.

        Args:
            model: whose engine runs them.
            options: of the request.
            spec: of the engine with what is done around it.

        Raises:
            GeometryError: tile, overlap and halo do not fit together.
            HttpError: the tile is larger than this server allows.
        """
        own, engine = model.plan, model.engine
        if options.settings == Settings() and spec.halo == engine.spec.halo:
            return own
        if options.tile_size is not None and options.tile_size > self.limits.tile:
            raise HttpError(422, "bad_option", f"tile_size is at most {self.limits.tile} here")
        explicit = options.settings
        wanted = replace(
            self._settings,
            tile=self._settings.tile if explicit.tile == "auto" else explicit.tile,
            overlap=self._settings.overlap if explicit.overlap == "auto" else explicit.overlap,
            halo=self._settings.halo if explicit.halo is None else explicit.halo,
        )
        plan = replace(plan_tiles(spec, wanted), strip_budget=own.strip_budget, costs=own.costs)
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
        if kind not in received():
            known = kind.upper() if kind else describe_content(head)
            what = f"is {f'{known}, ' if known else ''}no {listed(FILES)}; convert it first" if head else "is empty"
            raise HttpError(415, "unknown_format", f"{task.name}: {what}")
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
        with self.metrics.image() as watch, ExitStack() as stack:
            kind, info = self.check(task)
            options = task.options
            steps = self.find(options, (info.height, info.width))
            kind = options.format or kind
            target = task.folder / f"result.{kind}"
            job = Enhancer.image_job(task.source, target, overwrite=True, options=options.write_options(kind))
            job = replace(job, on_grid=task.announce)
            pipelines = [self._pipeline(task, steps, number, stack) for number in range(len(steps))]
            task.later = _tiles_of(pipelines[1:], options.alpha, info, steps[0].scale)
            first, *others = [pipeline.run for pipeline in pipelines]
            for outcome in functools.reduce(lambda one, other: functools.partial(run_chain, one, other), others, first)(
                [job]
            ):
                if outcome.error:
                    raise outcome.error
            stats = pipelines[-1].stats()
            watch.count(stats, task.tiles, info.pixels)
        after = result_of(info, math.prod(model.scale for model in steps), options.target).result
        return Done(target, kind, (info.height, info.width), (after.height, after.width), stats)

    def _pipeline(self, task: ImageRequest, steps: list[Model], number: int, stack: ExitStack) -> Pipeline:
        """One of the models in turn; what is asked for beside them is done with the last."""
        model, options, is_last = steps[number], task.options, number == len(steps) - 1
        client = stack.enter_context(model.shared.client(task.name, exact=options.precision == "fp32"))
        task.begin(client)
        engine = options.adjustment.of(client) if is_last else client
        pipeline = Pipeline(
            engine,
            self.plan(model, options, engine.spec),
            alpha=options.alpha,
            size=options.target.behind(math.prod(step.scale for step in steps[:-1])) if is_last else None,
            edges=parse_edges(options.edges) if options.edges else None,
            decoders=1,
            encoders=1,
            on_progress=task.count,
        )
        pipeline.whole_images = model.whole_images
        return pipeline


def _tiles_of(pipelines: Sequence[Pipeline], alpha: Alpha, info: ImageInfo, scale: int) -> int:
    """How many tiles further models do, whose input is `scale` times as large as the image."""
    tiles = 0
    for pipeline in pipelines:
        own = pipeline.spec.scale or 1
        enlarged = info.resized(info.height * scale, info.width * scale)
        tiles += len(tile_grid_for(pipeline.plan, enlarged, own, alpha))
        scale *= own
    return tiles


def received() -> dict[str, tuple[str, ...]]:
    """Formats that are taken here, with their suffixes: those known by their first bytes, if what reads them is there."""
    kinds = {**{name: kind.suffixes for name, kind in FILES.items()}, **READ_ONLY}
    return {name: suffixes for name, suffixes in kinds.items() if name not in {"tga", *unread()}}
