"""The wire, cut where it hurts: after a request was carried out and before its answer was read, or half-way through."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.chaos.feeding import Feed
from tests.chaos.proxy import CALL, Proxy, Rule
from tests.chaos.truth import assert_exact
from tests.consuming import caught_up, consuming
from tests.place import Place
from tests.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.chaos]

SMALL: dict[str, Any] = {"batch_max_events": 25, "batch_max_wait_ms": 20}


def is_offset_commit(request: bytes) -> bool:
    return request[4:6] == b"\x00\x08"


@contextmanager
def between(place: Place) -> Iterator[tuple[Proxy, Proxy, Proxy, dict[str, Any]]]:
    """Stand between the consumer and PostgreSQL, Redis and Kafka; the last is the settings that lead through."""
    settings = place.settings
    with (
        Proxy(settings.db_port) as postgres,
        Proxy(settings.redis_port) as redis,
        Proxy(place.stack.kafka.port, kafka=True) as kafka,
    ):
        through = {
            "db_port": postgres.port,
            "redis_port": redis.port,
            "kafka_bootstrap_servers": f"127.0.0.1:{kafka.port}",
        }
        yield postgres, redis, kafka, SMALL | through


CUTS: dict[str, Callable[[Proxy, Proxy, Proxy], Any]] = {
    "the answer to COMMIT is lost": lambda pg, _redis, _kafka: pg.rule("lose the answer", b"COMMIT\0", 3),
    "the answer to BEGIN is lost": lambda pg, _redis, _kafka: pg.rule("lose the answer", b"BEGIN", 3),
    "COMMIT does not arrive": lambda pg, _redis, _kafka: pg.rule("cut the request", b"COMMIT\0", 3),
    "half a COPY": lambda pg, _redis, _kafka: pg.rule("cut the request", b"PGCOPY", 7),
    "the answer to the function is lost": lambda _pg, redis, _kafka: redis.rule("lose the answer", CALL, 3),
    "half a call": lambda _pg, redis, _kafka: redis.rule("cut the request", CALL, 3),
    "the answer to the offset commit is lost": lambda _pg, _redis, kafka: kafka.rule(
        "lose the answer", is_offset_commit, 2
    ),
    "COMMIT takes two seconds": lambda pg, _redis, _kafka: pg.rule("delay the answer", b"COMMIT\0", 2),
    "the function takes two seconds": lambda _pg, redis, _kafka: redis.rule("delay the answer", CALL, 2),
}


def exhausted(rule: Rule, feed: Feed) -> bool:
    """Feed until the wire was cut as often as the rule says."""
    if rule.left:
        feed.send(30)
    return rule.left == 0


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_wire_loses_nothing_and_doubles_nothing(cut: str, place: Place) -> None:
    with between(place) as (postgres, redis, kafka, through), Feed(place, 1) as feed, consuming(place, **through):
        feed.send(40)
        caught_up(place)
        rule = CUTS[cut](postgres, redis, kafka)
        eventually(lambda: exhausted(rule, feed), timeout=90)
        feed.send(40)
        caught_up(place)
        assert rule.met > 1
    assert_exact(place)


def test_connections_reset_again_and_again(place: Place) -> None:
    with between(place) as (postgres, redis, _, through), Feed(place, 2) as feed, consuming(place, **through):
        caught_up(place)
        for _ in range(12):
            feed.send(40)
            eventually(lambda: postgres.reset() + redis.reset())
        caught_up(place)
    assert_exact(place)


def test_a_key_refused_in_a_call_whose_answer_is_lost_is_repaired_all_the_same(place: Place) -> None:
    with between(place) as (_, redis, _, through), Feed(place, 3, bad=0) as feed:
        with place.redis() as client:
            client.set("player_stats:p1", "in the way")
        rule = redis.rule("lose the answer", CALL, 3)
        feed.send_these([feed.event() for _ in range(60)], partition=0)
        with consuming(place, **(through | {"batch_max_events": 60, "batch_max_wait_ms": 2_000})):
            caught_up(place)
        assert rule.met == 3
    assert_exact(place)


def test_a_refused_key_is_repaired_once_postgresql_is_back(place: Place) -> None:
    """The repair reads PostgreSQL, which goes away between the call and the repair."""
    with between(place) as (postgres, _, _, through), Feed(place, 4, bad=0) as feed:
        with place.redis() as client:
            client.set("player_stats:p1", "in the way")
        feed.send(60)
        postgres.rule("lose the answer", b"pg_advisory_lock(", 2)
        postgres.rule("lose the answer", b"FROM player_statistics WHERE", 2)
        with consuming(place, **(through | {"batch_max_events": 60, "batch_max_wait_ms": 2_000})):
            caught_up(place)
            eventually(lambda: place.redis().type("player_stats:p1") == b"hash")
    assert_exact(place)
