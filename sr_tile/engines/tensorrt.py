"""Options of the TensorRT provider: what it builds is kept on disk, and float16 is used where the model asks for it."""

import hashlib
from importlib import metadata
from pathlib import Path

from sr_tile.models.onnx_files import tensors
from sr_tile.system.cache import cache_folder

_PACKAGES = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13")


def tensorrt_options(model: Path | bytes, versions: str) -> dict[str, str]:
    """Provider options for one model.

    An engine takes minutes to build. ONNX Runtime names its files by the nodes of the graph and not by the weights, so
    each model gets a folder of its own, and so does each GPU and version. A model with weights in other files is built
    anew each time, for its own bytes do not tell whether they changed.

    Args:
        model: a file, or a serialised model.
        versions: of the runtime and the GPU, as text.
    """
    import onnx

    content = model if isinstance(model, bytes) else model.read_bytes()
    weights = list(tensors(onnx.load_model_from_string(content)))
    options = {}
    if any(tensor.data_type == tensor.FLOAT16 for tensor in weights):
        options["trt_fp16_enable"] = "True"  # without it TensorRT takes no float16; with it float32 may be rounded
    if any(tensor.external_data for tensor in weights):
        return options
    digest = hashlib.sha256(content)
    digest.update(f"{versions}-{_version()}".encode())
    folder = cache_folder("tensorrt", digest.hexdigest()[:32])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return options
    return options | {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(folder),
    }


def _version() -> str:
    for package in _PACKAGES:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"
