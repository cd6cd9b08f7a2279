"""float16, for weights alone or for the arithmetic too.

Which nodes bear it is measured on the CPU, which has hardly any arithmetic in float16: ONNX Runtime widens there, and
hides every overflow that a GPU would show. So the rounding is put into a float32 graph as pairs of casts (to float16
and back), which the runtime keeps. That is what a GPU does that stores float16 and adds up in float32.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sr_tile.export.precision.compare import (
    Judgement,
    PrecisionReport,
    Runner,
    judge,
    read_spec,
    save_judged,
    too_lossy,
)
from sr_tile.export.precision.onnx_passes import float_tensors, load_float, tidy, without_repeats
from sr_tile.export.precision.pictures import pictures_for
from sr_tile.models.onnx_files import inner_graphs

if TYPE_CHECKING:
    import onnx

LIMIT = 65504.0
HEADROOM = 2.0  # for pictures unlike those of the calibration
NODE_ERROR = 5e-3  # rounding alone gives some 3e-4
MAX_RELATIVE_ERROR = 1e-2
MAX_LOSS_DB = 0.1


@dataclass(frozen=True)
class NodeError:
    """What float16 does to one node, everything before it being exact.

    Attributes:
        node: its name.
        peak: the largest absolute value of its outputs.
        error: RMS error over RMS of its outputs, infinite where a value overflowed.
    """

    node: str
    peak: float
    error: float

    @property
    def unfit(self) -> bool:
        """True where the node must stay in float32."""
        return self.peak * HEADROOM > LIMIT or self.error > NODE_ERROR


def to_fp16(source: Path, target: Path, *, calibrate: Path | None = None) -> PrecisionReport:
    """Write a model that stores and computes in float16, but for nodes that overflow or lose too much.

    Input and output stay float32, so that the file takes the place of the other.

    Args:
        source: the model in float32.
        target: the file to write.
        calibrate: folder of images; None takes rendered ones.

    Raises:
        ModelLoadError: not a model in float32 that sr-tile can run.
        PrecisionLossError: over `MAX_RELATIVE_ERROR` or `MAX_LOSS_DB` whatever is kept; nothing was written.
    """
    model = load_float(source)
    calibration, independent = pictures_for(read_spec(source), calibrate)
    runner = Runner(source)
    wanted = [runner(picture) for picture in calibration.inputs]
    errors = sorted(measure_nodes(model, calibration.inputs[:6]), key=lambda one: -one.error)
    order = [one.node for one in errors if one.unfit] + [one.node for one in errors if not one.unfit]
    kept = sum(one.unfit for one in errors)
    while True:
        emulated = Runner(emulate(model, order[:kept]))
        judgement = judge([emulated(picture) for picture in calibration.inputs], wanted, calibration)
        if _passes(judgement):
            break
        if kept == len(order):
            _checker(source)(judgement)
        kept = min(len(order), max(kept + 1, 2 * kept))
    report = _report("fp16", source, order[:kept])
    half, stand_in = _convert(model, order[:kept]), emulate(model, order[:kept])
    return save_judged(source, target, half, independent, report, _checker(source), stand_in)


def store_fp16(source: Path, target: Path, *, calibrate: Path | None = None) -> PrecisionReport:
    """Write a model whose weights are float16 in the file and float32 from its loading on: half the size, same speed.

    ONNX Runtime folds the casts when it loads the file. Weights beyond float16 stay as they are.

    Raises:
        ModelLoadError: not a model in float32 that sr-tile can run.
        PrecisionLossError: over `MAX_RELATIVE_ERROR` or `MAX_LOSS_DB`; nothing was written.
    """
    from onnx import TensorProto, helper, numpy_helper

    model = load_float(source)
    _, independent = pictures_for(read_spec(source), calibrate)
    casts, kept = [], []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < 16:
            continue
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max() > LIMIT:
            kept.append(tensor.name)
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}/half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], f"{name}/widen", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    report = _report("fp16-storage", source, kept)
    return save_judged(source, target, model, independent, report, _checker(source))


def measure_nodes(model: "onnx.ModelProto", batches: Sequence[np.ndarray]) -> list[NodeError]:
    """Range and error of each node in float16, all others exact, over some pictures.

    The graph computes in float32; beside each node stands a shadow that reads and gives rounded values, and three sums
    of both leave the graph, so that memory stays small.
    """
    import onnx
    from onnx import TensorProto, helper
    from onnxruntime import GraphOptimizationLevel

    probe = copy.deepcopy(model)
    floats, rounded = float_tensors(model), set[str]()
    graph, outputs, names = probe.graph, list[str](), list[str]()
    for node in model.graph.node:
        results = [name for name in node.output if name in floats]
        inputs = [name for name in node.input if name in floats]
        if not results or not inputs or any(inner_graphs(node)):
            continue
        for name in inputs:
            if name not in rounded:
                graph.node.extend(_round(name, f"{name}/half"))
                rounded.add(name)
        shadow = copy.deepcopy(node)
        shadow.name = f"{node.name}/shadow"
        shadow.input[:] = [f"{name}/half" if name in floats else name for name in node.input]
        shadow.output[:] = [f"{name}/shadow" for name in node.output]
        graph.node.append(shadow)
        name = results[0]
        make = helper.make_node
        graph.node.extend(_round(f"{name}/shadow", f"{name}/narrow"))
        graph.node.extend(
            [
                make("Abs", [name], [f"{name}/abs"]),
                make("ReduceMax", [f"{name}/abs"], [f"{name}/peak"], keepdims=0),
                make("ReduceL2", [name], [f"{name}/size"], keepdims=0),
                make("Sub", [f"{name}/narrow", name], [f"{name}/difference"]),
                make("ReduceL2", [f"{name}/difference"], [f"{name}/error"], keepdims=0),
            ]
        )
        outputs += [f"{name}/{what}" for what in ("peak", "size", "error")]
        names.append(node.name)
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, ()) for name in outputs)
    onnx.helper.set_model_props(probe, {})
    if not outputs:
        return []
    # Optimising thousands of nodes that run a few times takes minutes.
    runner = Runner(probe, graph_optimization_level=GraphOptimizationLevel.ORT_DISABLE_ALL)
    values = np.array([runner.all(batch) for batch in batches], np.float64).reshape(len(batches), -1, 3)
    peak = values[:, :, 0].max(axis=0)
    size, error = (np.sqrt((values[:, :, column] ** 2).sum(axis=0)) for column in (1, 2))
    ratio = np.where(np.isfinite(error), error / np.maximum(size, 1e-12), np.inf)
    return [NodeError(*one) for one in zip(names, peak.tolist(), ratio.tolist(), strict=True)]


def emulate(model: "onnx.ModelProto", kept: Sequence[str]) -> "onnx.ModelProto":
    """The model in float32 with each tensor rounded to float16, but inputs and outputs of the `kept` nodes."""
    model = copy.deepcopy(model)
    floats, exact = float_tensors(model), set(kept)
    nodes = list(model.graph.node)
    # A tensor between two kept nodes is stored in float32, so only readers that compute in float16 see it rounded.
    made = {name: node.name for node in nodes for name in node.output}
    renamed: dict[str, str] = {}
    for node in nodes:
        for index, name in enumerate(node.input):
            both_exact = node.name in exact and (name not in made or made[name] in exact)
            if name in floats and not both_exact and not any(inner_graphs(node)):
                renamed.setdefault(name, f"{name}/half")
                node.input[index] = renamed[name]
    casts = [node for name, half in renamed.items() for node in _round(name, half)]
    model.graph.node.extend(casts)
    return tidy(model)


def _convert(model: "onnx.ModelProto", kept: Sequence[str]) -> "onnx.ModelProto":
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half = convert_float_to_float16(copy.deepcopy(model), keep_io_types=True, node_block_list=list(kept))
    return without_repeats(tidy(half))


def _round(name: str, rounded: str) -> list["onnx.NodeProto"]:
    from onnx import TensorProto, helper

    return [
        helper.make_node("Cast", [name], [f"{rounded}/16"], f"{rounded}/narrow", to=TensorProto.FLOAT16),
        helper.make_node("Cast", [f"{rounded}/16"], [rounded], f"{rounded}/widen", to=TensorProto.FLOAT),
    ]


def _passes(judgement: Judgement) -> bool:
    return judgement.relative_error <= MAX_RELATIVE_ERROR and judgement.loss_db <= MAX_LOSS_DB


def _report(precision: str, source: Path, kept: Sequence[str]) -> PrecisionReport:
    return PrecisionReport(precision, source.stat().st_size, 0, 0.0, 0.0, 0.0, 0.0, tuple(kept))


def _checker(source: Path) -> Callable[[Judgement], None]:
    def check(judgement: Judgement) -> None:
        if not _passes(judgement):
            raise too_lossy(source, "float16", judgement, f"{MAX_LOSS_DB} dB and {MAX_RELATIVE_ERROR:.0e}")

    return check
