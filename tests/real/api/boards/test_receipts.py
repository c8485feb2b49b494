"""Read your own write: a POST's receipt, and reads that wait for what it names."""

import contextlib
import json
import re
import threading
import uuid
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from pipeline.contract.receipts import read_receipts
from pipeline.sinks.postgres import CACHE_LOCK
from tests.consuming import assigned, consume_all, consuming, log_ends
from tests.edges import EVENT, EdgeUnderTest
from tests.events import valid
from tests.place import Place
from tests.topics import create_again
from tests.tracing import RECEIPT, path_of, place_of
from tests.waiting import eventually

pytestmark = pytest.mark.real

STATS, BOARD = "/api/v1/players/player-test-001/stats", "/api/v1/leaderboards/game-test-001"
RANK = f"{BOARD}/players/player-test-001"


def receipt_of(edge: EdgeUnderTest, **changes: object) -> str:
    reply = edge.send({**EVENT, **changes})
    assert reply.status == 200, reply.body
    return reply.headers[RECEIPT]


def test_a_read_has_what_was_written_before(place: Place, edge: EdgeUnderTest) -> None:
    with consuming(place) as consumer:
        eventually(lambda: len(assigned(consumer)) == 3, timeout=60)
        for count in range(1, 21):
            event_id = str(uuid.uuid4())
            receipt = receipt_of(edge, event_id=event_id)
            path = (STATS, BOARD, RANK, path_of("player-test-001", event_id))[count % 4]
            found = edge.get(f"{path}?after={receipt}&wait_ms=10000")
            assert found.status == 200, found.body
            seen = found.json()
            told = seen.get("total_events") or seen.get("score", 0) // 1500 or (len(seen.get("effects", ())) and count)
            if "entries" in seen:
                told = seen["entries"][0]["score"] // 1500
            assert told == count, (path, seen)


def test_the_receipt_is_where_the_topic_has_it(place: Place, edge: EdgeUnderTest) -> None:
    before = log_ends(place)
    partition, offset = place_of(edge.send(EVENT))
    assert offset == before[partition]
    events = [{**EVENT, "player_id": f"p{number}"} for number in range(50)]
    reply = edge.post("/api/v1/events/batch", [*events, {}])
    assert reply.status == 200
    assert re.fullmatch(r"\d+:\d+(,\d+:\d+)*", reply.headers[RECEIPT])
    places = dict(read_receipts([reply.headers[RECEIPT]]))
    assert places == {p: end - 1 for p, end in log_ends(place).items()}
    for refused in (edge.send({}), edge.post("/api/v1/events/batch", [{}])):
        assert RECEIPT not in refused.headers


def test_a_batch_is_waited_for_in_each_of_its_partitions(place: Place, edge: EdgeUnderTest) -> None:
    events = [{**EVENT, "player_id": f"p{number}"} for number in range(50)]
    receipt = edge.post("/api/v1/events/batch", events).headers[RECEIPT]
    assert receipt.count(",") == 2
    *first, last = receipt.split(",")
    path = f"{BOARD}?after={','.join(first)}&after={last}"
    assert edge.get(f"{path}&wait_ms=0").status == 504
    with consuming(place) as consumer:
        eventually(lambda: len(assigned(consumer)) == 3, timeout=60)
        assert edge.get(f"{path}&wait_ms=10000").json()["total"] == 50


def test_a_read_that_waits_too_long_is_told_how_far_it_is(place: Place, edge: EdgeUnderTest) -> None:
    receipt = receipt_of(edge)
    partition, offset = receipt.split(":")
    for path in (STATS, BOARD, RANK, path_of("player-test-001", str(uuid.uuid4()))):
        late = edge.get(f"{path}?after={receipt}&wait_ms=1")
        assert late.status == 504
        assert f"partition {partition}, offset {offset}: no consumer" in late.json()["error"]
        assert late.headers["Retry-After"]
    consume_all(place)
    later = receipt_of(edge)
    said = edge.get(f"{STATS}?after={later}&wait_ms=0").json()["error"]
    assert f"{place.group} stands at {int(offset) + 1} in PostgreSQL, Redis at {int(offset) + 1}" in said
    assert edge.get(f"{STATS}?after={receipt}&wait_ms=10000").json()["total_events"] == 1


