"""Options that several commands share, and their values."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from sr_tile.errors import ArgumentError, printable

if TYPE_CHECKING:
    from sr_tile.images import TargetSize
    from sr_tile.images.frames.excerpt import Excerpt
    from sr_tile.planner import Settings


T = TypeVar("T")


def parsed(option: str, parse: Callable[[str], T], text: str) -> T:
    """What a function of the library makes of an option's text; what it refuses is said with the option's name.

    Raises:
        ArgumentError: it refuses.
    """
    try:
        return parse(text)
    except ArgumentError as error:
        raise ArgumentError(f"{option}: {error}") from None


def number_or_auto(least: int) -> Callable[[str], str]:
    """A check for a whole number that is not below `least`, or `auto`; `as_number` turns it into one."""

    def check(text: str) -> str:
        if text != "auto" and not (text.isdecimal() and int(text) >= least):
            raise typer.BadParameter(f"{text!r} is neither a whole number from {least} up nor `auto`")
        return text

    return check


Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Name of a model, see `sr-tile models list`, or its file (.onnx, .pth, .safetensors, .param); several with "
        "commas between run one after the other.",
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(
        metavar="FACTOR",
        help="How much larger, such as 2, 3 or 1.5: by the bundled model that reaches it, then reduced.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        help="auto, cpu, openvino, cuda, cuda:N, tensorrt, directml, coreml; several as in cuda:0,cuda:1.",
    ),
]
PrecisionName = Annotated[
    Literal["auto", "fp32", "bf16", "fp16", "int8"],
    typer.Option(
        "--precision",
        metavar="auto|fp32|...",
        help="fp32, bf16, fp16, int8; auto: for 8-bit results, fewer bits where nobody sees them missing.",
    ),
]
MinAgreement = Annotated[
    float, typer.Option("--agreement", min=1.0, help="With --precision auto: dB from float32 to keep at least.")
]
LEAST_AGREEMENT = 55.0  # `engines.precision.LEAST_PSNR`, which would be slow to import
TileSize = Annotated[
    str, typer.Option(metavar="N|auto", callback=number_or_auto(1), help="Side of a tile in pixels, or auto.")
]
Overlap = Annotated[
    str,
    typer.Option(
        metavar="N|auto", callback=number_or_auto(0), help="Pixels that two neighbouring tiles share, or auto."
    ),
]
Halo = Annotated[
    str,
    typer.Option(
        metavar="N|auto", callback=number_or_auto(0), help="Pixels of the overlap that each tile discards, or auto."
    ),
]
BatchSize = Annotated[str, typer.Option(metavar="N|auto", callback=number_or_auto(1), help="Tiles a call, or auto.")]
MemLimit = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Memory of the whole process at most, such as 2GiB.")
]


@dataclass(frozen=True)
class ModelOptions:
    """Which network, and where it runs."""

    model: Model = None
    scale: Scale = None
    device: Device = "auto"
    precision: PrecisionName = "auto"
    agreement: MinAgreement = LEAST_AGREEMENT


@dataclass(frozen=True)
class SizeOptions:
    """How large results are, where not by --scale; proportions stay."""

    width: Annotated[int | None, typer.Option(min=1, help="Width of results in pixels.")] = None
    height: Annotated[int | None, typer.Option(min=1, help="Height of results in pixels.")] = None
    fit: Annotated[str | None, typer.Option(metavar="WxH", help="Results fill this box, such as 1920x1080.")] = None
    max_side: Annotated[int | None, typer.Option(min=1, help="Longer side of results in pixels.")] = None
    min_side: Annotated[int | None, typer.Option(min=1, help="Shorter side of results in pixels.")] = None
    megapixels: Annotated[float | None, typer.Option(help="Megapixels of results.")] = None
    linear: Annotated[bool, typer.Option("--linear", help="Reduce in linear light, not in the file's values.")] = False

    def target(self, scale: float | None) -> "TargetSize":
        """The size that all this and --scale ask for."""
        from sr_tile.images.target_size import TargetSize, parse_box

        sides: Any = {name: value for name, value in vars(self).items() if name != "fit"}
        return TargetSize(scale=scale, fit=None if self.fit is None else parsed("--fit", parse_box, self.fit), **sides)


@dataclass(frozen=True)
class TileOptions:
    """How images are cut, and the memory for it."""

    tile_size: TileSize = "auto"
    overlap: Overlap = "auto"
    halo: Halo = "auto"
    batch_size: BatchSize = "auto"
    mem_limit: MemLimit = None
    exact_pooling: Annotated[
        bool,
        typer.Option(
            "--exact-pooling", help="Networks that pool over the whole picture do so over it, not over each tile."
        ),
    ] = False

    @property
    def settings(self) -> "Settings":
        """As the planner takes them."""
        settings = settings_of(self.tile_size, self.overlap, self.halo, self.batch_size, self.mem_limit)
        return replace(settings, exact_pooling=self.exact_pooling)

    @property
    def explicit(self) -> dict[str, str]:
        """Those of the cut that are not `auto`, as a server calls them."""
        values = {"tile_size": self.tile_size, "overlap": self.overlap, "halo": self.halo}
        return {name: value for name, value in values.items() if value != "auto"}


def without_effect(model: ModelOptions, size: SizeOptions | None = None) -> Iterator[str]:
    """Options that were given and do nothing beside the others, in a line each."""
    if size and size.linear and not size.target(model.scale).is_explicit:
        yield "--linear does nothing where nothing is reduced: it is for --scale, --width and other sizes"
    if model.agreement != LEAST_AGREEMENT and model.precision != "auto":
        yield f"--agreement does nothing with --precision {model.precision}: it is for auto"


def as_number(text: str) -> "int | str":
    """`auto`, or the number."""
    return text if text == "auto" else int(text)


def check_parallel(text: str) -> str:
    """Check for what `parse_parallel` reads."""
    parse_parallel(text)
    return text


def parse_parallel(text: str) -> dict[str, int]:
    """Read `decode=2,encode=2`: workers of the stages that may have several, where it names them."""
    workers: dict[str, int] = {}
    for item in filter(None, text.split(",")):
        name, _, number = item.partition("=")
        if name.strip() not in ("decode", "encode") or not number.strip().isdecimal() or int(number) < 1:
            raise typer.BadParameter(f"{item!r} is not decode=N or encode=N with N from 1 up")
        workers[name.strip()] = int(number)
    return workers


def settings_of(tile_size: str, overlap: str, halo: str, batch_size: str, mem_limit: str | None) -> "Settings":
    """The five options of tiles and memory as settings."""
    from sr_tile.planner import Settings
    from sr_tile.system import memory

    values: Any = {
        name: as_number(value) for name, value in (("tile", tile_size), ("overlap", overlap), ("batch", batch_size))
    }
    return Settings(
        **values,
        halo=None if halo == "auto" else int(halo),
        mem_limit=None if mem_limit is None else parsed("--mem-limit", memory.parse_size, mem_limit),
    )


class Headers:
    """Sizes of pictures by the headers of their files, each opened once.

    Args:
        excerpt: what of each file counts.
    """

    def __init__(self, excerpt: "Excerpt | None" = None) -> None:
        self._excerpt = excerpt
        self._sizes: dict[Path, list[tuple[int, int]]] = {}

    def sizes(self, sources: Iterable[Path]) -> list[tuple[int, int]]:
        """(height, width) of those of the pictures that can be read; all of a file count as its first."""
        found = []
        for source in sources:
            if source not in self._sizes:
                self._sizes[source] = self._read(source)
            found += self._sizes[source]
        return found

    def _read(self, source: Path) -> list[tuple[int, int]]:
        from sr_tile.errors import ImageError
        from sr_tile.images import ImageReader
        from sr_tile.images.frames.open_frames import open_frames

        try:
            frames = open_frames(source, self._excerpt)
            if self._excerpt and self._excerpt.crop and not frames:
                return [self._excerpt.crop[:1:-1]]
            first = next(frames.frames()).open_source() if frames else ImageReader(source)
        except (ImageError, StopIteration):
            return []
        found = [(first.info.height, first.info.width)] * ((frames.count or 1) if frames else 1)
        for opened in (first, frames):
            if opened:
                opened.close()
        return found


def numbers(text: str) -> str:
    """Check for whole numbers with commas between."""
    if not all(item.isdecimal() for item in text.split(",")):
        raise typer.BadParameter(f"{text!r} is not a list of whole numbers such as 1,2,4")
    return text


def words(text: str) -> tuple[str, ...]:
    """What stands between commas."""
    found = tuple(item.strip() for item in text.split(",") if item.strip())
    if not found:
        raise ArgumentError("an empty list; give at least one, with commas between several")
    return found


def show(text: object) -> None:
    """Print lines that may hold what a model's metadata or a file's name says, without what a terminal would obey."""
    print("\n".join(printable(line) for line in str(text).split("\n")))
