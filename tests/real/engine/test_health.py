"""The consumer's health: over both families, and by what its work came to."""

import http.client
import json
import socket

import pytest
from confluent_kafka.admin import AclOperation

from pipeline.engine import consumer as engine
from pipeline.engine import health
from pipeline.engine.consumer import EventConsumer
from pipeline.engine.health import ConsumerHealth, serve_health
from pipeline.epoch.roles import ROLES
from pipeline.errors import ConfigurationError
from pipeline.sinks import session
from tests.chaos.truth import assert_exact
from tests.consuming import caught_up, consuming, settings_of
from tests.edges import free_port
from tests.events import encoded
from tests.place import Place
from tests.real.api.events.test_denied import denied
from tests.waiting import eventually

pytestmark = pytest.mark.real


def asked(host: str, port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_probes_and_metrics_answer_both_families() -> None:
    port = free_port()
    server = serve_health(ConsumerHealth(), port)
    try:
        for host in ("127.0.0.1", "::1"):
            assert asked(host, port, "/health/live")[0] == 200
            assert b"pipeline_" in asked(host, port, "/metrics")[1]
    finally:
        server.shutdown()
        server.server_close()


def test_a_statement_that_hangs_is_not_ready(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "HUNG_SECONDS", 1.0)
    with consuming(place) as consumer:
        place.produce([encoded()])
        caught_up(place)
        eventually(lambda: consumer.health.ready()[0])
        with place.pg() as other:
            other.execute("BEGIN")
            other.execute("LOCK TABLE events")
            place.produce([encoded()])
            eventually(lambda: "postgres" in str(consumer.health.ready()[1]["hung"]), timeout=30)
            assert not consumer.health.ready()[0]
            assert consumer.health.live()[0]
        caught_up(place)
        eventually(lambda: consumer.health.ready()[0])
    assert_exact(place)


def test_a_server_that_hangs_from_the_first_does_not_stop_the_loop(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At an assignment the loop itself asks PostgreSQL, which a restart would not thaw."""
    monkeypatch.setattr(health, "STALLED_SECONDS", 6.0)
    monkeypatch.setattr(health, "HUNG_SECONDS", 12.0)
    place.produce([encoded()])
    with place.pg() as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE pipeline_watermarks")
        with consuming(place) as consumer:
            seen = list[bool]()

            def hung() -> bool:
                seen.append(consumer.health.live()[0])
                return bool(consumer.health.ready()[1]["hung"])

            eventually(hung, timeout=60)
            assert all(seen)
            other.execute("ROLLBACK")
            caught_up(place)
    assert_exact(place)


def test_each_server_is_told_of_under_its_own_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """At an assignment and in an audit Kafka and PostgreSQL are asked in turn."""
    monkeypatch.setattr(session, "STANDSTILL_SECONDS", 1)
    monkeypatch.setattr(engine, "AUDIT_SECONDS", 0.3)
    monkeypatch.setattr(engine, "AUDIT_AGAIN_SECONDS", 0.3)
    place.produce([encoded()])

    def away(consumer: EventConsumer) -> object:
        return consumer.health.ready()[1]["away"]

    with place.pg() as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE pipeline_watermarks IN ACCESS EXCLUSIVE MODE")
        with consuming(place) as consumer:
            eventually(lambda: away(consumer), timeout=60)
            assert away(consumer) == ["postgres"]
            other.execute("ROLLBACK")
            caught_up(place)
            eventually(lambda: consumer.health.ready()[0])
            other.execute("BEGIN")
            other.execute("LOCK TABLE pipeline_watermarks IN ACCESS EXCLUSIVE MODE")
            eventually(lambda: away(consumer), timeout=60)
            assert away(consumer) == ["postgres"]
            other.execute("ROLLBACK")
            eventually(lambda: consumer.health.ready()[0])


@pytest.mark.parametrize("operation", [AclOperation.READ, AclOperation.ALL], ids=["read", "all"])
def test_a_topic_that_may_not_be_read_stops_the_start(operation: AclOperation, place: Place) -> None:
    with denied(place, operation), pytest.raises(ConfigurationError, match=r"KAFKA_(USERNAME|TOPIC)"):
        EventConsumer(settings_of(place), ROLES["all"]).run()


@pytest.mark.parametrize("operation", [AclOperation.READ, AclOperation.ALL], ids=["read", "all"])
def test_a_topic_that_may_not_be_read_any_more_is_told_and_waited_for(operation: AclOperation, place: Place) -> None:
    with consuming(place) as consumer:
        place.produce([encoded()])
        caught_up(place)
        with denied(place, operation):
            eventually(lambda: "KAFKA_USERNAME" in str(consumer.health.ready()[1]), timeout=40)
            assert not consumer.health.ready()[0]
            assert consumer.health.live()[0]
        place.produce([encoded()])
        caught_up(place)
        eventually(lambda: consumer.health.ready()[0])
    assert_exact(place)
    assert json.dumps(consumer.health.ready()[1])
