"""Events through HTTP to Kafka."""

import gzip
import json
import signal
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.edges import EVENT, EdgeUnderTest, free_port, running_edge
from tests.place import Place
from tests.waiting import eventually

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.real
JSON = {"Content-Type": "application/json"}
BROKEN = [
    (b"", ""),
    (b"{", "not JSON"),
    (b"[]", "not a JSON object"),
    (b'"x"', "not a JSON object"),
    (b'{"player_id":"p","game_id":"g"}', "event_type"),
    (b'{"event_type":"a","game_id":"g"}', "player_id"),
    (b'{"event_type":"a","player_id":"p"}', "game_id"),
    (b'{"event_type":"a b","player_id":"p","game_id":"g"}', "event_type"),
    (b'{"event_type":"a","player_id":7,"game_id":"g"}', "player_id"),
    (b'{"event_type":"a","player_id":"","game_id":"g"}', "player_id"),
    (b'{"event_type":"a","player_id":"' + b"x" * 256 + b'","game_id":"g"}', "player_id"),
    (b'{"event_type":"a","player_id":"p\x00","game_id":"g"}', "not JSON"),
    (b'{"event_type":"a","player_id":"p\\u0000","game_id":"g"}', "player_id"),
    (b'{"event_type":"a","player_id":"p\xff","game_id":"g"}', "not JSON"),
    (b'{"event_type":"a","player_id":"p","game_id":"g","x":1}', "x"),
    (b'{"event_type":"a","player_id":"p","game_id":"g","data":null}', "data"),
    (b'{"event_type":"a","player_id":"p","game_id":"g","data":[]}', "data"),
    (b'{"event_type":"a","player_id":"p","game_id":"g","data":{"a":"\\u0000"}}', "data"),
    (b'{"event_type":"a","player_id":"p","game_id":"g","data":{"a":"\\ud800"}}', "not JSON"),
    (b'{"event_type":"a","player_id":"p","game_id":"g","data":{"a":1e400}}', "not JSON"),
    (b'{"event_type":"a","player_id":"p","game_id":"g","data":{"a":' + b"[" * 40 + b"]" * 40 + b"}}", "data"),
    (b'{"event_type":"a","player_id":"p","game_id":"g","data":' + b'{"a":' * 9000 + b"1" + b"}" * 9001, "not JSON"),
    (b'{"event_type":"player_score","player_id":"p","game_id":"g"}', "data.score"),
    (b'{"event_type":"player_score","player_id":"p","game_id":"g","data":{"score":1.5}}', "data.score"),
    (b'{"event_type":"player_score","player_id":"p","game_id":"g","data":{"score":9007199254740993}}', "data.score"),
    (b'{"event_type":"a","player_id":"p","game_id":"g","timestamp":"2024-01-15 10:35"}', "timestamp"),
    (b'{"event_type":"a","player_id":"p","game_id":"g","timestamp":"1999-12-31T23:59:59Z"}', "timestamp"),
    (b'{"event_type":"a","player_id":"p","game_id":"g","timestamp":"2999-01-01T00:00:00Z"}', "timestamp"),
    (b'{"event_type":"a","player_id":"p","game_id":"g","event_id":"x","timestamp":"2024-01-15T10:35:00Z"}', "event_id"),
    (
        b'{"event_type":"a","player_id":"p","game_id":"g","event_id":"550e8400-e29b-41d4-a716-446655440000"}',
        "timestamp",
    ),
]
NO_BATCHES = [
    (b"[]", 400),
    (b"", 400),
    (b"{}", 400),
    (b"[1", 400),
    (b"[{}]", 400),
    (b"[" * 100_000, 400),
    (b"[" + b",".join([b"{}"] * 2001) + b"]", 413),
    (b"[" + b" " * (4 << 20) + b"]", 413),
]


def records(place: Place, count: int) -> list[Any]:
    """Read the first `count` records of the topic."""
    consumer = Consumer({**place.stack.kafka.config(), "group.id": place.group, "auto.offset.reset": "earliest"})
    found: list[Any] = []

    def enough() -> bool:
        found.extend(consumer.consume(1000, 0.2))
        return len(found) >= count

    try:
        consumer.assign([TopicPartition(place.topic, number, 0) for number in range(3)])
        eventually(enough)
    finally:
        consumer.close()
    return found


def everything(place: Place) -> list[Any]:
    """Read the whole topic, up to where it ends now."""
    consumer = Consumer({**place.stack.kafka.config(), "group.id": place.group, "auto.offset.reset": "earliest"})
    try:
        ends = [consumer.get_watermark_offsets(TopicPartition(place.topic, number))[1] for number in range(3)]
    finally:
        consumer.close()
    return records(place, sum(ends))


