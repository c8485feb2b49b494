"""Hosts that vanish without a word, and servers that freeze: nobody waits for them for ever, nobody is restarted."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from pipeline.engine import health
from pipeline.engine.consumer import EventConsumer
from tests.chaos.feeding import Feed
from tests.chaos.proxy import Proxy
from tests.chaos.test_outages import lives, waited
from tests.chaos.truth import assert_exact
from tests.consuming import caught_up, consuming
from tests.edges import EVENT, running_edge
from tests.place import Place
from tests.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.chaos]

FREED_SECONDS = 40.0
"""tcp_user_timeout is 15 s, a read of Redis too; twice that on a busy machine."""


@contextmanager
def at(place: Place, field: str, wire: Proxy) -> Iterator[EventConsumer]:
    """A consumer that finds one of its servers behind the wire."""
    behind = replace(place, settings=place.settings.model_copy(update={field: wire.port}))
    with consuming(behind) as consumer:
        yield consumer


@pytest.mark.parametrize("field", ["db_port", "redis_port"])
def test_a_consumer_leaves_a_host_that_vanished(field: str, place: Place) -> None:
    with Proxy(getattr(place.settings, field)) as wire, Feed(place, 1) as feed, at(place, field, wire) as consumer:
        feed.send(60)
        caught_up(place)
        wire.vanish()
        feed.send(60)
        eventually(lambda: not consumer.health.ready()[0] and consumer.health.ready()[1]["away"], timeout=FREED_SECONDS)
        assert consumer.health.live()[0]
        wire.reappear()
        wire.reset()
        caught_up(place)
    assert_exact(place)


def test_a_consumer_leaves_a_kafka_whose_host_vanished(place: Place) -> None:
    """Its connections are given up, so that it goes on at whoever has the name by then, and it is not restarted."""
    with Proxy(place.stack.kafka.port, kafka=True) as wire, Feed(place, 1) as feed:
        changes = {"kafka_bootstrap_servers": f"127.0.0.1:{wire.port}"}
        behind = replace(place, settings=place.settings.model_copy(update=changes))
        with consuming(behind) as consumer:
            feed.send(60)
            caught_up(place)
            stood = wire.standing()
            assert len(stood) >= 2
            wire.vanish()
            feed.send(60)
            assert lives(consumer, until=waited(25))
            wire.reappear()
            eventually(lambda: not wire.standing() & stood, timeout=15)
            caught_up(place)
    assert_exact(place)


def test_the_edge_answers_while_a_host_has_vanished(place: Place) -> None:
    with (
        Proxy(place.settings.db_port) as wire,
        running_edge(place, DB_PORT=str(wire.port), REDIS_PORT="1", API_KEYS="ops:0123456789abcdef-static") as edge,
    ):
        bearer = {"Authorization": "Bearer 0123456789abcdef-static"}
        read = "/api/v1/players/p1/stats"
        assert edge.get(read, bearer).status == 404
        wire.vanish()
        for _ in range(3):
            began = time.monotonic()
            assert edge.get(read, bearer).status == 503
            assert time.monotonic() - began < 15  # it hung for good
        assert edge.send(EVENT, bearer).status == 200
        wire.reappear()
        wire.reset()
        eventually(lambda: edge.get(read, bearer).status == 404, timeout=20)


def test_the_edge_answers_while_postgresql_is_frozen(place: Place) -> None:
    with running_edge(place, REDIS_PORT="1", API_KEYS="ops:0123456789abcdef-static") as edge:
        bearer = {"Authorization": "Bearer 0123456789abcdef-static"}
        read = "/api/v1/players/p1/stats"
        assert edge.get(read, bearer).status == 404
        place.stack.postgres.pause()
        try:
            for _ in range(3):
                began = time.monotonic()
                assert edge.get(read, bearer).status == 503
                assert time.monotonic() - began < 15
        finally:
            place.stack.postgres.resume()
        eventually(lambda: edge.get(read, bearer).status == 404, timeout=20)


def test_a_frozen_kafka_is_no_reason_to_restart(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The offsets of an epoch that lands then are committed beside the loop, which waited a minute for the answer."""
    monkeypatch.setattr(health, "STALLED_SECONDS", 5.0)
    with Feed(place, 2) as feed, consuming(place) as consumer:
        feed.send(60)
        caught_up(place)
        with place.pg() as other:
            other.execute("BEGIN")
            other.execute("LOCK TABLE events")
            feed.send(60)
            eventually(lambda: waiting_for_a_lock(place), timeout=30)
            place.stack.kafka.pause()
        try:
            assert lives(consumer, until=waited(40))
        finally:
            place.stack.kafka.resume()
        caught_up(place)
    assert_exact(place)


def waiting_for_a_lock(place: Place) -> bool:
    with place.pg() as connection:
        return connection.execute("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted").fetchone() == (True,)
