"""Who does the images of `sr-tile enhance`: this process, a server, or Ray."""

import math
import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sr_tile.cli.enhance_options import EnhanceOptions
from sr_tile.cli.figures import MOST_HEADERS, Progress
from sr_tile.cli.options import Headers
from sr_tile.errors import ArgumentError

if TYPE_CHECKING:
    from sr_tile.enhancer import Enhancer
    from sr_tile.images import TargetSize
    from sr_tile.jobs.report import FileResult
    from sr_tile.jobs.resumable import ResumableJob
    from sr_tile.jobs.selection import FilePair, Selection
    from sr_tile.pipeline.image_job import Stats
    from sr_tile.serving.client import RemoteEnhancer


class Figures(NamedTuple):
    """What the stages did, with which model, and on which device."""

    stats: "Stats"
    device: str
    model: str


class Backend(Protocol):
    """Does images, wherever that is."""

    def select(self) -> "Selection":
        """Which files become which, among those that this backend can reach."""
        ...

    def check(self, pairs: "Sequence[FilePair]") -> "Iterator[FilePair | FileResult]":
        """Those that `run` would do, and what became, or would, of the others, as far as it can be known before."""
        ...

    def run(self, pairs: "Sequence[FilePair]") -> "Generator[FileResult]":
        """Do them; one result each as soon as it is there, and one that fails never stops the rest."""
        ...

    def figures(self) -> Figures | None:
        """Of what was done so far; None where another machine has them."""
        ...


def open_backend(options: EnhanceOptions) -> Backend:
    """The one that the options ask for."""
    if options.backend.server:
        return ServerBackend(options)
    return RayBackend(options) if options.backend.engine == "ray" else LocalBackend(options)


class LocalBackend:
    """An `Enhancer` in this process, with a journal where there is a job."""

    def __init__(self, options: EnhanceOptions) -> None:
        self._options, self._headers = options, Headers(options.files.excerpt)
        self._chosen: tuple[EnhanceOptions, str | None] | None = None
        self._enhancer: Enhancer | None = None

    def select(self) -> "Selection":
        """See `Backend.select`."""
        selection = _select_here(self._options)
        if (template := self._options.files.output_template) is not None:
            selection.pairs = self._named(selection.pairs, template)
        return selection

    def _named(self, pairs: "Sequence[FilePair]", template: str) -> "list[FilePair]":
        from sr_tile.export.find_model import scale_of
        from sr_tile.jobs.result_names import by_template, check_template

        check_template(template)
        if [pair.target for pair in pairs] == [self._options.output]:
            raise ArgumentError(
                f"output {self._options.output} and --output-template both name the result; give a folder as output"
            )
        options = self._with_model(pairs)[0]
        steps = str(options.model.model).split(",")

        def size_of(source: "Path") -> tuple[int, int]:
            height, width = next(iter(self._headers.sizes([source])), (0, 0))
            if not height:
                return 0, 0  # reading it will say why
            scale = 0 if options.target.is_explicit else math.prod(map(scale_of, steps))
            return options.target.of(height, width) or (height * scale, width * scale)

        return by_template(pairs, template, "+".join(Path(step).stem for step in steps), size_of)

    def _with_model(self, pairs: "Sequence[FilePair]") -> tuple[EnhanceOptions, str | None]:
        self._chosen = self._chosen or _with_model(self._options, pairs, self._headers)
        return self._chosen

    def check(self, pairs: "Sequence[FilePair]") -> "Iterator[FilePair | FileResult]":
        """See `Backend.check`."""
        from sr_tile.jobs.dry_run import check_files

        options, reason = self._with_model(pairs)
        self._options = options
        if options.model.precision == "int8":  # to make such a model is work: the one that it is made of is checked
            self._options = replace(options, model=replace(options.model, precision="fp32"))
        with ExitStack() as stack:
            job = _open_job(options, stack)
            enhancer = stack.enter_context(self._open(job, 0, Progress(None, [], True)))
            self._say_model(reason)
            common: Any = {"options": options.write_options, "excerpt": options.files.excerpt}
            yield from check_files(_screened(pairs, options, job), enhancer.scale, options.target, **common)

    def _say_model(self, reason: str | None) -> None:
        if reason and not self._options.report.quiet:
            print(f"sr-tile: {self._options.model.model}: {reason}; --model names another", file=sys.stderr)

    def run(self, pairs: "Sequence[FilePair]") -> "Generator[FileResult]":
        """See `Backend.run`."""
        from sr_tile.jobs.files import run_files
        from sr_tile.jobs.report import FileResult

        if not (self._options.backend.job or self._options.report.stats):
            ended = []
            for item in _screened(pairs, self._options, None):
                if not isinstance(item, FileResult):
                    break
                ended.append(item)
            else:  # no model is opened for nothing
                yield from ended
                return
        options, reason = self._with_model(pairs)
        self._options = options
        files = options.files
        common: Any = {"existing": files.existing, "options": options.write_options, "excerpt": files.excerpt}
        with ExitStack() as stack:
            job = _open_job(options, stack)
            by_path, work = _work(pairs, options, job, self._headers)
            sizes = list(by_path.values())
            progress = stack.enter_context(Progress(work, [pair.source for pair in pairs], options.report.quiet))
            self._enhancer = stack.enter_context(self._open(job, work or sum(h * w for h, w in sizes), progress))
            self._say_model(reason)
            if job and job.plan:
                self._enhancer.use_plan(job.plan)
            self._enhancer.warm_up(options.compute.warmup, sizes[0] if sizes else None)
            if not self._enhancer.engine.uses_host_memory:
                # A GPU pays for each change of shape: images of one size one after the other.
                pairs = sorted(pairs, key=lambda pair: by_path.get(pair.source, (0, 0)))
            if job:
                yield from job.run(self._enhancer, pairs, retry_failed=options.backend.retry_failed, **common)
            else:
                yield from run_files(self._enhancer, pairs, **common)

    def _open(self, job: "ResumableJob | None", work: int, progress: Progress) -> "Enhancer":
        from sr_tile.enhancer import Enhancer

        options = self._options
        workers = options.backend.workers
        return Enhancer(
            options.model.model,
            size=options.target,
            device=(job.device if job else None) or options.model.device,
            precision=_repeatable(options.model.precision) if job else options.model.precision,
            agreement=options.model.agreement,
            settings=options.tiles.settings,
            expected_pixels=work,
            alpha=options.compute.alpha,
            adjustment=options.compute.adjustment,
            edges=options.compute.edges,
            decoders=workers.get("decode"),
            encoders=workers.get("encode"),
            on_progress=progress.add,
            max_in_flight=1 if job and not options.backend.parallel else None,
        )

    def figures(self) -> Figures | None:
        """See `Backend.figures`."""
        if self._enhancer is None:
            return None
        return Figures(self._enhancer.stats, self._enhancer.engine.device, self._enhancer.engine.spec.name)


