"""CUDA graphs: the launches of a whole network recorded once for each shape of batch and replayed as one.

A recording reads and writes the same addresses each time, so each shape has its buffers on the device. ONNX Runtime
keeps recordings by thread, so one thread of our own makes all calls. Worth a try where a network has many small layers.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from sr_tile.engines.time_limit import TimedCalls

MAX_RECORDINGS = 4  # each holds the buffers of a whole batch
GRAPH_ID = "gpu_graph_id"  # a run option: which recording; -1 for none


class _Recording(NamedTuple):
    """Buffers on the device, and what binds a session to them."""

    source: Any
    target: Any
    binding: Any
    options: Any


class GraphCalls:
    """Calls of one session with `enable_cuda_graph`.

    Args:
        runtime: the module `onnxruntime`.
        session: on CUDA, with one input and the output of interest first.
        index: number of the GPU.
        calls: which end in time, or when they are cancelled.
    """

    def __init__(self, runtime: Any, session: Any, index: int, calls: TimedCalls) -> None:
        self._runtime, self._session, self._index, self._calls = runtime, session, index, calls
        self._recordings: dict[tuple[int, ...], _Recording] = {}
        self._ids = itertools.count(1)  # never given twice: the session keeps what was recorded under each
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sr-tile cuda graphs")

    def run(self, batch: np.ndarray, target_shape: tuple[int, ...]) -> np.ndarray:
        """The output for `batch`, an array of its own of `target_shape` and of the batch's number type."""
        return self._thread.submit(self._run, batch, target_shape).result()

    def close(self) -> None:
        """End the thread and give the buffers back."""
        self._thread.submit(self._recordings.clear)
        self._thread.shutdown()

    def _run(self, batch: np.ndarray, target_shape: tuple[int, ...]) -> np.ndarray:
        recording = self._recordings.pop(batch.shape, None)
        if not recording:
            while len(self._recordings) >= MAX_RECORDINGS:
                del self._recordings[next(iter(self._recordings))]
            recording = self._prepare(batch, target_shape)
        recording.source.update_inplace(batch)
        with self._calls.limited(recording.options, batch):
            self._session.run_with_iobinding(recording.binding, recording.options)
        # The last one used is the last to go; one that failed is not used again.
        self._recordings[batch.shape] = recording
        return np.array(recording.target.numpy())

    def _prepare(self, batch: np.ndarray, target_shape: tuple[int, ...]) -> _Recording:
        """Buffers, and the plain run that must go before the recorded one: it takes what memory the network needs.

        It also makes the GPU this thread's own: copies before it would go through whichever is the process's first.
        """
        values = self._runtime.OrtValue
        source = values.ortvalue_from_numpy(np.zeros_like(batch), "cuda", self._index)
        target = values.ortvalue_from_shape_and_type(list(target_shape), batch.dtype, "cuda", self._index)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._session.get_inputs()[0].name, source)
        binding.bind_ortvalue_output(self._session.get_outputs()[0].name, target)
        options = self._runtime.RunOptions()
        options.add_run_config_entry(GRAPH_ID, str(next(self._ids)))
        with self._calls.limited(options, batch):
            self._session.run_with_iobinding(binding, options)
        return _Recording(source, target, binding, options)
