"""Who may ask: the right name, the right site, the right token; and headers that keep browsers careful."""

import asyncio
import secrets
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sr_tile.serving.http.http_errors import HttpError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_OPEN = ("/", "/docs", "/healthz", "/readyz")
_LINGER_BYTES, _LINGER_SECONDS = 2**22, 1.0
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class SecurityMiddleware:
    """Stands before the application.

    Args:
        app: what to guard.
        token: that clients must show as `Authorization: Bearer TOKEN`; None asks for none.
        hosts: names under which the server answers; None: any. A page of another site whose name was made to point at
            this machine (DNS rebinding) still says its own name.
    """

    def __init__(self, app: ASGIApp, token: str | None = None, hosts: Collection[str] | None = None) -> None:
        self._app, self._token, self._hosts = app, token, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or refuse."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        body = _Body(receive)

        async def careful(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
                if message["status"] >= 400:
                    await body.linger()
            await send(message)

        try:
            self._check(scope["path"], Headers(scope=scope))
        except HttpError as refusal:
            answer = JSONResponse(refusal.body, refusal.status, refusal.headers)
            return await answer(scope, body.receive, careful)
        return await self._app(scope, body.receive, careful)

    def _check(self, path: str, headers: Headers) -> None:
        host = headers.get("host", "")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            raise HttpError(403, "wrong_host", "this server does not answer to that name; start it with --name")
        origin = headers.get("origin")
        if origin is not None and _site_of(origin) != host.lower():
            raise HttpError(403, "wrong_origin", "pages of other sites may not use this server")
        if self._token is None or path in _OPEN or path.startswith("/page/"):
            return
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secrets.compare_digest(shown.strip().encode(), self._token.encode()):
            raise HttpError(401, "no_token", "send the server's token as `Authorization: Bearer TOKEN`")


def _name_of(host: str) -> str | None:
    """The name in a Host header, without its port.

    Raises:
        HttpError: 400, it is none.
    """
    try:
        address = urlsplit(f"//{host}")
        _ = address.port  # refuses what is no number
        return address.hostname
    except ValueError:
        raise HttpError(400, "bad_host", "the Host header is no name or address") from None


def _site_of(origin: str) -> str | None:
    """Name and port in an Origin header; None where it is no address, which no site's is."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


class _Body:
    """Knows whether the body of a request was read to its end."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._ended = receive, False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._ended = True
        return message

    async def linger(self) -> None:
        """Read on for a moment: a client that is still sending would be cut off before it sees the answer."""
        taken = 0
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while not self._ended and taken < _LINGER_BYTES:
                    taken += len((await self.receive()).get("body", b""))
        except TimeoutError:
            pass