def test_the_guides_curl(place: Place, edge: EdgeUnderTest) -> None:
    reply = edge.send(EVENT)
    assert reply.status == 200
    assert reply.json()["status"] == "success"
    assert uuid.UUID(reply.json()["event_id"]).version == 7
    (record,) = records(place, 1)
    value = json.loads(record.value())
    assert record.key() == b"player-test-001"
    assert dict(record.headers()) == {"event_type": b"player_score", "event_id": value["event_id"].encode()}
    assert value["event_id"] == reply.json()["event_id"]
    assert list(value)[-1] == "data"
    assert value["timestamp"] == "2024-01-15T10:35:00.000000Z"
    assert len(value["ingested_at"]) == 27
    assert edge.metric("events_received_total") == 1
    assert edge.metric("events_published_total") == 1
    assert edge.metric("events_failed_total") == 0
    assert edge.metric('http_request_duration_seconds_count{route="/api/v1/events"}') == 1


def test_what_clients_write_in_any_spelling_comes_back_as_it_was_meant(place: Place, edge: EdgeUnderTest) -> None:
    """One event and a batch, raw and escaped: key, fields and `data` are what was sent, `data` to the byte."""
    names = [
        "Zo\u00eb",
        "\u0418\u0433\u0440\u043e\u043a",
        'the "one" \\ only',
        "\U0001f468\u200d\U0001f469 \u202e",
        "\u2028",
    ]
    times = ["2024-01-15T12:35:00.5+02:00", "2024-01-15t10:35:00.500000999z", "2024-01-15T05:05:00.50-05:30"]
    numbers = '"a":1.5e3,"b":2.5E-3,"c":12345678901234567,"d":[{"x":0.12345678901234567},"[]"]'
    sent = {}
    for number, (name, ascii_only) in enumerate(product(names, (False, True))):
        text = json.dumps(name, ensure_ascii=ascii_only)
        data = f'{{"score":{number}, "name":{text},{text}:"\\n\\u00f6\\ud83c\\udfae",{numbers}}}'
        sent[number] = (name, data)
        body = (
            f'{{ "data":{data},"game_id":{text},\n"timestamp":"{times[number % 3]}",'
            f'"player_id":{text},"event_type":"player_score"}}'
        )
        assert edge.send(body.encode()).status == 200
        reply = edge.request("POST", "/api/v1/events/batch", f"[{body}]".encode(), JSON)
        assert (reply.status, reply.json()["accepted"]) == (200, 1)
    found = records(place, 2 * len(sent))
    assert len(found) == 2 * len(sent)
    for record in found:
        value = json.loads(record.value())
        name, data = sent[value["data"]["score"]]
        assert (record.key().decode(), value["player_id"], value["game_id"]) == (name, name, name)
        assert record.value().endswith(f',"data":{data}}}'.encode())
        assert value["timestamp"] == "2024-01-15T10:35:00.500000Z"


def test_a_client_own_id_is_kept_and_a_retry_is_the_same_event(place: Place, edge: EdgeUnderTest) -> None:
    event = {**EVENT, "event_id": "550E8400-E29B-41D4-A716-446655440000"}
    replies = [edge.send(event), edge.send(event), edge.post("/api/v1/events/batch", [event])]
    assert [reply.status for reply in replies] == [200, 200, 200]
    values = [json.loads(record.value()) for record in records(place, 3)]
    assert {(one["event_id"], one["timestamp"], one["player_id"]) for one in values} == {
        ("550e8400-e29b-41d4-a716-446655440000", "2024-01-15T10:35:00.000000Z", "player-test-001")
    }


def test_each_rule_of_the_contract_answers_400_and_names_the_field(edge: EdgeUnderTest) -> None:
    for body, field in BROKEN:
        reply = edge.send(body)
        assert reply.status == 400, body
        assert reply.json()["error"].startswith(field), body


def test_too_large_wrong_type_wrong_method_wrong_path(edge: EdgeUnderTest) -> None:
    large = json.dumps({**EVENT, "data": {"score": 1, "x": "y" * 65536}}).encode()
    assert edge.send(large).status == 413
    assert edge.request("POST", "/api/v1/events", b"{}", {"Content-Type": "text/xml"}).status == 415
    unknown = edge.post("/api/v1/events", b"x", {"Content-Encoding": "br"})
    assert (unknown.status, unknown.headers["Accept-Encoding"]) == (415, "gzip, zstd, identity")
    assert "zstd" in unknown.json()["error"]
    refused = edge.request("PUT", "/api/v1/events", b"{}", JSON)
    assert (refused.status, refused.headers["Allow"]) == (405, "POST")
    assert edge.request("POST", "/health/live", b"").status == 405
    assert edge.get("/nothing/here").status == 404
    assert edge.post("/api/v1/events", gzip.compress(bytes(10_000_000)), {"Content-Encoding": "gzip"}).status == 413


