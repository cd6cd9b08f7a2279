"""The public Python face: `Enhancer` restores or enlarges arrays, lists of arrays, and files."""

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from sr_tile.engines.base import Engine
from sr_tile.engines.precision import LEAST_PSNR
from sr_tile.engines.strength_grain_tta import Adjustment
from sr_tile.engines.warm_up import warm_up
from sr_tile.errors import ArgumentError, DeviceError, OutOfMemoryError, SrTileError
from sr_tile.export.find_model import Model, models_reaching, open_model, steps_of
from sr_tile.images import ImageReader, ImageWriter, TargetSize, WriteOptions
from sr_tile.images.arrays import ArraySink, ArraySource, as_array, is_pil, is_tensor, like
from sr_tile.images.edges import Edges, parse_edges
from sr_tile.images.frames.excerpt import Excerpt
from sr_tile.images.frames.open_frames import open_frame_writer, open_frames_for
from sr_tile.images.rows import CroppingSource
from sr_tile.models import zoo
from sr_tile.pipeline.chain import run_chain
from sr_tile.pipeline.frame_files import FrameFile, each_file, failing_job
from sr_tile.pipeline.image_job import ImageJob, Outcome, Stats
from sr_tile.pipeline.pipeline import Pipeline
from sr_tile.pipeline.thread_pool import workers_beside
from sr_tile.planner import Auto, Plan, Settings, make_plan
from sr_tile.planner.exact_pooling import exact_precision, pooling_exactly
from sr_tile.tiling.channels import Alpha
from sr_tile.types import Array, Pixels

if TYPE_CHECKING:
    from PIL import Image


