"""What the model in `model.py` starts from, measured; and real runs with 1, 2 and 4 actors beside what it says of them.

    python bench/scale/measure.py [--images 48] [--seconds 0.5] [--actors 1 2 4]

On a machine with few cores real networks cannot show how actors scale, for one actor takes all cores. So the actors here
wait instead of computing, as a process does whose GPU computes: what is left is what Ray, decoding, encoding and the
journal of reports cost. What this cannot show: networks between machines, an object store under load, real GPUs.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from model import Costs, RayConfig

from sr_tile.distributed import ray_data as engine
from sr_tile.distributed.tasks import EnhanceConfig, decode, encode
from sr_tile.engines.base import BaseEngine
from sr_tile.enhancer import Enhancer
from sr_tile.jobs.selection import FilePair
from sr_tile.models.spec import ModelSpec
from sr_tile.planner import Settings

SIDE = 256


class WaitingEngine(BaseEngine):
    """Enlarges by repetition, and takes as long as it is told, without a processor."""

    device = "cpu"
    identity = "waiting"

    def __init__(self, seconds: float) -> None:
        self.spec, self._seconds = ModelSpec("waiting", scale=2, multiple=1, tile=SIDE, halo=0), seconds

    def run(self, batch_nchw: np.ndarray) -> np.ndarray:
        """One image is one tile here."""
        time.sleep(self._seconds * len(batch_nchw))
        return batch_nchw.repeat(2, axis=2).repeat(2, axis=3)

    def memory_free(self) -> int:
        """Enough."""
        return 2**30

    def memory_used(self) -> int:
        """Nothing."""
        return 0


@dataclass(frozen=True)
class WaitingRecipe(EnhanceConfig):
    """A config whose actors wait."""

    seconds: float = 0.5

    def enhancer(self) -> Enhancer:
        """See `EnhanceConfig.enhancer`."""
        return Enhancer(WaitingEngine(self.seconds), settings=Settings(tile=SIDE, overlap=0, halo=0, batch=1))


def pictures(folder: Path, count: int) -> list[FilePair]:
    """Photographs of one size, as PNG."""
    from PIL import Image
    from skimage import data

    picture = Image.fromarray(data.astronaut()).resize((SIDE, SIDE))
    folder.mkdir(parents=True)
    for index in range(count):
        picture.save(folder / f"{index}.png")
    return [
        FilePair(str(folder / f"{index}.png"), str(folder.parent / "out" / f"{index}.png")) for index in range(count)
    ]


def cpu_costs(config: EnhanceConfig, pair: FilePair, rounds: int = 20) -> tuple[float, float]:
    """CPU seconds of decoding one image, and of encoding it."""
    row = {"index": 0, "source": pair.source, "target": pair.target}
    start = time.process_time()
    for _ in range(rounds):
        decoded = decode(row, config)
    middle = time.process_time()
    pixels = np.frombuffer(decoded["pixels"], np.uint8).reshape(SIDE, SIDE, 3).repeat(2, axis=0).repeat(2, axis=1)
    for _ in range(rounds):
        encode({**decoded, "pixels": pixels.tobytes()}, config)
    return (middle - start) / rounds, (time.process_time() - middle) / rounds


def run(pairs: list[FilePair], config: EnhanceConfig, actors: int) -> tuple[float, float, float]:
    """(images a second once under way, seconds to the first result, CPU seconds of the driver an image from then on)."""
    start = time.perf_counter()
    times: list[float] = []
    cpu = 0.0
    for result in engine.run_ray(pairs, config, engine.RayConfig(actors=actors, batch=1), existing="overwrite"):
        assert result.status == "done", result.error
        cpu = cpu or time.process_time()
        times.append(time.perf_counter())
    first = len(times) // 2  # what was computed before the encoders had started comes at once
    rate = (len(times) - 1 - first) / (times[-1] - times[first])
    return rate, times[0] - start, (time.process_time() - cpu) / (len(times) - 1)


def main() -> None:
    """Measure, and print what the model says of the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2, 4])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        pairs = pictures(Path(name) / "in", arguments.images)
        config = WaitingRecipe(seconds=arguments.seconds)
        decoding, encoding = cpu_costs(config.planned(), pairs[0])
        print(f"decode {decoding * 1e3:.1f} ms, encode {encoding * 1e3:.1f} ms of one core for an image")
        most, _, driver = run(pairs, replace(config, seconds=0.0), 1)
        print(f"driver {driver * 1e3:.1f} ms of CPU for a block where nothing waits: {most:.1f} blocks a second")
        print("| actors | measured images/s | modelled | to the first result |\n|---|---|---|---|")
        for actors in arguments.actors:
            rate, wait, _ = run(pairs, config, actors)
            costs = Costs(infer=arguments.seconds, decode=decoding, encode=encoding, driver=driver, fixed=0.0, batch=1)
            costs = replace(costs, spread=0.0, slow_share=0.0, mtbf=0.0, cores=1, link=1e9)
            modelled = RayConfig(costs, actors, arguments.images).run().throughput
            print(f"| {actors} | {rate:.2f} | {modelled:.2f} | {wait:.1f} s |", flush=True)


if __name__ == "__main__":
    main()
