"""A fleet as a discrete-event model: dispatcher, object store, actors with decoders and encoders, stragglers, failures.

Each actor has three processes joined by queues of two blocks, as Ray Data's operators are: one fetches and decodes, one
infers, one encodes and puts. What all share are two first-come-first-served servers: the driver, which spends a fixed time
on each block, and the object store, with a rate of bytes and a rate of requests.

    python bench/scale/model.py            # prints the tables of README.md, writes plot.png
"""

import argparse
import math
import random
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import simpy

Process = Generator[simpy.Event, object, None]


@dataclass(frozen=True)
class Costs:
    """What one image, and the machinery around it, costs. Seconds, bytes, dollars.

    Attributes:
        infer: of one actor for one image.
        decode: of one CPU core for one image.
        encode: the same.
        read_bytes: of the source.
        write_bytes: of the result.
        driver: of a driver for one block, however large.
        drivers: runs side by side, each with its share of the images and of the actors.
        fixed: of an actor for one block: dispatch to first byte, and back.
        cores: CPU cores for each actor's decoding, and as many for its encoding.
        batch: images in a block.
        link: bytes a second between one actor and the store.
        store_bytes: bytes a second of the whole store.
        store_requests: requests a second of the whole store.
        spread: standard deviation of an image's time over its mean.
        slow_share: share of the actors that are slow.
        slow_factor: by which they are.
        mtbf: hours between two deaths of one actor; a death loses the block under way.
        restart: from death to the next image.
        actor_hour: price of an actor with its cores.
        request: price of one read and one write.
    """

    infer: float = 0.1
    decode: float = 0.08
    encode: float = 0.31
    read_bytes: float = 1.5e6
    write_bytes: float = 8e6
    driver: float = 0.02
    drivers: int = 1
    fixed: float = 0.01
    cores: int = 4
    batch: int = 8
    link: float = 1.2e9
    store_bytes: float = 100e9
    store_requests: float = 50_000
    spread: float = 0.3
    slow_share: float = 0.02
    slow_factor: float = 3.0
    mtbf: float = 6.0
    restart: float = 90.0
    actor_hour: float = 2.0
    request: float = 5.4e-6


class Server:
    """One after the other, first come, first served; the order of asking is the order of service."""

    def __init__(self, world: simpy.Environment) -> None:
        self._world, self._free = world, 0.0

    def take(self, seconds: float) -> simpy.Event:
        """An event that comes when the work asked for is done."""
        self._free = max(self._world.now, self._free) + seconds
        return self._world.timeout(self._free - self._world.now)


class RayConfig:
    """`actors` of them, until `images` are done."""

    def __init__(self, costs: Costs, actors: int, images: int, seed: int = 0) -> None:
        self.costs, self.images = costs, images
        self.world, self.random = simpy.Environment(), random.Random(seed)
        self.driver, self.store = Server(self.world), Server(self.world)
        self.done: list[float] = []  # when each block was
        self.deaths = 0
        self._left = math.ceil(images / costs.batch)
        self._actors = actors
        for _ in range(actors):
            decoded, inferred = (simpy.Store(self.world, 2) for _ in range(2))
            factor = costs.slow_factor if self.random.random() < costs.slow_share else 1.0
            self.world.process(self._decode(decoded))
            self.world.process(self._infer(decoded, inferred, factor))
            self.world.process(self._encode(inferred))

    def run(self) -> "RayConfig":
        """To the last image."""
        self.world.run()
        return self

    def _transfer(self, size: float) -> simpy.Event:
        """One object between an actor and the store: as long as the slower of its own link and the shared store."""
        costs = self.costs
        shared = self.store.take(max(size / costs.store_bytes, 1 / costs.store_requests) * costs.batch)
        return simpy.AllOf(self.world, [shared, self.world.timeout(size * costs.batch / costs.link)])

    def _decode(self, out: simpy.Store) -> Process:
        costs = self.costs
        while self._left > 0:
            self._left -= 1
            yield self.driver.take(costs.driver / costs.drivers)
            yield self._transfer(costs.read_bytes)
            yield self.world.timeout(costs.decode * costs.batch / min(costs.cores, costs.batch))
            yield out.put(True)

    def _infer(self, decoded: simpy.Store, out: simpy.Store, factor: float) -> Process:
        costs = self.costs
        mean = costs.infer * costs.batch * factor
        sigma = math.sqrt(math.log(1 + costs.spread**2 / costs.batch))
        death = self._lifetime()
        while True:
            yield decoded.get()
            seconds = costs.fixed + mean * math.exp(self.random.gauss(-(sigma**2) / 2, sigma))
            while self.world.now + seconds > death:  # this try ends in death; the block starts again elsewhere or here
                yield self.world.timeout(max(0.0, death - self.world.now) + costs.restart)
                self.deaths += 1
                death = self.world.now + self._lifetime()
            yield self.world.timeout(seconds)
            yield out.put(True)

    def _lifetime(self) -> float:
        return self.random.expovariate(1 / (self.costs.mtbf * 3600)) if self.costs.mtbf else math.inf

    def _encode(self, inferred: simpy.Store) -> Process:
        costs = self.costs
        while True:
            yield inferred.get()
            yield self.world.timeout(costs.encode * costs.batch / min(costs.cores, costs.batch))
            yield self._transfer(costs.write_bytes)
            self.done.append(self.world.now)

    @property
    def throughput(self) -> float:
        """Images a second between the first and the last tenth: neither the start nor the last stragglers count."""
        first, last = len(self.done) // 10, len(self.done) * 9 // 10
        span = self.done[last] - self.done[first]
        return (last - first) * self.costs.batch / span if span else math.inf

    @property
    def shares(self) -> dict[str, float]:
        """How busy each is at this throughput: drivers, store, and the actors on average; what they lack is waiting."""
        costs, rate = self.costs, self.throughput
        asked = sum(
            max(size / costs.store_bytes, 1 / costs.store_requests) for size in (costs.read_bytes, costs.write_bytes)
        )
        slow = 1 - costs.slow_share + costs.slow_share / costs.slow_factor
        return {
            "driver": rate / costs.batch * costs.driver / costs.drivers,
            "store": rate * asked,
            "actors": rate * (costs.infer + costs.fixed / costs.batch) / self._actors / slow,
        }


