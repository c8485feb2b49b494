"""The engine on the real servers: what comes out of PostgreSQL and Redis for what went into Kafka."""

import json
import uuid
from datetime import timedelta
from typing import Any

import pytest

from pipeline.contract.event import MAX_EVENT_BYTES
from pipeline.engine import consumer as engine
from pipeline.engine.consumer import EventConsumer
from pipeline.epoch.roles import ROLES
from pipeline.errors import ConfigurationError, HaltError
from tests.consuming import caught_up, consume_all, consuming, ended, settings_of
from tests.dialects import IN_BOTH_DIALECTS
from tests.events import BAD_RECORDS, GOOD_BUT_RARE, encoded, now
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real


def rows(place: Place, query: str) -> list[tuple[Any, ...]]:
    with place.pg() as connection:
        return connection.execute(query.encode()).fetchall()


def fates(place: Place) -> tuple[int, int, int]:
    """Records admitted, duplicate and dead-lettered, over all partitions and groups."""
    (found,) = rows(place, "SELECT sum(admitted), sum(duplicates), sum(dead_lettered) FROM pipeline_watermarks")
    return int(found[0]), int(found[1]), int(found[2])


@IN_BOTH_DIALECTS
def test_an_event_reaches_every_table_and_key(place: Place) -> None:
    event_id = str(uuid.uuid4())
    place.produce([("p", encoded(player_id="p", game_id="g", event_id=event_id, timestamp="2024-01-15T10:35:00Z"))])
    consume_all(place)
    assert rows(place, "SELECT event_id::text, player_id, data, event_timestamp::text FROM events") == [
        (event_id, "p", {"score": 10}, "2024-01-15 10:35:00+00")
    ]
    assert rows(place, "SELECT player_id, total_events, event_breakdown, last_event::text FROM player_statistics") == [
        ("p", 1, {"player_score": 1}, "2024-01-15 10:35:00+00")
    ]
    assert rows(place, "SELECT game_id, player_id, period, rank, score FROM leaderboards ORDER BY period") == [
        ("g", "p", "alltime", 1, 10),
        ("g", "p", "daily:2024-01-15", 1, 10),
        ("g", "p", "weekly:2024-W03", 1, 10),
    ]
    with place.redis() as redis:
        assert redis.hgetall("player_stats:p") == {
            b"total_events": b"1", b"event_player_score": b"1", b"last_event": b"2024-01-15T10:35:00.000000Z",
        }  # fmt: skip
        assert redis.zrange("leaderboard:g:alltime", 0, -1, withscores=True) == [(b"p", 10.0)]
        assert not redis.exists("leaderboard:g:daily:2024-01-15"), "a board past its expiry stays away"


def test_dated_boards_of_today_stand_in_redis_and_expire(place: Place) -> None:
    place.produce([encoded(player_id="p", game_id="g:x")] * 1 + [encoded(player_id="q", game_id="g:x")])
    consume_all(place)
    today = now()[:10]
    with place.redis() as redis:
        assert redis.zrange(f"leaderboard:g:x:daily:{today}", 0, -1) == [b"p", b"q"]
        assert 30 * 86_400 < redis.ttl(f"leaderboard:g:x:daily:{today}") < 40 * 86_400
        assert redis.ttl("leaderboard:g:x:alltime") == -1
        (weekly,) = redis.keys("leaderboard:g:x:weekly:*")
        assert redis.ttl(weekly) > 90 * 86_400


def test_the_same_identity_is_one_event_however_it_comes_again(place: Place) -> None:
    first = [encoded(player_id=f"p{i % 7}") for i in range(300)]
    place.produce([first[0], *first, first[5]])
    consume_all(place)
    place.produce([*first[::-1], encoded(player_id="new")])  # replayed with other partitions, and half new
    consume_all(place, batch_max_events=100)
    assert fates(place) == (301, 302, 0)
    assert rows(place, "SELECT count(*) FROM events") == [(301,)]
    assert rows(place, "SELECT sum(total_events) FROM player_statistics") == [(301,)]
    with place.redis() as redis:
        assert sum(int(redis.hget(key, "total_events") or 0) for key in redis.keys("player_stats:*")) == 301
        assert sum(score for _, score in redis.zrange("leaderboard:game-1:alltime", 0, -1, withscores=True)) == 3010


