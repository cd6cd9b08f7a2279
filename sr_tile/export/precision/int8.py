"""Static int8: integers wherever layers bear it, float32 elsewhere, found by measuring.

Weights are signed, symmetric, with a scale for each output channel; activations are unsigned with a zero point: x86 has
one instruction for unsigned times signed (VNNI, AMX), and none of ONNX Runtime's kernels for signed activations use it
(signed ones were no faster than float32). Weights keep all 8 bits: 7 would help only CPUs without VNNI, whose
16-bit sums can saturate, and cost accuracy everywhere. Quantised are the layers with weights and what lies between
them, so that values stay integers from one to the next; what comes after the last of them stays float32, for no integer
arithmetic reads it, and the picture would be rounded to 8 bits within the range seen in calibration.

Channels are brought nearer to one range first (`equalise`), and weights are rounded for what they read (`weight_rounding`).
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sr_tile.errors import PrecisionLossError
from sr_tile.export.precision.compare import (
    Judgement,
    PrecisionReport,
    Runner,
    judge,
    read_spec,
    save_judged,
    too_lossy,
    values_inside,
)
from sr_tile.export.precision.equalise import equalise
from sr_tile.export.precision.onnx_passes import float_tensors, load_float, tidy
from sr_tile.export.precision.pictures import Pictures, pictures_for
from sr_tile.export.precision.weight_rounding import WeightRounding

if TYPE_CHECKING:
    import onnx

# Not MatMul: ONNX Runtime refuses its integer form at batches and sizes other than those calibrated with.
WEIGHTED = ("Conv", "ConvTranspose", "Gemm")
ACTIVATIONS = ("Relu", "Clip", "LeakyRelu")
BETWEEN = (*ACTIVATIONS, "Add", "Concat", "MaxPool", "AveragePool")


def to_int8(source: Path, target: Path, *, calibrate: Path | None = None, max_loss_db: float = 0.2) -> PrecisionReport:
    """Write a model with int8 layers (QuantizeLinear and DequantizeLinear around them), the sensitive ones left alone.

    Where all layers together lose more than `max_loss_db`, each is tried alone, and those that lose most are left in
    float32, as few as bisection finds. The loss is PSNR against the truth, see `compare.psnr_loss`.

    Args:
        source: the model in float32.
        target: the file to write.
        calibrate: folder of images like those that the model will see; None takes rendered ones.
        max_loss_db: PSNR that may be lost.

    Raises:
        ModelLoadError: not a model in float32 that sr-tile can run.
        PrecisionLossError: not one layer can be int8 within the bound; nothing was written.
    """
    model = load_float(source)
    calibration, independent = pictures_for(read_spec(source), calibrate)
    names = quantisable(model)
    if not names:
        raise PrecisionLossError(
            f"model {source.name}: has no layer with weights that int8 knows ({', '.join(WEIGHTED)})"
        )
    search = _Search(model, names, source, calibration, max_loss_db)
    first = search.fewest_kept()
    for kept in range(first, len(search.order)):
        # The pictures that judge are not those of the search, and may ask for more.
        quantised = search.quantise(search.order[kept:])
        judgement = search.judge(quantised, independent)
        if judgement.loss_db <= max_loss_db:
            report = PrecisionReport("int8", source.stat().st_size, 0, 0.0, 0.0, 0.0, 0.0, tuple(search.order[:kept]))
            return save_judged(source, target, quantised, independent, report, lambda judgement: None)
    raise too_lossy(source, "int8", search.judge(search.quantise(search.order[-1:]), independent), f"{max_loss_db} dB")


class _Search:
    """Which layers to quantise.

    Attributes:
        order: names of nodes that can be quantised, the most sensitive first once that was measured.
    """

    def __init__(
        self, model: "onnx.ModelProto", names: list[str], source: Path, pictures: Pictures, max_loss_db: float
    ) -> None:
        equalise(model, pictures.inputs)
        self._model, self._pictures, self._max_loss_db = model, pictures, max_loss_db
        self._exact = Runner(source)
        self.order = names
        self._ranges = _ranges(model, self.order, pictures.inputs)
        self._rounding = WeightRounding(model, self.order, self._ranges, pictures.inputs)

    def quantise(self, nodes: Sequence[str]) -> "onnx.ModelProto":
        """The model with these nodes in int8."""
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        quantizer = QDQQuantizer(
            copy.deepcopy(self._model),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=list(nodes),
            nodes_to_exclude=[],
            op_types_to_quantize=[*WEIGHTED, *BETWEEN],
            extra_options={"WeightSymmetric": True},
        )
        quantizer.quantize_model()
        self._rounding.apply(quantizer.model.model)
        return tidy(quantizer.model.model)

    def judge(self, model: "onnx.ModelProto", pictures: Pictures) -> Judgement:
        """Against float32."""
        runner = Runner(model)
        wanted = [self._exact(picture) for picture in pictures.inputs]
        return judge([runner(picture) for picture in pictures.inputs], wanted, pictures)

    def fewest_kept(self) -> int:
        """Sort `order` if need be; how many of its first must stay float32 for the pictures of the calibration."""
        if self._loss(self.order) <= self._max_loss_db:
            return 0
        few = Pictures(self._pictures.inputs[:5], self._pictures.truths[:5], self._pictures.value_range)
        alone = {name: self.judge(self.quantise([name]), few).loss_db for name in self.order}
        self.order.sort(key=lambda name: -alone[name])
        low, high = 0, len(self.order)  # `low` loses too much, `high` loses nothing
        while high - low > 1:
            middle = (low + high) // 2
            if self._loss(self.order[middle:]) <= self._max_loss_db:
                high = middle
            else:
                low = middle
        return high

    def _loss(self, nodes: Sequence[str]) -> float:
        return self.judge(self.quantise(nodes), self._pictures).loss_db


def quantisable(model: "onnx.ModelProto") -> list[str]:
    """Names of the layers with weights and of what lies between them, in the order of the graph.

    But for the first layers, which no other layer with weights goes before, and the last, which none follows, where there
    are others: the first read the picture, and rounded weights show wherever it is bright; what the last give is the
    picture, or what is added to it, and so is what a convolution makes of the picture by a skip. In `clean-x2` these three
    are a fifth of the time, and all but 8 dB of the error.
    """
    constant = {tensor.name for tensor in model.graph.initializer}
    layers = [
        node
        for node in model.graph.node
        if node.op_type in WEIGHTED and len(node.input) > 1 and node.input[1] in constant
    ]
    read = _read_by(model, layers)
    given = _made_from(model, layers)
    inner = [node for node in layers if read.intersection(node.output) and given.intersection(node.input)]
    chosen = inner or [node for node in layers if read.intersection(node.output)] or layers
    wanted = _read_by(model, chosen)
    names = {node.name for node in chosen}
    # What a layer gives is rounded behind its activation, or half of the steps would be for numbers that this drops.
    results = {name for node in chosen for name in node.output}
    names |= {
        node.name for node in model.graph.node if node.op_type in ACTIVATIONS and results.intersection(node.input)
    }
    return [
        node.name
        for node in model.graph.node
        if node.name in names or (node.op_type in BETWEEN and wanted.intersection(node.output))
    ]


def _read_by(model: "onnx.ModelProto", layers: Sequence["onnx.NodeProto"]) -> set[str]:
    """Tensors that the layers read, at once or by way of other nodes."""
    names = {node.name for node in layers}
    wanted = set[str]()
    for node in reversed(model.graph.node):
        if node.name in names or wanted.intersection(node.output):
            wanted.update(node.input)
    return wanted


def _made_from(model: "onnx.ModelProto", layers: Sequence["onnx.NodeProto"]) -> set[str]:
    """Tensors that come of what the layers give, at once or by way of other nodes."""
    names = {node.name for node in layers}
    made = set[str]()
    for node in model.graph.node:
        if node.name in names or made.intersection(node.input):
            made.update(node.output)
    return made


def _ranges(model: "onnx.ModelProto", names: Sequence[str], batches: Sequence[np.ndarray]) -> Any:
    """Smallest and largest value, over the pictures of the calibration, of each tensor that the named nodes read or give."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

    pixels = float_tensors(model) - {tensor.name for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.name in names]
    tensors = sorted(pixels.intersection(name for node in nodes for name in (*node.input, *node.output)))
    values_of = values_inside(model, tensors)
    reached = dict.fromkeys(tensors, (np.float32(0), np.float32(0)))
    for batch in batches:
        for name, values in values_of(batch).items():
            low, high = reached[name]
            reached[name] = min(low, values.min()), max(high, values.max())
    return TensorsData(CalibrationMethod.MinMax, {name: tuple(map(np.asarray, ends)) for name, ends in reached.items()})
