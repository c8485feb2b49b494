"""`gamemetrics verify` finds every difference, names it, and finds none where there is none."""

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.verify.verify import verify
from tests.commanding import gamemetrics, told
from tests.consuming import caught_up, consume_all, consuming
from tests.events import encoded
from tests.place import Place, Record

pytestmark = pytest.mark.real

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
TYPES = ["player_score", "login", "level_up", "quest_completed", "achievement_unlocked", "boss_defeated"]

YESTERDAY = f"{TODAY - timedelta(days=1):%Y-%m-%d}"
NONE: tuple[bool, set[str], str] = (False, set(), "")


def events(count: int, seed: int = 1, players: int = 20) -> list[Record]:
    """Events of a few players in two games over three days, keyed by player."""
    chance = random.Random(seed)
    made: list[Record] = []
    for _ in range(count):
        kind = chance.choice(TYPES)
        event: dict[str, Any] = {
            "event_type": kind,
            "player_id": f"player-{chance.randrange(players)}",
            "game_id": f"game-{chance.randrange(2)}",
            "timestamp": (TODAY - timedelta(seconds=chance.randrange(3 * 86_400))).isoformat(),
            "event_id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
            "data": {"score": chance.randrange(1_000)} if kind == "player_score" else {},
        }
        made.append((event["player_id"], orjson.dumps(event)))
    return made


def a_mixed_load(place: Place) -> None:
    """400 events, 50 of them twice, some anonymous, and bad ones of several kinds."""
    load = events(400)
    anonymous: list[Record] = [("player-0", b'{"event_type":"login","player_id":"player-0","game_id":"game-0"}')] * 3
    bad: list[Record] = [("player-1", b"not JSON"), ("player-2", b""), ("player-3", None), ("player-4", b"[]")]
    place.produce([*load, *load[:50], *anonymous, *bad])


def differences(place: Place) -> tuple[bool, set[str], str]:
    """Verify; return whether it found a difference, the kinds, and all their keys."""
    found = verify(place.settings, lambda _what, _done, _total: None, full=True).differences
    return bool(found), set(found.totals), "\n".join(f"{one.kind} {one.key}" for one in found.kept)


def test_a_load_with_duplicates_and_bad_records_is_accounted_for(place: Place) -> None:
    a_mixed_load(place)
    consume_all(place)
    done = gamemetrics(place, "verify", "--full")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ Nothing is lost, nothing is counted twice" in done.stdout
    code, report = told(place, "verify", "--full")
    lines = report["groups"][place.group]
    assert code == 0
    assert sum(line["records"] for line in lines) == 457
    assert [sum(line[name] for line in lines) for name in ("admitted", "duplicates", "dead_lettered")] == [403, 50, 4]
    assert report["compared"]["events"] == 403
    assert report["not_recounted"] == []


def test_a_difference_is_exit_1_and_is_named_for_people_and_programs(place: Place) -> None:
    a_mixed_load(place)
    consume_all(place)
    with place.redis() as client:
        client.hincrby("player_stats:player-1", "total_events", 1)
    done = gamemetrics(place, "verify", "--full")
    assert done.returncode == 1
    assert "✗ Redis statistics: 1 differs" in done.stdout
    assert "player_stats:player-1 total_events: should be " in done.stdout
    code, report = told(place, "verify", "--full")
    assert (code, report["equal"], report["totals"]) == (1, False, {"Redis statistics": 1})


def test_nothing_consumed_yet_is_no_success_to_boast_of(place: Place) -> None:
    done = gamemetrics(place, "verify", "--full")
    assert done.returncode == 0
    assert "not recounted: anything: no consumer has started here yet" in done.stdout


def test_three_groups_are_each_accounted_for(place: Place) -> None:
    a_mixed_load(place)
    for role in ("logger", "stats", "leaderboard"):
        consume_all(place, role)
    code, report = told(place, "verify", "--full")
    assert (code, report["differences"]) == (0, [])
    assert set(report["groups"]) == {f"{place.group}-{role}" for role in ("logger", "stats", "leaderboard")}
    assert report["compared"]["stats_ledger"] == report["compared"]["leaderboard_ledger"] == 403
    with place.pg() as connection:
        connection.execute("DELETE FROM stats_ledger WHERE player_id = 'player-7'")
    _, kinds, keys = differences(place)
    assert kinds == {"stats_ledger"}
    assert "player 'player-7'" in keys