class ServerBackend:
    """A server, which gets the files."""

    def __init__(self, options: EnhanceOptions) -> None:
        self._options = options

    def select(self) -> "Selection":
        """See `Backend.select`."""
        return _select_here(self._options)

    def check(self, pairs: "Sequence[FilePair]") -> "Iterator[FilePair | FileResult]":
        """See `Backend.check`; the server is not asked."""
        self._open(Progress(None, [], True))
        return _screened(pairs, self._options, None)

    def _open(self, progress: Progress) -> "RemoteEnhancer":
        from sr_tile.serving.client import RemoteEnhancer

        options = self._options
        assert options.backend.server  # else this is not the backend
        wanted = {"model": options.model.model, "scale": options.model.scale, "alpha": options.compute.alpha}
        wanted |= {name: value for name, value in vars(options.size).items() if value}
        wanted |= options.compute.for_server(options.model.precision)
        return RemoteEnhancer(
            options.backend.server,
            os.environ.get("SR_TILE_TOKEN"),
            options={**wanted, **options.tiles.explicit},
            on_progress=progress.add,
        )

    def run(self, pairs: "Sequence[FilePair]") -> "Generator[FileResult]":
        """See `Backend.run`."""
        from sr_tile.jobs.files import run_files

        files, work = self._options.files, _work(pairs, self._options, None, Headers())[1]
        with Progress(work, [pair.source for pair in pairs], self._options.report.quiet) as progress:
            enhancer = self._open(progress)
            yield from run_files(enhancer, pairs, existing=files.existing, options=files.write_options)

    def figures(self) -> Figures | None:
        """See `Backend.figures`."""
        return None


class RayBackend:
    """Many actors, on this machine or a cluster; files by path or URL."""

    def __init__(self, options: EnhanceOptions) -> None:
        self._options = options

    def select(self) -> "Selection":
        """See `Backend.select`."""
        from sr_tile.distributed.storage import select_urls

        options = self._options
        files = options.files
        return select_urls(options.inputs, options.output, recursive=files.recursive, suffix=files.suffix)

    def check(self, pairs: "Sequence[FilePair]") -> "Iterator[FilePair | FileResult]":
        """See `Backend.check`; Ray is not started."""
        from sr_tile.distributed.storage import exists
        from sr_tile.export.find_model import find_model

        find_model(self._options.model.model, self._options.model.scale)
        with ExitStack() as stack:
            yield from _screened(pairs, self._options, _open_job(self._options, stack), exists)

    def run(self, pairs: "Sequence[FilePair]") -> "Generator[FileResult]":
        """See `Backend.run`."""
        from sr_tile.distributed.ray_data import run_ray
        from sr_tile.distributed.tasks import EnhanceConfig

        options = self._options
        with ExitStack() as stack:
            job = _open_job(options, stack)
            config = EnhanceConfig(
                model=options.model.model,
                scale=int(options.model.scale) if options.model.scale else None,  # a bundled model's: see the options
                device=(job.device if job else None) or options.model.device,
                precision=_repeatable(options.model.precision),
                settings=options.tiles.settings,
                alpha=options.compute.alpha,
                options=options.files.write_options,
            )
            yield from run_ray(
                pairs,
                config,
                options.backend.ray,
                job=job,
                existing=options.files.existing,
                retry_failed=options.backend.retry_failed,
            )

    def figures(self) -> Figures | None:
        """See `Backend.figures`."""
        return None


