"""One engine a device: `cuda:0,cuda:1`."""

from contextlib import ExitStack
from pathlib import Path

from sr_tile.engines.base import Engine
from sr_tile.engines.opening import open_engine
from sr_tile.errors import ArgumentError


def open_engines(path: Path | str, devices: str, work: int | None = None) -> list[Engine]:
    """Open one model on each of the devices; all of them or none.

    Args:
        path: the model.
        devices: names as `open_engine` takes them, with commas between; a name may come twice.
        work: pixels of all images to come, None where that is not known.

    Raises:
        ModelLoadError: the file is no such model.
        DeviceError: one of the devices cannot be had.
        ArgumentError: one of the names is none, or `auto` is not alone.
    """
    names = [name.strip() for name in devices.split(",")]
    if len(names) > 1 and "auto" in names:
        raise ArgumentError(f"device {devices!r}: auto chooses one device by itself; name each of several")
    with ExitStack() as opened:
        engines: list[Engine] = []
        for name in names:
            engines.append(open_engine(path, name, work))
            opened.callback(engines[-1].close)
        opened.pop_all()  # nothing failed: they stay open
    return engines
