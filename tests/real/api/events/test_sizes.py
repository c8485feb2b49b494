"""A topic that takes less than the edge sends: batches are split, and what can never be stored is told by number."""

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka.admin import AclOperation, AdminClient, ResourcePatternType, ResourceType

from pipeline.local.kafka_access import allow, create_topic, delete_topic, grants
from tests.consuming import log_ends
from tests.edges import EVENT, EdgeUnderTest, Reply, running_edge
from tests.place import Place
from tests.topics import limit_messages
from tests.waiting import eventually

pytestmark = pytest.mark.real


def event(size: int, player: int = 0) -> dict[str, Any]:
    """An event of about so many bytes that do not compress."""
    return {**EVENT, "player_id": f"p{player}", "data": {"score": 1, "x": secrets.token_urlsafe(size * 3 // 4)}}


def stored(place: Place) -> int:
    return sum(log_ends(place).values())


def test_a_batch_larger_than_the_topic_takes_at_once_is_split(place: Place) -> None:
    limit_messages(place, 200_000)
    with running_edge(place) as edge:
        for _ in range(2):
            reply = edge.post("/api/v1/events/batch", [event(2_000, player) for player in range(500)])
            assert (reply.status, reply.json()["accepted"]) == (200, 500), reply.body[:300]
    assert stored(place) == 1_000


def test_single_events_under_load_are_not_packed_too_large(place: Place) -> None:
    """Of one player, and so of one partition."""
    limit_messages(place, 200_000)
    with running_edge(place) as edge, ThreadPoolExecutor(32) as clients:
        replies = list(clients.map(lambda _: edge.send(event(50_000)), range(200)))
    assert [reply.status for reply in replies] == [200] * 200
    assert stored(place) == 200


@pytest.mark.parametrize("size", [20_000, 60_000])
def test_an_event_that_the_topic_never_takes_is_refused_with_the_number(place: Place, size: int) -> None:
    limit_messages(place, size)
    with running_edge(place) as edge:
        reply = edge.send(event(size - 600))
        assert reply.status == 413, reply.body
        assert f"max.message.bytes {size}" in reply.json()["error"]
        mixed = edge.post("/api/v1/events/batch", [event(size - 600), event(1_000)])
        assert (mixed.status, mixed.json()["accepted"]) == (200, 1)
        assert str(size) in mixed.json()["rejected"][0]["error"]
        fits = edge.send(event(size - 1_500))
        assert fits.status == 200, fits.body
    assert stored(place) == 2


def retried(edge: EdgeUnderTest, content: Any) -> Reply:
    """Send until it is accepted, or refused for good, as a client does: of a batch what was not stored."""
    replies: list[Reply] = []
    waiting = [content]

    def settled() -> bool:
        path = "/api/v1/events/batch" if isinstance(content, list) else "/api/v1/events"
        replies.append(edge.post(path, waiting[-1]))
        if replies[-1].status == 503:
            refused = replies[-1].json()
            assert "did not confirm" not in refused["error"], "Kafka said that it stored none"
            if "unconfirmed" in refused:
                waiting.append([waiting[-1][one["index"]] for one in refused["unconfirmed"]])
        return replies[-1].status != 503

    eventually(settled, timeout=20)
    return replies[-1]


def test_a_topic_that_takes_less_while_the_edge_runs_is_asked_again(place: Place) -> None:
    with running_edge(place) as edge:
        batch = [event(2_000) for _ in range(100)]
        assert edge.post("/api/v1/events/batch", batch).status == 200
        limit_messages(place, 50_000)
        eventually(
            lambda: edge.post("/api/v1/events/batch", batch).status == 503
        )  # the brokers learn it a little later
        assert retried(edge, batch).status == 200
        assert retried(edge, event(55_000)).status == 413
        limit_messages(place, 1_000_000)
        _, logged = edge.stop()
    assert "batches have another size" in logged


@contextmanager
def unasked(place: Place) -> Iterator[Place]:
    """The place with a topic about which its account may not ask."""
    name = f"narrow.{secrets.token_hex(6)}"
    admin = AdminClient(place.stack.kafka.admin_config())
    create_topic(admin, name, 1)
    few = (AclOperation.DESCRIBE, AclOperation.READ, AclOperation.WRITE)
    allow(admin, grants(ResourceType.TOPIC, name, ResourcePatternType.LITERAL, few))
    try:
        yield replace(place, settings=place.settings.model_copy(update={"kafka_topic": name}))
    finally:
        delete_topic(admin, name)


def test_where_the_topic_may_not_be_asked_refusals_tell(place: Place) -> None:
    with unasked(place) as narrow:
        limit_messages(narrow, 50_000)
        with running_edge(narrow, ready=False) as edge:
            eventually(lambda: edge.answers("/health/ready"))
            batch = [event(2_000) for _ in range(100)]
            assert retried(edge, batch).status == 200
            refused = retried(edge, event(60_000))
            assert refused.status == 413
            assert "max.message.bytes" in refused.json()["error"]
            assert retried(edge, batch).status == 200
        assert stored(narrow) == 200


def test_a_refused_burst_leaves_its_neighbours_alone(place: Place) -> None:
    """What is refused after the limit fell is one batch of one partition, not the edge."""
    with running_edge(place) as edge:
        assert edge.send(event(1_000)).status == 200
        limit_messages(place, 30_000)
        with ThreadPoolExecutor(16) as clients:
            replies = list(clients.map(lambda n: retried(edge, event(20_000, n)), range(64)))
        assert [reply.status for reply in replies] == [200] * 64
        assert json.loads(edge.get("/health/ready").body)["status"] == "ready"