def _select_here(options: EnhanceOptions) -> "Selection":
    from sr_tile.jobs.selection import select_files

    files = options.files
    return select_files(options.inputs, options.output, recursive=files.recursive, suffix=files.suffix)


def _repeatable(precision: str) -> str:
    """What is the same for an image on every machine, and for its second half."""
    return "fp32" if precision == "auto" else precision


def _with_model(
    options: EnhanceOptions, pairs: "Sequence[FilePair]", headers: Headers
) -> tuple[EnhanceOptions, str | None]:
    """With models by name that reach every size: those named, or of the least scale, and why it is these."""
    from sr_tile.export.find_model import models_reaching, most_in_turn, steps_of
    from sr_tile.jobs.default_model import default_steps
    from sr_tile.models import zoo

    sources = [pair.source_path for pair in pairs if not pair.problem]
    if named := steps_of(options.model.model):
        if not options.target.is_explicit or (options.backend.job and not options.target.scale):
            return options, None
        reaching = models_reaching(named, _factor(sources, options.target, most_in_turn(named), headers))
        return replace(options, model=replace(options.model, model=",".join(map(str, reaching)))), None
    factor = _factor(sources, options.target, max(zoo.DEFAULT) ** 2, headers)
    # To a job images may be added, and what is done must not be done again with another model.
    steps, reason = default_steps([] if options.backend.job else sources, factor)
    if options.backend.job:
        reason = "the same for all images of a job"
    return replace(options, model=replace(options.model, model=",".join(steps))), reason


def _factor(sources: "Sequence[Path]", target: "TargetSize", most: int, headers: Headers) -> float:
    """By which the images are to grow, the most of all, as far as models reach: what is beyond is said for each."""
    from sr_tile.models import zoo

    if target.scale or not target.is_explicit:
        return target.scale or min(zoo.DEFAULT)
    return target.reach(headers.sizes(sources[:MOST_HEADERS]), most) or 1


def _open_job(options: EnhanceOptions, stack: ExitStack) -> "ResumableJob | None":
    """The journal, where there is to be one, until the stack closes it."""
    from sr_tile.jobs.job_folder import describe
    from sr_tile.jobs.resumable import ResumableJob

    if not options.backend.job:
        return None
    model, tiles = options.model, options.tiles
    settings: Any = {"device": model.device, "tile": tiles.tile_size, "overlap": tiles.overlap, "halo": tiles.halo}
    settings |= {"alpha": options.compute.alpha, **asdict(options.write_options)}
    if options.target.is_explicit:
        settings["size"] = asdict(options.target)
    if options.compute.adjusts:
        settings["adjustment"] = asdict(options.compute.adjustment)
    if options.files.excerpt:
        settings["excerpt"] = asdict(options.files.excerpt)
    if (precision := _repeatable(model.precision)) != "fp32":
        settings["precision"] = precision
    described = describe(model.model, model.scale, **settings)
    how: Any = {"restart": options.files.overwrite, "read_only": options.files.dry_run}
    return stack.enter_context(ResumableJob(options.backend.job, described, **how))


def _screened(
    pairs: "Sequence[FilePair]",
    options: EnhanceOptions,
    job: "ResumableJob | None",
    exists: Callable[[str], bool] = os.path.exists,
) -> "Iterator[FilePair | FileResult]":
    """Each pair that is to be done, or what became of it where it is not."""
    from sr_tile.jobs.selection import screen

    existing = options.files.existing
    if job:
        return job.screened(pairs, existing=existing, retry_failed=options.backend.retry_failed)
    return screen(pairs, existing, exists=exists)


def _work(
    pairs: "Sequence[FilePair]", options: EnhanceOptions, job: "ResumableJob | None", headers: Headers
) -> tuple[dict[str, tuple[int, int]], int | None]:
    """(height, width) of each file to do, as its first picture, and the pixels of all unless these are too many."""
    from sr_tile.jobs.selection import FilePair

    waiting = [item for item in _screened(pairs, options, job) if isinstance(item, FilePair)]
    found = {item.source: headers.sizes([item.source_path]) for item in waiting[:MOST_HEADERS]}
    work = sum(height * width for sizes in found.values() for height, width in sizes)
    return {name: sizes[0] for name, sizes in found.items() if sizes}, None if len(waiting) > MOST_HEADERS else work
