"""The trail of one event, in each of its fates."""

import json
import uuid
from datetime import UTC

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.contract.event import format_timestamp, is_identifier, record_id
from tests.commanding import gamemetrics, told
from tests.consuming import caught_up, consume_all, consuming, log_ends
from tests.edges import EVENT, EdgeUnderTest, make_key
from tests.events import now, valid
from tests.place import Place
from tests.texts import AWKWARD
from tests.tracing import hops, path_of, place_of, trail
from tests.waiting import eventually

pytestmark = pytest.mark.real

BOARDS = {"alltime", "daily:2024-01-15", "weekly:2024-W03"}


def post(edge: EdgeUnderTest, **changes: object) -> tuple[dict[str, object], tuple[int, int]]:
    """Post an event; return it with its id, and its place."""
    event = {**EVENT, "event_id": str(uuid.uuid4()), **changes}
    reply = edge.send(event)
    assert reply.status == 200, reply.body
    return event, place_of(reply)


def test_a_counted_event_is_followed_through_every_step(place: Place, edge: EdgeUnderTest) -> None:
    event, (partition, offset) = post(edge)
    consume_all(place)
    found = trail(edge, "player-test-001", str(event["event_id"]))
    assert found["fate"] == "counted"
    assert found["timestamp"] == "2024-01-15T10:35:00.000000Z"
    assert hops(found) == dict.fromkeys(("acknowledged", "read", "counted", "redis"), "done")
    assert found["hops"][0]["detail"] == f"partition {partition}, offset {offset}"
    with place.pg() as connection:
        row = connection.execute("SELECT created_at FROM events").fetchone()
    assert row is not None
    assert format_timestamp(row[0].astimezone(UTC)) in found["hops"][2]["detail"]
    times = [hop["at"] for hop in found["hops"][:3]]
    assert times == sorted(times)
    assert found["hops"][1]["after_ms"] > 0
    assert found["effects"]["statistics"] == [{"event_type": "player_score", "added": 1}]
    assert {one["key"]: one["added"] for one in found["effects"]["boards"]} == {
        f"leaderboard:game-test-001:{label}": 1500 for label in BOARDS
    }
    parts = ("game_id", "period", "stamp", "first_day")
    assert [tuple(one[name] for name in parts) for one in found["effects"]["boards"]] == [
        ("game-test-001", "alltime", None, None),
        ("game-test-001", "daily", "2024-01-15", "2024-01-15"),
        ("game-test-001", "weekly", "2024-W03", "2024-01-15"),
    ]
    assert (found["duplicate_of"], found["dead_letter"], found["lag"]) == (None, None, None)
    assert trail(edge, "player-test-001", str(event["event_id"]), timestamp="2024-01-15T12:35:00+02:00") == found


def test_an_event_that_the_server_stamped_is_found_by_its_id(place: Place, edge: EdgeUnderTest) -> None:
    reply = edge.send({"event_type": "login", "player_id": "p", "game_id": "g"})
    before = trail(edge, "p", reply.json()["event_id"])
    assert (before["fate"], before["lag"]["records"]) == ("not_read", place_of(reply)[1] + 1)
    consume_all(place)
    found = trail(edge, "p", reply.json()["event_id"])
    assert (found["fate"], found["effects"]) == (
        "counted",
        {"statistics": [{"event_type": "login", "added": 1}], "boards": []},
    )


def test_a_copy_is_told_from_what_was_counted(place: Place, edge: EdgeUnderTest) -> None:
    event, first = post(edge)
    consume_all(place)
    _, copy = post(edge, event_id=event["event_id"])
    asked = {"player_id": "player-test-001", "event_id": str(event["event_id"])}
    waiting = edge.get(path_of(**asked, after=f"{copy[0]}:{copy[1]}", wait_ms="0"))
    assert waiting.status == 504
    with consuming(place):
        caught_up(place)
        found = trail(edge, **asked, after=f"{copy[0]}:{copy[1]}")
    assert found["fate"] == "duplicate"
    assert found["duplicate_of"] == {"partition": first[0], "offset": first[1]}
    assert f"partition {copy[0]}, offset {copy[1]}" in found["summary"]
    assert trail(edge, **asked)["fate"] == "counted"
    assert trail(edge, **asked, after=f"{first[0]}:{first[1]}")["fate"] == "counted"


