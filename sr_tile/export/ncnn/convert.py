"""An ncnn network as an ONNX graph, dynamic in batch, height and width."""

from pathlib import Path

import numpy as np
import onnx

from sr_tile.engines.onnx_sessions import open_session
from sr_tile.engines.providers import Device
from sr_tile.errors import ModelLoadError, ModelOutputError, one_line
from sr_tile.export.architectures.network import Network
from sr_tile.export.graph_writer import GraphWriter
from sr_tile.export.ncnn.frame import Frame, measure_frame
from sr_tile.export.ncnn.operators import OPERATORS, Context
from sr_tile.export.ncnn.param import Layer, files_of, read_param
from sr_tile.export.ncnn.weights import WeightReader
from sr_tile.models.receptive_field import Picture, Run


def load_ncnn(path: Path) -> Network:
    """Read `NAME.param` and the `NAME.bin` beside it; either may be named.

    The reference for its graph is what its layers alone compute for a picture that NumPy pads.

    Raises:
        ModelLoadError: a file is missing, damaged, or holds what cannot be converted; the message names the layer.
    """
    param, weights = files_of(path)
    layers = read_param(param)
    channels = _channels(layers, param)
    run = _runner(_graph(layers, weights, channels, 18, None), param)

    def side(pixels: int) -> int:
        output = run(np.zeros((1, channels, pixels, pixels), np.float32))
        if output.ndim != 4 or output.shape[1] != channels or output.shape[2] != output.shape[3]:
            raise ModelOutputError(
                f"{param}: gives {output.shape} for {channels} channels of {pixels} x {pixels} pixels"
            )
        return int(output.shape[2])

    frame = measure_frame(side, str(param))
    return Network(
        architecture=f"ncnn ({', '.join(sorted({layer.kind for layer in layers} - {'Input', 'Split'}))})",
        channels=channels,
        scale=frame.scale,
        multiple=frame.period,
        graph=lambda opset: _graph(layers, weights, channels, opset, frame if frame.is_needed else None),
        reference=lambda picture: frame.apply(run, picture),
        against="its layers one by one",
        is_multiple_known=False,
    )


def _channels(layers: list[Layer], path: Path) -> int:
    """Channels of the picture: what the input says, or the first convolution expects."""
    inputs = [layer for layer in layers if layer.kind == "Input"]
    if len(inputs) != 1 or len(inputs[0].tops) != 1:
        raise ModelLoadError(f"{path}: has {len(inputs)} inputs; a network of pictures has one")
    known, shrink = inputs[0].whole(2), 1
    for layer in layers:
        if known:
            break
        if layer.kind == "Reorg":
            shrink *= max(1, layer.whole(0, 1)) ** 2
        if layer.kind == "Convolution":
            kernel = layer.whole(0) * layer.whole(1) * layer.whole(11, layer.whole(1))
            known = layer.whole(6) // max(1, kernel * shrink)
    if known not in (1, 3):
        inputs[0].refuse(f"takes {known} channels; sr-tile runs networks of 1 or 3")
    return known


def _graph(layers: list[Layer], weights: Path, channels: int, opset: int, frame: Frame | None) -> onnx.ModelProto:
    graph = GraphWriter(ascii(weights.stem), channels, opset)
    reader = WeightReader(weights)
    context = Context(graph, reader)
    names: dict[str, str] = {}
    unread = {blob: layer for layer in layers for blob in layer.tops}
    for layer in layers:
        inputs = [names[blob] for blob in layer.bottoms]
        if layer.kind == "Input":
            outputs = [_pad(graph, frame) if frame else graph.input]
        elif convert := OPERATORS.get(layer.kind):
            if not inputs:
                layer.refuse("reads nothing")
            outputs = convert(context, layer, inputs)
        else:
            layer.refuse(f"is an operator that is not supported; supported are {', '.join(OPERATORS)}")
        if len(outputs) != len(layer.tops):
            layer.refuse(f"writes {len(layer.tops)} blobs; expected {len(outputs)}")
        if context.is_vector(layer):
            context.vectors.update(layer.tops)
        names |= dict(zip(layer.tops, outputs, strict=True))
        for blob in layer.bottoms:
            unread.pop(blob, None)
    if len(unread) != 1:
        raise ModelLoadError(f"{weights.with_suffix('.param')}: has {len(unread)} outputs; expected one")
    if reader.left:
        raise ModelLoadError(
            f"{weights}: holds {reader.left} bytes more than its layers take; is it another network's?"
        )
    result = names[next(iter(unread))]
    return graph.model(_cut(graph, result, frame) if frame else result)


def _pad(graph: GraphWriter, frame: Frame) -> str:
    """The picture with its edge repeated around it."""
    size = graph.size(graph.input)
    border = graph.ints(frame.border, frame.border)
    missing = graph.op("Sub", graph.ints(frame.rest - 2 * frame.border), size)
    behind = graph.op("Add", border, graph.op("Mod", missing, graph.ints(frame.period)))
    pads = graph.op("Concat", graph.ints(0, 0), border, graph.ints(0, 0), behind, axis=0)
    return graph.op("Pad", graph.input, pads, mode="edge")


def _cut(graph: GraphWriter, value: str, frame: Frame) -> str:
    """The output at `scale` times the size of the picture."""
    first = graph.ints(frame.cut, frame.cut)
    size = graph.op("Mul", graph.size(graph.input), graph.ints(frame.scale))
    return graph.op("Slice", value, first, graph.op("Add", first, size), graph.ints(2, 3))


def _runner(model: onnx.ModelProto, path: Path) -> Run:
    session = open_session(model.SerializeToString(), Device("cpu"), path.name)

    def run(picture: Picture) -> Picture:
        try:
            return session.run(None, {"input": picture})[0]
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise ModelOutputError(f"{path}: fails on {picture.shape}: {one_line(error)}") from None

    return run