def test_both_sinks_are_waited_for(place: Place, edge: EdgeUnderTest) -> None:
    receipt = receipt_of(edge)
    partition, offset = receipt.split(":")
    consume_all(place)
    with place.redis() as client:
        client.hset(f"pipeline:watermarks:{place.group}", f"{place.topic}:{partition}", f"{offset}:0")
    late = edge.get(f"{STATS}?after={receipt}&wait_ms=100")
    assert late.status == 504
    assert f"Redis at {offset}" in late.json()["error"]
    with place.redis() as client:
        client.hdel(f"pipeline:watermarks:{place.group}", f"{place.topic}:{partition}")
    assert edge.get(f"{STATS}?after={receipt}&wait_ms=100").status == 504


def test_a_read_waits_for_the_group_of_what_it_reads(place: Place, edge: EdgeUnderTest) -> None:
    event_id = str(uuid.uuid4())
    receipt = receipt_of(edge, event_id=event_id)
    consume_all(place, "leaderboard")
    assert edge.get(f"{BOARD}?after={receipt}&wait_ms=10000").json()["total"] == 1
    late = edge.get(f"{STATS}?after={receipt}&wait_ms=0")
    assert (late.status, "no consumer" in late.json()["error"]) == (504, True)
    consume_all(place, "stats")
    assert edge.get(f"{STATS}?after={receipt}&wait_ms=10000").json()["total_events"] == 1
    with place.pg() as connection:
        connection.execute("INSERT INTO pipeline_owners VALUES ('events', %s)", (f"{place.group}-logger",))
    trail = path_of("player-test-001", event_id)
    assert edge.get(f"{trail}?after={receipt}&wait_ms=0").status == 504
    consume_all(place, "logger")
    assert edge.get(f"{trail}?after={receipt}&wait_ms=10000").json()["fate"] == "counted"
    with place.pg() as connection:
        connection.execute("UPDATE pipeline_watermarks SET next_offset = 0 WHERE group_id LIKE '%-logger'")
    late = edge.get(f"{trail}?after={receipt}&wait_ms=0")
    assert (late.status, f"{place.group}-logger stands at 0" in late.json()["error"]) == (504, True)


NO_RECEIPTS = [
    "", "1", ":", "1:", ":1", "1:2:3", "a:b", "-1:0", "1:-1", "1.0:2", "1:2,", ",1:2", "1;2", "1: 2", "0x1:1",
    "\u0663:\u0661", "1:2\x00", "1:2\n", "9" * 10 + ":1", "1:" + "9" * 19, "1:" + "9" * 4000, ",".join(["0:1"] * 1001),
]  # fmt: skip


def test_what_is_no_receipt_is_refused(edge: EdgeUnderTest) -> None:
    for after in NO_RECEIPTS:
        reply = edge.get(f"{STATS}?after={quote(after, safe='')}&wait_ms=0")
        assert reply.status == 400, after
        assert reply.json()["error"].startswith("after: ")
    for wait in ("", "-1", "1.5", "10001", "1e3", "9" * 300, "ten"):
        reply = edge.get(f"{STATS}?after=0:0&wait_ms={wait}")
        assert (reply.status, reply.json()["error"].partition(":")[0]) == (400, "wait_ms"), wait


def test_a_place_that_the_topic_does_not_have_is_refused(place: Place, edge: EdgeUnderTest) -> None:
    partition, offset = place_of(edge.send(EVENT))
    consume_all(place)
    for waits in ("0", "10000"):
        nowhere = edge.get(f"{STATS}?after=3:0&wait_ms={waits}")
        assert (nowhere.status, "no partition 3" in nowhere.json()["error"]) == (400, True)
        beyond = edge.get(f"{STATS}?after={partition}:{offset + 1}&wait_ms={waits}")
        assert (beyond.status, f"ends at {offset + 1}" in beyond.json()["error"]) == (400, True)
        one_of_two = edge.get(f"{STATS}?after={partition}:{offset}&after=3:0&wait_ms={waits}")
        assert one_of_two.status == 400