def test_exactly_the_bad_records_are_dead_lettered_and_their_neighbours_counted(place: Place) -> None:
    values: list[bytes | None] = []
    for bad in BAD_RECORDS:
        values += [encoded(player_id="neighbour"), bad.value]
    placed = place.produce([("k", value) for value in values])
    consume_all(place)
    columns = "partition, record_offset, error_message, code, consumer_service, record_value, record_key"
    found = {(row[0], row[1]): row[2:] for row in rows(place, f"SELECT {columns} FROM dlq_events")}
    for number, bad in enumerate(BAD_RECORDS):
        reason, code, service, value, key = found.pop(placed[2 * number + 1])
        assert reason.startswith(f"{bad.field}: ") if bad.field else ": " not in reason[:9]
        kept = bad.value and bad.value[: MAX_EVENT_BYTES + 1]
        assert (code, service, value, key) == ("invalid", "event-consumer", kept, b"k")
    assert found == {}
    count = len(BAD_RECORDS)
    assert fates(place) == (count, 0, count)
    assert rows(place, "SELECT total_events FROM player_statistics WHERE player_id = 'neighbour'") == [(count,)]


def test_rare_but_valid_records_are_counted_as_postgresql_reads_them(place: Place) -> None:
    place.produce([value for _, value in GOOD_BUT_RARE])
    consume_all(place)
    assert fates(place) == (len(GOOD_BUT_RARE), 0, 0)
    stored = {json.dumps(data, sort_keys=True) for (data,) in rows(place, "SELECT data FROM events")}
    assert json.dumps({"score": 4}) in stored
    assert json.dumps({"x": "🎮"}) in stored


def test_a_record_without_identity_has_the_same_one_at_a_replay(place: Place) -> None:
    place.produce([encoded(event_id=None, timestamp=None)] * 3, partition=1)
    consume_all(place)
    with place.pg() as connection:
        before = connection.execute("SELECT event_id, event_timestamp FROM events ORDER BY 1").fetchall()
        connection.execute("UPDATE pipeline_watermarks SET next_offset = 0")
    with place.redis() as redis:
        redis.delete(f"pipeline:watermarks:{place.group}")
    consume_all(place)
    assert rows(place, "SELECT event_id, event_timestamp FROM events ORDER BY 1") == before
    assert len(before) == 3
    assert fates(place) == (3, 3, 0)


def test_what_postgresql_refuses_is_found_among_many_and_dead_lettered(place: Place) -> None:
    with place.pg() as connection:
        connection.execute("ALTER TABLE events ADD CONSTRAINT no_bots CHECK (player_id <> 'bot')")
    records = [encoded(player_id="bot" if i in {0, 17, 99} else f"p{i}") for i in range(100)]
    tiny = encoded(event_type="login", data="@").replace(b'"@"', b'{"x":1e-20000}')
    place.produce([("the key", record) for record in [*records, tiny]], partition=0)
    consume_all(place)
    dead = rows(place, "SELECT record_offset, error_message, code FROM dlq_events ORDER BY record_offset")
    assert [(offset, code) for offset, _, code in dead] == [
        *((n, "refused") for n in (0, 17, 99)),
        (100, "invalid"),
    ]
    letters = "SELECT DISTINCT record_key, record_timestamp > now() - interval '1 minute' FROM dlq_events"
    assert rows(place, letters) == [(b"the key", True)], "the record's own, and not its event's"
    assert "no_bots" in dead[0][1]
    assert fates(place) == (97, 0, 4)
    assert rows(place, "SELECT sum(total_events) FROM player_statistics") == [(97,)]


def test_an_event_of_a_dropped_day_is_dead_lettered(place: Place) -> None:
    with place.pg() as connection:
        connection.execute("DROP TABLE events_past")
    place.produce([encoded(timestamp="2024-01-15T10:30:00Z"), encoded()])
    consume_all(place)
    assert fates(place) == (1, 0, 1)
    ((reason, code),) = rows(place, "SELECT error_message, code FROM dlq_events")
    assert reason.startswith("timestamp: no partition holds it")
    assert code == "uncovered"


def test_retention_drops_days_and_what_comes_for_them_is_dead_lettered(place: Place) -> None:
    old = encoded(player_id="old", timestamp=now(timedelta(days=-3)))
    place.produce([old, encoded(player_id="new")])
    consume_all(place)
    place.produce([old, encoded(player_id="new")])
    with consuming(place, events_keep_days=1):
        caught_up(place)
        eventually(lambda: rows(place, "SELECT player_id, count(*) FROM events GROUP BY 1") == [("new", 2)])
    assert rows(place, "SELECT player_id, total_events FROM player_statistics ORDER BY 1") == [("new", 2), ("old", 1)]
    assert fates(place) == (3, 0, 1)


