"""What sharing batches among concurrent clients brings, and what it costs in latency.

    python bench/serving.py [--seconds 5] [--quick] [--model x2] [--only stand-in|model]

Clients ask again as soon as they are answered. Three policies: one request a call (`off`), this package's, and the shape of
microsoft/batch-inference's (a batch leaves at `wait_n` requests or after `wait_ms`; its defaults are 8 and 5 ms),
re-implemented here as a queue. First with a stand-in whose time per call is fixed, then with a model on the CPU and images
of one size and of many. The policies take turns in one process; ratios are to `off` at the same number of clients.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
from common import machine

from sr_tile.enhancer import Enhancer
from sr_tile.images.arrays import ArraySink, ArraySource
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.pipeline.pipeline import Pipeline
from sr_tile.serving import DynamicBatcher, SharedEngine
from sr_tile.serving.dynamic_batching.batcher import Call
from sr_tile.serving.dynamic_batching.fair_queue import Entry, FairQueue

CLIENTS = (1, 8, 32)
POLICIES = ("off", "ours", "wait_n")
WAIT_N = 8
CALL_SECONDS = 0.01  # of the stand-in


class WaitNQueue(FairQueue):
    """A batch leaves when `WAIT_N` requests are there, or `timeout` after the first was seen, idle or not."""

    def take(self, most: int, expected: int = 0, timeout: float = 0.0) -> list[Entry]:
        """See `FairQueue.take`."""
        with self._changed:
            self._changed.wait_for(lambda: self._count or self._closed)
            until = time.monotonic() + timeout
            while self._count < WAIT_N and not self._closed and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._pop(most)[0] if self._count else []


class Figures(NamedTuple):
    """Of one run: answers a second, latencies in milliseconds, requests a call."""

    rate: float
    p50: float
    p95: float
    p99: float
    fill: float


def load(clients: int, ask: Callable[[int, int], None], *, seconds: float = 1e9, requests: int = 2**62) -> list[float]:
    """Latencies of clients that call `ask(client, number)` again and again, until the time or the requests of all end."""
    latencies: list[list[float]] = [[] for _ in range(clients)]
    begin = threading.Barrier(clients)

    def client(index: int) -> None:
        begin.wait()
        end = time.perf_counter() + seconds
        for number in range(index, requests, clients):
            if (start := time.perf_counter()) >= end:
                return
            ask(index, number)
            latencies[index].append(time.perf_counter() - start)

    threads = [threading.Thread(target=client, args=(index,)) for index in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [latency for of_one in latencies for latency in of_one]


def figures(latencies: list[float], seconds: float, fill: float) -> Figures:
    """Numbers for the table."""
    cuts = statistics.quantiles([1000 * latency for latency in latencies], n=100) if len(latencies) > 1 else [0.0] * 99
    return Figures(len(latencies) / seconds, cuts[49], cuts[94], cuts[98], fill)


@contextmanager
def queue_of(policy: str) -> Iterator[None]:
    """The policy's queue in place of ours."""
    with patch("sr_tile.serving.dynamic_batching.batcher.FairQueue", WaitNQueue if policy == "wait_n" else FairQueue):
        yield


def stand_in(policy: str, clients: int, seconds: float) -> Figures:
    """A model that takes the same time for any batch."""

    def predict_batch(batch: np.ndarray) -> np.ndarray:
        time.sleep(CALL_SECONDS)
        return batch

    request = np.zeros((1, 16), np.float32)
    with queue_of(policy), DynamicBatcher(predict_batch, max_batch_size=1 if policy == "off" else 32) as host:
        start = time.perf_counter()
        latencies = load(clients, lambda client, number: host.predict(request), seconds=seconds)
        spent = time.perf_counter() - start
    return figures(latencies, spent, host.counts.weight / host.counts.calls)


def pictures(mixed: bool) -> list[np.ndarray]:
    """16 images: all 96 x 96, or of 15 shapes and a large one."""
    rng = np.random.default_rng(0)
    sizes = [(96, 96)] * 16
    if mixed:
        sizes = [(int(height), int(width)) for height, width in rng.integers(48, 160, (15, 2))] + [(700, 900)]
    return [rng.integers(0, 255, (*size, 3), np.uint8) for size in sizes]


def enhance_with(enhancer: Enhancer, images: list[np.ndarray], policy: str, clients: int, rounds: int) -> Figures:
    """A real model does all images `rounds` times; without batching they take turns."""
    calls: list[Call] = []
    lock = threading.Lock()
    with queue_of(policy), SharedEngine(enhancer.engine, enhancer.plan, on_call=calls.append) as shared:

        def ask(client: int, number: int) -> None:
            image = images[number % len(images)]
            job = ImageJob("image", lambda: ArraySource(image), ArraySink)
            if policy == "off":
                with lock:
                    list(Pipeline(enhancer.engine, enhancer.plan, decoders=1, encoders=1).run([job]))
                return
            with shared.client() as engine:
                list(Pipeline(engine, enhancer.plan, decoders=1, encoders=1).run([job]))

        start = time.perf_counter()
        latencies = load(clients, ask, requests=rounds * len(images))
        spent = time.perf_counter() - start
    return figures(latencies, spent, statistics.mean(call.requests for call in calls) if calls else 1.0)


def table(title: str, run: Callable[[str, int], Figures]) -> None:
    """Measure and print one block."""
    print(f"\n{title}\n")
    print("| clients | policy | requests/s | to off | p50 ms | p95 ms | p99 ms | rows a call |")
    print("|---|---|---|---|---|---|---|---|")
    for clients in CLIENTS:
        base = None
        for policy in POLICIES:
            result = run(policy, clients)
            base = base or result.rate
            print(
                f"| {clients} | {policy} | {result.rate:.1f} | {result.rate / base:.2f} | {result.p50:.0f} | "
                f"{result.p95:.0f} | {result.p99:.0f} | {result.fill:.1f} |",
                flush=True,
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--quick", action="store_true", help="a second, or 32 images, each")
    parser.add_argument("--model", default="x2")
    parser.add_argument("--only", choices=["stand-in", "model"])
    arguments = parser.parse_args()
    seconds = 1.0 if arguments.quick else arguments.seconds
    rounds = 2 if arguments.quick else 6
    print(machine())
    if arguments.only != "model":
        table(
            f"A stand-in, {1000 * CALL_SECONDS:.0f} ms a call, batches of 32 at most",
            lambda policy, clients: stand_in(policy, clients, seconds),
        )
    if arguments.only != "stand-in":
        with Enhancer(arguments.model, device="cpu", warmup="zeros") as enhancer:
            for mixed in (False, True):
                images = pictures(mixed)
                kind = "15 shapes up to 160 pixels and one of 900 x 700" if mixed else "96 x 96"
                table(
                    f"Model {arguments.model} on the CPU, images of {kind}",
                    lambda policy, clients, images=images: enhance_with(enhancer, images, policy, clients, rounds),
                )


if __name__ == "__main__":
    main()
