"""What a GPU takes once, and what a change of shape and rounded factors cost; a part of `gpu.py`."""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from common import markdown

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.errors import SrTileError
from sr_tile.planner.measure_calls import measure, shapes_to_measure

MIB = 2**20
WORKSPACES = {"as large as cuDNN likes": "1", "at most 32 MiB": "0"}  # of cudnn_conv_use_max_workspace


def print_costs(models: dict[str, Path], device: str, side: int, rows: int, repeat: int) -> None:
    """One table of memory, one of shapes, one of rounded factors.

    Args:
        models: by number type.
        device: of all of it.
        side: of a tile.
        rows: of a batch.
        repeat: how often what is timed is.
    """
    engines = {number_type: OnnxEngine(path, device) for number_type, path in models.items()}
    print("\n" + markdown(("memory", "weights", "first call", "taken once", "bytes a pixel"), memory(engines, side)))
    print("\n" + markdown(("workspaces", "a batch", "seconds"), workspaces(models, device, side, rows, repeat)))
    heads = ("shapes", "seconds a call", "seconds of the first call of a shape")
    print("\n" + markdown(heads, [(name, *shapes(engine, side, rows, repeat)) for name, engine in engines.items()]))
    heads = ("TF32 against float32", "largest step of 255", "bytes that differ")
    print("\n" + markdown(heads, [tf32(engines["float32"], side)]))
    for engine in engines.values():
        engine.close()


def some(engine: OnnxEngine, rows: int, side: int) -> np.ndarray:
    """A batch as most pictures come."""
    pixels = np.random.default_rng(side).integers(0, 256, (rows, engine.spec.channels, side, side), np.uint8)
    return pixels if engine.takes_pixels else (pixels / np.float32(255)).astype(np.float32)


def memory(engines: dict[str, OnnxEngine], side: int) -> list[tuple[str, ...]]:
    """By the planner's own measuring; `taken once` is what the first call takes beside the price of its pixels.

    What an engine before took for all, as kernels are, is not taken again.
    """
    lines = []
    for number_type, engine in engines.items():
        engine.close()
        empty = engine.memory_used()
        engine.rebuild()
        weights = engine.memory_used()
        engine.run(some(engine, 1, 128))
        first = engine.memory_used()
        with tempfile.TemporaryDirectory() as folder:
            wanted = shapes_to_measure(engine, (4 * side, 4 * side))
            costs = measure(engine, wanted, 0.4 * engine.memory_free(), remeasure=True, folder=Path(folder))
        price = costs.bytes_per_pixel if costs else 0.0
        taken = (weights - empty, first - weights, first - weights - price * 128**2)
        lines.append((number_type, *(f"{size / MIB:.0f} MiB" for size in taken), f"{price:.0f}"))
    return lines


def workspaces(models: dict[str, Path], device: str, side: int, rows: int, repeat: int) -> list[tuple[str, str, str]]:
    """Memory and time of a batch by what cuDNN may take for its own."""
    lines = []
    for number_type, path in models.items():
        for name, value in WORKSPACES.items():
            try:
                engine = OnnxEngine(path, device, {"cudnn_conv_use_max_workspace": value} if device != "cpu" else {})
                batch, before = some(engine, rows, side), engine.memory_used()
                engine.run(batch)
                taken = f"{(engine.memory_used() - before) / MIB:.0f} MiB"
                seconds = statistics.median(timed(engine, batch) for _ in range(repeat))
                lines.append((f"{number_type}, {name}", taken, f"{seconds:.4f}"))
                engine.close()
            except SrTileError as error:
                print(f"{number_type}, workspaces {name}: left out: {error}")
    return lines


def shapes(engine: OnnxEngine, side: int, rows: int, repeat: int) -> tuple[str, str]:
    """Seconds of a call of the shape of the last one, and more of one of another shape, both of the same size."""
    batches = [some(engine, rows, side), some(engine, rows, side).repeat(2, axis=2)[:, :, :, : side // 2].copy()]
    changed, same = [], []
    for _ in range(repeat + 1):  # the first round opens what is missing
        for batch in batches:
            changed.append(timed(engine, batch))
            same.append(timed(engine, batch))
    return f"{statistics.median(same[2:]):.4f}", f"{statistics.median(changed[2:]):.4f}"


def tf32(engine: OnnxEngine, side: int) -> tuple[str, int, str]:
    """The result in bytes as it is made for 8 bits, and in float32 throughout."""
    batch = some(engine, 1, side)
    rounded = [
        np.rint(np.clip(np.nan_to_num(output), 0, 1) * 255).astype(int)
        if output.dtype.kind == "f"
        else output.astype(int)
        for output in (engine.run(batch), engine.run_exact(batch))
        if output is not None
    ]
    off = np.abs(rounded[0] - rounded[-1])
    return engine.spec.name, int(off.max()), f"{np.mean(off > 0):.1e}"


def timed(engine: OnnxEngine, batch: np.ndarray) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    engine.run(batch)
    return time.perf_counter() - start
