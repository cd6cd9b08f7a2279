"""Idle timeouts of connections: whoever begins a request and does not finish it, or takes no answer, is cut off.

uvicorn bounds only the wait for the first byte of a request. This stands between the event loop and uvicorn's protocol,
whatever that is, and knows no more of it than what `asyncio.Protocol` says. That a request is under way it hears from the
application: `RequestWatch` finds its connection in a context variable, which every task inherits that is made while bytes
are taken in.

A client that says that it sends no more (it is half-closed) still gets its answers. Whether it is gone altogether shows only
when it is sent something: until its answer begins, that is an interim `100 Continue`, which any client of HTTP/1.1 has to
expect. asyncio cannot leave TLS half-open.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
_INTERIM_SECONDS = 0.5

_connection: ContextVar["IdleTimeout | None"] = ContextVar("connection", default=None)


class IdleTimeout(asyncio.Protocol):
    """One connection, cut off where `seconds` go by without a whole request, or without room for more of the answer.

    While a request is under way there is no bound on the wait for its answer; what its body takes is timed where it is read.

    Args:
        inner: the protocol that speaks HTTP.
        seconds: without a byte.
    """

    def __init__(self, inner: asyncio.Protocol, seconds: float) -> None:
        self._inner, self._seconds = inner, seconds
        self._transport: Any = None  # uvloop's is none of asyncio's classes
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._requests = 0  # under way
        self._half_closed = False
        self.interim = False  # whether one may be sent: no answer has begun

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """From now on a request is awaited."""
        self._transport = transport
        self._inner.connection_made(transport)
        self.await_request()

    def data_received(self, data: bytes) -> None:
        """Bytes alone earn no more time: only a whole request does."""
        _connection.set(self)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """The client sends no more; where it waits for an answer it gets it."""
        self._inner.eof_received()
        if self._transport is None or self._transport.get_extra_info("sslcontext"):
            return None
        self._half_closed = True
        asyncio.get_running_loop().call_soon(self._look_for_client)  # a request that has just come begins first
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._transport = None
        _cancel(self._reading)
        _cancel(self._writing)
        self._inner.connection_lost(error)

    def pause_writing(self) -> None:
        """The client does not take what it is sent."""
        self._writing = self._timer()
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        _cancel(self._writing)
        self._inner.resume_writing()

    def await_request(self) -> None:
        """The whole head of the next request is to come in time."""
        _cancel(self._reading)
        if self._transport is not None:
            self._reading = self._timer()
        if self._half_closed:
            asyncio.get_running_loop().call_soon(self._close_unless_asked)

    def request_came(self) -> None:
        """Now it is the server's turn."""
        _cancel(self._reading)
        self._requests += 1

    def request_ended(self) -> None:
        """The answer was sent; the next request is awaited."""
        self._requests -= 1
        self.await_request()

    def _look_for_client(self) -> None:
        """As long as a half-closed one waits: the second try finds a connection broken that the first one was refused on."""
        self._close_unless_asked()
        if self._transport is not None and not self._transport.is_closing():
            if self.interim:
                self._transport.write(_INTERIM)
            asyncio.get_running_loop().call_later(_INTERIM_SECONDS, self._look_for_client)

    def _close_unless_asked(self) -> None:
        if self._transport is not None and not self._requests:
            self._transport.close()

    def _timer(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._seconds, self._cut_off)

    def _cut_off(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class RequestWatch:
    """Tells the connection of a request that it has come, and that the next one is awaited."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        connection = _connection.get() if scope["type"] == "http" else None
        if connection is None:
            return await self._app(scope, receive, send)

        async def noticed(message: Message) -> None:
            connection.interim = False
            await send(message)

        connection.request_came()
        connection.interim = scope["http_version"] == "1.1"
        try:
            await self._app(scope, receive, noticed)
        finally:
            connection.interim = False
            connection.request_ended()


def with_idle_timeout(protocol: Callable[..., asyncio.Protocol], seconds: float) -> Callable[..., asyncio.Protocol]:
    """A maker of protocols that are cut off when idle, for uvicorn's `Config.http_protocol_class`."""

    def make(**keywords: Any) -> asyncio.Protocol:
        return IdleTimeout(protocol(**keywords), seconds)

    return make
