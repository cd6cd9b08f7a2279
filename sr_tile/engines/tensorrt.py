"""Options of the TensorRT provider: what it builds is kept on disk, and float16 is used where the model asks for it."""

import ctypes
import hashlib
import importlib.util
import logging
from importlib import metadata
from pathlib import Path

from sr_tile.models.onnx_files import tensors
from sr_tile.models.spec import ModelSpec
from sr_tile.system.cache import cache_folder
from sr_tile.system.folders import make_folders
from sr_tile.tiling.grid import round_up

log = logging.getLogger("sr_tile")

SMALLEST = 32  # pixels of a side: no tile becomes smaller when memory is short
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
        make_folders(folder)
    except OSError:
        return options
    return options | {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(folder),
    }


def load_libraries() -> None:
    """Load TensorRT from its wheel, where it is installed: the provider finds it by name then."""
    found = importlib.util.find_spec("tensorrt_libs")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for pattern in ("libnvinfer.so.*", "libnvonnxparser.so.*", "nvinfer_*.dll", "nvonnxparser_*.dll"):
            for path in sorted(Path(folder).glob(pattern)):
                try:
                    ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
                except OSError as error:  # the provider will miss it, and say so
                    log.debug("TensorRT: %s", error)


def profile(name: str, spec: ModelSpec, batch: int, tile: tuple[int, int]) -> dict[str, str]:
    """Options that build one engine for all calls up to a size, which is also the one it is tuned for.

    Args:
        name: of the graph's input.
        spec: of the model.
        batch: rows at most.
        tile: (height, width) at most.
    """
    least = max(SMALLEST, spec.smallest)
    multiple = spec.multiple or 1
    sides = (min(side, round_up(least, multiple)) for side in tile)
    small = "x".join(str(size) for size in (spec.fixed_batch or 1, spec.channels, *sides))
    large = "x".join(str(size) for size in (batch, spec.channels, *tile))
    shapes = {"min": small, "opt": large, "max": large}
    return {f"trt_profile_{which}_shapes": f"{name}:{shape}" for which, shape in shapes.items()}


def _version() -> str:
    for package in _PACKAGES:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"
