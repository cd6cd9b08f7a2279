"""Twice as many requests as can be served, for as long as you like: nothing is lost and memory stays flat.

    python bench/soak.py [--minutes 10] [--images]               the batcher, or the shared engine with whole images
    python bench/soak.py [--minutes 10] --serve                                 a server that it starts, of a tiny model
    python bench/soak.py [--minutes 10] --url http://127.0.0.1:8000 [--pid N] [--token T]       a running server

Among the good requests are poisoned ones, some whose caller goes away, and some in a hurry; the batcher's worker also raises
what no worker should, and is stopped and started under load. A server also meets pictures of a few kB that claim as many
pixels as it takes and more, clients that send a byte a second, and asks for `/healthz` between them. Prints a line every few
seconds, and ends with 1 where a request stayed without an answer, an answer was wrong, memory grew by more than
--most-growth or was above --limit, or one of a hundred answers of `/healthz` took more than --most-health.
"""

import argparse
import http.client
import io
import multiprocessing
import random
import socket
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, ProcessPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import psutil
from common import ServerProcess, machine, tiny_model

from sr_tile.engines.base import BaseEngine
from sr_tile.errors import DeadlineError, Overloaded, SrTileError, StoppedError
from sr_tile.images.arrays import ArraySink, ArraySource
from sr_tile.models.spec import ModelSpec
from sr_tile.pipeline.image_job import ImageJob
from sr_tile.pipeline.pipeline import Pipeline
from sr_tile.planner import Plan
from sr_tile.serving import DynamicBatcher, SharedEngine

PATIENCE = 180  # seconds after which a request counts as lost: bombs go before it, and others use the machine
CALL_SECONDS, ROWS = 0.05, 16
MEGAPIXELS = 20  # that the server which is started takes
SLOW_SECONDS = 5.0  # after which it gives a client up