def test_a_compressed_event_is_an_event(edge: EdgeUnderTest) -> None:
    body = json.dumps(EVENT).encode()
    for coding, packed in (("gzip", gzip.compress(body)), ("zstd", zstd.compress(body))):
        assert edge.post("/api/v1/events", packed, {"Content-Encoding": coding}).status == 200
        assert edge.post("/api/v1/events", packed[:-5], {"Content-Encoding": coding}).status == 400
        batch = edge.post("/api/v1/events/batch", body, {"Content-Encoding": coding})
        assert (batch.status, batch.json()["error"].partition(":")[0]) == (400, f"not {coding}")


def test_a_batch_answers_for_each_event(place: Place, edge: EdgeUnderTest) -> None:
    good = [{**EVENT, "player_id": f"player-{number}"} for number in range(500)]
    mixed: list[Any] = [*good[:100], {"event_type": "a"}, 7, *good[100:]]
    reply = edge.post("/api/v1/events/batch", mixed)
    answer = reply.json()
    assert reply.status == 200
    assert answer["accepted"] == 500
    assert [one["index"] for one in answer["rejected"]] == [100, 101]
    assert answer["rejected"][0]["error"].startswith("player_id")
    assert len(answer["event_ids"]) == 502
    assert [index for index, one in enumerate(answer["event_ids"]) if one is None] == [100, 101]
    found = records(place, 500)
    by_id = {json.loads(record.value())["event_id"]: record.key() for record in found}
    assert len(by_id) == 500
    assert by_id[answer["event_ids"][102]] == b"player-100"
    assert edge.metric("events_received_total") == 502
    assert edge.metric("events_failed_total") == 2
    assert edge.metric("ingest_in_flight_bytes") == 0


def test_a_batch_as_lines_and_compressed(place: Place, edge: EdgeUnderTest) -> None:
    lines = b"\n".join(json.dumps({**EVENT, "player_id": f"p{number}"}).encode() for number in range(2000)) + b"\r\n\n"
    for coding, packed in (("gzip", gzip.compress(lines)), ("zstd", zstd.compress(lines))):
        headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": coding}
        reply = edge.request("POST", "/api/v1/events/batch", packed, headers)
        assert (reply.status, reply.json()["accepted"]) == (200, 2000)
    assert len({record.key() for record in records(place, 4000)}) == 2000


def test_a_batch_that_is_none(edge: EdgeUnderTest) -> None:
    for body, status in NO_BATCHES:
        assert edge.post("/api/v1/events/batch", body).status == status, body[:80]


def test_stopping_finishes_what_is_under_way(edge: EdgeUnderTest) -> None:
    statuses: list[int] = []
    stopping = threading.Event()

    def post() -> None:
        while not stopping.is_set():
            try:
                statuses.append(edge.send(EVENT).status)
            except OSError:
                return

    clients = [threading.Thread(target=post) for _ in range(8)]
    for client in clients:
        client.start()
    eventually(lambda: len(statuses) > 200)
    code, logged = edge.stop()
    stopping.set()
    for client in clients:
        client.join()
    assert code == 0
    assert set(statuses) == {200}
    assert "unconfirmed" not in logged