def test_most_of_an_epoch_bad_stops_loudly_loses_nothing_and_goes_on_after_the_fix(place: Place) -> None:
    place.produce([b"junk"] * 60 + [encoded()] * 1, partition=0)
    with pytest.raises(HaltError, match="60 of 61 records are bad"), consuming(place, dlq_halt_count=50) as consumer:
        eventually(lambda: ended(consumer))
    assert rows(place, "SELECT count(*) FROM dlq_events") == [(0,)]
    consume_all(place, dlq_halt_ratio=1.0)
    assert fates(place) == (1, 0, 60)


def test_dead_letters_of_a_topic_that_was_created_again_are_kept_beside_the_old_ones(place: Place) -> None:
    place.produce([b"junk"], partition=0)
    consume_all(place)
    with place.pg() as connection:  # as if that letter were of the topic that had this name before
        connection.execute("UPDATE dlq_events SET record_timestamp = record_timestamp - interval '1 day'")
        connection.execute("UPDATE pipeline_watermarks SET next_offset = 0, dead_lettered = 0")
    consume_all(place)
    assert rows(place, "SELECT count(*) FROM dlq_events") == [(2,)]


def test_an_unknown_event_type_is_counted_and_scores_nothing(place: Place) -> None:
    place.produce([encoded(event_type="brand:new.type", data={"score": 5})])
    consume_all(place)
    assert rows(place, "SELECT event_breakdown FROM player_statistics") == [({"brand:new.type": 1},)]
    assert rows(place, "SELECT count(*) FROM leaderboards") == [(0,)]


def test_three_roles_do_what_one_does(place: Place) -> None:
    values = [encoded(player_id=f"p{i % 5}") for i in range(200)]
    place.produce([*values, values[0], b"junk"])
    for role in ("logger", "stats", "leaderboard"):
        consume_all(place, role)
    assert rows(place, "SELECT count(*) FROM events") == [(200,)]
    assert rows(place, "SELECT sum(total_events) FROM player_statistics") == [(200,)]
    assert rows(place, "SELECT sum(score) FROM leaderboards WHERE period = 'alltime'") == [(2000,)]
    assert rows(place, "SELECT consumer_service FROM dlq_events ORDER BY 1") == [
        ("event-consumer-leaderboard",), ("event-consumer-logger",), ("event-consumer-stats",),
    ]  # fmt: skip
    with place.redis() as redis:
        assert redis.zscore("leaderboard:game-1:alltime", "p0") == 400
        assert redis.hget("player_stats:p0", "total_events") == b"40"


def test_a_second_owner_of_a_projection_is_refused_by_name(place: Place) -> None:
    place.produce([encoded()])
    consume_all(place)
    with pytest.raises(ConfigurationError, match=f"'stats' is written by the group '{place.group}'"):
        EventConsumer(settings_of(place, "stats"), ROLES["stats"]).run()
    assert rows(place, "SELECT sum(total_events) FROM player_statistics") == [(1,)]


def test_two_consumers_share_the_partitions_and_count_each_event_once(place: Place) -> None:
    place.produce([encoded(player_id=f"p{i % 50}") for i in range(2_000)])
    with consuming(place, batch_max_events=100), consuming(place, batch_max_events=70):
        place.produce([encoded(player_id=f"p{i % 50}") for i in range(2_000)])
        caught_up(place)
    assert fates(place) == (4_000, 0, 0)
    assert rows(place, "SELECT sum(total_events) FROM player_statistics") == [(4_000,)]


def test_an_idle_consumer_forgets_what_redis_was_paid(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last epochs before a quiet night leave nothing behind, and their metric does not stand still."""
    monkeypatch.setattr(engine, "AUDIT_SECONDS", 0.3)
    place.produce([encoded() for _ in range(10)])
    with consuming(place, outbox_keep_seconds=0):
        caught_up(place)
        eventually(lambda: rows(place, "SELECT count(*) FROM pipeline_outbox") == [(0,)])
    assert rows(place, "SELECT count(*) FROM events") == [(10,)]


def test_what_redis_was_paid_by_another_is_forgotten_though_no_epoch_comes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The consumer that wrote the last epochs died before their debts were old enough."""
    monkeypatch.setattr(engine, "AUDIT_SECONDS", 0.3)
    place.produce([encoded() for _ in range(10)])
    consume_all(place)
    assert rows(place, "SELECT count(*) > 0 FROM pipeline_outbox") == [(True,)]
    with consuming(place, outbox_keep_seconds=0):
        eventually(lambda: rows(place, "SELECT count(*) FROM pipeline_outbox") == [(0,)], timeout=60)
