"""The truth: the topic read once more in plain Python, and what must stand in PostgreSQL and Redis for it.

It shares only the judge of a record (`contract.event`) with what it tests: no frame, no watermark, no SQL of it.
"""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from pipeline.contract.event import Event, Origin, format_timestamp, load_scoring, parse_record, record_id, record_time
from pipeline.errors import EventError
from pipeline.verify.verify import verify
from tests.place import Place

Identity = tuple[str, datetime, UUID]
Board = dict[tuple[str, str, str], int]
K = TypeVar("K")


@dataclass(slots=True)
class Truth:
    """What a topic says: each identity once, the places of what is no event, and the number of records."""

    events: dict[Identity, Event] = field(default_factory=dict)
    bad: set[tuple[int, int]] = field(default_factory=set)
    records: Counter[int] = field(default_factory=Counter)
    ends: dict[int, int] = field(default_factory=dict)

    def statistics(self) -> dict[str, tuple[int, dict[str, int], datetime]]:
        """Each player's total, counts by type, and last event."""
        kinds: dict[str, Counter[str]] = defaultdict(Counter)
        last: dict[str, datetime] = {}
        for event in self.events.values():
            kinds[event.player_id][event.event_type] += 1
            last[event.player_id] = max(event.timestamp, last.get(event.player_id, event.timestamp))
        return {player: (found.total(), dict(found), last[player]) for player, found in kinds.items()}

    def boards(self) -> Board:
        """Each score by game, period and player."""
        boards: Counter[tuple[str, str, str]] = Counter()
        for event in self.events.values():
            if event.score is not None:
                for period in periods(event.timestamp.date()):
                    boards[event.game_id, period, event.player_id] += event.score
        return dict(boards)


def periods(day: date) -> tuple[str, str, str]:
    return ("alltime", f"daily:{day:%Y-%m-%d}", f"weekly:{day:%G-W%V}")


def recount(place: Place) -> Truth:
    """Read the committed records of the topic from its first to its last, and judge each."""
    truth = Truth()
    scoring = load_scoring(None)
    config = {
        **place.stack.kafka.config(),
        "group.id": place.group,
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
    }
    with Consumer(config) as reader:
        open_partitions = set(reader.list_topics(place.topic, timeout=15).topics[place.topic].partitions)
        reader.assign([TopicPartition(place.topic, p, OFFSET_BEGINNING) for p in open_partitions])
        while open_partitions:
            for message in reader.consume(1_000, 1.0):
                error, partition, offset = message.error(), message.partition(), message.offset()
                assert partition is not None
                assert offset is not None
                if error is not None:
                    assert error.code() == KafkaError._PARTITION_EOF, error  # noqa: SLF001 - its public name
                    open_partitions.discard(partition)
                    if partition in truth.ends:
                        truth.ends[partition] = offset  # behind the last record there may be a transaction's marker
                    continue
                truth.records[partition] += 1
                truth.ends[partition] = offset + 1
                origin = Origin(record_id(place.topic, partition, offset), record_time(message.timestamp()[1]))
                try:
                    event = parse_record(message.value(), origin, scoring)
                except EventError:
                    truth.bad.add((partition, offset))
                else:
                    truth.events.setdefault((event.player_id, event.timestamp, event.event_id), event)
    return truth


def assert_exact(place: Place, truth: Truth | None = None, internal: int = 0) -> Truth:
    """Hold both sinks to the topic, row by row and key by key, and `gamemetrics verify` to what was found.

    So many dead letters, which `truth` counts among the bad, are `internal`: verify must name them, and nothing else.
    Returns the truth they agree with.
    """
    truth = truth or recount(place)
    _assert_postgresql(place, truth)
    _assert_redis(place, truth)
    named = [one.kind for one in verify(place.settings, lambda *_: None, full=True).differences.kept]
    assert named == ["internal dead letter"] * internal, "gamemetrics verify says otherwise"
    return truth


