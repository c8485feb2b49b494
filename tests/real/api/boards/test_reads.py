"""Reads beside writes."""

import http.client
import json
import statistics
import threading
import time

import pytest

from tests.edges import EVENT, EdgeUnderTest, running_edge
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real


def median_read(edge: EdgeUnderTest, count: int) -> float:
    """Read a board again and again on one connection; return the median time that it took."""
    connection, took = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=10), []
    try:
        for _ in range(count):
            started = time.monotonic()
            connection.request("GET", "/api/v1/leaderboards/g")
            reply = connection.getresponse()
            assert json.loads(reply.read())["total"] == 1
            assert reply.headers["X-Source"] == "redis"
            took.append(time.monotonic() - started)
    finally:
        connection.close()
    return statistics.median(took)


def test_a_read_does_not_wait_for_what_kafka_has_not_confirmed(place: Place) -> None:
    with place.redis() as client:
        client.zadd("leaderboard:g:alltime", {"p": 1})
    with running_edge(place) as edge:
        assert edge.send(EVENT).status == 200
        alone = min(median_read(edge, 50) for _ in range(4))
        place.stack.kafka.pause()
        try:
            sender = threading.Thread(target=edge.send, args=(EVENT,))
            sender.start()
            eventually(lambda: edge.metric("ingest_in_flight_events") == 1)
            beside = min(median_read(edge, 25) for _ in range(4))
            assert edge.metric("ingest_in_flight_events") == 1
            sender.join()
        finally:
            place.stack.kafka.resume()
        eventually(lambda: edge.send(EVENT).status == 200, timeout=30)
        alone = max(alone, min(median_read(edge, 50) for _ in range(4)))  # whatever else the machine did meanwhile
    assert beside < 2 * alone + 0.001, (alone, beside)
