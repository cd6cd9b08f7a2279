"""The options of `sr-tile enhance`, in groups of what they decide."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import sr_tile
from sr_tile.cli.options import (
    ModelOptions,
    SizeOptions,
    TileOptions,
    check_parallel,
    parse_parallel,
    without_effect,
)
from sr_tile.cli.report_options import ReportOptions
from sr_tile.errors import ArgumentError

if TYPE_CHECKING:
    from sr_tile.distributed.ray_data import RayConfig
    from sr_tile.engines.strength_grain_tta import Adjustment
    from sr_tile.images import TargetSize, WriteOptions
    from sr_tile.images.frames.excerpt import Excerpt
    from sr_tile.jobs.selection import Existing

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="IN... [OUT]",
        help="Images, folders or globs; last the file or folder for the results. One input alone gets its result beside "
        "it, as in-x2.png. - is standard input or output.",
    ),
]


@dataclass(frozen=True)
class ComputeOptions:
    """How the network is used."""

    alpha: Annotated[
        Literal["bicubic", "model"],
        typer.Option(metavar="bicubic|model", help="Enlarge alpha by `bicubic` interpolation or by the `model`."),
    ] = "bicubic"
    strength: Annotated[float, typer.Option(help="Share of the network's result, 0 to 1; the rest is bicubic.")] = 1.0
    edges: Annotated[
        Literal["wrap", "wrap-x", "wrap-y", "mirror", "replicate"] | None,
        typer.Option(
            metavar="wrap|wrap-x|wrap-y|mirror|replicate",
            help="How pictures go on beyond their borders: wrap for seamless textures; else as the network does it.",
        ),
    ] = None
    keep_grain: Annotated[float, typer.Option(help="Share of the luma that denoising took to give back, 0 to 1.")] = 0.0
    tta: Annotated[bool, typer.Option("--tta", help="Mean over eight turns of the picture, in 8 x the time.")] = False
    warmup: Annotated[
        Literal["off", "zeros", "random"],
        typer.Option(metavar="off|zeros|random", help="Run once before the first image."),
    ] = "off"

    @property
    def adjusts(self) -> bool:
        """Whether anything is done to the network's results."""
        return (self.strength, self.keep_grain, self.tta) != (1.0, 0.0, False)

    def for_server(self, precision: str) -> dict[str, Any]:
        """What a server is to be told of it: what it would not do by itself."""
        said = {"strength": self.strength, "edges": self.edges, "keep_grain": self.keep_grain, "tta": self.tta}
        usual = {"strength": 1.0, "edges": None, "keep_grain": 0.0, "tta": False, "precision": "auto"}
        return {name: value for name, value in {**said, "precision": precision}.items() if value != usual[name]}

    @property
    def adjustment(self) -> "Adjustment":
        """Of the network's results."""
        from sr_tile.engines.strength_grain_tta import Adjustment

        return Adjustment(self.strength, self.keep_grain, self.tta)


