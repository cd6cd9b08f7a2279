"""Clients of a server, good and bad; see `soak.py`."""

import http.client
import io
import multiprocessing
import random
import socket
import threading
import time
import urllib.parse
from concurrent.futures import ProcessPoolExecutor
from typing import ClassVar

import numpy as np
from soak_counts import LOST_SECONDS, Soak

MEGAPIXELS = 20  # that the server which is started takes
SLOW_SECONDS = 5.0  # after which it gives a client up


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
            if self._soak.resting():
                time.sleep(0.1)
                continue
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
        connection = http.client.HTTPConnection(*self.address, timeout=LOST_SECONDS)
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
        with socket.create_connection(self.address, timeout=LOST_SECONDS) as connection:
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
        connection = http.client.HTTPConnection(host, port, timeout=LOST_SECONDS)
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
