"""The topic browser: the newest first, onward from an offset or a time, filters, and its bounds."""

import base64
from typing import Any

import pytest

from tests.edges import EVENT, EdgeUnderTest, running_edge
from tests.events import encoded
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real
TOPIC = "/api/v1/console/topic"


def page(edge: EdgeUnderTest, query: str = "", partition: int = 0) -> Any:
    reply = edge.get(f"{TOPIC}/{partition}{query}")
    assert reply.status == 200, reply.body
    return reply.json()


def offsets(found: Any) -> list[int]:
    return [record["offset"] for record in found["records"]]


def test_the_newest_come_first_and_older_ones_page_by_page(place: Place, edge: EdgeUnderTest) -> None:
    place.produce([("k", b"%d" % number) for number in range(120)], partition=0)
    first = page(edge)
    assert (offsets(first), first["next"], first["end"]) == (list(range(119, 69, -1)), 70, 120)
    assert first["records"][0]["value"] == "119"
    second = page(edge, f"?before={first['next']}&limit=60")
    assert (offsets(second), second["next"]) == (list(range(69, 9, -1)), 10)
    last = page(edge, "?before=10")
    assert (offsets(last), last["next"]) == (list(range(9, -1, -1)), None)
    assert offsets(page(edge, "?before=0")) == []
    assert page(edge, partition=1)["records"] == []


def test_from_an_offset_on_the_oldest_come_first(place: Place, edge: EdgeUnderTest) -> None:
    place.produce([("k", b"%d" % number) for number in range(30)], partition=0)
    found = page(edge, "?offset=5&limit=10")
    assert (offsets(found), found["next"]) == (list(range(5, 15)), 15)
    found = page(edge, "?offset=15&limit=200")
    assert (offsets(found), found["next"]) == (list(range(15, 30)), None)
    assert offsets(page(edge, "?offset=30")) == []
    assert offsets(page(edge, "?offset=9223372036854775807")) == []


def test_filters_look_at_key_header_and_value(place: Place, edge: EdgeUnderTest) -> None:
    place.produce([("other", encoded(player_id="p1", event_type="login"))], partition=0)
    place.produce([("p1", b"not JSON")], partition=0, headers={"event_type": b"trade"})
    place.produce([("p2", encoded(player_id="p2", event_type="trade"))] * 3000, partition=0)
    assert offsets(page(edge, "?player_id=p1")) == [1, 0]
    assert offsets(page(edge, "?event_type=login")) == [0]
    found = page(edge, "?event_type=trade&limit=2")
    assert (offsets(found), found["next"]) == ([3001, 3000], 3000)
    assert offsets(page(edge, "?event_type=trade&player_id=p1")) == [1]
    found = page(edge, "?player_id=nobody")
    assert (found["records"], found["next"], found["scanned"]) == ([], None, 3002)
    assert offsets(page(edge, "?offset=0&player_id=p1&limit=1")) == [0]


def test_a_time_leads_to_its_first_record(place: Place, edge: EdgeUnderTest) -> None:
    place.produce([("k", b"x")] * 3, partition=0)
    times = [record["timestamp"] for record in page(edge)["records"]]
    assert offsets(page(edge, f"?since={times[-1]}"))[-1] == 2
    assert offsets(page(edge, "?since=2100-01-01T00:00:00Z")) == []
    assert offsets(page(edge, "?since=1960-01-01T00:00:00Z")) == [0, 1, 2]


def test_what_is_no_text_and_what_is_long_is_shown_within_bounds(place: Place, edge: EdgeUnderTest) -> None:
    long = "\u4e2d".encode() * 200_000
    place.produce([(None, None), (b"\xff\x00", b"\xff\xfe"), ("k", long)], partition=0, headers={"h": b"\xff\x01"})
    record, binary, tombstone = page(edge)["records"]
    assert (tombstone["key"], tombstone["value"], tombstone["value_base64"], tombstone["bytes"]) == (
        None,
        None,
        None,
        0,
    )
    assert (binary["key"], base64.b64decode(binary["value_base64"]), binary["value"]) == (
        "\ufffd\x00",
        b"\xff\xfe",
        None,
    )
    assert binary["headers"] == [["h", "\ufffd\x01"]]
    assert record["bytes"] == len(long)
    assert long.decode().startswith(record["value"])
    assert len(record["value"].encode()) <= 256 << 10


def test_a_page_is_bounded_in_bytes_and_in_records(place: Place, edge: EdgeUnderTest) -> None:
    place.produce([("k", b"x" * 900_000)] * 60, partition=0)
    found = page(edge, "?limit=200")
    assert 1 <= len(found["records"]) <= 3
    onward = page(edge, "?offset=0&limit=200")
    assert 1 <= len(onward["records"]) <= 3
    place.produce([("k", b"x")] * 30_000, partition=1)
    for query in ("?player_id=nobody", "?player_id=nobody&offset=0"):
        found = page(edge, query, partition=1)
        assert found["records"] == []
        assert found["scanned"] <= 20_000
        assert found["next"] is not None


def test_a_partition_that_is_not_there_and_a_broker_that_is_away(place: Place) -> None:
    with running_edge(place) as edge:
        assert edge.get(f"{TOPIC}/7").status == 404
        assert edge.send(EVENT).status == 200
        eventually(lambda: sum(one["end"] for one in edge.get(TOPIC).json().get("partitions", ())) == 1)
        place.stack.kafka.pause()
        try:
            refused = edge.get(f"{TOPIC}/0")
            assert (refused.status, "Kafka" in refused.json()["error"]) == (503, True)
        finally:
            place.stack.kafka.resume()
        eventually(lambda: edge.get(f"{TOPIC}/0").status == 200, timeout=30)
        code, logged = edge.stop()
        assert (code, "a request failed" in logged) == (0, False)
