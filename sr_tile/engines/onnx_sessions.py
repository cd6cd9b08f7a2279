"""Sessions of ONNX Runtime on a device and no other, or a reason; the only module that imports the runtime."""

import contextlib
import functools
import io
import logging
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sr_tile.engines.device_errors import Failure, failure_of
from sr_tile.engines.providers import Device
from sr_tile.engines.tensorrt import load_libraries, tensorrt_options
from sr_tile.engines.time_limit import opened
from sr_tile.errors import DeviceError, ModelLoadError, OutOfMemoryError, SrTileError, granted, one_line, unexpected
from sr_tile.models.onnx_files import NO_MODEL, check_references
from sr_tile.system import nvidia
from sr_tile.system.cpu import allowed_threads
from sr_tile.system.plain_file import read_plain

if TYPE_CHECKING:
    import onnxruntime

log = logging.getLogger("sr_tile")

# The driver of Windows pages into the machine's memory, many times slower, where others say that there is no more.
PAGES_INTO_RAM = sys.platform == "win32"
LIMIT = 0.9  # of the free memory: what is planned with at most
_OPTION_ERROR = re.compile(r"Unknown provider option.*|Failed to parse provider option.*", re.S)


def runtime() -> Any:
    """ONNX Runtime, quiet: it warns of GPUs that it does not find, and of optimisations that it leaves."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    return onnxruntime


@functools.cache
def _load_cuda() -> None:
    """Load CUDA's libraries from their wheels, where there is a driver; what is missing is said in the log."""
    preload = getattr(runtime(), "preload_dlls", None)
    if preload is None or not nvidia.driver_installed():
        return
    output = io.StringIO()
    with contextlib.redirect_stdout(output):  # our standard output belongs to our results
        preload()
    if text := " ".join(output.getvalue().split()):
        log.debug("CUDA: %s", text)


def open_session(
    model: Path | bytes, device: Device, name: str = "", **settings: Any
) -> "onnxruntime.InferenceSession":
    """A session on `device` and no other, or an error.

    Args:
        model: a file, or a serialised model.
        device: where it runs.
        name: what messages call it, where it is no file.
        settings: attributes of ONNX Runtime's session options.

    Raises:
        DeviceError: the provider did not start.
        ModelLoadError: the file is no model that this runtime can run.
        ModelTimeoutError: it does not end, see `time_limit.opened`.
    """
    onnxruntime = runtime()
    name = model.name if isinstance(model, Path) else name
    if device.nvidia:
        _load_cuda()
    if device.kind == "tensorrt":
        load_libraries()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = allowed_threads() or 0  # 0: one a core, which is left to ONNX Runtime
    # A pattern is one more block of the size of all that a call needs, taken at the second call, once for each thread.
    options.enable_mem_pattern = not device.nvidia
    for key, value in settings.items():
        setattr(options, key, value)
    where = str(model) if isinstance(model, Path) else name
    try:
        providers = _providers(model, device)
        if device.kind == "tensorrt":  # it builds for as long as it takes
            session = _create(model, options, providers)
        else:
            session = opened(lambda: _create(model, options, providers), where)
    except SrTileError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        if not granted(error):
            raise ModelLoadError(f"model {where}: {unexpected(error)}") from error
        if option := _OPTION_ERROR.search(str(error)):
            raise DeviceError(
                f"device {device}: {one_line(Exception(option[0]))}; see ONNX Runtime's manual"
            ) from error
        if device.kind != "cpu" and failure_of(str(error)) is Failure.MEMORY:
            raise OutOfMemoryError(f"device {device}: has no memory left for the weights of {name}") from error
        if device.kind != "cpu" and "rotobuf" not in str(error):
            raise DeviceError(f"device {device}: cannot run {name}: {one_line(error)}") from error
        reason = f"is no ONNX model that can be run: {one_line(error)}"
        raise ModelLoadError(
            f"model {model if isinstance(model, Path) else name}: {NO_MODEL if 'INVALID_PROTOBUF' in str(error) else reason}"
        ) from error
    if device.provider not in session.get_providers():
        raise DeviceError(
            f"device {device}: {device.provider} did not start, most likely for want of its libraries; "
            f"{device.install_hint}, or use --device cpu"
        )
    return session


def _providers(model: Path | bytes, device: Device) -> list[Any]:
    providers = device.provider_options()
    if device.kind == "tensorrt":
        gpu = f"{runtime().__version__}-{nvidia.gpu_name(device.index)}"
        providers[0][1].update(tensorrt_options(model, gpu))
    if device.kind == "cuda" and PAGES_INTO_RAM:
        providers[0][1].setdefault("gpu_mem_limit", str(int(LIMIT * nvidia.memory_of(device.index)[0])))
    return providers


def _create(model: Path | bytes, options: Any, providers: list[Any]) -> Any:
    held = _hold_files(options, model) if isinstance(model, Path) else []
    content = model if isinstance(model, bytes) else str(model)
    # Its fallback would go on with another device after a failure, and only print that.
    session = runtime().InferenceSession(content, options, providers=providers, enable_fallback=0)
    del held  # not before
    return session


def _hold_files(options: Any, model: Path) -> list[bytes]:
    """Have weights in files beside a model read: ONNX Runtime maps them, and one that is cut later ends the process.

    Returns:
        What must live until the session is there, which has copies.

    Raises:
        ModelLoadError: see `check_references`; or one cannot be read.
    """
    files = check_references(model)
    hold = getattr(options, "add_external_initializers_from_files_in_memory", None)  # early releases have none
    if not files or not hold:
        return []
    try:
        contents = [read_plain(file) for file in files.values()]
    except OSError as error:
        raise ModelLoadError(f"model {model}: its weights cannot be read: {error.strerror or error}") from None
    hold(list(files), contents, [len(content) for content in contents])
    return contents


def open_on(
    path: Path, wanted: str, options: tuple[tuple[str, str], ...] = ()
) -> tuple[Device, "onnxruntime.InferenceSession"]:
    """The device that `wanted` means on this machine, and a session on it; `options` are for one that is named."""
    available = runtime().get_available_providers()
    if wanted != "auto":
        device = replace(Device.parse(wanted), options=options)
        if device.provider not in available:
            offered = ", ".join(sorted(available))
            raise DeviceError(
                f"device {device}: the installed onnxruntime has no {device.provider} (it offers {offered}); "
                f"{device.install_hint}, or use --device cpu"
            )
        if device.nvidia:
            if not nvidia.driver_installed():
                raise DeviceError(f"device {device}: there is no NVIDIA driver here; use --device cpu or auto")
            _load_cuda()
            if reason := nvidia.unusable(device.index):
                raise DeviceError(f"device {device}: {reason}; or use --device cpu")
        return device, open_session(path, device)
    candidates = [Device("cuda")] if _usable_gpu() else []
    candidates += [Device("directml")]
    for device in candidates:
        if device.provider not in available:
            continue
        try:
            return device, open_session(path, device)
        except (DeviceError, OutOfMemoryError) as error:
            log.warning("%s; falling back to the CPU", error)
    if nvidia.gpu_count() and Device("cuda").provider not in available:
        log.warning("there is an NVIDIA GPU, but the installed onnxruntime cannot use it; using the CPU")
    return Device("cpu"), open_session(path, Device("cpu"))


def _usable_gpu() -> bool:
    """True where CUDA shows a GPU that the installed runtime can use; what speaks against one that is there is said."""
    if not nvidia.driver_installed():
        return False
    _load_cuda()
    if reason := nvidia.unusable(0):
        log.warning("the NVIDIA GPU is not used: %s", reason)
        return False
    return True
