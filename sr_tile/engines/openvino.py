"""OpenVINO behind the engine protocol."""

import itertools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sr_tile.engines import openvino_runtime
from sr_tile.engines.base import BaseEngine, Engine
from sr_tile.engines.device_errors import is_out_of_memory
from sr_tile.engines.onnx_runtime import OnnxEngine, too_large
from sr_tile.engines.openvino_parts import Part, parts_of, put_channels_last
from sr_tile.engines.openvino_runtime import HINTS, runtime
from sr_tile.engines.time_limit import MORE_SECONDS, opened, time_limit, too_slow
from sr_tile.errors import (
    DeviceError,
    ModelLoadError,
    ModelOutputError,
    OutOfMemoryError,
    SrTileError,
    StoppedError,
    one_line,
)
from sr_tile.system import memory, stopping
from sr_tile.system.cpu import allowed_threads, thread_count
from sr_tile.system.hashes import sha256_of
from sr_tile.types import Array, Float32

log = logging.getLogger("sr_tile")

_STEP_MS = 200  # between looks at whether a call is still wanted; one that ends is heard of at once
SHAPES_KEPT = 4  # compiled networks, each with weights of its own: several images under way have several tiles
WIDTH_STEP = (
    16  # pixels: AMX multiplies so many of a row at once; other widths take up to 2.5 times as long for a pixel
)


def parallel_rows() -> int:
    """How many rows of a batch are computed side by side: threads of one row wait for each other at every layer."""
    return min(2, thread_count())


