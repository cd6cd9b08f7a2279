"""The text of an ncnn graph: one layer a line, `type name bottoms tops inputs... outputs... key=value...`.

Format: https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from sr_tile.errors import ModelLoadError
from sr_tile.system.plain_file import open_plain

MAGIC = "7767517"
BINARY_MAGIC = (7767517).to_bytes(4, "little")
LARGEST_TEXT = 16 * 2**20  # bytes; the largest published one has 150 kB
LARGEST_NUMBER = 2**31 - 1
ARRAY = -23300  # keys of arrays are this minus the parameter's number
REST = -233
"""ncnn's word for "not given" inside a parameter."""

Value = int | float | list[int | float]


def is_ncnn(path: Path) -> bool:
    """True for the name of an ncnn graph or of its weights."""
    return path.suffix.lower() in (".param", ".bin")


def files_of(path: Path) -> tuple[Path, Path]:
    """The graph and the weights of a network of which either is named, in small or capital letters."""

    def find(suffix: str) -> Path:
        names = [path.with_suffix(suffix), path.with_suffix(suffix.upper())]
        return path if path.suffix.lower() == suffix else next((file for file in names if file.is_file()), names[0])

    return find(".param"), find(".bin")


@dataclass(frozen=True)
class Layer:
    """One line of the graph.

    Attributes:
        kind: the operator, as ncnn calls it.
        name: of the layer.
        bottoms: blobs that it reads.
        tops: blobs that it writes.
        parameters: by number; arrays as lists.
        where: file, line and name, for messages.
    """

    kind: str
    name: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    parameters: dict[int, Value]
    where: str

    def refuse(self, reason: str) -> NoReturn:
        """Say what is wrong with this layer.

        Raises:
            ModelLoadError: always.
        """
        raise ModelLoadError(f"{self.where}: {reason}")

    def whole(self, number: int, default: int = 0) -> int:
        """A parameter that is a whole number."""
        value = self.parameters.get(number, default)
        if not isinstance(value, int):
            self.refuse(f"parameter {number} is {value}; expected a whole number")
        return value

    def real(self, number: int, default: float = 0.0) -> float:
        """A parameter that is a number."""
        value = self.parameters.get(number, default)
        if isinstance(value, list):
            self.refuse(f"parameter {number} is a list; expected a number")
        return float(value)

    def array(self, number: int) -> list[int | float]:
        """A parameter that is a list of numbers, empty where it is not there."""
        value = self.parameters.get(number, [])
        return value if isinstance(value, list) else [value]

    def wholes(self, number: int) -> list[int]:
        """A parameter that is a list of whole numbers."""
        values = self.array(number)
        if not all(isinstance(value, int) for value in values):
            self.refuse(f"parameter {number} is {values}; expected whole numbers")
        return [int(value) for value in values]


def read_param(path: Path) -> list[Layer]:
    """The layers of a `.param` file, in the order in which they run.

    Raises:
        ModelLoadError: it is no text of ncnn's, or its layers do not fit together.
    """
    try:
        with open_plain(path) as file:
            data = file.read(LARGEST_TEXT + 1)
    except OSError as error:
        raise ModelLoadError(f"{path}: {error.strerror or error}") from None
    if data.startswith(BINARY_MAGIC):
        raise ModelLoadError(
            f"{path}: is the binary form of an ncnn graph, which names no blobs; get the text `.param`"
        )
    lines = data[:LARGEST_TEXT].decode("utf-8-sig", "replace").splitlines()
    if not lines or lines[0].strip() != MAGIC or len(data) > LARGEST_TEXT:
        raise ModelLoadError(f"{path}: is no ncnn graph: its first line is not {MAGIC}")
    counts = lines[1].split() if len(lines) > 1 else []
    if len(counts) != 2 or not all(count.isascii() and count.isdigit() for count in counts):
        raise ModelLoadError(f"{path}: line 2 must hold the numbers of layers and of blobs")
    layers = [_layer(line, f"{path}: line {number}") for number, line in enumerate(lines[2:], 3) if line.strip()]
    if not layers or len(layers) != int(counts[0]):
        raise ModelLoadError(f"{path}: has {len(layers)} layers and announces {counts[0]}; it was cut or edited")
    blobs = sum(len(layer.tops) for layer in layers)
    if blobs > int(counts[1]):
        raise ModelLoadError(f"{path}: has {blobs} blobs and announces {counts[1]}; it was cut or edited")
    _check_blobs(layers)
    return layers


def _layer(line: str, where: str) -> Layer:
    words = line.split()
    try:
        kind, name, inputs, outputs = words[0], words[1], int(words[2]), int(words[3])
    except (IndexError, ValueError):
        raise ModelLoadError(f"{where}: expected type, name and the numbers of inputs and outputs") from None
    where = f"{where}, {kind[:60]!a} {name[:60]!a}"
    rest = words[4:]
    if inputs < 0 or outputs < 0 or len(rest) < inputs + outputs:
        raise ModelLoadError(f"{where}: names fewer blobs than it announces")
    parameters = dict(_parameter(word, where) for word in rest[inputs + outputs :])
    for number, value in parameters.items():
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, int) and not -LARGEST_NUMBER <= part <= LARGEST_NUMBER:
                raise ModelLoadError(f"{where}: parameter {number} is {part}; ncnn's numbers end at {LARGEST_NUMBER}")
    bottoms, tops = rest[:inputs], rest[inputs : inputs + outputs]
    return Layer(kind, name, tuple(bottoms), tuple(tops), parameters, where)


def _parameter(word: str, where: str) -> tuple[int, Value]:
    try:
        key, text = word.split("=", 1)
        number = int(key)
        if number > ARRAY:
            return number, _number(text)
        count, *values = text.split(",")
        if int(count) != len(values):
            raise ValueError
        return ARRAY - number, [_number(value) for value in values]
    except ValueError:
        raise ModelLoadError(f"{where}: {word[:60]!a} is no parameter of the form number=value") from None


def _number(text: str) -> int | float:
    if "." in text or "e" in text.lower() or "n" in text.lower():
        value = float(text)
        if not math.isfinite(value):
            raise ValueError
        return value
    if not text.lstrip("+-").isdecimal() or not text.isascii():  # Python takes 8_1 as well
        raise ValueError
    return int(text[:24])


def _check_blobs(layers: list[Layer]) -> None:
    """Every blob is written once, and before it is read."""
    written: set[str] = set()
    for layer in layers:
        for blob in layer.bottoms:
            if blob not in written:
                layer.refuse(f"reads blob {blob[:60]!a}, which no layer before it writes")
        for blob in layer.tops:
            if blob in written:
                layer.refuse(f"writes blob {blob[:60]!a}, which another layer wrote")
            written.add(blob)
