"""ONNX Runtime behind the engine protocol."""

import logging
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sr_tile.engines.base import BaseEngine, Subgraphs, whole
from sr_tile.engines.cuda_calls import CudaCalls
from sr_tile.engines.cuda_graphs import GRAPH_ID, GraphCalls
from sr_tile.engines.device_errors import Failure, failure_of
from sr_tile.engines.fp32_fallback import as_float32
from sr_tile.engines.integer_ends import as_floats, with_integer_ends
from sr_tile.engines.onnx_sessions import open_on, open_session, runtime
from sr_tile.engines.providers import Device
from sr_tile.engines.tensorrt import profile
from sr_tile.engines.time_limit import TimedCalls
from sr_tile.errors import (
    DeviceError,
    ModelLoadError,
    ModelOutputError,
    OutOfMemoryError,
    SrTileError,
    one_line,
)
from sr_tile.models.onnx_files import load_model
from sr_tile.models.probing import BEYOND, probe, probed
from sr_tile.models.spec import METADATA_KEY, ModelSpec
from sr_tile.system import memory, nvidia
from sr_tile.system.hashes import sha256_of
from sr_tile.tiling.grid import Region
from sr_tile.types import Array, Float32, Pixels

log = logging.getLogger("sr_tile")

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_REBUILD_WAITS = (0.0, 0.1, 0.5, 2.0)  # seconds before each try to rebuild: other programs give memory back


