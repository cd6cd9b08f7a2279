"""The machine in words and numbers, so that figures can be read elsewhere."""

import importlib.metadata
import platform
from typing import Any

import psutil

import sr_tile
from sr_tile.system import nvidia
from sr_tile.system.cpu import processor_name

_LIBRARIES = ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "torch", "monai")


def describe() -> dict[str, Any]:
    """Processor, cores, memory, GPUs, system, and the versions of the libraries that are installed, ready for JSON.

    Returns:
        `cpu`, `cores` (physical), `threads` (logical), `memory_bytes`, `gpus` (names), `system`, `versions` by name.
    """
    return {
        "cpu": processor_name(),
        "cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
        "threads": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": [nvidia.gpu_name(index) for index in range(nvidia.gpu_count())],
        "system": f"{platform.system()} {platform.release()}",
        "versions": {"sr-tile": sr_tile.__version__, "python": platform.python_version(), **_versions()},
    }


def sentence(machine: dict[str, Any]) -> str:
    """What `describe` found, in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    gpus = "".join(f", {name}" for name in machine["gpus"])
    return (
        f"{machine['cpu']}, {machine['cores']} cores ({machine['threads']} threads), "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB{gpus}, {machine['system']}; {versions}"
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
