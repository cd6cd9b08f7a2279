"""Loads the models of a server, and runs images through them."""

import functools
import logging
import math
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from sr_tile.engines.base import Engine
from sr_tile.engines.precision import LEAST_PSNR
from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError
from sr_tile.export.find_model import open_model
from sr_tile.images import ImageInfo, ImageReader, describe_content, format_by_content, is_written
from sr_tile.images.camera_files import unread
from sr_tile.images.content_type import READ_ONLY
from sr_tile.images.edges import parse_edges
from sr_tile.images.formats import FILES, listed
from sr_tile.models.spec import ModelSpec
from sr_tile.pipeline.chain import run_chain
from sr_tile.pipeline.pipeline import Pipeline
from sr_tile.pipeline.plan_image import result_of, tile_grid_for
from sr_tile.pipeline.whole_images import WholeImages
from sr_tile.planner import Plan, Settings, make_plan
from sr_tile.planner.tiles import plan_tiles
from sr_tile.serving.http.http_errors import HttpError
from sr_tile.serving.http.image_request import Done, ImageRequest
from sr_tile.serving.http.limits import Limits
from sr_tile.serving.http.metrics import Metrics
from sr_tile.serving.http.options import Options
from sr_tile.serving.http.served_models import MOST_STEPS, Model, ServedModels
from sr_tile.serving.shared_engine import SharedEngine
from sr_tile.tiling.channels import Alpha

log = logging.getLogger("sr_tile")


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
        self.models = ServedModels()
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
            self.models = ServedModels(loaded)

    def _load(self, name: str, engines: list[Engine]) -> Model:
        plan = make_plan(engines, self._settings, images_in_flight=self.limits.running + 1)
        if not engines[0].uses_host_memory:  # images of many sizes come mixed, and a GPU pays for each change of shape
            plan = replace(plan, equalised=False)
        for engine in engines:
            engine.prepare(plan.batch, plan.tile)
        clients = self.limits.running * MOST_STEPS
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
        self.models = ServedModels()

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The threads that `run` belongs into."""
        return self._executor

    @property
    def queued(self) -> int:
        """Tiles that wait for their model."""
        return sum(model.shared.batcher.depth for model in self.models.values())

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
        plan = replace(
            plan_tiles(spec, wanted), strip_budget=own.strip_budget, costs=own.costs, width_step=own.width_step
        )
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
            steps = self.models.find(options, (info.height, info.width))
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
