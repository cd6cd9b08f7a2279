"""uvicorn, made patient with work and impatient with idle clients."""

import contextlib
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from types import FrameType
from typing import Any

import uvicorn

from sr_tile.errors import ArgumentError, ServingError, unexpected
from sr_tile.images.vips import allow_only_known_formats
from sr_tile.serving.http.app import create_app
from sr_tile.serving.http.idle_timeout import with_idle_timeout
from sr_tile.serving.http.model_pool import ModelPool
from sr_tile.serving.http.request_log import Request
from sr_tile.serving.http.security import LOOPBACK

log = logging.getLogger("sr_tile")


class Server(uvicorn.Server):
    """Finishes what is under way at the first signal, and gives it up at the second or after `shutdown_timeout` seconds."""

    def __init__(self, config: uvicorn.Config, app: Any, shutdown_timeout: float, failed: list[BaseException]) -> None:
        super().__init__(config)
        self.app, self.failed = app, failed
        self._shutdown_timeout, self._since = shutdown_timeout, 0.0
        self._address = ""  # to be said once the models are there

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; while the models are loaded, requests are told to come back."""
        await super().startup(sockets)
        if self.started and sockets:
            scheme = "https" if self.config.is_ssl else "http"
            name, port = sockets[0].getsockname()[:2]
            place = f"[{name}]" if ":" in name else name
            self._address = f"{scheme}://{place}:{port}/"

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGHUP as well, which uvicorn leaves alone; whoever started the server to ignore it (nohup) has it ignored."""
        number = getattr(signal, "SIGHUP", None)
        with super().capture_signals():
            if number is None or threading.current_thread() is not threading.main_thread():
                yield
                return
            before = signal.getsignal(number)
            signal.signal(number, signal.SIG_IGN if before is signal.SIG_IGN else self.handle_exit)
            try:
                yield
            finally:
                signal.signal(number, before)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """At a signal."""
        state = getattr(self.app.state, "server", None)
        if state is None or self._since:
            self.should_exit = True
            self.force_exit = bool(self._since)
            return
        self._since = time.monotonic()
        state.admission.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Whether to end."""
        if await super().on_tick(counter):
            return True
        if self._address and self.app.state.server.pool.models:
            print(f"sr-tile: serving on {self._address}", file=sys.stderr, flush=True)
            self._address = ""
        if not self._since:
            return False
        if time.monotonic() - self._since > self._shutdown_timeout:
            self.config.timeout_graceful_shutdown = 1  # then it cancels, and what is cancelled is given up
            return True
        return not self.app.state.server.admission.active


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound.

    Raises:
        ServingError: it cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        if sys.platform != "win32":  # where it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ServingError(
            f"{host}:{port}: cannot listen there: {error.strerror or error}; choose another --host or --port"
        ) from None
    return listener


def build(
    pool: ModelPool,
    *,
    token: str | None = None,
    names: Collection[str] = (),
    shutdown_timeout: float = 60.0,
    on_request: Callable[[Request], None] | None = None,
    **config: Any,
) -> Server:
    """A server that is not running yet; the arguments are those of `serve`."""
    failed: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failed.append(error)
        server.should_exit = True

    hosts = None if token else {*LOOPBACK, *(name.lower() for name in names)}
    app = create_app(pool, token=token, hosts=hosts, on_failure=fail, on_request=on_request)
    settings = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
        **{"proxy_headers": False, **config},
    )
    try:
        settings.load()
    except OSError as error:  # of the files that were given, none else is read
        raise ArgumentError(
            f"the certificate and its key cannot be used: {unexpected(error)}; give --tls-cert and --tls-key files in PEM"
        ) from None
    settings.http_protocol_class = with_idle_timeout(  # type: ignore[assignment]  # called, never subclassed
        settings.http_protocol_class, pool.limits.idle_seconds
    )
    server = Server(settings, app, shutdown_timeout, failed)
    return server


def serve(
    pool: ModelPool,
    address: tuple[str, int],
    *,
    token: str | None = None,
    names: Collection[str] = (),
    shutdown_timeout: float = 60.0,
    on_request: Callable[[Request], None] | None = None,
    **config: Any,
) -> None:
    """Serve until a signal comes, then finish what is under way.

    Args:
        pool: the models, not started yet.
        address: where to listen; port 0 is any that is free.
        token: that clients must show; needed where others than this machine can connect.
        names: under which the server answers, beside those of this machine; with a token it answers to any.
        shutdown_timeout: seconds that work under way may take after the first signal.
        on_request: is told of each request when its answer ends.
        config: of uvicorn: certificates, proxies.

    Raises:
        ArgumentError: there is no token.
        ServingError: the address cannot be had.
        SrTileError: a model cannot be used.
    """
    if token is None and address[0] not in LOOPBACK:
        raise ArgumentError(
            f"--host {address[0]} lets other machines in; set a token in SR_TILE_TOKEN (--token), or serve on 127.0.0.1"
        )
    allow_only_known_formats()
    for library in ("uvicorn", "python_multipart"):  # they write a line for each request that is malformed
        logging.getLogger(library).setLevel(logging.ERROR)
    server = build(pool, token=token, names=names, shutdown_timeout=shutdown_timeout, on_request=on_request, **config)
    with listen(*address) as listener:
        server.run(sockets=[listener])
    if server.failed:
        raise server.failed[0]
