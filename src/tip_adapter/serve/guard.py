"""Check every request before a route sees it: host, origin, token, size of the body and time to send it."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tip_adapter.serve.problems import Problem, problem
from tip_adapter.serve.settings import Settings

OPEN = ("/healthz", "/readyz")
"""What a load balancer asks without a token: whether the service runs, and nothing of it."""

FOREIGN = ("cross-site", "same-site")
"""What browsers say of requests that another site's page, or another port's, makes."""

ANYWHERE = {"0.0.0.0", "::"}  # noqa: S104
"""What a service that listens on every address of its machine is given as its host."""

TOKEN_COOKIE = "tip_adapter_token"  # noqa: S105 - its name, not its value

HEADERS = {
    b"content-security-policy": (
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        b"media-src 'self' blob:; worker-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cache-control": b"no-store",
}


class Guard:
    """Refuse what must not pass, and add the headers that keep browsers careful."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self.held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answered = _Answer(send)
        body = _Body(receive, self)
        try:
            self._check(scope, Headers(scope=scope))
            await self.app(scope, body, answered)
        except Problem as error:
            if not answered.started:
                headers = {**(error.headers or {}), "connection": "close"}
                await problem(scope, error.status_code, error.detail, headers)(scope, receive, answered)
        finally:
            self.held_bytes -= body.bytes

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if not self._known(host):
            raise Problem(421, f"This service is not called {host or 'nothing'!r}: start it with --allow-host NAME")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise Problem(403, "Requests from pages of other sites are refused")
        # Pictures and scripts in pages of other sites come without an origin; links that somebody follows are fine.
        if headers.get("sec-fetch-site") in FOREIGN and headers.get("sec-fetch-mode") != "navigate":
            raise Problem(403, "Requests from pages of other sites are refused")
        if self.settings.token and scope["path"] not in OPEN:
            scheme, _, token = headers.get("authorization", "").partition(" ")
            given = token.strip() if scheme.lower() == "bearer" else _cookie(headers)
            if scope["path"] == "/" and not given:
                # The address that the command prints; the page then has a cookie, and the address no token.
                given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if not secrets.compare_digest(given.encode(), self.settings.token.encode()):
                raise Problem(401, "Expected the header Authorization: Bearer TOKEN, with the token of this service")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.settings.max_body_bytes:
            raise Problem(413, f"Expected at most {self.settings.max_body_bytes} bytes: send fewer photos at a time")

    def _known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self.settings.hosts:
            return True
        # A web page cannot give a number of its own to somebody else's service, only a name.
        return not ANYWHERE.isdisjoint(self.settings.hosts) and _is_address(name)


def _cookie(headers: Headers) -> str:
    """Find the token as the page keeps it, which cannot send headers for pictures."""
    parts = (part.strip().partition("=") for part in headers.get("cookie", "").split(";"))
    return next((value for name, _, value in parts if name == TOKEN_COOKIE), "")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class _Body:
    """A request's body, counted and timed while it arrives, whatever its headers say."""

    def __init__(self, receive: Receive, guard: Guard) -> None:
        self.receive, self.guard, self.settings = receive, guard, guard.settings
        self.bytes, self.complete = 0, False
        self.deadline = asyncio.get_running_loop().time() + self.settings.upload_s

    async def __call__(self) -> Message:
        if self.complete:
            return await self.receive()
        try:
            async with asyncio.timeout_at(self.deadline):
                message = await self.receive()
        except TimeoutError:
            raise Problem(
                408, f"The request did not arrive within {self.settings.upload_s:g} seconds", Connection="close"
            ) from None
        count = len(message.get("body", b""))
        self.bytes += count
        self.guard.held_bytes += count
        self.complete = not message.get("more_body", False)
        if self.guard.held_bytes > self.settings.held_bytes:
            raise Problem(503, "Too many photos are being sent: try again later", Retry_After="5", Connection="close")
        if self.bytes > self.settings.max_body_bytes:
            raise Problem(
                413,
                f"Expected at most {self.settings.max_body_bytes} bytes: send fewer photos at a time",
                Connection="close",
            )
        return message


class _Answer:
    """Add the headers to an answer."""

    def __init__(self, send: Send) -> None:
        self.send, self.started = send, False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            given = {name.lower() for name, _ in message.get("headers", ())}
            added = [(name, value) for name, value in HEADERS.items() if name not in given]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await self.send(message)