def test_a_dead_letter_is_found_by_its_code_and_reason(place: Place, edge: EdgeUnderTest) -> None:
    bad = valid(player_id="p", game_id="g", data={"score": "ten"})
    ((partition, offset),) = place.produce([("p", json.dumps(bad).encode())])
    consume_all(place)
    for parameters in ({}, {"timestamp": bad["timestamp"]}, {"after": f"{partition}:{offset}"}):
        found = trail(edge, "p", bad["event_id"], **parameters)
        assert found["fate"] == "dead_letter"
        assert found["dead_letter"]["code"] == "invalid"
        assert "data.score" in found["dead_letter"]["error"]
        assert hops(found) == {"acknowledged": "done", "read": "done", "counted": "none", "redis": "none"}
        assert found["effects"] == {"statistics": [], "boards": []}
        assert f"partition {partition}, offset {offset}" in found["hops"][0]["detail"]


def test_an_event_that_nobody_has_read_yet(place: Place, edge: EdgeUnderTest) -> None:
    consume_all(place)
    for _ in range(3):
        post(edge)
    event, _ = post(edge)
    found = trail(edge, "player-test-001", str(event["event_id"]))
    assert (found["fate"], found["lag"]["records"]) == ("not_read", 4)
    assert found["lag"]["seconds"] >= 0
    assert hops(found) == {"acknowledged": "done", "read": "waiting", "counted": "waiting", "redis": "waiting"}
    assert found["effects"] == {"statistics": [], "boards": []}
    consume_all(place)
    assert trail(edge, "player-test-001", str(event["event_id"]))["fate"] == "counted"


def test_an_event_that_nobody_knows(place: Place, edge: EdgeUnderTest) -> None:
    post(edge)
    consume_all(place)
    for event_id in (str(uuid.uuid4()), "0197d4f0-0000-7000-8000-000000000000", str(uuid.UUID(int=0))):
        for parameters in ({}, {"timestamp": now()}, {"timestamp": "2001-01-01T00:00:00Z"}):
            found = trail(edge, "player-test-001", event_id, **parameters)
            assert found["fate"] == "unknown", found
            assert set(hops(found).values()) == {"none"}


def test_another_players_event_of_the_same_id_is_not_told(place: Place, edge: EdgeUnderTest) -> None:
    event, _ = post(edge)
    consume_all(place)
    assert trail(edge, "somebody", str(event["event_id"]))["fate"] == "unknown"


def delete_records(place: Place) -> None:
    """Let the topic forget all that it has, as its retention does."""
    admin = AdminClient(place.stack.kafka.admin_config())
    for answer in admin.delete_records(
        [TopicPartition(place.topic, partition, end) for partition, end in log_ends(place).items()]
    ).values():
        answer.result(15)


def test_what_is_not_kept_any_more_is_said_to_be_older(place: Place, edge: EdgeUnderTest) -> None:
    event, _ = post(edge)
    event_id, timestamp = str(event["event_id"]), str(event["timestamp"])
    consume_all(place)
    with place.pg() as connection:
        connection.execute("SELECT drop_day_partitions('events', 1)")
    # Its record tells that it was read, and no more.
    assert trail(edge, "player-test-001", event_id, timestamp=timestamp)["fate"] == "expired"
    delete_records(place)
    assert trail(edge, "player-test-001", event_id, timestamp=timestamp)["fate"] == "expired"
    post(edge, timestamp=now())
    found = trail(edge, "player-test-001", event_id, timestamp=timestamp)
    assert (found["fate"], found["hops"][0]["state"]) == ("expired", "none")
    assert trail(edge, "player-test-001", event_id, timestamp=now())["fate"] == "unknown"


def test_a_counted_event_outlives_its_record(place: Place, edge: EdgeUnderTest) -> None:
    event, _ = post(edge)
    consume_all(place)
    delete_records(place)
    found = trail(edge, "player-test-001", str(event["event_id"]))
    assert found["fate"] == "counted"
    assert "not in the topic" in found["hops"][0]["detail"]
    assert hops(found) == dict.fromkeys(("acknowledged", "read", "counted", "redis"), "done")


