"""One line a request: when, from whom, what, and what became of it, for people or as JSON."""

import contextlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sr_tile.errors import printable

LogFormat = Literal["text", "json"]


@dataclass(frozen=True)
class Request:
    """What was asked, and what became of it.

    Attributes:
        time: when its head had come, UTC.
        client: address of whoever asked; a proxy that is trusted says whose it is.
        method: of HTTP.
        path: without the options behind it.
        status: of the answer; None where the client was gone before it began.
        received: bytes of the body that were read.
        sent: bytes of the answer's body.
        seconds: until all of the answer was handed on.
    """

    time: str
    client: str
    method: str
    path: str
    status: int | None
    received: int
    sent: int
    seconds: float

    def __str__(self) -> str:
        what = f"{self.client} {self.method} {self.path} {self.status or 'gone'}"
        return printable(f"{self.time} {what} in={self.received} out={self.sent} {self.seconds:.3f}s")


class RequestLog:
    """Stands around the application and tells `on_request` of each request when its answer ends."""

    def __init__(self, app: ASGIApp, on_request: Callable[[Request], None]) -> None:
        self._app, self._on_request = app, on_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and count."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        came, start = datetime.now(UTC), time.monotonic()
        status: int | None = None
        received = sent = 0

        async def counted_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            nonlocal status, sent
            status = message.get("status", status)
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, counted_receive, counted_send)
        except Exception:
            status = status or 500  # answered further out
            raise
        finally:
            client = (scope.get("client") or ("-",))[0]
            moment = came.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            seconds = round(time.monotonic() - start, 6)
            self._on_request(Request(moment, client, scope["method"], scope["path"], status, received, sent, seconds))


def print_request(request: Request, form: LogFormat = "text") -> None:
    """Write a line on stderr; that nobody reads it any more stops no server."""
    line = json.dumps(asdict(request)) if form == "json" else str(request)
    with contextlib.suppress(OSError, ValueError):  # ValueError: stderr is closed
        print(line, file=sys.stderr, flush=True)