@dataclass(frozen=True)
class FileOptions:
    """Which files, and what the results are."""

    output_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="png|jpeg|...",
            help="Format of results in a folder, such as png; a wrong name lists them all.",
        ),
    ] = None
    quality: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Quality of JPEG, WebP, AVIF and films; 95 where nothing is said."),
    ] = None
    lossless: Annotated[bool, typer.Option("--lossless", help="Write WebP and AVIF without loss.")] = False
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="The results' file or folder; all else are inputs."),
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check all that can be, print which file would become which, do nothing.")
    ] = False
    name_suffix: Annotated[
        str | None, typer.Option("--suffix", metavar="-x2", help="What names of results beside their inputs end in.")
    ] = None
    output_template: Annotated[
        str | None,
        typer.Option(metavar="{stem}-{width}{ext}", help="Names of results; {height} and {model} are known as well."),
    ] = None
    record_settings: Annotated[
        bool, typer.Option("--record-settings", help="Write model, size and settings into the results' XMP history.")
    ] = False
    background: Annotated[
        str | None, typer.Option(metavar="COLOUR", help="What alpha lies on in JPEG, such as white or #ff8800.")
    ] = None
    strip: Annotated[
        Literal["all", "gps"] | None,
        typer.Option(metavar="all|gps", help="Leave out all metadata but colour and DPI, or the place alone."),
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave results that exist alone.")] = False
    page_range: Annotated[
        str | None, typer.Option("--pages", metavar="1-3,7", help="Which pages or frames of files that hold several.")
    ] = None
    crop: Annotated[
        str | None, typer.Option(metavar="X,Y,W,H", help="A window of each picture alone, as a preview of a giant one.")
    ] = None
    pyramid: Annotated[
        bool, typer.Option("--pyramid", help="Write TIFFs with smaller copies of themselves, for viewers of giants.")
    ] = False
    start: Annotated[str | None, typer.Option(metavar="TIME", help="Of films: seconds, or 1:02:03.5.")] = None
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Of films: where to end.")] = None
    codec: Annotated[
        Literal["h264", "h265", "av1", "prores", "ffv1"] | None,
        typer.Option(metavar="NAME", help="Of films: h264, h265, av1, prores or ffv1; else the container's usual one."),
    ] = None
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into folders below, too.")] = False

    @property
    def suffix(self) -> str | None:
        """Ending of the results; None keeps each source's own."""
        from sr_tile.images.content_type import FILM_SUFFIXES
        from sr_tile.images.formats import FORMATS, WRITTEN_SUFFIXES, suffix_of

        if not self.output_format:
            return None
        suffix = suffix_of(self.output_format.lstrip("."))
        if suffix not in (*FILM_SUFFIXES, *WRITTEN_SUFFIXES):
            films = ", ".join(each[1:] for each in FILM_SUFFIXES)
            raise ArgumentError(
                f"--format {self.output_format}: choose {', '.join(sorted(FORMATS))}; for films {films}"
            )
        return suffix

    @property
    def excerpt(self) -> "Excerpt | None":
        """Which part of each file; None for all."""
        from sr_tile.images.frames.excerpt import Excerpt, parse_window

        crop = parse_window(self.crop) if self.crop else None
        said = (self.page_range, self.start, self.end, crop)
        return Excerpt(*said) if any(said) else None

    @property
    def existing(self) -> "Existing":
        """What becomes of results that exist."""
        return "overwrite" if self.overwrite else "skip" if self.skip_existing else "refuse"

    @property
    def write_options(self) -> "WriteOptions":
        """How results are encoded."""
        from sr_tile.images import WriteOptions
        from sr_tile.images.formats import parse_colour

        return WriteOptions(
            quality=self.quality or WriteOptions.quality,
            lossless=self.lossless,
            codec=self.codec,
            pyramid=self.pyramid,
            background=None if self.background is None else parse_colour(self.background),
            strip=self.strip,
        )

    def without_effect(self, targets: "Iterable[str]") -> "Iterator[str]":
        """Options that were given and do nothing in some of the results, in a line each."""
        from sr_tile.images.content_type import FILM_SUFFIXES
        from sr_tile.images.formats import FORMATS, TAKEN_BY

        suffixes = sorted({Path(target).suffix.lower() for target in targets})
        for option, formats in TAKEN_BY.items():
            taking = {suffix for name in formats for suffix in FORMATS[name].suffixes}
            taking |= set(FILM_SUFFIXES if option in ("quality", "codec") else ())
            if getattr(self, option) and (others := [suffix for suffix in suffixes if suffix not in taking]):
                kinds = ", ".join(map(str.upper, formats)) or "films"
                yield f"--{option} does nothing in {', '.join(others)}: it is for {kinds}"


@dataclass(frozen=True)
class BackendOptions:
    """Who does it, and jobs that go on after a kill."""

    parallel: Annotated[
        str,
        typer.Option(metavar="decode=N,encode=N", callback=check_parallel, help="Threads that read and write files."),
    ] = ""
    job: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep a journal here: the same command goes on where it was killed."),
    ] = None
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="With --job: try images again that failed before.")
    ] = False
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(metavar="local|ray", help="Here, or by Ray with many actors and machines."),
    ] = "local"
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Of a Ray cluster; without one Ray is started here.")
    ] = None
    actors: Annotated[int, typer.Option(min=1, help="Engines at a time, with --engine ray.")] = 1
    gpus_per_actor: Annotated[float, typer.Option(min=0, help="GPUs of each; a fraction shares one.")] = 0.0
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Let a server do it, see `sr-tile serve`; its token in SR_TILE_TOKEN."),
    ] = None

    @property
    def workers(self) -> dict[str, int]:
        """Of the stages that may have several, where they were said."""
        return parse_parallel(self.parallel)

    @property
    def ray(self) -> "RayConfig":
        """Ray's part."""
        from sr_tile.distributed.ray_data import RayConfig

        return RayConfig(address=self.address, actors=self.actors, gpus_per_actor=self.gpus_per_actor)


