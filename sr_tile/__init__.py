"""Restore or enlarge images of any size with an ONNX network.

>>> from sr_tile import Enhancer
>>> with Enhancer("clean-x2") as enhancer:  # doctest: +SKIP
...     large = enhancer.enhance(image)
"""

import os

# Before any runtime can be imported, and for the processes that this one starts: nothing about a run leaves the machine.
# ONNX Runtime from 1.31 on reads its variable when it is loaded and never again; OpenVINO's is in `engines.openvino`.
os.environ.update(ORT_DISABLE_TELEMETRY="1", RAY_USAGE_STATS_ENABLED="0")

TYPE_CHECKING = False  # for type checkers it is true; importing `typing` would be half of what this file takes
if TYPE_CHECKING:
    from sr_tile.engines.strength_grain_tta import Adjustment
    from sr_tile.enhancer import Enhancer
    from sr_tile.errors import SrTileError
    from sr_tile.images import TargetSize, WriteOptions
    from sr_tile.images.frames.excerpt import Excerpt
    from sr_tile.planner import Settings
    from sr_tile.serving.client import RemoteEnhancer

__version__ = "0.1.0"
__all__ = [
    "Adjustment",
    "Enhancer",
    "Excerpt",
    "RemoteEnhancer",
    "Settings",
    "SrTileError",
    "TargetSize",
    "WriteOptions",
    "__version__",
]

_HOMES = {
    "Adjustment": "sr_tile.engines.strength_grain_tta",
    "Enhancer": "sr_tile.enhancer",
    "Excerpt": "sr_tile.images.frames.excerpt",
    "RemoteEnhancer": "sr_tile.serving.client",
    "Settings": "sr_tile.planner",
    "SrTileError": "sr_tile.errors",
    "TargetSize": "sr_tile.images",
    "WriteOptions": "sr_tile.images",
}


def __getattr__(name: str) -> object:
    """Load what is heavy only when it is asked for: `sr-tile --help` needs none of it.

    And nothing else either: until `__main__` runs, which comes after this file, Ctrl-C ends in a traceback.
    """
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
