"""What a request may ask for: the options of `sr-tile enhance` that are the client's to choose."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sr_tile.engines.strength_grain_tta import Adjustment
from sr_tile.errors import ArgumentError
from sr_tile.images import TargetSize, WriteOptions
from sr_tile.images.edges import EdgesName
from sr_tile.images.formats import FILES, parse_colour
from sr_tile.images.target_size import parse_box
from sr_tile.planner import Settings
from sr_tile.serving.http.http_errors import HttpError

if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[tuple(FILES)]


class Options(BaseModel):
    """Options of one image, as query parameters or as fields of a form; the same names as on the command line."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(
        None, max_length=200, description="Name of a model, see /v1/models; denoise,photo-x2: one after the other."
    )
    scale: float | None = Field(
        None, gt=0, le=64, description="How much larger: by the model that reaches it, then reduced."
    )
    width: int | None = Field(None, ge=1, le=2**31 - 1, description="Width of the result in pixels.")
    height: int | None = Field(None, ge=1, le=2**31 - 1, description="Height of the result in pixels.")
    fit: str | None = Field(None, max_length=20, description="WIDTHxHEIGHT that the result fills, such as 1920x1080.")
    max_side: int | None = Field(None, ge=1, le=2**31 - 1, description="Longer side of the result in pixels.")
    min_side: int | None = Field(None, ge=1, le=2**31 - 1, description="Shorter side of the result in pixels.")
    megapixels: float | None = Field(None, gt=0, le=1e6, description="Megapixels of the result.")
    linear: bool = Field(False, description="Reduce in linear light, not in the file's values.")
    format: FormatName | None = Field(None, description="Format of the result; the upload's where nothing is said.")
    quality: int = Field(95, ge=1, le=100, description="Quality of JPEG, WebP and AVIF.")
    lossless: bool = Field(False, description="Write WebP and AVIF without loss.")
    background: str | None = Field(
        None, max_length=40, description="Colour of what alpha lies on in JPEG, such as white."
    )
    strip: Literal["all", "gps"] | None = Field(
        None, description="Leave out metadata: all but colour and DPI, or the place."
    )
    pyramid: bool = Field(False, description="Write a TIFF with smaller copies of itself.")
    alpha: Literal["bicubic", "model"] = Field("bicubic", description="How an alpha channel is enlarged.")
    strength: float = Field(1.0, ge=0, le=1, description="Share of the network's result; the rest is bicubic.")
    keep_grain: float = Field(0.0, ge=0, le=1, description="Share of the luma that denoising took to give back.")
    tta: bool = Field(False, description="Mean over eight turns of the picture, in 8 x the time.")
    edges: EdgesName | None = Field(None, description="How the picture goes on beyond its borders.")
    precision: Literal["auto", "fp32"] = Field(
        "auto", description="fp32: in float32, also where fewer bits show no difference."
    )
    tile_size: int | None = Field(None, ge=1, description="Side of a tile in pixels.")
    overlap: int | None = Field(None, ge=0, description="Pixels that two neighbouring tiles share.")
    halo: int | None = Field(None, ge=0, description="Pixels of the overlap that each tile discards.")

    @property
    def settings(self) -> Settings:
        """Of the tiles."""
        return Settings(
            tile="auto" if self.tile_size is None else self.tile_size,
            overlap="auto" if self.overlap is None else self.overlap,
            halo=self.halo,
        )

    @property
    def target(self) -> TargetSize:
        """Size of the result.

        Raises:
            ArgumentError: two sizes, or none.
        """
        return TargetSize(
            scale=self.scale,
            width=self.width,
            height=self.height,
            fit=parse_box(self.fit) if self.fit is not None else None,
            max_side=self.max_side,
            min_side=self.min_side,
            megapixels=self.megapixels,
            linear=self.linear,
        )

    @property
    def adjustment(self) -> Adjustment:
        """Of the network's results."""
        return Adjustment(self.strength, self.keep_grain, self.tta)

    def write_options(self, format_name: str) -> WriteOptions:
        """Of the file to write.

        Raises:
            ArgumentError: the background is no colour.
        """
        return WriteOptions(
            format=format_name,
            quality=self.quality,
            lossless=self.lossless,
            background=parse_colour(self.background) if self.background else None,
            strip=self.strip,
            pyramid=self.pyramid,
        )


def read_options(values: dict[str, Any], base: Options | None = None) -> Options:
    """Check options that came as a form or in a message.

    Args:
        values: by name; text is fine for numbers.
        base: options that are said already, which `values` overrides.

    Raises:
        HttpError: 422, naming the first that is wrong.
    """
    explicit = base.model_dump(exclude_unset=True) if base else {}
    try:
        return Options.model_validate({**explicit, **values})
    except ValidationError as error:
        raise bad_option(error.errors()) from None
    except ArgumentError as error:
        raise HttpError(422, "bad_option", str(error)) from None


def bad_option(errors: Any) -> HttpError:
    """The first of pydantic's complaints, in one line."""
    first = errors[0]
    name = ".".join(str(part) for part in first["loc"] if part not in ("query", "body")) or "options"
    said = f"{first['msg'][0].lower()}{first['msg'][1:]}"
    is_none = first["type"] == "extra_forbidden"
    return HttpError(422, "bad_option", f"{name}: {'there is no such option; /docs names them' if is_none else said}")
