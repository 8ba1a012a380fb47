"""Numbers for Prometheus at /metrics: requests, the queue, the engine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from danqing import __version__
from danqing.api.errors import Scope

if TYPE_CHECKING:
    from danqing.jobs.service import JobService

SECONDS = (0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)


class Metrics:
    """The registry of one app, and the route that shows it."""

    def __init__(self, service: JobService) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Stats(service))
        self._requests = Counter(
            "danqing_http_requests",
            "Requests by route and status.",
            ("route", "method", "code"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "danqing_http_seconds",
            "Seconds from a request to the start of its answer.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one answer. Routes are templates, and paths without a route are one: labels must stay few."""
        route = str(getattr(scope.get("route"), "path", "")) or "none"
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS") else "other"
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    async def show(self, request: Request) -> Response:
        """GET /metrics."""
        text = generate_latest(self.registry)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


class _Stats(Collector):
    """The service's own numbers, read when somebody asks."""

    def __init__(self, service: JobService) -> None:
        self._service = service

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        yield _gauge("build", "Version of Danqing.", 1.0, ("version",), (__version__,))
        yield _gauge("ready", "1 when a picture could be drawn now.", float(self._service.readiness().ready))
        jobs = GaugeMetricFamily("danqing_jobs", "Jobs by state.", labels=("state",))
        for name, value in sorted(self._service.stats().items()):
            if name.startswith("jobs_"):
                jobs.add_metric((name.removeprefix("jobs_"),), value)
            else:
                yield _gauge(re.sub(r"\W", "_", name), f"{name}, as the queue or the engine counts it.", value)
        yield jobs
        yield from self._tally()

    def _tally(self) -> Iterable[Metric]:
        tally = self._service.tally
        seconds = HistogramMetricFamily(
            "danqing_job_seconds", "Seconds of jobs that are over, by phase.", labels=("phase",)
        )
        for phase, times in tally.phases.items():
            seconds.add_metric((phase,), times.cumulative(), times.total)
        yield seconds
        errors = CounterMetricFamily("danqing_job_errors", "Jobs that failed, by error code.", labels=("code",))
        for code, count in sorted(tally.errors.items()):
            errors.add_metric((code,), count)
        yield errors


def _gauge(
    name: str, text: str, value: float, labels: tuple[str, ...] = (), values: tuple[str, ...] = ()
) -> GaugeMetricFamily:
    family = GaugeMetricFamily("danqing_" + name, text, labels=labels)
    family.add_metric(values, value)
    return family