class Enhancer:
    """A model on a device, ready to enhance any number of images of any size.

    >>> with Enhancer("clean-x2") as enhancer:  # doctest: +SKIP
    ...     large = enhancer.enhance(image)

    Any number of threads may call `enhance`, `enhance_batch`, `enhance_file` and `run` at the same time. They take turns at
    the engines, and each call fills its own batches: one call with many images is faster than many with one. What one call
    learns of the device's memory holds for later ones. `warm_up`, `use_plan` and `close` belong before and after. A process
    that is forked makes an Enhancer of its own; `serving.SharedEngine` lets the tiles of many callers share batches.

    Args:
        model: path of an ONNX file, name of a bundled model, an `Engine`, or several engines of one model, which work
            side by side; None is the bundled model for `scale`. Several names, also as `denoise,photo-x2`, are a chain: one
            after the other over each picture.
        scale: of the results, any number above 0. Where `model` is None it chooses the least bundled model, or two in
            turn, that reach it; a model that is named and does not reach it runs twice. What is too large then is
            reduced (Lanczos).
        size: of the results in another way than by `scale`, see `TargetSize`. Where `model` is None, the bundled model that
            enlarges most is taken, for the sizes of the pictures are not known yet. A picture that is to become smaller is
            reduced, and an enlarging network does not see it.
        device: `auto`, `cpu`, `openvino`, `cuda`, `cuda:1`, `tensorrt`, `directml`, `coreml`; several work side by
            side, as in `cuda:0,cuda:1`, and should be about as fast as each other. Only `auto` falls back.
        precision: `fp32`, `bf16`, `fp16` or `int8`, or an error where the device has not got it. `auto` takes float32 for
            results of 16 bits and floats, and for those of 8 bits the fewest bits whose agreement with float32 is
            measured to be as good as `agreement`, on built-in pictures and on the first tiles of each image.
        agreement: dB from float32 that `auto` keeps at least.
        settings: tile, overlap, halo, batch and memory; `auto` where nothing is said.
        batch_size: rows a call, in place of `settings.batch`.
        edges: how pictures go on beyond their borders: `wrap` (seamless textures), `wrap-x`, `wrap-y`, `mirror` or
            `replicate`; None leaves it to the network. Not in a chain.
        adjustment: what is done to the network's results, see `Adjustment`.
        expected_pixels: of all images to come, as far as is known. Where that pays for it, and nothing is remembered
            of the model on this device, some calls are measured first; tiles and batch are what was fastest.
        alpha: `bicubic` enlarges an alpha channel by interpolation, `model` runs it through the model.
        warmup: `off`, `zeros` or `random`: run once before the first image, as `warm_up` does.
        decoders: files read at the same time; None leaves it to the machine and the engine, see `workers_beside`.
        encoders: files written at the same time; None likewise.
        on_progress: called with (job, input pixels just finished), from another thread.
        max_in_flight: images in the pipeline at the same time; None leaves it to decoders, encoders and batch.

    Raises:
        ModelLoadError: no such model, or not one that sr-tile can run.
        DeviceError: the device cannot be had.
        ArgumentError: a setting is out of its range.
    """

    def __init__(  # noqa: PLR0913  # options by keyword, each with a default
        self,
        model: Model | Sequence[Model] | None = None,
        *,
        scale: float | None = None,
        size: TargetSize | None = None,
        device: str = "auto",
        precision: str = "auto",
        agreement: float = LEAST_PSNR,
        settings: Settings | None = None,
        batch_size: int | Auto | None = None,
        expected_pixels: int | None = None,
        alpha: Alpha = "bicubic",
        edges: str | None = None,
        adjustment: Adjustment | None = None,
        warmup: str = "off",
        decoders: int | None = None,
        encoders: int | None = None,
        on_progress: Callable[[ImageJob, int], None] | None = None,
        max_in_flight: int | None = None,
    ) -> None:
        size, settings, steps = TargetSize.of_scale(scale, size), settings or Settings(), steps_of(model)
        if model is None or steps:
            steps = models_reaching(steps, size.scale or (max(zoo.DEFAULT) if size.is_explicit and not steps else None))
        counts = {"decoders": decoders, "encoders": encoders, "max_in_flight": max_in_flight}
        continued = _check(alpha, counts, edges, len(steps) > 1 or settings.exact_pooling)
        settings = settings if batch_size is None else replace(settings, batch=batch_size)
        precision = exact_precision(precision) if settings.exact_pooling else precision
        opening: Any = {"device": device, "precision": precision, "agreement": agreement}
        self._before: Enhancer | None = None
        if len(steps) > 1:
            settings = settings.shared_by(len(steps))
            common: Any = {"alpha": alpha, "decoders": decoders, "on_progress": on_progress, **opening}
            self._before = Enhancer(steps[:-1], settings=settings, **common)
            size, on_progress = size.behind(self._before.scale), None
        self._process, self._owned = os.getpid(), bool(steps)
        opening["expected_pixels"] = expected_pixels
        self.engines: list[Engine] = open_model(steps[-1], **opening) if steps else _open_already(model)
        try:
            usual = workers_beside(self.engines, is_bounded=settings.mem_limit is not None)
            decoders, encoders = decoders or usual, encoders or usual
            planning: Any = {"images_in_flight": decoders + 1, "expected_pixels": expected_pixels}
            self.engines, plan = _planned(self.engines, settings, adjustment or Adjustment(), size, planning)
        except SrTileError:
            self.close()
            raise
        for engine in self.engines:
            engine.prepare(plan.batch, plan.tile)
        self._pipeline = Pipeline(
            self.engines,
            plan,
            alpha=alpha,
            size=size,
            edges=continued,
            decoders=decoders,
            encoders=encoders,
            on_progress=on_progress,
            max_in_flight=max_in_flight,
        )
        self.warm_up(warmup)

    def warm_up(self, kind: str = "zeros", image_size: tuple[int, int] | None = None) -> None:
        """Run the model at the real shapes, so that the first image takes no longer than the others.

        Args:
            kind: `zeros` or `random` pixels; `off` does nothing.
            image_size: (height, width) of the images to come; None takes one full batch of the largest tile.

        Raises:
            ArgumentError: another kind.
            OutOfMemoryError: not even the smallest tile fits.
        """
        if self._before:
            self._before.warm_up(kind, image_size)
            image_size = image_size and (image_size[0] * self._before.scale, image_size[1] * self._before.scale)
        for engine in self.engines:
            while True:
                plan = self._pipeline.plan
                try:
                    warm_up(engine, kind, plan.calls(image_size))
                    break
                except OutOfMemoryError:
                    engine.rebuild()
                    self._pipeline.plan = replace(plan, batch=plan.batch // 2) if plan.batch > 1 else plan.smaller()

    def __enter__(self) -> "Enhancer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back sessions and their memory; engines that were passed in stay open."""
        if self._before:
            self._before.close()
        if self._owned:
            for engine in self.engines:
                engine.close()

    @property
    def engine(self) -> Engine:
        """The first of the engines, where one is as good as another."""
        return self.engines[0]

    @property
    def scale(self) -> int:
        """Output pixels per input pixel in each direction, of all models: results may be reduced from there."""
        return (self.engine.spec.scale or 1) * (self._before.scale if self._before else 1)

    @property
    def plan(self) -> Plan:
        """Tiles and batch in use."""
        return self._pipeline.plan

    def use_plan(self, plan: Plan) -> None:
        """Cut as `plan` does, whatever memory there is now: the same tiles on the same device give the same bytes."""
        self._pipeline.plan = plan

    @property
    def device(self) -> str:
        """Where it runs, as a user would ask for it: several with commas between."""
        return ",".join(engine.device for engine in self.engines)

    @property
    def stats(self) -> Stats:
        """Figures of all calls so far, of all threads; `reset_stats` begins anew."""
        return self._pipeline.stats()

    def reset_stats(self) -> None:
        """Count from here on.

        Raises:
            ArgumentError: a call is under way.
        """
        self._pipeline.reset_stats()

    @overload
    def enhance(self, image: "Image.Image") -> "Image.Image": ...
    @overload
    def enhance(self, image: Pixels[Array, "H W *C"]) -> np.ndarray: ...
    def enhance(self, image: Any) -> Any:
        """Enhance one image.

        Args:
            image: (H, W, C) or (H, W), uint8, uint16, or float32 of range [0, 1]; C = 1 gray, 2 gray and alpha, 3 RGB,
                4 RGBA. Or a PIL image, a PyTorch tensor, (C, H, W) or (H, W), or the bytes of a file.

        Returns:
            (H * scale, W * scale, C), or (H * scale, W * scale) for a plane, or the size that was asked for, of the same
            number type, values clipped to its range and rounded half to even; or a PIL image (for bytes, too), or a tensor.

        Raises:
            ArgumentError: another type, number type or shape.
            ModelOutputError: the model failed or returned NaN.
            OutOfMemoryError: not even the smallest tile fits.
        """
        return self._enhance_all([image], ["image"])[0]

    def enhance_batch(self, images: Iterable[Any]) -> list[Any]:
        """Enhance a list of images, of any sizes and kinds; their tiles share batches.

        Args:
            images: each as for `enhance`.

        Returns:
            One result an image, in the same order, each what `enhance` gives for that image alone; `[]` for `[]`.

        Raises:
            ArgumentError: one of them is no image; nothing was computed then.
        """
        if isinstance(images, np.ndarray | bytes | bytearray) or is_pil(images) or is_tensor(images):
            raise ArgumentError("images is one image; enhance_batch takes a list of images, enhance takes one")
        images = list(images)
        return self._enhance_all(images, [f"images[{index}]" for index in range(len(images))])

    def enhance_file(
        self,
        source: Path | str,
        target: Path | str,
        *,
        overwrite: bool = False,
        options: WriteOptions | None = None,
        excerpt: Excerpt | None = None,
    ) -> None:
        """Enhance a file into another one; memory follows the image's width, not its size nor the number of its pages.

        Args:
            source: PNG, JPEG, TIFF, WebP or AVIF, of one picture or several.
            target: its suffix says the format.
            overwrite: replace an existing target.
            options: quality and compression of the target.
            excerpt: which pages or frames, or which part of a film, of the source; None for all.

        Raises:
            ImageReadError: the source is missing, corrupt or truncated.
            ImageWriteError: the target exists, its folder has no room, or its format cannot hold the image.
        """
        job = self.file_job(source, target, overwrite=overwrite, options=options, excerpt=excerpt)
        for outcome in each_file(self.run, [job]):
            if outcome.error:
                raise outcome.error

    def run(self, jobs: Iterable[ImageJob]) -> Iterator[Outcome]:
        """Do many jobs; outcomes come as they are ready, and a failed job never stops the others.

        See `Pipeline.run`; `image_job` makes jobs.

        Raises:
            DeviceError: this process was forked from the one in which the enhancer was made.
        """
        if os.getpid() != self._process:
            raise DeviceError(
                "this Enhancer was made in another process: after a fork the threads of its runtime do not exist, and a "
                "call would wait for them for ever; make an Enhancer in each process, or start processes by `spawn`"
            )
        return run_chain(self._before.run, self._pipeline.run, jobs) if self._before else self._pipeline.run(jobs)

    @classmethod
    def file_job(
        cls,
        source: Path | str,
        target: Path | str,
        *,
        overwrite: bool = False,
        options: WriteOptions | None = None,
        excerpt: Excerpt | None = None,
    ) -> ImageJob | FrameFile:
        """A file for `each_file`, as `enhance_file` does it: a job, or several where it holds several pictures."""
        try:
            reader = open_frames_for(Path(source), Path(target), options, excerpt)
        except SrTileError as error:
            return failing_job(str(source), error)
        if reader is None:
            crop = excerpt.crop if excerpt else None
            return cls.image_job(source, target, overwrite=overwrite, options=options, crop=crop)

        return FrameFile(
            str(source), reader, functools.partial(open_frame_writer, Path(target), reader, options, overwrite)
        )

    @staticmethod
    def image_job(
        source: Path | str,
        target: Path | str,
        *,
        overwrite: bool = False,
        options: WriteOptions | None = None,
        crop: tuple[int, int, int, int] | None = None,
    ) -> ImageJob:
        """A job for `run`, of a file that holds one picture, or of a window of it, see `Excerpt`."""
        return ImageJob(
            str(source),
            lambda: CroppingSource(ImageReader(source), crop, str(source)) if crop else ImageReader(source),
            lambda info: ImageWriter(target, info, options=options, overwrite=overwrite),
        )

    def _enhance_all(self, images: Sequence[Any], names: list[str]) -> list[Any]:
        arrays = [as_array(image, name) for image, name in zip(images, names, strict=True)]
        jobs = [
            ImageJob(name, lambda array=array: ArraySource(array), ArraySink)  # type: ignore[misc]
            for array, name in zip(arrays, names, strict=True)
        ]
        order = list(range(len(arrays)))
        if (
            not self.engine.uses_host_memory
        ):  # a GPU pays for each change of shape: those of one size one after the other
            order.sort(key=lambda index: arrays[index].shape[:2])
        results: dict[int, np.ndarray] = {}
        for outcome in self.run(jobs[index] for index in order):
            if outcome.error:
                raise outcome.error
            assert isinstance(outcome.sink, ArraySink)
            results[order[outcome.index]] = outcome.sink.pixels_hwc
        return [like(image, results[index]) for index, image in enumerate(images)]


def _planned(
    engines: list[Engine], settings: Settings, adjustment: Adjustment, size: TargetSize, planning: dict[str, Any]
) -> tuple[list[Engine], Plan]:
    """Engines with what is done around them, and their plan."""
    whole = None
    if settings.exact_pooling:
        engines, whole = pooling_exactly(engines, make_plan(engines, settings, **planning), settings.mem_limit)
    engines = [adjustment.of(engine) for engine in engines]
    zoo.check_scale(engines[0].spec.name, engines[0].spec.scale or 1, size.scale)
    return engines, whole or make_plan(engines, settings, **planning)


def _check(alpha: str, counts: dict[str, int | None], edges: str | None, is_special: bool) -> Edges | None:
    """Refuse settings that cannot be; how pictures go on beyond their borders.

    counts: how many there may be of what, by the name of the option.
    is_special: a chain of models, or exact pooling.
    """
    if alpha not in ("bicubic", "model"):
        raise ArgumentError(f"alpha {alpha!r} is not known; choose bicubic or model")
    for name, number in counts.items():
        if number is not None and number < 1:
            raise ArgumentError(f"{name} is {number}; it must be 1 or more")
    if edges and is_special:
        raise ArgumentError("edges go with one model, not with a chain or exact pooling; leave one of them out")
    return parse_edges(edges) if edges else None


def _open_already(model: Any) -> list[Engine]:
    """Engines that were passed in.

    Raises:
        ArgumentError: what was passed in is none.
    """
    engines = list(model) if isinstance(model, list | tuple) else [model]
    if not engines or not all(isinstance(engine, Engine) for engine in engines):
        kinds = ", ".join(type(engine).__name__ for engine in engines) or "an empty list"
        raise ArgumentError(f"model is {kinds}; expected a name, a path, an Engine, or a list of some")
    return engines
