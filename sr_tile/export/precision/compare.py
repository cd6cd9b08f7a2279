"""What a conversion is judged by: runs of two models on the same pictures, and the figures that come of them."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.engines.onnx_sessions import open_session
from sr_tile.engines.providers import Device
from sr_tile.errors import ModelError, PrecisionLossError
from sr_tile.export.precision.pictures import Pictures
from sr_tile.models.spec import METADATA_KEY, ModelSpec
from sr_tile.system.atomic_file import atomic_write
from sr_tile.tiling.blending import from_range

if TYPE_CHECKING:
    import onnx

# A restored photograph is seldom closer to the truth than this; see `psnr_loss`.
TYPICAL_PSNR = 35.0


@dataclass(frozen=True)
class PrecisionReport:
    """What a conversion cost and gained, measured on pictures that it was not calibrated with.

    Attributes:
        precision: `fp16`, `fp16-storage` or `int8`.
        bytes_before: size of the file in float32.
        bytes_after: size of the new file.
        psnr: of its output against that of float32, in dB, in the worst picture; infinite where they are equal.
        loss_db: PSNR against the truth that is lost, mean; see `psnr_loss`.
        relative_error: largest difference from float32 over the largest value of its output.
        speed: times as fast as float32 on this machine's CPU, median of interleaved runs; above 1 is faster.
        kept_float: names of nodes left in float32.
    """

    precision: str
    bytes_before: int
    bytes_after: int
    psnr: float
    loss_db: float
    relative_error: float
    speed: float
    kept_float: tuple[str, ...] = ()

    def __str__(self) -> str:
        kept = f"; in float32 still: {', '.join(self.kept_float)}" if self.kept_float else ""
        return (
            f"{self.precision}: {self.bytes_after} bytes, {self.bytes_after / self.bytes_before:.2f} of float32; "
            f"PSNR {self.psnr:.1f} dB against it, {self.loss_db:.3f} dB lost against the truth; "
            f"{self.speed:.2f} x as fast on this CPU{kept}"
        )


@dataclass(frozen=True)
class Judgement:
    """How far one model's outputs are from another's; the fields are those of `PrecisionReport`."""

    psnr: float
    loss_db: float
    relative_error: float


class Runner:
    """A model in memory in a plain session on the CPU."""

    def __init__(self, model: "onnx.ModelProto | Path", **settings: Any) -> None:
        content = model if isinstance(model, Path) else model.SerializeToString()
        self._session = open_session(content, Device("cpu"), "after conversion", **settings)
        self._input = self._session.get_inputs()[0]
        self.outputs = [output.name for output in self._session.get_outputs()]

    def all(self, batch_nchw: np.ndarray) -> list[np.ndarray]:
        """Every output, in the order of `outputs`."""
        half = self._input.type == "tensor(float16)"
        return list(self._session.run(None, {self._input.name: batch_nchw.astype(np.float16 if half else np.float32)}))

    def __call__(self, batch_nchw: np.ndarray) -> np.ndarray:
        """The first output, float32."""
        return np.asarray(self.all(batch_nchw)[0], np.float32)


def values_inside(model: "onnx.ModelProto", names: Iterable[str]) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """What gives the named values of a graph, for a batch; all of them float32."""
    import onnx

    shown, wanted = onnx.ModelProto(), dict.fromkeys(names)
    shown.CopyFrom(model)
    known = {value.name for value in (*model.graph.input, *model.graph.output)}
    shown.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in wanted if name not in known
    )
    runner, given = Runner(shown), model.graph.input[0].name

    def values_of(batch_nchw: np.ndarray) -> dict[str, np.ndarray]:
        found = dict(zip(runner.outputs, runner.all(batch_nchw), strict=True)) | {given: batch_nchw}
        return {name: found[name] for name in wanted}

    return values_of


def read_spec(path: Path) -> ModelSpec:
    """The model's facts, the scale measured where the file does not say it.

    Raises:
        ModelLoadError: no model that sr-tile can run.
    """
    engine = OnnxEngine(path, "cpu")
    engine.close()
    return engine.spec


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error in the range [0, 1]."""
    return float("inf") if mse == 0 else float(-10 * np.log10(mse))


def psnr_loss(before: np.ndarray, after: np.ndarray, truth: np.ndarray | None) -> float:
    """PSNR that `after` loses against `before`, in dB, both in the range [0, 1].

    Where the truth is not known, it is taken to lie `TYPICAL_PSNR` from `before` in a direction of its own, so that the
    squared errors add: 0.2 dB are lost where `after` is 48 dB from `before`.
    """
    change = float(np.mean((after - before) ** 2, dtype=np.float64))
    if truth is None:
        return float(10 * np.log10(1 + change * 10 ** (TYPICAL_PSNR / 10)))
    # A floor, or a flat picture restored to the last bit decides over all others.
    floor = 10 ** (-TYPICAL_PSNR / 10) / 100
    errors = [float(np.mean((picture - truth) ** 2, dtype=np.float64)) for picture in (before, after)]
    return psnr(errors[0] + floor) - psnr(errors[1] + floor)