class OnnxEngine(BaseEngine):
    """One ONNX model in one ONNX Runtime session.

    Args:
        path: the model: one input (N, C, H, W) of float32 or float16 with 1 or 3 channels; its first output is the picture.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `tensorrt`, `directml`, `coreml`.
        options: of the device's provider, as ONNX Runtime's manual names them. With `enable_cuda_graph` at `1` calls are
            recorded and replayed, one at a time.

    Raises:
        ModelLoadError: the file is no such model.
        DeviceError: a device named explicitly cannot be had.
    """

    def __init__(self, path: Path | str, device: str = "auto", options: dict[str, str] | None = None) -> None:
        self._path = Path(path)
        if not self._path.is_file():
            raise ModelLoadError(
                f"model {self._path}: there is no such file; `sr-tile models list` names bundled models"
            )
        self._calls = TimedCalls(self._path.name)
        self._device, self._session = open_on(self._path, device, tuple((options or {}).items()))
        # Of a model in float16; made when first needed, False where the model has none.
        self._float32: Any = None
        # For pixels, by their type; made when first needed, False where the model cannot have it.
        self._for_pixels: dict[np.dtype, Any] = {}
        self._opening = threading.Lock()
        self.device = str(self._device)
        # Calls of two threads run on two streams of CUDA, so one computes while the other's pixels come or go.
        self.max_concurrency = 2 if self._device.nvidia and not self._device.graphs else 1
        self.uses_host_memory = self._device.kind == "cpu"
        self.prefers_few_shapes = self._device.kind == "tensorrt"  # it builds for minutes
        # TensorRT's profiles and recordings name and shape the input of the file.
        self.takes_pixels = self._device.kind == "cuda" and not self._device.graphs
        self._graphs: GraphCalls | None = None  # made when first needed
        copies = self.takes_pixels and nvidia.runtime() is not None
        self._cuda = CudaCalls(runtime(), self._device.index, self._calls) if copies else None
        self.empty = self._cuda.memory.empty if self._cuda else None
        self._full: dict[tuple[int, int], int] = {}  # the most rows that each shape of tiles came in
        self._lost = ""  # why there is no session
        self._doubts = 0  # ambiguous failures since the last call that was none
        self._dtype, self.spec = self._read_spec()
        self.spec = self._complete(self.spec)

    @property
    def identity(self) -> str:
        """Hash of the model with runtime, device and number type, for caches on disk."""
        digest = sha256_of(self._path)
        name = nvidia.gpu_name(self._device.index) if self._device.nvidia else ""
        kind = f"{np.dtype(self._dtype)}{'-pixels' if self.takes_pixels else ''}"
        return f"{digest}-ort{runtime().__version__}-{self.device}-{name}-{kind}"

    @property
    def number_type(self) -> type:
        """float32 or float16, what the graph takes."""
        return self._dtype

    def subgraphs(self) -> Subgraphs:
        """See `Engine.subgraphs`."""
        import onnx  # heavy, and only needed to take a graph apart

        float32 = as_float32(self._path)
        model = onnx.load_from_string(float32) if float32 else onnx.load(self._path)
        return Subgraphs(model, *self._ends(), lambda part: open_session(part, self._device, self.spec.name))

    def _ends(self) -> tuple[str, str]:
        """Names of the input and of the output."""
        return self._session.get_inputs()[0].name, self._session.get_outputs()[0].name

    def run(self, batch_nchw: Pixels[Array, "n c h w"]) -> Pixels[Array, "n c H W"]:
        """See `Engine.run`."""
        return self._run_cropped(batch_nchw, None)

    def run_cropped(self, batch_nchw: Pixels[Array, "n c h w"], regions: Sequence[Region]) -> Pixels[Array, "n c H W"]:
        """See `Engine.run_cropped`."""
        return self._run_cropped(batch_nchw, regions) if self._cuda else self.run(batch_nchw)

    def _run_cropped(self, batch_nchw: np.ndarray, regions: Sequence[Region] | None) -> np.ndarray:
        if batch_nchw.dtype.kind == "u" and (session := self._session_for(batch_nchw.dtype)):
            pixels, sums = self._run(batch_nchw, session, batch_nchw.dtype, outputs=2, regions=regions)
            if np.isfinite(sums).all():
                return pixels
        return self._run_floats(batch_nchw, self._session, self._dtype, regions)

    def run_exact(self, batch_nchw: Pixels[Array, "n c h w"]) -> Float32[Array, "n c H W"] | None:
        """See `Engine.run_exact`: a model in float16 gets a session in float32, made the first time."""
        if self._float32 is None:
            # TF32, which CUDA takes for products of float32, keeps 10 bits of each factor.
            model = as_float32(self._path) or (self._path if self._device.kind == "cuda" else None)
            self._float32 = open_session(model, self._device.exact(), self._path.name) if model else False
        return self._run_floats(batch_nchw, self._float32, np.float32) if self._float32 else None

    def _session_for(self, dtype: np.dtype) -> Any:
        """Takes pixels of this type; False where the model is none that can."""
        with self._opening:
            if dtype not in self._for_pixels and self._session is not None:
                try:
                    model = with_integer_ends(load_model(self._path), self._ends(), self.spec.value_range, dtype)
                    self._for_pixels[dtype] = open_session(model, self._device, self._path.name) if model else False
                except (DeviceError, ModelLoadError) as error:  # a device that is gone will say so of floats too
                    log.warning("%s; pixels go there as floats", error)
                    self._for_pixels[dtype] = False
            return self._for_pixels.get(dtype, False)

    def _run_floats(
        self, batch_nchw: np.ndarray, session: Any, dtype: type, regions: Sequence[Region] | None = None
    ) -> np.ndarray:
        (output,) = self._run(as_floats(batch_nchw, self.spec.value_range), session, dtype, regions=regions)
        return output.astype(np.float32, copy=False)

    def _run(
        self,
        batch_nchw: np.ndarray,
        session: Any,
        dtype: Any,
        outputs: int = 1,
        regions: Sequence[Region] | None = None,
    ) -> list[np.ndarray]:
        rows, channels, height, width = batch_nchw.shape
        fixed, scale = self.spec.fixed_batch, self.spec.scale
        regions = regions or whole(batch_nchw)
        if fixed and rows > fixed:
            places = [slice(i, i + fixed) for i in range(0, rows, fixed)]
            parts = [self._run(batch_nchw[place], session, dtype, outputs, regions[place]) for place in places]
            return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]
        if (missing := (fixed or self._rows_for(rows, (height, width))) - rows) > 0:
            filled = (self.empty or np.empty)((rows + missing, *batch_nchw.shape[1:]), dtype)
            filled[:rows], filled[rows:] = batch_nchw, batch_nchw[-1]
            batch_nchw = filled
        needed = [region.scale(scale) for region in regions] if scale else None
        made = self._call(np.ascontiguousarray(batch_nchw, dtype), session, outputs, needed)
        made = [output[:rows] for output in made]
        if outputs > 1 and made[0].ndim == 4:  # of `with_integer_ends`
            made[0] = made[0].transpose(0, 3, 1, 2)
        if scale and made[0].shape != (rows, channels, height * scale, width * scale):
            raise ModelOutputError(
                f"model {self.spec.name}: x{scale} of (N, C, H, W) = {(rows, channels, height, width)} came back as "
                f"{made[0].shape}; its metadata or its graph is wrong, export the model again"
            )
        return made

    def _rows_for(self, rows: int, tile: tuple[int, int]) -> int:
        """Rows to run in place of `rows`: an NVIDIA GPU pays for each change of shape, so the last rows get company.

        cuDNN's plans are kept for the last shape only: building them again takes 0.1 to 1 s, rows for nothing less.
        """
        if not self._device.nvidia:
            return rows
        full = self._full[tile] = max(rows, self._full.get(tile, 0))
        return full

    def rebuild(self) -> None:
        """See `Engine.rebuild`."""
        self.close()
        self._full.clear()
        for wait in _REBUILD_WAITS:
            time.sleep(wait)
            try:
                self._session = open_session(self._path, self._device)
                self._lost = ""
                return
            except OutOfMemoryError as error:
                failure = error
        self._lost = (
            f"device {self.device}: no memory left even for the weights of {self._path.name}; end other programs there"
        )
        raise DeviceError(self._lost) from failure

    def prepare(self, batch: int, tile: tuple[int, int]) -> None:
        """See `Engine.prepare`: TensorRT builds once for all sizes up to these, and not again for each."""
        own = dict(self._device.options)
        if self._device.kind != "tensorrt" or self.spec.fixed_tile or "trt_profile_max_shapes" in own:
            return
        name = self._session.get_inputs()[0].name
        self._device = replace(self._device, options=tuple((own | profile(name, self.spec, batch, tile)).items()))
        self.rebuild()

    def memory_free(self) -> int:
        """See `Engine.memory_free`."""
        return nvidia.memory_of(self._device.index)[0] if self._device.nvidia else memory.free_ram()

    def memory_used(self) -> int:
        """See `Engine.memory_used`."""
        if not self._device.nvidia:
            return memory.process_ram()
        free, total = nvidia.memory_of(self._device.index)
        return total - free

    def cancel(self) -> None:
        """See `Engine.cancel`."""
        self._calls.cancel()

    def close(self) -> None:
        """See `Engine.close`."""
        if self._graphs:
            self._graphs.close()
        self._session = self._float32 = self._graphs = None
        self._for_pixels.clear()
        if self._cuda:
            self._cuda.memory.clear()

    def _call(
        self, batch: np.ndarray, session: Any, outputs: int = 1, needed: Sequence[Region] | None = None
    ) -> list[np.ndarray]:
        """One call of a session, whatever shapes it returns."""
        if session is None and self._lost:  # another thread could not rebuild it
            raise DeviceError(self._lost)
        if session is None:
            raise ModelLoadError(f"model {self._path.name}: its engine was closed; make a new one")
        try:
            if self._device.graphs:
                result = self._call_graph(batch, session)
            elif self._cuda:
                result = self._cuda.run(session, runtime().RunOptions(), batch, outputs, needed)
            else:
                on_processor = self._device.kind == "cpu"
                result = self._calls.run(session, runtime().RunOptions(), batch, outputs, in_thread=on_processor)
            self._doubts = 0
            return [np.atleast_1d(output) for output in result]
        except SrTileError:
            raise
        except MemoryError as error:
            raise OutOfMemoryError(too_large(self.device, batch.shape)) from error
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise self._failure(error, batch.shape) from error

    def _failure(self, error: Exception, shape: tuple[int, ...]) -> SrTileError:
        """What a failed call is to be called, see `device_errors`."""
        failure = failure_of(str(error))
        if failure is Failure.AMBIGUOUS and self._device.nvidia:
            # A context that lives is taken to be short of memory, but not for ever: a second time it is the model.
            self._doubts += 1
            alive = nvidia.is_alive(self._device.index)
            failure = Failure.LOST if not alive else Failure.MEMORY if self._doubts == 1 else Failure.MODEL
        if failure is Failure.MEMORY:
            return OutOfMemoryError(too_large(self.device, shape))
        if failure is Failure.LOST and self._device.kind != "cpu":
            if self._cuda:
                self._cuda.memory.clear()
            return DeviceError(
                f"device {self.device}: stopped working: {one_line(error)}; restart the program, and look at the driver"
            )
        return ModelOutputError(
            f"model {self._path.name}: failed on (N, C, H, W) = {shape}: {one_line(error)}; "
            "try another --tile-size, or look at the graph"
        )

    def _call_graph(self, batch: np.ndarray, session: Any) -> list[np.ndarray]:
        """A recorded call of the main session; a plain one of that in float32, and while the scale is not known."""
        scale = self.spec.scale
        if session is self._session and scale:
            self._graphs = self._graphs or GraphCalls(runtime(), session, self._device.index, self._calls)
            rows, channels, height, width = batch.shape
            return [self._graphs.run(batch, (rows, channels, height * scale, width * scale))]
        options = runtime().RunOptions()
        options.add_run_config_entry(GRAPH_ID, "-1")
        return self._calls.run(session, options, batch)

    def _read_spec(self) -> tuple[type, ModelSpec]:
        """Number type and spec by what the file and its graph say."""
        where = f"model {self._path.name}"
        metadata = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        spec = ModelSpec.from_metadata(metadata, self._path.stem)
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(item.name for item in inputs)
            raise ModelLoadError(
                f"{where}: has {len(inputs)} inputs ({names}); sr-tile feeds one picture, (N, C, H, W)"
            )
        if inputs[0].type not in _DTYPES:
            raise ModelLoadError(f"{where}: takes {inputs[0].type}; sr-tile feeds {' or '.join(_DTYPES)}")
        shape = [dim if isinstance(dim, int) and dim > 0 else None for dim in inputs[0].shape]
        shown = "(" + ", ".join(str(dim) for dim in inputs[0].shape) + ")"
        if len(shape) != 4:
            raise ModelLoadError(f"{where}: its input {shown} has {len(shape)} axes; sr-tile feeds (N, C, H, W)")
        batch, channels, height, width = shape
        if channels not in (1, 3) and shape[3] in (1, 3):
            raise ModelLoadError(
                f"{where}: its input {shown} is (N, H, W, C); `sr-tile rebatch --layout nhwc` makes it (N, C, H, W)"
            )
        if channels not in (None, 1, 3):
            raise ModelLoadError(f"{where}: its input {shown} has {channels} channels; sr-tile feeds 1 or 3")
        if (height is None) != (width is None):
            raise ModelLoadError(f"{where}: its input {shown} fixes one side only; fix both or neither")
        needed = 4 * math.prod((batch or 1, channels or 1, height or 64, width or 64))
        if needed > memory.free_ram():
            raise ModelLoadError(
                f"{where}: its input {shown} is fixed, and {memory.format_size(needed)} for one call have no room in "
                "memory; export it with height and width left open"
            )
        fixed_tile = (height, width) if height and width else None
        self._channels = channels  # None where the graph takes any
        spec = replace(spec, channels=channels or spec.channels, fixed_batch=batch, fixed_tile=fixed_tile)
        return _DTYPES[inputs[0].type], spec

    def _complete(self, spec: ModelSpec) -> ModelSpec:
        """Find out by running what the file does not say; once, for it is kept in the cache by the file's hash."""
        if spec.scale and spec.multiple:
            return spec
        # TensorRT would build for minutes for each shape.
        session = open_session(self._path, Device("cpu")) if self._device.kind == "tensorrt" else self._session

        def run(picture: np.ndarray) -> np.ndarray:
            batch: np.ndarray = np.ascontiguousarray(np.repeat(picture, spec.fixed_batch or 1, axis=0), self._dtype)
            return self._call(batch, session)[0][:1].astype(np.float32, copy=False)

        wanted = (spec.channels,) if self._channels else (spec.channels, 4 - spec.channels)
        found = probed(self._path, spec, lambda: probe(run, spec, wanted))
        if beyond := found.details.get(BEYOND):
            log.warning(
                "model %s: gives values from %.4g to %.4g for a picture of 0 to 1: where it takes another range, write that "
                "down with `sr-tile rebatch --value-range`; where it gives another one than it takes, divide in its graph",
                spec.name,
                *beyond,
            )
        if found.value_range != spec.value_range:
            log.warning(
                "model %s: takes values from %g to %g, as running it shows; if that is wrong, write down others with "
                "`sr-tile rebatch --value-range`",
                spec.name,
                *found.value_range,
            )
        return found


def too_large(device: str, shape: tuple[int, ...]) -> str:
    """What to say where the device has no room for a batch."""
    return f"{device} has no memory left for a batch of shape {shape}; use a smaller --tile-size or --batch-size"
