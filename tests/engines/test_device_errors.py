"""Error texts of runtimes, as they were seen, and what they mean."""

import pytest

from sr_tile.engines.device_errors import Failure, failure_of

WHILE = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Conv node. Name:'c' Status Message: "
)
TEXTS = {
    Failure.MEMORY: [
        "[ONNXRuntimeError] : 1 : FAIL : bfc_arena.cc:360 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) "
        "Failed to allocate memory for requested buffer of size 12582912",
        WHILE + "CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMemcpyAsync(dst_data, src_data, bytes)",
        WHILE + "CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED ; GPU=0",
        WHILE + "CUDNN failure 4004: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ; GPU=0",
        WHILE + "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0",
        "[TensorRT EP] Requested amount of GPU memory (1073741824 bytes) could not be allocated: OutOfMemory",
        "std::bad_alloc",
        "8007000E Not enough memory resources are available",
    ],
    Failure.LOST: [
        f"{WHILE}CUDA failure {code}: a text of the driver ; GPU=0 ; hostname=h ; file=gpu_data_transfer.cc ; line=91"
        for code in (35, 46, 100, 101, 201, 209, 214, 700, 702, 709, 710, 714, 719, 720, 721, 802, 805, 810, 999)
    ]
    + ["887A0005 The GPU device instance has been suspended", "device was lost"],
    Failure.AMBIGUOUS: [
        WHILE + "CUDNN_FE failure 11: CUDNN_BACKEND_API_FAILED ; GPU=0 ; hostname=h ; file=nn/conv.cc",
        WHILE + "CUDNN_FE failure 7: GRAPH_EXECUTION_FAILED ; GPU=0",
        "[ONNXRuntimeError] : 11 : EP_FAIL : Non-zero status code returned while running Conv node. Name:'c' "
        "Status Message: Failed to initialize CUDNN Frontend: cudnn_fe_call.cc:117",
        WHILE + "CUDNN failure 1001: CUDNN_STATUS_NOT_INITIALIZED ; GPU=0",
        WHILE + "CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0",
        WHILE + "CUBLAS failure 1: CUBLAS_STATUS_NOT_INITIALIZED ; GPU=0",
        WHILE + "CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED ; GPU=0",
        WHILE + "CUDA failure 400: invalid resource handle ; GPU=0",
        "[ONNXRuntimeError] : 11 : EP_FAIL : TensorRT EP failed to create engine from network for fused node: main",
        "[ONNXRuntimeError] : 1 : FAIL : TensorRT EP execution context enqueue failed.",
    ],
    Failure.MODEL: [
        WHILE + "CUDA failure 9: invalid configuration argument ; GPU=0",
        WHILE + "Input channels C is not equal to kernel channels * group",
        "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input",
    ],
}


@pytest.mark.parametrize(("text", "failure"), [(text, kind) for kind, texts in TEXTS.items() for text in texts])
def test_what_a_text_means(text, failure):
    assert failure_of(text) is failure