class OpenVinoEngine(BaseEngine):
    """One ONNX model on the processor, run by OpenVINO in float32 whatever the file says, or in fewer bits.

    With fewer bits the path by which the picture itself reaches the output stays float32, see `openvino_parts`.

    Networks are compiled for one tile shape at a time. OpenVINO 2026.4 can also compile them for any shape, but NAFNet is
    slower then, and SCUNet returns an empty picture. It goes through a batch by rows, two of them side by side and a last
    one on all threads where that pays, which gives the same bits: on a CPU larger calls are not faster, few shapes have
    to be compiled, and what a tile becomes cannot depend on its company. Results come with their channels last in memory,
    as the kernels make them.

    Its cache on disk is not used: it saves a third of the compilation, and for each shape takes as much room as the
    model, or thrice as much.

    Args:
        path: as for `OnnxEngine`, which reads and measures what there is to know of the model.
        reader: an engine of the same model, where one is open; it is left open.
        precision: `fp32`, `bf16`, `fp16`; `int8` for a file that is quantised.

    Raises:
        DeviceError: OpenVINO is not installed, or has not got the precision on this processor.
        ModelLoadError: the file is no such model, or none for OpenVINO.
    """

    device = "openvino"

    def __init__(self, path: Path | str, reader: Engine | None = None, precision: str = "fp32") -> None:
        try:
            runtime()  # known before anything is read
        except (ImportError, OSError) as error:
            raise DeviceError(
                f"device openvino: {one_line(error)}; install sr-tile[openvino], or use --device cpu"
            ) from error
        if not openvino_runtime.supports(precision):
            raise DeviceError(
                f"device openvino: this processor has no {precision}; use --precision auto, which takes what there is"
            )
        self._path, self.precision = Path(path), precision
        if reader:
            self.spec, self._dtype = reader.spec, reader.number_type
        else:
            with closing(OnnxEngine(path, "cpu")) as opened:
                self.spec, self._dtype = opened.spec, opened.number_type
        self.settings = _settings(HINTS[precision])
        self.parallel_rows = parallel_rows()
        self.width_step = WIDTH_STEP if precision != "fp32" else 1
        self._cancelled = threading.Event()
        self._left_behind: tuple[Any, ...] = ()  # a request that goes on still, with what it works on
        # By height, width and how many run side by side.
        self._compiled: OrderedDict[tuple[int, int, int], _Compiled] = OrderedDict()
        self._model: Any = None
        self.rebuild()

    @property
    def number_type(self) -> type:
        """See `Engine`."""
        return self._dtype

    @property
    def identity(self) -> str:
        """Hash of the model with runtime, device and number type, for caches on disk."""
        digest = sha256_of(self._path)
        fewer = "" if self.precision == "fp32" else f"-{self.precision}"
        return f"{digest}-openvino{openvino_runtime.version()}-{self.device}-{np.dtype(self._dtype)}{fewer}"

    def run(self, batch_nchw: Float32[Array, "n c h w"]) -> Float32[Array, "n c H W"]:
        """See `Engine.run`."""
        rows, channels, height, width = batch_nchw.shape
        scale, step = self.spec.scale or 1, self.spec.fixed_batch or 1
        try:
            output_nhwc = np.empty((rows, height * scale, width * scale, channels), np.float32)
            pieces = [
                (batch_nchw[first : first + step], output_nhwc[first : first + step]) for first in range(0, rows, step)
            ]
            paired = len(pieces) // self.parallel_rows * self.parallel_rows
            if paired:
                self._run_side_by_side(self._prepared(height, width, self.parallel_rows).calls, pieces[:paired])
            if pieces[paired:]:
                self._run_rest(height, width, pieces[paired:])
        except MemoryError as error:
            raise OutOfMemoryError(too_large(self.device, batch_nchw.shape)) from error
        return output_nhwc.transpose(0, 3, 1, 2)

    def _run_side_by_side(self, calls: "list[_Calls]", pieces: "Sequence[_Piece]") -> None:
        """As many pieces at a time as there are `calls`; all have ended when it returns, or raises."""
        with ThreadPoolExecutor(len(calls), "openvino rows") as pool:
            running = [
                pool.submit(self._run_pieces, call, pieces[number :: len(calls)]) for number, call in enumerate(calls)
            ]
            wait(running)
        for each in running:
            each.result()

    def _run_rest(self, height: int, width: int, pieces: "Sequence[_Piece]") -> None:
        """What is left, on all threads; or beside nobody, until that has cost the time of compiling once more."""
        pair = self._compiled.get((height, width, self.parallel_rows))
        if pair and (height, width, 1) not in self._compiled and pair.lost < pair.seconds:
            begin = time.monotonic()
            self._run_pieces(pair.calls[0], pieces)
            pair.lost += (time.monotonic() - begin) * (1 - 1 / self.parallel_rows)
        else:
            self._run_pieces(self._prepared(height, width, 1).calls[0], pieces)

    def _run_pieces(self, calls: "_Calls", pieces: "Sequence[_Piece]") -> None:
        """One after another, each into the place of its result."""
        step = self.spec.fixed_batch or 1
        for piece_nchw, room_nhwc in pieces:
            if missing := step - len(piece_nchw):
                filled = np.concatenate([piece_nchw, np.repeat(piece_nchw[-1:], missing, axis=0)])
                made = np.empty((step, *room_nhwc.shape[1:]), np.float32)
                self._call(calls, np.ascontiguousarray(filled, self._dtype), made)
                room_nhwc[...] = made[: len(piece_nchw)]
            else:
                self._call(calls, np.ascontiguousarray(piece_nchw, self._dtype), room_nhwc)

    def rebuild(self) -> None:
        """See `Engine.rebuild`."""
        self.close()
        self._model = opened(lambda: _read(self._path), str(self._path))

    def memory_free(self) -> int:
        """See `Engine.memory_free`."""
        return memory.free_ram()

    def memory_used(self) -> int:
        """See `Engine.memory_used`."""
        return memory.process_ram()

    def cancel(self) -> None:
        """See `Engine.cancel`."""
        self._cancelled.set()
        self._cancelled = threading.Event()  # for later calls

    def close(self) -> None:
        """See `Engine.close`."""
        self._compiled.clear()
        self._model = None

    def _prepared(self, height: int, width: int, side_by_side: int) -> "_Compiled":
        """What runs so many tiles of this shape side by side, compiled when the shape is first met."""
        if self._model is None:
            raise ModelLoadError(f"model {self._path.name}: its engine was closed; make a new one")
        key = (height, width, side_by_side)
        if key in self._compiled:
            self._compiled.move_to_end(key)
            return self._compiled[key]
        while len(self._compiled) >= SHAPES_KEPT:
            self._compiled.popitem(last=False)
        shape = [self.spec.fixed_batch or 1, self.spec.channels, height, width]
        try:
            self._compiled[key] = opened(lambda: self._compile(shape, side_by_side), str(self._path))
        except SrTileError:
            raise
        except Exception as error:  # OpenVINO's exceptions are RuntimeError and others
            raise self._failure(error, shape) from error
        return self._compiled[key]

    def _compile(self, shape: list[int], side_by_side: int) -> "_Compiled":
        """What runs a copy of the model with its input fixed to `shape`; weights are shared by all."""
        begin, ops = time.monotonic(), runtime().opset13
        fixed = self._model.clone()
        fixed.reshape({fixed.inputs[0]: shape})
        parts = [Part(fixed, exact=False)]
        if self.precision != "fp32":
            largest = max(map(abs, self.spec.value_range))
            parts = parts_of(ops, runtime().Model, fixed, largest, is_narrow=self.precision == "bf16")
        put_channels_last(ops, parts[-1].model)
        settings = {**self.settings, "NUM_STREAMS": side_by_side}
        compiled = [
            runtime().Core().compile_model(part.model, "CPU", {**settings, **_hint("f32")} if part.exact else settings)
            for part in parts
        ]
        calls = [_Calls([model.create_infer_request() for model in compiled]) for _ in range(side_by_side)]
        return _Compiled(calls, time.monotonic() - begin)

    def _call(self, calls: "_Calls", piece_nchw: np.ndarray, room_nhwc: np.ndarray) -> None:
        """One call, whose result goes into `room_nhwc`."""
        try:
            given = calls.give(room_nhwc)
            self._wait_for(calls, piece_nchw)
            made = calls.requests[-1].get_output_tensor(0).data
        except SrTileError:
            raise
        except Exception as error:
            raise self._failure(error, piece_nchw.shape) from error
        if made.shape != room_nhwc.shape:
            rows, height, width, channels = made.shape
            raise ModelOutputError(
                f"model {self.spec.name}: x{self.spec.scale or 1} of (N, C, H, W) = {piece_nchw.shape} came back as "
                f"{(rows, channels, height, width)}; its metadata or its graph is wrong, or OpenVINO is: try --device cpu"
            )
        if not given:
            room_nhwc[...] = made

    def _wait_for(self, calls: "_Calls", piece_nchw: np.ndarray) -> None:
        """Run the parts, waited for in steps: one call of the library could not be ended."""
        limit = time_limit(piece_nchw)
        if self._left_behind and not self._left_behind[0].wait_for(0):
            raise too_slow(self._path.name, limit)
        deadline, cancelled = time.monotonic() + limit, self._cancelled
        for request in calls.requests:
            # The picture is the first input of each; what one part gives is the second of the next for good.
            request.start_async({0: piece_nchw}, share_inputs=True)
            while not request.wait_for(_STEP_MS):
                if cancelled.is_set() or time.monotonic() > deadline:
                    if not _has_ended(request):
                        self._left_behind = (request, calls, piece_nchw)
                        stopping.leave_at_end()
                    if cancelled.is_set():
                        raise StoppedError(f"model {self._path.name}: a call was cancelled")
                    raise too_slow(self._path.name, limit)
            request.wait()  # raises what went wrong

    def _failure(self, error: Exception, shape: Any) -> Exception:
        if is_out_of_memory(error):
            return OutOfMemoryError(too_large(self.device, tuple(shape)))
        return ModelOutputError(
            f"model {self._path.name}: failed on (N, C, H, W) = {tuple(shape)}: {one_line(error)}; "
            "try --device cpu, or another --tile-size"
        )


