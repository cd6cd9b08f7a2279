"""What a device's error means: too little memory, a device that is gone, either of the two, or a fault of the model.

Runtimes have no codes for it, only texts; `tests/engines/test_device_errors.py` holds those that were seen.
"""

import re
from enum import Enum


class Failure(Enum):
    """What to do about an error."""

    MEMORY = "run less at a time"
    LOST = "do without the device: no later call of this process can use it"
    AMBIGUOUS = "ask the device whether it lives: if so, run less at a time, once"
    MODEL = "blame the model"


_MEMORY = re.compile(
    r"failed to allocate|out of memory|bad.?alloc|BFCArena|ALLOC_FAILED|ALLOCATION_FAILED|OUT_OF_MEMORY|OutOfMemory"
    r"|8007000E|insufficient memory|(?:CUDA|CUBLAS|CUDNN)(?:_FE)? failure 2\b",
    re.I,
)
# What CUDA and DirectML say once and then for ever. 35: the driver is too old; 46, 100, 101, 802: the device is taken, gone
# or not ready; 201, 709: the context is gone; 209: no kernels for it; 721, 805, 810: of a server between them (MPS).
_LOST = re.compile(
    r"CUDA failure (?:35|46|100|101|201|209|214|226|700|702|709|71[04-9]|72[01]|802|805|810|999)\b"
    r"|unspecified launch failure|device (?:was |is )?(?:lost|removed|hung)|887A000[567]",
    re.I,
)
# These come where memory is short, where a context is lost, and where a kernel is missing.
_AMBIGUOUS = re.compile(
    r"CUDNN_FE failure|CUDNN failure|(?:CUDNN|CUBLAS)_STATUS_(?:NOT_INITIALIZED|EXECUTION_FAILED|INTERNAL_ERROR)"
    r"|CUBLAS failure (?:1|7|13|14)\b|CUDA failure 400\b|failed to create engine|enqueue failed"
    r"|TensorRT EP (?:execution context|failed)|EP_FAIL|: 11 :",
    re.I,
)


def failure_of(text: str) -> Failure:
    """What an error of a GPU's runtime means by its text; the first that matches of memory, lost, ambiguous."""
    for pattern, failure in ((_MEMORY, Failure.MEMORY), (_LOST, Failure.LOST), (_AMBIGUOUS, Failure.AMBIGUOUS)):
        if pattern.search(text):
            return failure
    return Failure.MODEL


def is_out_of_memory(error: BaseException) -> bool:
    """True where an error of any runtime says that memory is short."""
    return isinstance(error, MemoryError) or bool(_MEMORY.search(str(error)))
