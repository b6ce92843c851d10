"""Count requests and photos, in the format of Prometheus."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counters of one service."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("tip_adapter_requests", "Requests that were answered.", labels, registry=registry)
        self.seconds = Histogram(
            "tip_adapter_request_seconds",
            "From a request to its answer.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self.photos = Counter(
            "tip_adapter_photos", "Photos that were classified, or could not be read.", ("outcome",), registry=registry
        )
        self.batches = Histogram(
            "tip_adapter_batch_photos", "Photos encoded together.", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self.waiting = Gauge("tip_adapter_waiting_photos", "Photos that wait to be encoded.", registry=registry)

        self.kept = Counter(
            "tip_adapter_kept_photos",
            "Photos of requests: kept, or failed to be.",
            ("reason",),
            registry=registry,
        )

    def text(self) -> bytes:
        """Give all figures."""
        return generate_latest(self.registry)


class Counting:
    """Count requests by route, not by path: paths are the client's to choose, and without end."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self.metrics.requests.labels(scope["method"] if route != "none" else "", route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - start)
