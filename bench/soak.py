"""Twice as many requests as can be served, for as long as you like: nothing is lost and memory stays flat.

    python bench/soak.py [--minutes 10] [--images]               the batcher, or the shared engine with whole images
    python bench/soak.py [--minutes 10] --url http://127.0.0.1:8000 [--pid N] [--token T]       a running server

Among the good requests are poisoned ones, some whose caller goes away, and some in a hurry; the batcher's worker also raises
what no worker should, and is stopped and started under load. Prints a line every few seconds, and ends with 1 where a
request stayed without an answer, an answer was wrong, or memory grew by more than --most-growth.
"""

import argparse
import http.client
import io
import random
import socket
import sys
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError

import numpy as np
import psutil
from common import machine

from sr_tile.engines.base import BaseEngine
from sr_tile.errors import DeadlineError, Overloaded, SrTileError, StoppedError
from sr_tile.images.arrays import ArraySink, ArraySource
from sr_tile.models.spec import ModelSpec
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.pipeline.pipeline import Pipeline
from sr_tile.planner import Plan
from sr_tile.serving import DynamicBatcher, SharedEngine

PATIENCE = 60  # seconds after which a request counts as lost
CALL_SECONDS, ROWS = 0.05, 16


class Soak:
    """Counts what became of requests, and watches memory."""

    def __init__(self, minutes: float, process: psutil.Process, most_growth: float) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._process, self._most = process, most_growth
        self._begin = time.monotonic()
        self.end = self._begin + 60 * minutes
        self._samples: list[tuple[float, float]] = []

    def over(self) -> bool:
        """True when time is up."""
        return time.monotonic() >= self.end

    def note(self, what: str) -> None:
        """One request has ended."""
        with self._lock:
            self.counts[what] += 1

    def watch(self) -> None:
        """Print until time is up."""
        while not self.over():
            time.sleep(min(5.0, max(0.0, self.end - time.monotonic())))
            size = self._process.memory_info().rss / 2**20
            passed = time.monotonic() - self._begin
            self._samples.append((passed, size))
            with self._lock:
                shown = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
            print(f"{passed:6.0f} s  {size:7.1f} MiB  {threading.active_count():3} threads  {shown}", flush=True)

    def verdict(self) -> int:
        """0 where all went well; memory is compared after the first fifth, when all buffers have been made once."""
        settled = [size for passed, size in self._samples if passed >= (self.end - self._begin) / 5]
        quarter = max(1, len(settled) // 4)
        growth = float(np.median(settled[-quarter:]) - np.median(settled[:quarter])) if settled else 0.0
        bad = {what: self.counts[what] for what in ("lost", "wrong", "unexpected") if self.counts[what]}
        print(f"{sum(self.counts.values())} requests, growth {growth:+.1f} MiB, {bad or 'none lost, none wrong'}")
        return 1 if bad or growth > self._most or not self.counts["answered"] else 0


def predict_batch(batch: np.ndarray) -> np.ndarray:
    """The same time for any batch; some requests poison it, some end the worker."""
    time.sleep(CALL_SECONDS)
    if (batch == -1).any():
        raise ValueError("poison")
    if (batch == -2).any():
        raise SystemExit("what no worker should raise")
    return batch * 2


def settle(soak: Soak, value: float, future: object) -> None:
    """Note what became of one request."""
    try:
        answer = future.result(0)  # type: ignore[attr-defined]
        soak.note("answered" if (answer == 2 * value).all() and value >= 0 else "wrong")
    except CancelledError:
        soak.note("cancelled")
    except (DeadlineError, StoppedError) as error:
        soak.note(type(error).__name__)
    except (ValueError, SystemExit):
        soak.note("poisoned" if value < 0 else "wrong")


def soak_batcher(soak: Soak) -> None:
    """Clients that do not wait for each other send requests at twice the rate that can be served."""
    host = DynamicBatcher(predict_batch, max_batch_size=ROWS, max_queue=4 * ROWS).start()
    rate = 2 * ROWS / CALL_SECONDS
    clients = 8

    def client(seed: int) -> None:
        draw = random.Random(seed)
        waiting: list[tuple[float, float, object]] = []
        while not soak.over() or waiting:
            now = time.monotonic()
            for item in [item for item in waiting if item[2].done()]:  # type: ignore[attr-defined]
                waiting.remove(item)
                settle(soak, item[0], item[2])
            for item in [item for item in waiting if now - item[1] > PATIENCE]:
                waiting.remove(item)
                soak.note("lost")
            if soak.over():
                time.sleep(0.01)
                continue
            value = float(draw.choices([1, 2, 3, -1, -2], [300, 300, 300, 2, 1])[0])
            width = draw.choice([8, 8, 8, 9])
            try:
                future = host.submit(np.full((1, width), value), timeout=draw.choice([None, None, 0.05]))
                waiting.append((value, now, future))
                if draw.random() < 0.05:
                    future.cancel()
            except Overloaded:
                soak.note("refused")
            except StoppedError:
                soak.note("StoppedError")
            time.sleep(draw.expovariate(rate / clients))

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    draw = random.Random(0)
    while not soak.over():
        time.sleep(min(7.0, max(0.0, soak.end - time.monotonic())))
        host.stop(drain=draw.random() < 0.5)
        host.start()
    for thread in threads:
        thread.join()
    host.stop()


class SlowIdentity(BaseEngine):
    """An engine that takes the same time for any batch, and fails where a tile is all white."""

    spec, device, identity = ModelSpec("stand-in", scale=1, multiple=1), "cpu", "stand-in"

    def run(self, batch_nchw: np.ndarray) -> np.ndarray:
        """The identity."""
        time.sleep(CALL_SECONDS)
        if (batch_nchw == 1).all(axis=(1, 2, 3)).any():
            raise ValueError("poison")
        return batch_nchw.copy()

    def memory_free(self) -> int:
        """Plenty."""
        return 2**30

    def memory_used(self) -> int:
        """None."""
        return 0


def soak_images(soak: Soak) -> None:
    """Whole images on the shared engine: twice as many clients as it takes."""
    plan = Plan((64, 64), 8, 2, 1, batch=ROWS)
    shared = SharedEngine(SlowIdentity(), plan, max_clients=8).start()

    def client(seed: int) -> None:
        draw = random.Random(seed)
        while not soak.over():
            size = draw.choice([(64, 64), (50, 70), (300, 400)])
            image = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
            poisoned = draw.random() < 0.02
            if poisoned:
                image[:] = 255
            try:
                with shared.client(timeout=draw.choice([None, None, 0.1])) as engine:
                    job = ImageJob("image", lambda image=image: ArraySource(image), ArraySink)
                    if draw.random() < 0.1:
                        threading.Timer(draw.random() * 0.2, engine.close).start()
                    (outcome,) = Pipeline(engine, plan, decoders=1, encoders=1).run([job])
                    if outcome.error:
                        raise outcome.error
                    same = np.array_equal(outcome.sink.pixels_hwc, image)  # type: ignore[union-attr]
                    soak.note("answered" if same and not poisoned else "wrong")
            except Overloaded:
                soak.note("refused")
                time.sleep(draw.random() * 0.2)
            except ValueError:
                soak.note("poisoned" if poisoned else "wrong")
            except SrTileError as error:
                soak.note(type(error).__name__)

    threads = [threading.Thread(target=client, args=(seed,), daemon=True) for seed in range(16)]
    for thread in threads:
        thread.start()
    draw = random.Random(0)
    while not soak.over():
        time.sleep(min(11.0, max(0.0, soak.end - time.monotonic())))
        shared.stop(drain=draw.random() < 0.5, timeout=5)
        shared.start()
    for thread in threads:
        thread.join(PATIENCE)
        if thread.is_alive():
            soak.note("lost")
    shared.stop(timeout=5)


def soak_server(soak: Soak, url: str, token: str | None, clients: int) -> None:
    """Pictures, broken pictures, and clients that hang up, against `POST /v1/enhance`."""
    from PIL import Image

    target = urllib.parse.urlsplit(url)
    port = target.port or 80
    headers = {"Content-Type": "image/png"} | ({"Authorization": f"Bearer {token}"} if token else {})
    bodies = []
    for size in ((64, 64), (100, 80), (300, 400)):
        buffer = io.BytesIO()
        pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        bodies.append(buffer.getvalue())

    def hang_up(body: bytes) -> None:
        with socket.create_connection((target.hostname, port), timeout=PATIENCE) as connection:
            head = f"POST /v1/enhance HTTP/1.1\r\nHost: {target.netloc}\r\nContent-Length: {len(body)}\r\n"
            head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            connection.sendall(head.encode() + b"\r\n" + body[: len(body) // 2])

    def client(seed: int) -> None:
        draw = random.Random(seed)
        while not soak.over():
            body, kind = draw.choice(bodies), draw.choices(["good", "broken", "gone"], [90, 5, 5])[0]
            try:
                if kind == "gone":
                    hang_up(body)
                    soak.note("hung up")
                    continue
                connection = http.client.HTTPConnection(str(target.hostname), port, timeout=PATIENCE)
                connection.request("POST", "/v1/enhance", body[:200] if kind == "broken" else body, headers)
                response = connection.getresponse()
                content = response.read()
                connection.close()
                if kind == "good" and response.status == 200 and content:
                    soak.note("answered")
                elif response.status in (429, 503):
                    soak.note("refused")
                    time.sleep(draw.random() * 0.1)
                elif kind == "broken" and 400 <= response.status < 500:
                    soak.note("poisoned")
                else:
                    soak.note(f"status {response.status}")
                    soak.note("unexpected")
            except TimeoutError:
                soak.note("lost")
            except OSError as error:
                soak.note(type(error).__name__)
                soak.note("unexpected")
                time.sleep(0.1)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> int:
    """Run and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--images", action="store_true", help="the shared engine with whole images")
    parser.add_argument("--url", help="a running server")
    parser.add_argument("--pid", type=int, help="of the server, to watch its memory")
    parser.add_argument("--token", help="of the server")
    parser.add_argument("--clients", type=int, default=32, help="against a server: twice what it takes at a time")
    parser.add_argument("--most-growth", type=float, default=20.0, help="MiB")
    arguments = parser.parse_args()
    print(machine())
    soak = Soak(arguments.minutes, psutil.Process(arguments.pid), arguments.most_growth)
    work: Callable[[], None] = lambda: soak_batcher(soak)  # noqa: E731
    if arguments.url:
        work = lambda: soak_server(soak, arguments.url, arguments.token, arguments.clients)  # noqa: E731
    elif arguments.images:
        work = lambda: soak_images(soak)  # noqa: E731
    worker = threading.Thread(target=work)
    worker.start()
    soak.watch()
    worker.join()
    return soak.verdict()


if __name__ == "__main__":
    sys.exit(main())
