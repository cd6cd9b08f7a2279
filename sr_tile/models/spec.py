"""What sr-tile must know of a model, kept inside the ONNX file under the metadata key `sr_tile` as one JSON object."""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from sr_tile.errors import ModelLoadError, one_line, printable
from sr_tile.models.receptive_field import HALF_STEP
from sr_tile.system.atomic_file import atomic_write
from sr_tile.tiling.padding import Padding

METADATA_KEY = "sr_tile"
LARGEST = {"scale": 64, "multiple": 4096, "halo": 2**20, "tile": 8192, "channels": 4096, "smallest": 4096}
"""What metadata may say at most: a file that says more is damaged, or wants the machine's memory."""


def short(value: object, most: int = 120) -> str:
    """What metadata say for people to read, as one printable line of at most so many characters."""
    text = printable(" ".join((value if isinstance(value, str) else json.dumps(value)).split()))
    return text if len(text) <= most else f"{text[: most - 3]}..."


@dataclass(frozen=True)
class ModelSpec:
    """The facts of one model; what a file does not say is measured by the engine when it is loaded.

    Attributes:
        name: how the model is called in messages.
        scale: output pixels per input pixel in each direction; None where the file does not say.
        channels: 1 (gray, or each channel by itself) or 3 (RGB), in and out.
        multiple: of the grid that the network works on: tiles start at multiples of it (SCUNet: 64), even where it
            accepts every size because it pads inside; None where the file does not say.
        halo: pixels at a tile's edge that differ from the whole image, measured; None where the file does not say.
        tile: recommended side of a tile in pixels; None where the file does not say.
        value_range: the model's values of black and white, in and out.
        fixed_batch: rows of every batch, where the graph allows no other number.
        fixed_tile: (height, width) of every tile, where the graph allows no other.
        padding: what the network puts behind the end of a picture, up to the multiple.
        smallest: pixels a side that the graph needs at least.
        details: whatever else the metadata holds: architecture, licence, training, verification.
    """

    name: str
    scale: int | None = None
    channels: int = 3
    multiple: int | None = None
    halo: int | None = None
    tile: int | None = None
    value_range: tuple[float, float] = (0.0, 1.0)
    fixed_batch: int | None = None
    fixed_tile: tuple[int, int] | None = None
    padding: Padding = "replicate"
    smallest: int = 1
    details: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    @property
    def is_global(self) -> bool:
        """Whether the metadata show that far pixels matter, so that a tile never becomes what the whole picture is."""
        pooling = self.details.get("pooling")
        if pooling or self.details.get("receptive_field", 0) is not None:
            return pooling == "global"
        seam = self.details.get("seam")
        return not isinstance(seam, int | float) or seam >= HALF_STEP

    @classmethod
    def from_metadata(cls, text: str | None, name: str) -> "ModelSpec":
        """Read the JSON that stands under `METADATA_KEY`; without one, everything is left to be measured.

        Raises:
            ModelLoadError: the JSON is broken or a value is out of its range.
        """
        try:
            data = json.loads(text) if text else {}
            low, high = (float(value) for value in data.pop("value_range", (0.0, 1.0)))
            field = float(data.get("receptive_field") or 0)
            whole = {key: data.pop(key, None) for key in ("scale", "multiple", "halo", "tile")}
            whole |= {"channels": data.pop("channels", 3), "smallest": data.pop("smallest", 1)}
            padding = data.pop("padding", "replicate")
            name = short(data.pop("name", None) or name)
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ModelLoadError(
                f"model {name}: its metadata `{METADATA_KEY}` is not the JSON object that sr-tile writes "
                f"({one_line(error)}); export the model again"
            ) from None
        for key, value in whole.items():
            least, most = 0 if key == "halo" else 1, LARGEST[key]
            number = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and not (number and least <= value <= most):
                raise ModelLoadError(
                    f"model {name}: metadata says {key} = {str(value)[:40]}, which must be a whole number from {least} to "
                    f"{most}; export the model again"
                )
        if not (high > low and math.isfinite(high - low)):
            raise ModelLoadError(
                f"model {name}: metadata says value_range = [{low}, {high}], which is no range; export the model again"
            )
        if not 0 <= field <= LARGEST["halo"]:
            raise ModelLoadError(
                f"model {name}: metadata says receptive_field = {field}, which must be a number from 0 to "
                f"{LARGEST['halo']}; export the model again"
            )
        if padding not in get_args(Padding):
            raise ModelLoadError(
                f"model {name}: metadata says padding = {str(padding)[:40]}, which must be one of "
                f"{', '.join(get_args(Padding))}; export the model again"
            )
        return cls(name=name, value_range=(low, high), padding=padding, details=data, **whole)

    def to_metadata(self) -> str:
        """The JSON for the model file, without what the graph itself says (fixed sizes)."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for key in ("details", "fixed_batch", "fixed_tile"):
            del data[key]
        return json.dumps({**data, **self.details})


def write_spec(path: Path, spec: ModelSpec) -> None:
    """Store `spec` in the ONNX file at `path`, replacing what it said before."""
    import onnx  # heavy, and only needed to write

    model = onnx.load(path)
    kept = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**kept, METADATA_KEY: spec.to_metadata()})
    with atomic_write(path) as temporary:
        onnx.save(model, temporary)