def test_nothing_acknowledged_is_lost_when_it_is_killed(place: Place, edge: EdgeUnderTest) -> None:
    acknowledged: list[str] = []

    def post(client: int) -> None:
        """Send single events from odd clients, batches from even ones, until the edge is gone."""
        for number in range(100_000):
            events = [{**EVENT, "player_id": f"{client}-{number}-{one}"} for one in range(20)]
            try:
                if client % 2:
                    acknowledged.append(edge.send(events[0]).json()["event_id"])
                else:
                    acknowledged.extend(edge.post("/api/v1/events/batch", events).json()["event_ids"])
            except (OSError, ValueError, HTTPException):
                return

    with ThreadPoolExecutor(8) as clients:
        posting = [clients.submit(post, number) for number in range(8)]
        eventually(lambda: len(acknowledged) > 10_000, timeout=60)
        code, _ = edge.stop(signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert all(one.exception() is None for one in posting)
    stored = [dict(record.headers())["event_id"].decode() for record in everything(place)]
    lost = set(acknowledged) - set(stored)
    sys.stdout.write(
        f"kill -9 during load: {len(acknowledged)} acknowledged, {len(stored)} in the topic, of which "
        f"{len(set(stored) - set(acknowledged))} had not been acknowledged; acknowledged and lost: {len(lost)}\n"
    )
    assert len(set(acknowledged)) == len(acknowledged) > 10_000
    assert len(set(stored)) == len(stored)
    assert not lost


def test_wrong_settings_stop_the_start_with_their_names(place: Place) -> None:
    for environment, names in (
        ({"KAFKA_PASSWORD": "wrong"}, ["KAFKA_PASSWORD", "authentication failed"]),
        ({"KAFKA_TOPIC": "no.such.topic"}, ["KAFKA_TOPIC"]),
        ({"PORT": "0"}, ["PORT"]),
        ({"API_KEYS": "short"}, ["API_KEYS"]),
        ({"HOST": "0.0.0.0"}, ["API_KEYS", "API_OPEN"]),
    ):
        code, said = EdgeUnderTest(place, **environment).refused()
        assert code == 2, said
        assert all(name in said for name in names), said


def test_kafka_away_is_503_within_5_s_in_flat_memory_and_heals(place: Place) -> None:
    batch = json.dumps([{**EVENT, "data": {"score": 1, "x": "y" * 20_000}}] * 60).encode()
    assert len(batch) > 1 << 20
    with running_edge(place, MAX_IN_FLIGHT_BYTES=str(8 << 20)) as edge, ThreadPoolExecutor(7) as clients:
        assert edge.post("/api/v1/events/batch", batch).status == 200
        assert edge.send(EVENT).status == 200
        answers: list[tuple[int, float]] = []
        stopping = threading.Event()

        def post(path: str, body: bytes) -> None:
            while not stopping.is_set():
                started = time.monotonic()
                reply = edge.post(path, body)
                answers.append((reply.status, time.monotonic() - started))
                assert reply.headers["Retry-After"]

        place.stack.kafka.pause()
        before = peak = edge.resident_bytes()
        slowest = 0.0  # what the machine adds to an answer that waits for nothing
        one = json.dumps(EVENT).encode()
        posting = [clients.submit(post, "/api/v1/events/batch", batch) for _ in range(6)]
        posting.append(clients.submit(post, "/api/v1/events", one))

        def enough() -> bool:
            """More bodies than memory may grow by, and the last of them long after the first had failed."""
            nonlocal peak, slowest
            peak, asked = max(peak, edge.resident_bytes()), time.monotonic()
            assert edge.get("/health/live").status == 200
            slowest = max(slowest, time.monotonic() - asked)
            return edge.get("/health/ready").status == 503 and len(answers) > 400

        try:
            eventually(enough, timeout=90)
            refused = edge.send(EVENT)
            assert "nothing was accepted" in refused.json()["error"]
            stopping.set()
            for sender in posting:
                sender.result()
        finally:
            stopping.set()
            place.stack.kafka.resume()
        sys.stdout.write(
            f"broker frozen: {len(answers)} answers, the slowest after {max(after for _, after in answers):.2f} s; "
            f"memory grew by {(peak - before) / (1 << 20):.1f} MiB\n"
        )
        eventually(lambda: edge.send(EVENT).status == 200, timeout=30)
        assert {status for status, _ in answers} == {503}
        assert max(after for _, after in answers) < 5 + slowest
        assert peak - before < 64 << 20
        assert edge.get("/health/ready").status == 200
        eventually(lambda: edge.metric("ingest_in_flight_bytes") == 0)


def test_what_only_the_consumer_needs_is_not_loaded(edge: EdgeUnderTest) -> None:
    assert edge.send(EVENT).status == 200
    assert edge.get("/api/v1/leaderboards/game-test-001").status == 200
    mapped = Path(f"/proc/{edge.pid}/maps").read_text(encoding="utf-8")
    assert "/confluent_kafka/" in mapped
    for library in ("/polars", "/_polars", "/pyarrow/", "/pgpq/"):
        assert library not in mapped
    assert edge.resident_bytes() < 128 << 20


def test_a_port_in_use_is_named(place: Place, edge: EdgeUnderTest) -> None:
    code, said = EdgeUnderTest(place, PORT=str(edge.port), METRICS_PORT=str(free_port())).refused()
    assert code == 2
    assert str(edge.port) in said