def test_a_receipt_of_a_topic_that_was_created_again_is_refused(place: Place, edge: EdgeUnderTest) -> None:
    receipts = [receipt_of(edge) for _ in range(5)]
    consume_all(place)
    assert edge.get(f"{STATS}?after={receipts[-1]}&wait_ms=10000").status == 200
    create_again(place)
    event = json.dumps(valid(player_id=EVENT["player_id"])).encode()
    partition = int(receipts[0].split(":")[0])
    place.produce([event], partition=partition)
    later = receipt_of_the_new_topic(edge)
    for receipt in (*receipts, later):
        refused = eventually(lambda one=receipt: _unless_late(edge, one), timeout=60)  # type: ignore[misc]
        assert "created again" in refused
    with place.pg() as connection:
        connection.execute("DELETE FROM pipeline_watermarks")
    with place.redis() as client:
        client.flushdb()
    consume_all(place)
    assert edge.get(f"{STATS}?after={later}&wait_ms=10000").status == 200
    assert "created again" in edge.get(f"{STATS}?after={receipts[-1]}&wait_ms=10000").json()["error"]


def receipt_of_the_new_topic(edge: EdgeUnderTest) -> str:
    """Post until Kafka's clients have found the topic that is there now."""
    return eventually(lambda: edge.send(EVENT).headers.get(RECEIPT, ""), timeout=60)


def _unless_late(edge: EdgeUnderTest, receipt: str) -> str:
    """Return the refusal: while Kafka forgets the topic nobody knows, which is a 504."""
    reply = edge.get(f"{STATS}?after={receipt}&wait_ms=3000")
    assert reply.status in {400, 504}, reply.body
    return str(reply.json()["error"]) if reply.status == 400 else ""


@contextlib.contextmanager
def paused(server: object) -> Iterator[None]:
    server.pause()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        server.resume()  # type: ignore[attr-defined]


def test_while_a_server_is_away_nobody_is_told_that_it_is_counted(place: Place, edge: EdgeUnderTest) -> None:
    receipt = receipt_of(edge)
    consume_all(place)
    path = f"{STATS}?after={receipt}&wait_ms=200"
    stack = place.stack
    for server, name in ((stack.kafka, "Kafka"), (stack.postgres, "PostgreSQL"), (stack.valkey, "Valkey")):
        eventually(lambda: edge.get(path).status == 200, timeout=30)
        with paused(server):
            eventually(lambda name=name: _is_late_for(edge, path, name), timeout=60)  # type: ignore[misc]
    eventually(lambda: edge.get(path).status == 200, timeout=30)


def _is_late_for(edge: EdgeUnderTest, path: str, name: str) -> bool:
    """Whether a read that cannot be answered names the server; before it is missed, it may be answered."""
    reply = edge.get(path)
    assert reply.status in {200, 504}, reply.body
    return reply.status == 504 and name in reply.json()["error"]


def test_a_reader_that_waits_holds_up_nobody(place: Place, edge: EdgeUnderTest) -> None:
    consume_all(place)
    answers: list[int] = []
    with consuming(place) as consumer, place.pg() as holder:
        eventually(lambda: len(assigned(consumer)) == 3, timeout=60)
        holder.execute("SELECT pg_advisory_lock(%s)", (CACHE_LOCK,))  # an epoch waits for it
        receipt = receipt_of(edge)
        readers = [
            threading.Thread(target=lambda: answers.append(edge.get(f"{STATS}?after={receipt}&wait_ms=10000").status))
            for _ in range(20)
        ]
        for one in readers:
            one.start()
        eventually(lambda: edge.metric("reads_waiting") == 20)
        assert edge.send(EVENT).status == 200
        assert edge.get(STATS).status == 404
        holder.execute("SELECT pg_advisory_unlock(%s)", (CACHE_LOCK,))
        for one in readers:
            one.join(60)
    assert answers == [200] * 20
    assert edge.metric("reads_waiting") == 0