def test_a_record_that_vanished_is_not_called_good(place: Place, edge: EdgeUnderTest) -> None:
    event, _ = post(edge)
    consume_all(place)
    with place.pg() as connection:
        connection.execute("DELETE FROM events")
    found = trail(edge, "player-test-001", str(event["event_id"]), timestamp=str(event["timestamp"]))
    assert found["fate"] == "unknown"
    assert "verify" in found["summary"]


def test_the_records_of_other_producers_are_found(place: Place, edge: EdgeUnderTest) -> None:
    elsewhere = valid(player_id="p", event_id=str(uuid.uuid4()).upper(), timestamp=now())
    placed = [
        place.produce([(key, json.dumps(valid(**changes)).encode())], partition=partition)[0]
        for partition in range(3)
        for key, changes in (("p", {"player_id": "p", "event_id": None}),)
    ]
    (there,) = place.produce([("p", json.dumps(elsewhere).encode())], partition=(placed[0][0] + 1) % 3)
    derived = [str(record_id(place.topic, *one)) for one in placed]
    for event_id in (*derived, elsewhere["event_id"].lower()):
        assert trail(edge, "p", event_id)["fate"] == "not_read"
    consume_all(place)
    for event_id, where in zip((*derived, elsewhere["event_id"].lower()), (*placed, there), strict=True):
        found = trail(edge, "p", event_id)
        assert found["fate"] == "counted"
        assert found["hops"][0]["detail"] == f"partition {where[0]}, offset {where[1]}"


def test_a_player_of_any_alphabet(edge: EdgeUnderTest) -> None:
    for player in (*filter(is_identifier, AWKWARD), "a/b?c#d%2F", "🎮" * 60, "é" * 255):
        event, (partition, offset) = post(edge, player_id=player)
        found = trail(edge, player, str(event["event_id"]), timestamp=str(event["timestamp"]))
        assert (found["fate"], found["player_id"]) == ("not_read", player)
        assert found["hops"][0]["detail"] == f"partition {partition}, offset {offset}"


def test_each_of_three_groups_has_its_say(place: Place, edge: EdgeUnderTest) -> None:
    event, _ = post(edge)
    asked = ("player-test-001", str(event["event_id"]))
    consume_all(place, "stats")
    found = trail(edge, *asked, timestamp=str(event["timestamp"]))
    assert (found["fate"], found["effects"]["boards"]) == ("counted", [])
    assert found["effects"]["statistics"] == [{"event_type": "player_score", "added": 1}]
    consume_all(place, "leaderboard")
    later, _ = post(edge)
    consume_all(place, "logger")
    found = trail(edge, *asked)
    assert (found["fate"], len(found["effects"]["boards"]), hops(found)["redis"]) == ("counted", 3, "done")
    found = trail(edge, "player-test-001", str(later["event_id"]))
    assert (found["fate"], found["effects"]) == ("counted", {"statistics": [], "boards": []})
    assert hops(found) == {"acknowledged": "done", "read": "done", "counted": "waiting", "redis": "waiting"}
    assert f"{place.group}-stats" in found["summary"]
    assert f"{place.group}-leaderboard" in found["summary"]


def test_a_key_sees_its_own_games_only(place: Place, edge: EdgeUnderTest) -> None:
    event, _ = post(edge)
    bad = valid(player_id="p", game_id="mine", data={"score": "ten"})
    whole, cut = json.dumps(bad).encode(), b"{" + json.dumps(bad).encode()
    place.produce([("p", cut), ("p", whole), ("p", cut)])
    mine = make_key(place, "mine", "--scope", "read", "--game", "mine")
    theirs = make_key(place, "theirs", "--scope", "read", "--game", "game-test-001")
    path, letter = path_of("player-test-001", str(event["event_id"])), path_of("p", bad["event_id"])
    for key, status in ((mine, 404), (theirs, 200)):  # until both are known
        eventually(lambda: edge.get(path, {"X-API-Key": key}).status == status, timeout=10)  # noqa: B023
    for _ in ("not read", "counted"):
        assert edge.get(path, {"X-API-Key": theirs}).status == 200
        refused = edge.get(path, {"X-API-Key": mine})
        nothing = edge.get(path_of("player-test-001", str(uuid.uuid4())), {"X-API-Key": mine})
        assert (refused.status, refused.body) == (404, nothing.body)
        assert edge.get(letter, {"X-API-Key": mine}).status == 200
        assert edge.get(letter, {"X-API-Key": theirs}).status == 404
        consume_all(place)