def _has_ended(request: Any) -> bool:
    """Have a call ended; False where the operator under way goes on."""
    request.cancel()
    try:
        return bool(request.wait_for(int(1000 * MORE_SECONDS)))
    except RuntimeError:  # that it was cancelled
        return True


def _read(path: Path) -> Any:
    try:
        core = runtime().Core()
        core.set_property({"ENABLE_MMAP": False})  # a file that is cut while it is mapped ends the process
        return core.read_model(path)
    except Exception as error:
        raise ModelLoadError(f"model {path}: OpenVINO cannot read it: {one_line(error)}; try --device cpu") from error


def _settings(hint: str) -> dict[str, Any]:
    """Properties of OpenVINO's CPU plugin."""
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        # Where the processor has matrix units for bfloat16, OpenVINO would use them: 1e-2 off, and not what was asked for.
        **_hint(hint),
        # Threads bound to cores would compete with those of other processes that are bound to the same ones.
        "ENABLE_CPU_PINNING": False,
    }
    if threads := allowed_threads():
        settings["INFERENCE_NUM_THREADS"] = threads
    return settings


def _hint(precision: str) -> dict[str, Any]:
    return {"INFERENCE_PRECISION_HINT": precision}


@dataclass
class _Compiled:
    """The network for one shape of tiles.

    Attributes:
        calls: those that run side by side.
        seconds: that compiling took.
        lost: seconds for which a call had its own threads only while the others did nothing.
    """

    calls: "list[_Calls]"
    seconds: float
    lost: float = 0.0


_Piece = tuple[np.ndarray, np.ndarray]  # input, (n, c, h, w), and where its result goes, (n, H, W, c)


class _Calls:
    """The infer requests of one shape, in their order; what one gives is the second input of the next."""

    def __init__(self, requests: list[Any]) -> None:
        self.requests = requests
        for before, after in itertools.pairwise(requests):
            after.set_input_tensor(1, before.get_output_tensor(0))
        shape = requests[-1].get_compiled_model().outputs[0].get_partial_shape()
        self._shape = tuple(shape.to_shape()) if shape.is_static else None

    def give(self, room: np.ndarray) -> bool:
        """Have the next result written there; False where it may have another shape, and is to be looked at first."""
        if self._shape != room.shape:
            return False
        self.requests[-1].set_output_tensor(0, runtime().Tensor(room, shared_memory=True))
        return True