def judge(outputs: Sequence[np.ndarray], wanted: Sequence[np.ndarray], pictures: Pictures) -> Judgement:
    """Compare a model's outputs for `pictures` with those of float32; any that is no number makes all infinite."""
    if not all(np.isfinite(output).all() for output in outputs):
        return Judgement(-float("inf"), float("inf"), float("inf"))
    worst, losses, relative = float("inf"), [], 0.0
    for output, reference, truth in zip(outputs, wanted, pictures.truths, strict=True):
        before, after = (from_range(values, pictures.value_range) for values in (reference, output))
        worst = min(worst, psnr(float(np.mean((after - before) ** 2, dtype=np.float64))))
        losses.append(psnr_loss(before.clip(0, 1), after.clip(0, 1), truth))
        relative = max(relative, float(np.abs(output - reference).max() / max(np.abs(reference).max(), 1e-12)))
    return Judgement(worst, statistics.fmean(losses), relative)


def speed_ratio(before: Runner, after: Runner, batch_nchw: np.ndarray) -> float:
    """Times as fast as `before`, by the median ratio of seven interleaved runs after one to warm up."""
    ratios = []
    for number in range(8):
        start = time.perf_counter()
        before(batch_nchw)
        middle = time.perf_counter()
        after(batch_nchw)
        end = time.perf_counter()
        if number:
            ratios.append((middle - start) / (end - middle))
    return statistics.median(ratios)


def save_judged(
    source: Path,
    target: Path,
    model: "onnx.ModelProto",
    pictures: Pictures,
    report: PrecisionReport,
    check: Callable[[Judgement], None],
    stand_in: "onnx.ModelProto | None" = None,
) -> PrecisionReport:
    """Write the model with its figures as a part file, measure that very file, and rename it.

    Args:
        source: the model in float32.
        target: the name it gets.
        model: the converted one.
        pictures: for the figures.
        report: all but the figures.
        check: raises where the figures miss the bounds.
        stand_in: what the model is on devices that round more than this CPU does; the worse of both is reported.

    Raises:
        ModelError: the file cannot be written; nothing is left.
    """
    import onnx

    try:
        with atomic_write(target) as part:
            onnx.save(model, part)
            before, after = Runner(source), Runner(part)
            wanted = [before(picture) for picture in pictures.inputs]
            judged = [after] if stand_in is None else [after, Runner(stand_in)]
            judgement = min(
                (judge([runner(picture) for picture in pictures.inputs], wanted, pictures) for runner in judged),
                key=lambda one: one.psnr,
            )
            check(judgement)
            speed = speed_ratio(before, after, pictures.inputs[0])
            report = dataclasses.replace(report, speed=round(speed, 3), **dataclasses.asdict(judgement))
            _describe(model, source, report)
            onnx.save(model, part)
            return dataclasses.replace(report, bytes_after=part.stat().st_size)
    except OSError as error:
        raise ModelError(
            f"model {target}: cannot be written ({error.strerror or error}); choose another place"
        ) from error


def too_lossy(source: Path, precision: str, judgement: Judgement, bound: str) -> PrecisionLossError:
    """The error of a model that passes its bound in no way that was tried."""
    return PrecisionLossError(
        f"model {source.name}: {precision} loses {judgement.loss_db:.2f} dB with a relative error of "
        f"{judgement.relative_error:.1e}, the bound is {bound}; nothing was written, use it in float32"
    )


def _describe(model: "onnx.ModelProto", source: Path, report: PrecisionReport) -> None:
    """Carry the metadata over, with the precision and the figures."""
    import onnx

    kept = {entry.key: entry.value for entry in model.metadata_props}
    spec = ModelSpec.from_metadata(kept.get(METADATA_KEY), source.stem)
    figures = {
        "psnr_to_fp32_db": None if np.isinf(report.psnr) else round(report.psnr, 2),
        "psnr_loss_db": round(report.loss_db, 4),
        "relative_error": float(f"{report.relative_error:.2e}"),
        "kept_float": list(report.kept_float),
    }
    details = {**spec.details, "precision": report.precision, "precision_verification": figures}
    text = dataclasses.replace(spec, details=details).to_metadata()
    onnx.helper.set_model_props(model, {**kept, METADATA_KEY: text})