@dataclass(frozen=True)
class Tampering:
    """Something done to the stores, how it is undone, and which kind and key must be named."""

    do: Sequence[str]
    undo: Sequence[str]
    kind: str
    key: str


TAMPERINGS = {
    "an event deleted": Tampering(
        ["CREATE TABLE kept AS DELETE FROM events WHERE player_id = 'player-1' RETURNING *"],
        ["INSERT INTO events SELECT * FROM kept", "DROP TABLE kept"],
        "event",
        "player 'player-1'",
    ),
    "an event added": Tampering(
        [
            "INSERT INTO events VALUES (gen_random_uuid(), 'login', 'a-ghost', 'game-0', now(), now(), '{}', now())",
        ],
        ["DELETE FROM events WHERE player_id = 'a-ghost'"],
        "event",
        "player 'a-ghost'",
    ),
    "an event's type changed": Tampering(
        ["UPDATE events SET event_type = 'logout' WHERE player_id = 'player-2' AND event_type = 'login'"],
        ["UPDATE events SET event_type = 'login' WHERE event_type = 'logout'"],
        "event",
        "player 'player-2'",
    ),
    "an event's data changed": Tampering(
        ["UPDATE events SET data = data || '{\"note\": 1}' WHERE player_id = 'player-3' AND event_type = 'login'"],
        ["UPDATE events SET data = data - 'note' WHERE player_id = 'player-3' AND event_type = 'login'"],
        "event",
        "player 'player-3'",
    ),
    "a count changed": Tampering(
        ["UPDATE player_event_counts SET events = events + 1 WHERE player_id = 'player-3' AND event_type = 'login'"],
        ["UPDATE player_event_counts SET events = events - 1 WHERE player_id = 'player-3' AND event_type = 'login'"],
        "statistics",
        "player 'player-3' type login",
    ),
    "a last event moved": Tampering(
        ["UPDATE player_event_counts SET last_event = last_event - interval '1 s' WHERE player_id = 'player-4'"],
        ["UPDATE player_event_counts SET last_event = last_event + interval '1 s' WHERE player_id = 'player-4'"],
        "statistics",
        "player 'player-4'",
    ),
    "a score of all time changed": Tampering(
        ["INSERT INTO leaderboard_settled VALUES ('game-0', 'player-5', 1, now())"],
        ["DELETE FROM leaderboard_settled"],
        "board",
        "game-0 alltime player 'player-5'",
    ),
    "a score of a day changed": Tampering(
        ["UPDATE leaderboard_daily SET score = score + 1 WHERE game_id = 'game-1' AND player_id = 'player-6'"],
        ["UPDATE leaderboard_daily SET score = score - 1 WHERE game_id = 'game-1' AND player_id = 'player-6'"],
        "weekly view",
        "player 'player-6'",
    ),
    "a dead letter deleted": Tampering(
        ["CREATE TABLE kept AS SELECT * FROM dlq_events", "DELETE FROM dlq_events WHERE record_value IS NULL"],
        [
            "INSERT INTO dlq_events OVERRIDING SYSTEM VALUE SELECT * FROM kept WHERE record_value IS NULL",
            "DROP TABLE kept",
        ],
        "dead letter",
        "partition",
    ),
    "a watermark's count shifted": Tampering(
        ["UPDATE pipeline_watermarks SET admitted = admitted - 1, duplicates = duplicates + 1 WHERE partition = 1"],
        ["UPDATE pipeline_watermarks SET admitted = admitted + 1, duplicates = duplicates - 1 WHERE partition = 1"],
        "admitted",
        "all partitions",
    ),
    "a record lost between watermarks": Tampering(
        ["UPDATE pipeline_watermarks SET admitted = admitted - 1 WHERE partition = 2"],
        ["UPDATE pipeline_watermarks SET admitted = admitted + 1 WHERE partition = 2"],
        "records",
        "partition 2",
    ),
    "a watermark past the log's end": Tampering(
        ["UPDATE pipeline_watermarks SET next_offset = next_offset + 1000 WHERE partition = 0"],
        ["UPDATE pipeline_watermarks SET next_offset = next_offset - 1000 WHERE partition = 0"],
        "watermark",
        "partition 0",
    ),
}