@dataclass(frozen=True)
class EnhanceOptions:
    """All of a command, checked for what contradicts each other.

    Raises:
        ArgumentError: two options contradict each other.
    """

    inputs: tuple[str, ...]
    output: str
    model: ModelOptions
    size: SizeOptions
    tiles: TileOptions
    compute: ComputeOptions
    files: FileOptions
    backend: BackendOptions
    report: ReportOptions

    @property
    def target(self) -> "TargetSize":
        """Of the results."""
        return self.size.target(self.model.scale)

    @property
    def write_options(self) -> "WriteOptions":
        """How results are encoded, and what is written of how they were made."""
        options = self.files.write_options
        return replace(options, history=self._settings()) if self.files.record_settings else options

    def _settings(self) -> str:
        """What decides about the pixels of a result, in words."""
        size = {"scale": self.model.scale, **vars(self.size)}
        said = {"model": self.model.model, **size, "precision": self.model.precision, **vars(self.compute)}
        usual = {"precision": "auto", "alpha": "bicubic", "strength": 1.0, "warmup": self.compute.warmup}
        named = {name: value for name, value in said.items() if value and value != usual.get(name)}
        return f"sr-tile {sr_tile.__version__}: " + ", ".join(
            name.replace("_", "-") if value is True else f"{name.replace('_', '-')} {value}"
            for name, value in named.items()
        )

    def __post_init__(self) -> None:
        if self.target.is_explicit and self.backend.engine == "ray" and self._is_reducing:
            raise ArgumentError(
                "sizes other than a bundled model's scale go with --engine local; leave them out with ray"
            )
        if self.backend.server is not None:
            self._refuse_with_server()
        for message, wrong in self._contradictions().items():
            if wrong:
                raise ArgumentError(message)

    @property
    def _is_reducing(self) -> bool:
        from sr_tile.models import zoo

        return self.model.model is not None or self.model.scale not in zoo.DEFAULT

    def _contradictions(self) -> dict[str, bool]:
        backend, report, files = self.backend, self.report, self.files
        on_ray = bool(backend.address or backend.actors > 1 or backend.gpus_per_actor)
        only_local = bool(report.stats or backend.parallel or self.compute.warmup != "off")
        return {
            "--address, --actors and --gpus-per-actor go with --engine ray": backend.engine == "local" and on_ray,
            "--stats, --parallel and --warmup go with --engine local": backend.engine == "ray" and only_local,
            "--retry-failed goes with --job DIR, whose journal says what failed": (
                backend.retry_failed and not backend.job
            ),
            "--pages, --start, --end and --crop go with --engine local": bool(files.excerpt)
            and backend.engine != "local",
            "--strength, --keep-grain and --tta go with --engine local": (
                self.compute.adjusts and backend.engine != "local"
            ),
            "--edges goes with --engine local, without --job": bool(
                self.compute.edges and (backend.engine != "local" or backend.job)
            ),
            "--edges goes without --exact-pooling": bool(self.compute.edges and self.tiles.exact_pooling),
            "--exact-pooling goes with --engine local, without --job": (
                self.tiles.exact_pooling and (backend.engine != "local" or bool(backend.server or backend.job))
            ),
            "--output-template and --record-settings go with --engine local, without --server": (
                (files.output_template is not None or files.record_settings)
                and (backend.engine != "local" or bool(backend.server))
            ),
            "--crop goes without --job": bool(files.crop and backend.job),
            "a chain of models goes with --engine local, without --job": (
                "," in (self.model.model or "") and (backend.engine != "local" or bool(backend.job))
            ),
            "--overwrite and --skip-existing contradict each other; give one of them": (
                files.overwrite and files.skip_existing
            ),
        }

    def _refuse_with_server(self) -> None:
        """Options that say how this machine is to work mean nothing to another one."""
        if not self.backend.server:
            raise ArgumentError("--server is empty; write for example http://127.0.0.1:8000, or leave it out")
        engine = self.backend.engine if self.backend.engine != "local" else None
        local: dict[str, Any] = {
            "device": self.model.device,
            "batch-size": self.tiles.batch_size,
            "mem-limit": self.tiles.mem_limit,
            "warmup": self.compute.warmup,
            "parallel": self.backend.parallel,
            "stats": self.report.stats,
            "job": self.backend.job,
            "pages, --start, --end and --crop": self.files.excerpt,
            "engine": engine,
        }
        for name, value in local.items():
            if value not in (None, "", "auto", "off"):
                raise ArgumentError(f"--{name} is for work on this machine; with --server leave it out")

    def without_effect(self, targets: Iterable[str]) -> Iterator[str]:
        """Options that were given and do nothing beside the others, or in some of the results, in a line each."""
        yield from without_effect(self.model, self.size)
        yield from self.files.without_effect(targets)