def limits(costs: Costs) -> dict[str, float]:
    """Images a second that each shared server allows, and at how many actors it is the bottleneck."""
    per_actor = 1 / max(costs.infer, costs.encode / costs.cores, (costs.read_bytes + costs.write_bytes) / costs.link)
    return {
        "driver": costs.batch / costs.driver * costs.drivers,
        "store, bytes": costs.store_bytes / (costs.read_bytes + costs.write_bytes),
        "store, requests": costs.store_requests / 2,
        "one actor": per_actor,
    }


SCENARIOS = {
    "0.1 s an image, blocks of 8, one driver": Costs(),
    "0.1 s an image, blocks of 64, one driver": Costs(batch=64),
    "0.1 s an image, blocks of 64, 16 drivers": Costs(batch=64, drivers=16),
    "1 s an image, blocks of 8, one driver": Costs(infer=1.0),
}
COUNTS = (1, 4, 16, 64, 256, 1024, 4096, 10_000)


def table(costs: Costs, counts: tuple[int, ...] = COUNTS, blocks: int = 30) -> list[dict[str, float | str | int]]:
    """Throughput, efficiency and price for each number of actors."""
    rows: list[dict[str, float | str | int]] = []
    one = None
    for count in counts:
        fleet = RayConfig(
            costs, count, images=max(count, 8) * (blocks if count < 1000 else blocks // 3) * costs.batch
        ).run()
        rate = fleet.throughput
        one = one or rate / count
        hours = 1e6 / rate / 3600
        shares = fleet.shares
        busiest = max(shares, key=lambda name: shares[name])
        price = hours * count * costs.actor_hour + 1e6 * costs.request
        rows.append(
            {
                "actors": count,
                "rate": rate,
                "efficiency": rate / count / one,
                "hours": hours,
                "price": price,
                "busiest": f"{busiest} {shares[busiest]:.0%}",
            }
        )
    return rows


def plot(results: dict[str, list[dict[str, float | str | int]]], path: Path) -> None:
    """Throughput over actors, both on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    for name, rows in results.items():
        axes.loglog([row["actors"] for row in rows], [row["rate"] for row in rows], marker="o", label=name)
        first = rows[0]
        ideal = [first["rate"] * row["actors"] / first["actors"] for row in rows]  # type: ignore[operator]
        axes.loglog([row["actors"] for row in rows], ideal, linestyle=":", color="gray", linewidth=1)
    axes.set(xlabel="actors (one GPU each)", ylabel="images a second", title="Modelled throughput; dotted: no limits")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the tables and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driver", type=float, default=None, help="seconds of the driver for one block, measured")
    arguments = parser.parse_args()
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    results = {}
    for name, costs in SCENARIOS.items():
        costs = replace(costs, **given)
        results[name] = table(costs)
        bounds = ", ".join(f"{what} {rate:,.0f}/s" for what, rate in limits(costs).items())
        print(f"\n**{name}** ({bounds})\n")
        print("| actors | images/s | efficiency | hours a million | $ a million | busiest |\n|---|---|---|---|---|---|")
        for row in results[name]:
            print(
                f"| {row['actors']:,} | {row['rate']:,.1f} | {row['efficiency']:.0%} | {row['hours']:,.2f} | "
                f"{row['price']:,.0f} | {row['busiest']} |",
                flush=True,
            )
    plot(results, Path(__file__).with_name("plot.png"))


if __name__ == "__main__":
    main()
