"""What the edge counts, under the names of the user's guide."""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

Gauges = Callable[[], Iterable[tuple[str, str, float]]]


class Replies:
    """The replies of one route: how many by status, and how long they took."""

    __slots__ = ("buckets", "seconds", "statuses")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        self.statuses: dict[int, int] = {}

    def count(self, status: int, seconds: float) -> None:
        """Count a reply."""
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds
        statuses = self.statuses
        statuses[status] = statuses.get(status, 0) + 1


class EdgeMetrics(Collector):
    """Plain counters, touched only by the loop's thread, and read when Prometheus asks.

    received = published + failed + in flight, in events.
    """

    def __init__(self, wrong_keys: Callable[[], int]) -> None:
        self.received = 0
        self.published = 0
        self.failed = 0
        self._wrong_keys = wrong_keys
        self._routes: dict[str, Replies] = {}
        self._gauges: list[Gauges] = []
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def gauges(self, read: Gauges) -> None:
        """Add gauges: `read` returns (name, help, value) for each."""
        self._gauges.append(read)

    def replies(self, route: str) -> Replies:
        """Return where the replies of a route are counted."""
        return self._routes.setdefault(route, Replies())

    def expose(self) -> bytes:
        """Write everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics, for prometheus_client."""
        limited = sum(route.statuses.get(HTTPStatus.TOO_MANY_REQUESTS, 0) for route in self._routes.values())
        for name, text, value in (
            ("events_received", "Events that clients sent", self.received),
            ("events_published", "Events that Kafka confirmed", self.published),
            ("events_failed", "Events refused, or not confirmed by Kafka", self.failed),
            ("requests_rate_limited", "Requests answered 429", limited),
            ("requests_wrong_key", "Requests with a wrong key or signature", self._wrong_keys()),
        ):
            yield CounterMetricFamily(name, text, value=value)
        replies = CounterMetricFamily("http_requests", "Replies", labels=["route", "status"])
        durations = HistogramMetricFamily("http_request_duration_seconds", "Time to the reply", labels=["route"])
        for route, found in self._routes.items():
            for status, count in found.statuses.items():
                replies.add_metric([route, str(status)], count)
            total, cumulative = 0, list[tuple[str, float]]()
            for bound, count in zip([*map(str, BOUNDS), "+Inf"], found.buckets, strict=True):
                total += count
                cumulative.append((bound, total))
            durations.add_metric([route], cumulative, found.seconds)
        yield replies
        yield durations
        for read in self._gauges:
            for name, text, level in read():
                yield GaugeMetricFamily(name, text, value=level)