NOTHING = str(uuid.UUID(int=1))
REFUSED = [
    (path_of("p", "1"), "event_id"),
    (path_of("p", "{550e8400-e29b-41d4-a716-446655440000}"), "event_id"),
    (path_of("p", "550e8400-e29b-41d4-a716-44665544000%00"), "event_id"),
    (path_of("p\x00", NOTHING), "player_id"),
    (path_of("x" * 256, NOTHING), "player_id"),
    (path_of("p", NOTHING, timestamp="yesterday"), "timestamp"),
    (path_of("p", NOTHING, timestamp="2026-01-15T10:30:00"), "timestamp"),
    (path_of("p", NOTHING, timestamp="1999-12-31T00:00:00Z"), "timestamp"),
    (path_of("p", NOTHING, timestamp="0001-01-01T00:00:00Z"), "timestamp"),
    (path_of("p", NOTHING, when="now"), "when"),
    (path_of("p", NOTHING, after="1"), "after"),
    (path_of("p", NOTHING, wait_ms="5"), "wait_ms"),
]


def test_what_no_event_can_be_is_refused(edge: EdgeUnderTest) -> None:
    for path, field in REFUSED:
        reply = edge.get(path)
        assert reply.status == 400, path
        assert reply.json()["error"].startswith(field), reply.body


def test_a_server_that_is_away_is_no_answer(place: Place, edge: EdgeUnderTest) -> None:
    event, _ = post(edge)
    consume_all(place)
    unread, _ = post(edge)
    counted = ("player-test-001", str(event["event_id"]))
    place.stack.kafka.pause()
    try:
        found = trail(edge, *counted)
        assert found["fate"] == "counted"
        assert "cannot be searched" in found["hops"][0]["detail"]
        assert edge.get(path_of("player-test-001", str(unread["event_id"]))).status == 503
    finally:
        place.stack.kafka.resume()
    place.stack.valkey.pause()
    try:
        found = trail(edge, *counted)
        assert (found["fate"], hops(found)["redis"]) == ("counted", "none")
    finally:
        place.stack.valkey.resume()
    place.stack.postgres.pause()
    try:
        assert edge.get(path_of(*counted)).status == 503
    finally:
        place.stack.postgres.resume()
    eventually(lambda: trail(edge, *counted)["hops"][0]["at"] and hops(trail(edge, *counted))["redis"] == "done")


def test_redis_that_lags_is_said_to(place: Place, edge: EdgeUnderTest) -> None:
    event, (partition, offset) = post(edge)
    consume_all(place)
    with place.redis() as client:
        client.hset(f"pipeline:watermarks:{place.group}", f"{place.topic}:{partition}", f"{offset}:0")
    found = trail(edge, "player-test-001", str(event["event_id"]))
    assert (found["fate"], hops(found)["counted"], hops(found)["redis"]) == ("counted", "done", "waiting")


def test_the_command_tells_the_same(place: Place, edge: EdgeUnderTest) -> None:
    event, (partition, offset) = post(edge)
    asked = ("trace", str(event["event_id"]), "--player", "player-test-001")
    code, found = told(place, *asked)
    assert (code, found["fate"]) == (1, "not_read")
    consume_all(place)
    code, found = told(place, *asked, "--timestamp", "2024-01-15T10:35:00Z", "--at", f"{partition}:{offset}")
    assert code == 0
    assert found == trail(edge, "player-test-001", str(event["event_id"]))
    printed = gamemetrics(place, *asked).stdout
    assert f"counted: Counted once, from partition {partition}, offset {offset}." in printed
    assert "leaderboard:game-test-001:alltime: +1500\n" in printed
    _, copy = post(edge, event_id=event["event_id"])
    consume_all(place)
    printed = gamemetrics(place, *asked, "--at", f"{copy[0]}:{copy[1]}").stdout
    assert printed.startswith(f"duplicate: partition {copy[0]}, offset {copy[1]} is a copy and counted nothing: ")
    assert "leaderboard:game-test-001:alltime: +1500, by the record that was counted\n" in printed
    for bad in (["trace", "x", "--player", "p"], [*asked, "--timestamp", "x"], [*asked, "--at", "x"]):
        assert gamemetrics(place, *bad).returncode == 2
