"""Existing ONNX files: a fixed batch and size made dynamic or back, other conventions described, and proven by running."""

import copy
import re
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import onnx

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.errors import ModelError, ModelLoadError, SrTileError, one_line
from sr_tile.models.onnx_files import check_target, load_model
from sr_tile.models.spec import METADATA_KEY, ModelSpec, write_spec
from sr_tile.rebatch.dynamic_shapes import make_dynamic
from sr_tile.rebatch.graph import Dim, Graph
from sr_tile.rebatch.verify import Size, compare, other_sizes, tolerance
from sr_tile.system.atomic_file import TargetError, atomic_write
from sr_tile.system.stopping import temporary_folder

_NODE = re.compile(r"running (?P<op>\w+) node\. Name:'(?P<name>[^']*)'|Node \((?P<name2>[^)]*)\) Op \((?P<op2>\w+)\)")


@dataclass(frozen=True)
class RebatchOptions:
    """What a model file is to become.

    Attributes:
        batch: rows of a call; None leaves it as it is.
        size: (height, width) of the picture; None leaves it as it is.
        nhwc: the graph takes and gives (N, H, W, C); Transposes are put at its ends.
        bgr: the graph takes and gives blue first; its channels are reversed at its ends.
        facts: fields of `ModelSpec` that the file does not say, or says wrongly.
    """

    batch: Dim | None = "dynamic"
    size: Size | Literal["dynamic"] | None = None
    nhwc: bool = False
    bgr: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What was done.

    Attributes:
        spec: the new model's facts, measured where the file did not say.
        changes: a line for each node that was changed.
        runs: a line for each comparison.
        worst: the largest difference to the original, of the model's range of values.
        notes: what a user should look at.
    """

    spec: ModelSpec
    changes: list[str]
    runs: list[str]
    worst: float
    notes: list[str]


def rebatch(source: Path, target: Path, options: RebatchOptions | None = None, *, overwrite: bool = False) -> Report:
    """Write `source` as `options` says to `target`, after it gave the same pictures as the original.

    Raises:
        ArgumentError: the target cannot be a file, or the options do not fit the model.
        ModelError: the target exists, the file is no model that sr-tile can use, or a node prevents the options; nothing is
            written then.
    """
    options = options or RebatchOptions()
    check_target(target, overwrite)
    model = load_model(source)
    try:
        with temporary_folder(".sr-tile-", target.parent) as folder:
            first, second = folder / "original" / source.name, folder / target.name
            first.parent.mkdir()
            changes = _edit(model, options, first, second, target.stem)
            report = _prove(first, second, options, changes, Graph(onnx.load(second)).batch_axis_nodes())
            write_spec(second, report.spec)
            with atomic_write(target, overwrite=overwrite, durable=True) as part:
                shutil.copyfile(second, part)
    except TargetError as error:
        raise ModelLoadError(f"{target}: {error.strerror}") from None
    except OSError as error:
        raise ModelError(f"{target}: cannot be written: {error.strerror or error}") from None
    except SrTileError as error:
        if str(source) in str(error):
            raise
        raise type(error)(f"model {source}: {error}") from error
    return report


def _edit(model: onnx.ModelProto, options: RebatchOptions, first: Path, second: Path, name: str) -> list[str]:
    """Save the original with the layout of sr-tile, (N, C, H, W) in RGB, to `first`, and the edited one to `second`."""
    kept = {entry.key: entry.value for entry in model.metadata_props}
    spec = replace(ModelSpec.from_metadata(kept.get(METADATA_KEY), name), **options.facts)
    onnx.helper.set_model_props(model, {**kept, METADATA_KEY: spec.to_metadata()})
    try:
        graph = Graph(model)
        graph.adapt_layout(nhwc=options.nhwc, bgr=options.bgr)
        if "channels" in options.facts:
            graph.set_channels(spec.channels)
        _save(model, first)
        edited = Graph(copy.deepcopy(model))
        batch, _, *sides = edited.dims
        frees_size = options.size is not None and None not in sides and options.size != tuple(sides)
        frees_batch = options.batch is not None and options.batch != batch
        changes = make_dynamic(edited, batch if frees_batch else None, size=frees_size)
        edited.set_dims(options.batch, options.size)
        onnx.checker.check_model(edited.model)
        _save(edited.model, second)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        if isinstance(error, SrTileError):
            raise
        raise ModelError(f"is no graph that can be written: {one_line(error, 400)}") from error
    return changes


def _save(model: onnx.ModelProto, path: Path) -> None:
    if model.ByteSize() >= 2**31:
        raise ModelError("is larger than 2 GiB, the most that one ONNX file holds")
    path.write_bytes(model.SerializeToString())


def _prove(
    first: Path, second: Path, options: RebatchOptions, changes: list[str], batch_axis_nodes: list[str]
) -> Report:
    original = OnnxEngine(first, "cpu")
    try:
        new = OnnxEngine(second, "cpu")
        worst, runs = compare(original, new)
        notes = other_sizes(original, new, runs)
    except ModelError as error:
        raise ModelError(_blame(error, options, _look_at(changes, batch_axis_nodes))) from error
    finally:
        original.close()
    new.close()
    bound = tolerance(original)
    if not worst <= bound:
        raise ModelError(
            f"the result differs from the original by {worst:.1e} of its range, {bound:.0e} is allowed"
            f"{_look_at(changes, batch_axis_nodes)}; export the model again with dynamic axes"
        )
    record = {"worst": worst, "tolerance": bound, "runs": runs, "changes": changes}
    return Report(replace(new.spec, details={**new.spec.details, "rebatch": record}), changes, runs, worst, notes)


def _look_at(changes: list[str], batch_axis_nodes: list[str]) -> str:
    """Where the fault may be, when no node failed."""
    if batch_axis_nodes:
        return f"; look at {', '.join(batch_axis_nodes[:3])}, which mixes rows"
    return f"; look at {changes[0]}" if changes else ""


def _blame(error: ModelError, options: RebatchOptions, otherwise: str) -> str:
    """Which node failed, by what the runtime says."""
    text = one_line(error, 400)
    match = _NODE.search(text)
    if not match:
        return text + otherwise
    name, op = match["name"] or match["name2"] or "without a name", match["op"] or match["op2"]
    asked = " and ".join(
        f"{word} {value}" for word, value in (("batch", options.batch), ("size", options.size)) if value is not None
    )
    return f"node {name} ({op}) prevents {asked}: {text}; export the model again with dynamic axes"