def test_each_tampering_with_postgresql_is_found_and_named(place: Place) -> None:
    a_mixed_load(place)
    consume_all(place)
    for name, tampering in TAMPERINGS.items():
        with place.pg() as connection:
            for statement in tampering.do:
                _execute(connection, statement)
            found, kinds, keys = differences(place)
            assert found, name
            assert tampering.kind in kinds, (name, kinds)
            assert tampering.key in keys, (name, keys)
            for statement in tampering.undo:
                _execute(connection, statement)
    assert differences(place) == NONE


def _execute(connection: Any, statement: str) -> None:
    if statement.startswith("CREATE TABLE kept AS DELETE"):  # PostgreSQL has no such statement in one
        deleted = statement.removeprefix("CREATE TABLE kept AS ")
        connection.execute("CREATE TABLE kept (LIKE events)")
        connection.execute(f"WITH gone AS ({deleted}) INSERT INTO kept SELECT * FROM gone")
    else:
        connection.execute(statement)


def test_what_the_outbox_owes_redis_is_no_difference(place: Place) -> None:
    a_mixed_load(place)
    consume_all(place)
    with place.redis() as client:
        before = {key: (max(client.pttl(key), 0), client.dump(key)) for key in client.scan_iter()}
    place.produce(events(200, seed=2))
    consume_all(place)
    with place.redis() as client:
        client.flushdb()
        for key, (milliseconds, value) in before.items():
            client.restore(key, milliseconds, value)  # Redis came back from a snapshot; the consumer is down
    assert differences(place) == NONE


def test_verify_passes_while_consumers_run(place: Place) -> None:
    place.produce(events(3_000, players=200))
    with consuming(place, batch_max_events=100, batch_max_wait_ms=5) as consumer:
        codes = [differences(place)]
        place.produce(events(3_000, seed=5, players=200))
        codes.append(differences(place))
        caught_up(place)
        codes.append(differences(place))
        assert consumer.health.ready()[0]
    assert codes == [NONE] * 3


def test_records_that_retention_deleted_are_said_not_to_be_recounted(place: Place) -> None:
    a_mixed_load(place)
    place.produce([("still-there", encoded(player_id="still-there"))], partition=0)
    consume_all(place)
    admin = AdminClient(place.stack.kafka.admin_config())
    (deleted,) = admin.delete_records([TopicPartition(place.topic, 0, 20)]).values()
    deleted.result(10)
    code, report = told(place, "verify", "--full")
    assert (code, report["differences"]) == (0, [])
    assert any("partition 0: offsets 0 to 19 are gone" in one for one in report["not_recounted"])
    with place.pg() as connection:
        connection.execute("UPDATE player_event_counts SET events = events + 1 WHERE player_id = 'player-3'")
    found, kinds, _ = differences(place)
    assert found
    assert "statistics" in kinds
    with place.pg() as connection:
        connection.execute("UPDATE player_event_counts SET events = events - 1 WHERE player_id = 'player-3'")
        connection.execute("UPDATE events SET data = data || '{\"note\": 1}' WHERE player_id = 'still-there'")
    for _ in range(2):
        found, kinds, keys = differences(place)
        assert kinds == {"event"}
        assert "player 'still-there'" in keys


def test_days_dropped_by_retention_are_said_not_to_be_recounted(place: Place) -> None:
    old = orjson.dumps(
        {
            "event_type": "player_score",
            "player_id": "player-1",
            "game_id": "game-0",
            "timestamp": "2020-05-05T05:05:05Z",
            "event_id": str(uuid.uuid4()),
            "data": {"score": 3},
        }
    )
    place.produce([*events(50), ("player-1", old)])
    consume_all(place)
    with place.pg() as connection:
        assert connection.execute("SELECT drop_day_partitions('events', 7)").fetchone() == (1,)
    code, report = told(place, "verify", "--full")
    assert (code, report["differences"]) == (0, [])
    assert any("1 events before" in one for one in report["not_recounted"])


def test_one_identity_over_two_partitions_is_one_event(place: Place) -> None:
    load = events(1)
    place.produce(load, partition=0)
    place.produce(load, partition=1)
    consume_all(place)
    code, report = told(place, "verify", "--full")
    assert (code, report["differences"]) == (0, [])
    assert report["compared"]["events"] == 1