class Soak:
    """Counts what became of requests, and watches memory."""

    def __init__(self, minutes: float, process: psutil.Process, most_growth: float) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._process, self._most = process, most_growth
        self._begin = time.monotonic()
        self.end = self._begin + 60 * minutes
        self.health: list[float] = []  # seconds of each answer
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
            time.sleep(min(1.0, max(0.0, self.end - time.monotonic())))
            size = self._process.memory_info().rss / 2**20
            passed = time.monotonic() - self._begin
            self._samples.append((passed, size))
            if len(self._samples) % 5:
                continue
            with self._lock:
                shown = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
            print(f"{passed:6.0f} s  {size:7.1f} MiB  {threading.active_count():3} threads  {shown}", flush=True)

    def verdict(self, limit: float, most_health: float) -> int:
        """0 where all went well; memory is compared after the first fifth, when all buffers have been made once.

        Args:
            limit: MiB that the process may hold; 0 for any.
            most_health: milliseconds for 99 of 100 answers of `/healthz`.
        """
        settled = [size for passed, size in self._samples if passed >= (self.end - self._begin) / 5]
        quarter = max(1, len(settled) // 4)
        growth = float(np.median(settled[-quarter:]) - np.median(settled[:quarter])) if settled else 0.0
        bad = {what: self.counts[what] for what in ("lost", "wrong", "unexpected", "held") if self.counts[what]}
        print(f"{sum(self.counts.values())} requests, growth {growth:+.1f} MiB, {bad or 'none lost, none wrong'}")
        peak = max((size for _, size in self._samples), default=0.0)
        print(f"at most {peak:.0f} MiB" + (f", of {limit:.0f}" if limit else ""))
        late = False
        if len(self.health) > 100:
            p50, p99, worst = np.percentile([1000 * seconds for seconds in self.health], (50, 99, 100))
            print(f"/healthz: {len(self.health)} answers, p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {worst:.0f} ms")
            late = p99 > most_health
        over = bool(limit) and peak > limit
        return 1 if bad or growth > self._most or over or late or not self.counts["answered"] else 0


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


class Clients:
    """Who asks a server: good ones, broken ones, those that hang up or dribble, and bombs.

    Args:
        soak: counts.
        url: of the server.
        token: of the server.
        bombs: see `make_bombs`.
    """

    kinds: ClassVar[dict[str, int]] = {"good": 90, "broken": 5, "gone": 5, "bomb": 2, "slow": 1}

    def __init__(self, soak: Soak, url: str, token: str | None, bombs: list[bytes]) -> None:
        self._soak, self._target = soak, urllib.parse.urlsplit(url)
        self.address = (str(self._target.hostname), self._target.port or 80)
        self._headers = {"Content-Type": "image/png"} | ({"Authorization": f"Bearer {token}"} if token else {})
        dice = np.random.default_rng(0)
        sizes = ((64, 64), (100, 80), (300, 400))
        self._bodies = [encoded(dice.integers(0, 255, (*size, 3), np.uint8)) for size in sizes]
        self._bombs = bombs

    def go_on(self, seed: int) -> None:
        """Ask until time is up."""
        draw = random.Random(seed)
        while not self._soak.over():
            kind, body = draw.choices([*self.kinds], [*self.kinds.values()])[0], draw.choice(self._bodies)
            try:
                if kind == "gone":
                    self._hang_up(body)
                elif kind == "slow":
                    self._soak.note(self._dribble(body))
                else:
                    body = {"broken": body[:200], "bomb": draw.choice(self._bombs)}.get(kind, body)
                    if not self._ask(kind, body):
                        time.sleep(draw.random() * 0.1)
            except TimeoutError:
                self._soak.note("lost")
            except OSError as error:
                self._soak.note(type(error).__name__)
                self._soak.note("unexpected")
                time.sleep(0.1)

    def _ask(self, kind: str, body: bytes) -> bool:
        """Whether it was taken."""
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
        connection.request("POST", "/v1/enhance", body, self._headers)
        response = connection.getresponse()
        status, content = response.status, response.read()
        connection.close()
        if kind == "good" and status == 200 and content:
            self._soak.note("answered")
        elif kind == "bomb" and (status == 200 or 400 <= status < 500 or status == 503):
            self._soak.note(f"bombs {status}")
        elif status in (429, 503):
            self._soak.note("refused")
        elif kind == "broken" and 400 <= status < 500:
            self._soak.note("poisoned")
        else:
            self._soak.note(f"status {status}")
            self._soak.note("unexpected")
        return status not in (429, 503)

    def _head(self, body: bytes) -> bytes:
        head = f"POST /v1/enhance HTTP/1.1\r\nHost: {self._target.netloc}\r\nContent-Length: {len(body)}\r\n"
        return (head + "".join(f"{name}: {value}\r\n" for name, value in self._headers.items())).encode()

    def _hang_up(self, body: bytes) -> None:
        with socket.create_connection(self.address, timeout=PATIENCE) as connection:
            connection.sendall(self._head(body) + b"\r\n" + body[: len(body) // 2])
        self._soak.note("hung up")

    def _dribble(self, body: bytes) -> str:
        """A byte a second of a request or, by the size of the body, of its head, until the server has enough of it."""
        with socket.create_connection(self.address, timeout=1.0) as connection:
            connection.sendall(self._head(body) + (b"\r\n" if len(body) % 2 else b""))
            end = time.monotonic() + 12 * SLOW_SECONDS
            for byte in b"x: " + body:
                try:
                    connection.sendall(bytes([byte]))
                    connection.recv(2**16)
                    return "slow ones given up"
                except TimeoutError:  # nothing was said within a second
                    if time.monotonic() > end:
                        break
                except OSError:
                    return "slow ones given up"
        return "held"


def ask_health(host: str, port: int, seconds: float) -> list[float]:
    """Seconds that each answer of `/healthz` takes; in a process of its own, where no client delays it."""
    taken, end = [], time.monotonic() + seconds
    while (start := time.monotonic()) < end:
        connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        taken.append(time.monotonic() - start)
        connection.close()
        time.sleep(0.05)
    return taken


def soak_server(soak: Soak, clients: Clients, count: int) -> None:
    """So many clients, and one that asks for `/healthz`."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        health = pool.submit(ask_health, *clients.address, soak.end - time.monotonic() - 3.0)
        threads = [threading.Thread(target=clients.go_on, args=(seed,)) for seed in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        soak.health = health.result()


def encoded(pixels_hwc: np.ndarray) -> bytes:
    """A PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels_hwc).save(buffer, "PNG")
    return buffer.getvalue()


def make_bombs() -> list[bytes]:
    """Pictures of a few kB with as many pixels as the server takes, and with many more."""
    from sr_tile.images.vips import vips

    side = int((MEGAPIXELS * 1e6) ** 0.5)
    found = []
    for edge in (side, 3 * side // 2):
        black = vips().Image.black(edge, edge, bands=3).copy(interpretation="srgb")
        found += [
            black.write_to_buffer(".png", compression=9),
            black.write_to_buffer(".png", compression=9, interlace=True),
            black.write_to_buffer(".jpg", interlace=True),
            black.write_to_buffer(".avif", effort=0),
            black.write_to_buffer(".webp"),
        ]
    return found


def main() -> int:
    """Run and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--images", action="store_true", help="the shared engine with whole images")
    parser.add_argument("--url", help="a running server")
    parser.add_argument("--serve", action="store_true", help="start a server")
    parser.add_argument(
        "--limit", type=float, default=0.0, help="MiB that the server may hold; its --mem-limit if started"
    )
    parser.add_argument(
        "--most-health", type=float, default=50.0, help="milliseconds for 99 of 100 answers of /healthz"
    )
    parser.add_argument("--pid", type=int, help="of the server, to watch its memory")
    parser.add_argument("--token", help="of the server")
    parser.add_argument("--clients", type=int, default=32, help="against a server: twice what it takes at a time")
    parser.add_argument("--most-growth", type=float, default=20.0, help="MiB")
    arguments = parser.parse_args()
    print(machine())
    server: ServerProcess | None = None
    if arguments.serve:
        arguments.limit = arguments.limit or 1500.0
        place = Path(tempfile.mkdtemp(prefix="sr-tile-soak-"))
        bounds = ["--mem-limit", f"{arguments.limit:.0f}MiB", "--max-megapixels", MEGAPIXELS, "--timeout", SLOW_SECONDS]
        most = arguments.clients // 2
        options = [*bounds, "--queue", most, "--per-client", most]  # all come from one address
        server = ServerProcess(place, "--model", tiny_model(place / "tiny.onnx"), "--device", "cpu", *map(str, options))
        arguments.url, arguments.pid = f"http://127.0.0.1:{server.port()}", server.process.pid
    bombs = make_bombs() if arguments.url else []  # takes a while: before time begins
    soak = Soak(arguments.minutes, psutil.Process(arguments.pid), arguments.most_growth)
    clients = Clients(soak, arguments.url, arguments.token, bombs) if arguments.url else None
    work: Callable[[], None] = lambda: soak_batcher(soak)  # noqa: E731
    if clients:
        work = lambda: soak_server(soak, clients, arguments.clients)  # noqa: E731
    elif arguments.images:
        work = lambda: soak_images(soak)  # noqa: E731
    worker = threading.Thread(target=work)
    worker.start()
    soak.watch()
    worker.join()
    if server:
        server.process.terminate()
        print(f"server: exit {server.process.wait()}, left {server.left()}, said {server.said()!a}"[:2000])
    return soak.verdict(arguments.limit, arguments.most_health)


if __name__ == "__main__":
    sys.exit(main())
