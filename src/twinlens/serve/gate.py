"""What every request passes: limits on bytes, number and time; counting."""

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twinlens.serve.limits import Limits
from twinlens.serve.metrics import Metrics
from twinlens.serve.refusals import Refusal, too_large

ITEMS = "/items/"
UNLIMITED = ("/health", "/metrics", "/_nicegui")  # neither number nor time counts
METHODS = ("GET", "HEAD", "POST", "OPTIONS")  # counted by name: a client invents more
RETRY_AFTER_SECONDS = 1


class Gate:
    """Middleware in front of the whole service.

    Bodies are limited by the bytes that come, not by what the client says of them.

    Args:
        app: behind it.
        limits: of a request.
        metrics: that count it.
    """

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics) -> None:
        self._app, self._limits, self._metrics = app, limits, metrics
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or a connection of another kind, which passes."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if scope["path"].startswith(ITEMS):
            # Still quoted: a slash inside an id is told from one behind it.
            scope["path"] = scope["raw_path"].decode("utf-8", "replace")
        exchange = _Exchange(receive, send, self._limits.upload_bytes)
        start = time.perf_counter()
        counts = not scope["path"].startswith(UNLIMITED)
        self._in_flight += counts
        self._metrics.in_flight.set(self._in_flight)
        try:
            refusal = self._refusal(scope, counts)
            if refusal is None:
                refusal = await self._answer(scope, exchange, counts)
            if refusal is not None and not exchange.status:
                await refusal.response()(scope, exchange.receive, exchange.pass_on)
        finally:
            self._in_flight -= counts
            self._metrics.in_flight.set(self._in_flight)
            self._count(scope, exchange.status, time.perf_counter() - start)

    async def _answer(
        self, scope: Scope, exchange: "_Exchange", counts: bool
    ) -> Refusal | None:
        """Lets the app answer; why it did not, if so."""
        seconds = self._limits.timeout_seconds
        try:
            async with asyncio.timeout(seconds if counts else None):
                await self._app(scope, exchange.receive, exchange.send)
        except TimeoutError:
            return exchange.refusal or Refusal(
                504,
                f"No answer within {seconds:g} seconds.",
                "The service is busy, or the upload is slow. Try again.",
            )
        return exchange.refusal

    def _refusal(self, scope: Scope, counts: bool) -> Refusal | None:
        """Why a request is not even begun."""
        most = self._limits.in_flight
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._limits.upload_bytes:
            return too_large(self._limits.upload_bytes)
        if counts and self._in_flight > most:
            return Refusal(
                503,
                f"{most} requests are being answered, the most at a time.",
                "Try again after a moment.",
                {"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
        return None

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        path = getattr(scope.get("route"), "path_format", "other")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.requests.labels(path, method, status or 499).inc()
        self._metrics.seconds.labels(path).observe(seconds)


class _Exchange:
    """Both ways of one request: counts what comes in, notes what goes out."""

    def __init__(self, receive: Receive, send: Send, most_bytes: int) -> None:
        self._receive, self._send, self._most = receive, send, most_bytes
        self._bytes = 0
        self.status = 0
        self.refusal: Refusal | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._most:
            self.refusal = too_large(self._most)
            return {"type": "http.disconnect"}  # the app stops reading
        return message

    async def send(self, message: Message) -> None:
        if self.refusal is None or self.status:
            await self.pass_on(message)

    async def pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)
