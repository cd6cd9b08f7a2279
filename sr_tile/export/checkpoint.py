"""Export a checkpoint: recognise it, write its graph, verify the graph, measure it, describe it, give it its name."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import sr_tile
from sr_tile.engines.onnx_sessions import open_session
from sr_tile.engines.providers import Device
from sr_tile.errors import ArgumentError, ModelLoadError, ModelOutputError, SrTileError
from sr_tile.export.architectures import Network, Pooling, detect
from sr_tile.export.graph_writer import Array
from sr_tile.export.ncnn import files_of, is_ncnn, load_ncnn
from sr_tile.export.state_dict import load_state, readings
from sr_tile.models.probing import CANVAS, padding, phase
from sr_tile.models.receptive_field import Picture, Run, measure, natural_like
from sr_tile.models.spec import METADATA_KEY, ModelSpec
from sr_tile.system.atomic_file import atomic_write
from sr_tile.system.hashes import sha256_of
from sr_tile.tiling.grid import round_up

TOLERANCE = 1e-5
OPSETS = range(18, 21)
"""From 18 on, reductions take their axes as an input."""


@dataclass(frozen=True)
class ExportReport:
    """What was exported and how well.

    Attributes:
        path: the file written.
        metadata: what was stored under the key `sr_tile` in the file.
        size: bytes of the file.
        worst_error: largest relative error of the graph against its reference.
        errors: the error of each case, by its name.
    """

    path: Path
    metadata: dict[str, Any]
    size: int
    worst_error: float
    errors: dict[str, float]


def export(
    checkpoint: str | Path,
    output: str | Path,
    *,
    pooling: Pooling = "global",
    opset: int = 18,
    name: str | None = None,
    licence: str | None = None,
    tolerance: float = TOLERANCE,
) -> ExportReport:
    """Write a checkpoint as an ONNX graph with dynamic batch, height and width.

    Args:
        checkpoint: `.pth`, `.pt`, `.ckpt` or `.safetensors`; or the `.param` of an ncnn network, beside its `.bin`.
        output: the `.onnx` file; appears complete or not at all.
        pooling: "local" gives NAFNet the windows of TLC, for inputs beyond 384 pixels.
        opset: version of the standard ONNX operators, 18 to 20.
        name: how the model is called; None for the checkpoint's file name.
        licence: licence of the weights, stored as it is.
        tolerance: largest relative error against Torch (ncnn: against the layers without their frame) that is accepted.

    Raises:
        ModelLoadError: the checkpoint can't be read or is not understood.
        ModelOutputError: the graph doesn't give what Torch gives; no file is left.
        ArgumentError: an option is out of its range.
    """
    source, target = Path(checkpoint), Path(output)
    if opset not in OPSETS:
        raise ArgumentError(f"opset {opset} is not supported; use {OPSETS[0]} to {OPSETS[-1]}")
    if target.suffix.lower() != ".onnx" or not target.parent.is_dir():
        raise ArgumentError(f"output {target}: must end in .onnx and lie in a folder that exists")
    if is_ncnn(source):
        network, weights = load_ncnn(source), files_of(source)[1]
    else:
        _require_torch()
        network, weights = _recognise(load_state(source), pooling), source
    model = network.graph(opset)
    with atomic_write(target) as temporary:
        onnx.save(model, temporary)
        run = _session(temporary)
        errors = verify(run, network.reference, network.channels, network.scale, network.multiple)
        worst = max(errors, key=lambda case: errors[case])
        if not errors[worst] <= tolerance:
            raise ModelOutputError(
                f"{source}: the exported graph differs from {network.against} by {errors[worst]:.1e} on {worst}, "
                f"allowed {tolerance:.0e}; nothing was written"
            )
        verified = {"against": network.against, "tolerance": tolerance, "worst": errors[worst], "errors": errors}
        metadata = _describe(network, run) | {
            "name": name or source.stem,
            "checkpoint_sha256": sha256_of(weights),
            "licence": licence,
            "verification": verified,
        }
        onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(metadata)})
        onnx.save(model, temporary)
    return ExportReport(target, metadata, target.stat().st_size, errors[worst], errors)


def verify(run: Run, forward: Run, channels: int, scale: int, multiple: int) -> dict[str, float]:
    """Largest relative error of `run` against `forward` in each case: sizes, batches, natural-like and random input.

    The error is the largest absolute difference over the largest absolute value that `forward` gives, or over white, the
    larger: of a result near 0 the rounding of what it was computed from must not count.
    """
    base = max(multiple, 32)
    cases = [(1, base, base), (3, base, base), (1, 100, 130), (1, 65, 64), (1, 1, 1)]
    errors = {}
    for batch, height, width in cases:
        random = np.random.default_rng(1).random((batch, channels, height, width), dtype=np.float32)
        for kind, picture in (("natural", natural_like(batch, channels, height, width)), ("random", random)):
            wanted = forward(picture)
            got = run(picture)
            if got.shape != wanted.shape or got.shape[2:] != (height * scale, width * scale):
                raise ModelOutputError(
                    f"the exported graph gives {got.shape} for {picture.shape}, the checkpoint {wanted.shape}"
                )
            peak = max(float(np.abs(wanted).max()), 1.0)
            errors[f"{kind} {batch}x{channels}x{height}x{width}"] = float(np.abs(got - wanted).max()) / peak
    return errors


def _recognise(state: dict[str, Array], pooling: Pooling) -> Network:
    """The first reading of the names that is an architecture; where none is, what was wrong with the plain one."""
    failure: ModelLoadError | None = None
    for reading in readings(state):
        try:
            network = detect(reading, pooling)
            if network.channels not in (1, 3):
                raise ModelLoadError(
                    f"{network.architecture} takes pictures of {network.channels} channels; sr-tile feeds 1 or 3"
                )
            return network
        except ModelLoadError as error:
            failure = failure or error
    raise failure or ModelLoadError("the checkpoint holds no weights")


def _session(path: Path) -> Run:
    session = open_session(path, Device("cpu"))

    def run(picture: Picture) -> Picture:
        try:
            return session.run(None, {"input": picture})[0]
        except Exception as error:
            raise ModelOutputError(f"the exported graph fails on {picture.shape}: {str(error)[:200]}") from None

    return run


def _describe(network: Network, run: Run) -> dict[str, Any]:
    """What is measured on the graph, and what is known of the network."""
    if not network.is_multiple_known:
        size = round_up(CANVAS, network.multiple)
        found = phase(run, network.channels, network.scale, 1, (size, size))
        network = replace(network, multiple=math.lcm(found, network.multiple))
    field = measure(run, network.channels, network.scale, network.multiple)
    spec = ModelSpec(network.architecture, network.scale, network.channels, network.multiple)
    facts = {key: getattr(network, key) for key in ("architecture", "channels", "scale", "multiple", "tile")}
    return {
        **facts,
        **asdict(field),
        "padding": padding(run, spec),
        "pooling": network.pooling,
        "value_range": [0.0, 1.0],
        "exporter_version": sr_tile.__version__,
    }


def _require_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError:
        raise SrTileError("exporting needs Torch; pip install 'sr-tile[export]'") from None
