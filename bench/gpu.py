"""What each option of the GPU engine brings: calls at a time, batch sizes, number types, bytes, CUDA graphs, TensorRT.

    python bench/gpu.py [--model x2] [--device cuda:0] [--tile 256] [--batches 1,4,16] [--repeat 5] [--megapixels 12]

First what is taken once, and what a change of shape costs (`gpu_costs.py`). Then the bare engine, every way in turn in one
process, medians: tiles a second, the speed against one call at a time in float32 of the same batch, and the largest
difference from the same model in float32 on the CPU; beside it PyTorch, compiled, in float16 and channels_last, where it
has CUDA. Then a file from end to end, on one GPU and on all. On a GPU it takes some 20 minutes. Without one, or on the
pretended one of the tests, the same as far as it makes sense there: a check of this script, no measurement.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from common import machine, photograph
from gpu_costs import print_costs

from sr_tile.engines.integer_ends import as_floats
from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.enhancer import Enhancer
from sr_tile.errors import SrTileError
from sr_tile.models import zoo
from sr_tile.system import nvidia

CALLS = 6  # of one measurement, for each thread


@dataclass
class Way:
    """One way to run batches.

    Attributes:
        name: in the table.
        run: a batch.
        threads: that call it.
        feed: makes of floats from 0 to 1 what `run` takes.
        seconds: measured, by batch size.
        error: largest difference from the CPU.
    """

    name: str
    run: Callable[[np.ndarray], np.ndarray]
    threads: int = 1
    feed: Callable[[np.ndarray], np.ndarray] = lambda batch: batch
    seconds: dict[int, list[float]] = field(default_factory=dict)
    error: float = 0.0


def bound(engine: OnnxEngine) -> Callable[[np.ndarray], np.ndarray]:
    """A call by I/O binding: pixels go up while they are bound, and come down behind the call."""
    session, index = engine._session, engine._device.index
    source, target = session.get_inputs()[0].name, session.get_outputs()[0].name

    def run(batch: np.ndarray) -> np.ndarray:
        binding = session.io_binding()
        binding.bind_cpu_input(source, np.ascontiguousarray(batch, engine.number_type))
        binding.bind_output(target, "cuda" if engine.device != "cpu" else "cpu", index)
        session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()[0].astype(np.float32)

    return run


def pixels(engine: OnnxEngine | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """Floats to the bytes of a file, where an engine wants them; the rounding is in the error."""

    def feed(batch: np.ndarray) -> np.ndarray:
        made = ((engine and engine.empty) or np.empty)(batch.shape, np.uint8)
        made[...] = np.rint(batch * 255)
        return made

    return feed


def pageable(path: Path, device: str) -> OnnxEngine:
    """An engine whose copies go through ordinary memory."""
    engine = OnnxEngine(path, device)
    if engine._cuda:
        engine._cuda.memory._refused, engine._cuda.memory._said = 1, True  # CUDA's number for a wrong argument
    return engine


def in_torch(name: str, path: Path) -> Way | None:
    """PyTorch with the same weights, bytes in and out from page-locked memory; None where it cannot be, which is said."""
    try:
        import torch
        from peers.networks import SCALES, module_of
    except ImportError as error:
        print(f"PyTorch is left out: {error}")
        return None
    if name not in SCALES or not torch.cuda.is_available():
        print("PyTorch is left out: " + ("it has no CUDA here" if name in SCALES else f"it has no module of {name}"))
        return None
    module = torch.compile(module_of(name, path).half().cuda().to(memory_format=torch.channels_last))

    def run(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            given = torch.from_numpy(batch).pin_memory().to("cuda", non_blocking=True)
            made = module(given.to(memory_format=torch.channels_last).half().div(255))
            return made.float().mul(255).round().clamp(0, 255).byte().contiguous().cpu().numpy()

    return Way("PyTorch, compiled, float16, bytes", run, 1, pixels())


def ways(models: dict[str, Path], device: str) -> list[Way]:
    """All that this machine can do; what it cannot is said and left out."""
    found = []
    for number_type, path in models.items():
        engine = OnnxEngine(path, device)
        found += [Way(f"{number_type}, {count} at a time", engine.run, count) for count in (1, 2, 3)]
        found += [Way(f"{number_type}, I/O binding", bound(engine))]
        found += [Way(f"{number_type}, bytes", engine.run, 2, pixels(engine))]
        if device == "cpu":
            continue
        found += [Way(f"{number_type}, bytes, pageable", pageable(path, device).run, 2, pixels())]
        variants = {
            "CUDA graphs": (device, {"enable_cuda_graph": "1"}),
            "exhaustive search": (device, {"cudnn_conv_algo_search": "EXHAUSTIVE"}),
            "NHWC": (device, {"prefer_nhwc": "1"}),
            "without TF32": (device, {"use_tf32": "0"}),
            "TensorRT": (device.replace("cuda", "tensorrt"), {}),
        }
        for name, (where, options) in variants.items():
            try:
                variant = OnnxEngine(path, where, options)
                feed = pixels(variant) if variant.takes_pixels else (lambda batch: batch)
                found.append(Way(f"{number_type}, {name}", variant.run, variant.max_concurrency, feed))
            except SrTileError as error:
                print(f"{number_type}, {name}: left out: {error}")
    return found


def measure(all_ways: list[Way], reference: OnnxEngine, side: int, rows: int, repeat: int) -> None:
    """Fill in the seconds a call and the errors for one batch size, all ways in turn."""
    batch = np.random.default_rng(rows).random((rows, reference.spec.channels, side, side), np.float32)
    expected = reference.run(batch).clip(0, 1)  # as bytes are
    feeds = [way.feed(batch) for way in all_ways]
    for number in range(repeat + 1):
        for way, fed in zip(all_ways, feeds, strict=True):
            try:
                calls = CALLS * way.threads if number else way.threads
                start = time.perf_counter()
                with ThreadPoolExecutor(way.threads) as pool:
                    outputs = list(pool.map(way.run, [fed] * calls))
                if number:
                    way.seconds.setdefault(rows, []).append((time.perf_counter() - start) / calls)
                    continue
                for output in outputs:  # the first round makes buffers and builds, and is checked
                    way.error = max(way.error, float(np.abs(as_floats(output, (0.0, 1.0)).clip(0, 1) - expected).max()))
            except SrTileError as error:
                print(f"{way.name}, batch {rows}: {error}")


def end_to_end(model: Path, devices: list[str], megapixels: float, repeat: int) -> None:
    """A PNG to a PNG on each list of devices, in turn."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    with tempfile.TemporaryDirectory() as folder:
        source, target = photograph(Path(folder) / "in.png", height, height * 4 // 3), Path(folder) / "out.png"
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in devices}
        enhancers = {name: Enhancer(model, device=name, warmup="random") for name in devices}
        for _ in range(repeat):
            for name, enhancer in enhancers.items():
                enhancer.reset_stats()
                try:
                    enhancer.enhance_file(source, target, overwrite=True)
                except SrTileError as error:  # what is made on a pretended GPU is no picture
                    print(f"{name}, end to end: {error}")
                results[name].append((enhancer.stats.seconds, enhancer.stats.engine_idle))
        print(f"\n| {megapixels:g} megapixels, PNG to PNG | batch | seconds | MP/s | bottleneck | engine idle |")
        print("|---|---|---|---|---|---|")
        for name, figures in results.items():
            seconds, idle = (statistics.median(column) for column in zip(*figures, strict=True))
            stats = enhancers[name].stats
            print(
                f"| {name} | {stats.batch} | {seconds:.2f} | {megapixels / seconds:.1f} | {stats.bottleneck} | {idle:.1%} |"
            )
            enhancers[name].close()


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="x2")
    parser.add_argument("--device", default="cuda:0" if nvidia.gpu_count() else "cpu")
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--batches", default="1,4,16")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--megapixels", type=float, default=12.0)
    options = parser.parse_args(arguments)
    model = zoo.find(options.model, None)
    gpus = nvidia.gpu_count() if options.device != "cpu" else 0
    print(machine())
    sizes = [int(size) for size in options.batches.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        models = {"float32": model}
        try:
            from sr_tile.export.precision import convert

            models["float16"] = Path(folder) / "half.onnx"
            convert(model, models["float16"], "fp16")
        except (ImportError, SrTileError) as error:
            print(f"float16 is left out: {error}")
            del models["float16"]
        print_costs(models, options.device, options.tile, max(sizes), options.repeat)
        all_ways = ways(models, options.device)
        if compiled := in_torch(options.model, model):
            all_ways.append(compiled)
        for rows in sizes:
            measure(all_ways, OnnxEngine(model, "cpu"), options.tile, rows, options.repeat)
        print(f"\n| way | {' | '.join(f'batch {size}: tiles/s | against the first' for size in sizes)} | error |")
        print("|---|" + "---|" * (2 * len(sizes) + 1))
        for way in all_ways:
            cells = []
            for rows in sizes:
                first, own = (statistics.median(w.seconds.get(rows) or [float("nan")]) for w in (all_ways[0], way))
                cells.append(f"{rows / own:.2f} | {first / own:.2f} x")
            print(f"| {way.name} | {' | '.join(cells)} | {way.error:.1e} |")
    devices = [options.device]
    if gpus > 1:
        devices.append(",".join(f"cuda:{index}" for index in range(gpus)))
    elif not gpus:
        devices.append("cpu,cpu")
    end_to_end(model, devices, options.megapixels, options.repeat)


if __name__ == "__main__":
    main()
