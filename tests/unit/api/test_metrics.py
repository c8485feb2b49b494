"""What the edge exposes: the names and labels of the user's guide, with what was counted, and nothing beside them."""

from prometheus_client.parser import text_string_to_metric_families

from pipeline.api.metrics import BOUNDS, EdgeMetrics

Sample = tuple[str, tuple[tuple[str, str], ...]]


def exposed(metrics: EdgeMetrics) -> dict[Sample, float]:
    """Return every sample but those of the process, the platform and the collector."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.expose().decode())
        if not family.name.startswith(("process_", "python_"))
        for sample in family.samples
    }


def test_the_names_and_labels_are_the_guide_s() -> None:
    metrics = EdgeMetrics(lambda: 3)
    metrics.gauges(lambda: [("kafka_reachable", "Whether the topic has its leaders", 1.0)])
    metrics.replies("/none")
    posts = metrics.replies("/api/v1/events")
    posts.count(200, 0.0015)
    posts.count(200, 0.003)
    posts.count(429, 7.0)
    assert metrics.replies("/api/v1/events") is posts
    metrics.received = 5
    metrics.published = 3
    metrics.failed = 1
    buckets = [*map(str, BOUNDS), "+Inf"]
    counts = [0, 1, *[2] * (len(BOUNDS) - 2), 3]
    expected: dict[Sample, float] = {
        ("events_received_total", ()): 5,
        ("events_published_total", ()): 3,
        ("events_failed_total", ()): 1,
        ("requests_rate_limited_total", ()): 1,
        ("requests_wrong_key_total", ()): 3,
        ("http_requests_total", (("route", "/api/v1/events"), ("status", "200"))): 2,
        ("http_requests_total", (("route", "/api/v1/events"), ("status", "429"))): 1,
        ("kafka_reachable", ()): 1,
    }
    for route, seen, seconds in (("/api/v1/events", counts, 7.0045), ("/none", [0] * len(buckets), 0.0)):
        expected[("http_request_duration_seconds_sum", (("route", route),))] = seconds
        expected[("http_request_duration_seconds_count", (("route", route),))] = seen[-1]
        for bound, count in zip(buckets, seen, strict=True):
            expected[("http_request_duration_seconds_bucket", (("le", bound), ("route", route)))] = count
    assert exposed(metrics) == expected


def test_two_edges_in_one_process_count_apart() -> None:
    one, other = EdgeMetrics(lambda: 0), EdgeMetrics(lambda: 0)
    one.received += 1
    assert exposed(other)["events_received_total", ()] == 0