def _assert_postgresql(place: Place, truth: Truth) -> None:
    with place.pg() as connection:
        stored = {
            (player, at, event_id): (kind, game, _numeric(data))
            for player, at, event_id, kind, game, data in connection.execute(
                "SELECT player_id, event_timestamp, event_id, event_type, game_id, data::text FROM events"
            )
        }
        expected: dict[Identity, tuple[str, str, Any]] = {
            identity: (event.event_type, event.game_id, _numeric(event.data.decode()))
            for identity, event in truth.events.items()
        }
        _assert_same("events", expected, stored)
        statistics = {
            player: (total, kinds, last)
            for player, total, kinds, last in connection.execute(
                "SELECT player_id, total_events, event_breakdown, last_event FROM player_statistics"
            )
        }
        _assert_same("player_statistics", truth.statistics(), statistics)
        boards = {
            (game, period, player): int(score)
            for game, period, player, score in connection.execute(
                "SELECT game_id, period, player_id, score FROM leaderboards"
            )
        }
        _assert_same("leaderboards", truth.boards(), boards)
        dead = connection.execute("SELECT partition, record_offset FROM dlq_events").fetchall()
        assert len(dead) == len(set(dead))
        assert set(dead) == truth.bad, f"dlq_events: {sorted(set(dead) ^ truth.bad)[:10]}"
        _assert_fates(truth, connection.execute(
            "SELECT partition, next_offset, admitted, duplicates, dead_lettered FROM pipeline_watermarks"
        ).fetchall())  # fmt: skip


def _numeric(text: str) -> Any:
    """Read JSON with its numbers as they are written: jsonb keeps 1e308 as an integer of 309 digits."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def _assert_fates(truth: Truth, rows: list[tuple[Any, ...]]) -> None:
    """Every record has one fate: admitted, a duplicate of one that was, or dead-lettered."""
    seen = {partition: admitted + duplicates + dead for partition, _, admitted, duplicates, dead in rows}
    assert {p: n for p, n in seen.items() if n} == dict(truth.records), "fates against records, by partition"
    assert sum(row[2] for row in rows) == len(truth.events), "admitted"
    assert sum(row[4] for row in rows) == len(truth.bad), "dead-lettered"
    assert {row[0]: row[1] for row in rows if row[0] in truth.ends} == truth.ends, "watermarks"


def _assert_redis(place: Place, truth: Truth) -> None:
    expected_hashes = {
        player: {"total_events": str(total), "last_event": format_timestamp(last)}
        | {f"event_{kind}": str(count) for kind, count in kinds.items()}
        for player, (total, kinds, last) in truth.statistics().items()
    }
    expected_boards = {
        key: float(score) for key, score in truth.boards().items() if _stands(key[1], place)
    }  # fmt: skip
    with place.redis() as client:
        hashes = {}
        for key in client.scan_iter(match="player_stats:*", count=1_000):
            fields = client.hgetall(key)
            hashes[key.decode().removeprefix("player_stats:")] = {
                name.decode(): value.decode() for name, value in fields.items()
            }
        boards = {}
        for key in client.scan_iter(match="leaderboard:*", count=1_000):
            game, period = _split(key.decode())
            for member, score in client.zrange(key, 0, -1, withscores=True):
                boards[game, period, member.decode()] = score
    _assert_same("player_stats in Redis", expected_hashes, hashes)
    _assert_same("leaderboard in Redis", expected_boards, boards)


def _stands(period: str, place: Place) -> bool:
    """Whether a board has not expired in Redis."""
    name, _, stamp = period.partition(":")
    today = datetime.now(UTC).date()
    if name == "daily":
        return date.fromisoformat(stamp) + timedelta(days=1 + place.settings.board_daily_days) > today
    if name == "weekly":
        monday = date.fromisocalendar(int(stamp[:4]), int(stamp[6:]), 1)
        return monday + timedelta(days=7 + place.settings.board_weekly_days) > today
    return True


def _split(key: str) -> tuple[str, str]:
    name = key.removeprefix("leaderboard:")
    if name.endswith(":alltime"):
        return name.removesuffix(":alltime"), "alltime"
    game, period, stamp = name.rsplit(":", 2)
    return game, f"{period}:{stamp}"


def _assert_same(what: str, expected: dict[K, Any], found: dict[K, Any]) -> None:
    differing = [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]
    shown = [f"{key!r}: expected {expected.get(key)!r}, found {found.get(key)!r}" for key in differing[:5]]
    assert not differing, f"{what}: {len(differing)} of {len(expected)} differ:\n" + "\n".join(shown)
