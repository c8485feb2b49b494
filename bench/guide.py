"""The guide's way, as a baseline: each event by itself, a transaction in PostgreSQL and calls of redis-py.

Its tables are the guide's, with the indexes that its queries ask for. In two things it is given more than it had: the
three consumers' work on an event shares one transaction and one process, and offsets are committed by the client now
and then. In return it counts at least once, not exactly once.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic, process_time
from typing import TYPE_CHECKING, Any, Final

import orjson
import psycopg
from confluent_kafka import Consumer

from bench.meter import read_servers
from bench.rig import Fixture
from pipeline.contract.boards import LAST_EVENT, PERIODS, TOTAL_EVENTS, board_key, count_field, stats_key
from pipeline.contract.event import load_scoring, score_of
from pipeline.kafka.client import client_config
from pipeline.sinks.redis import connect as connect_redis

if TYPE_CHECKING:
    import redis


@dataclass(frozen=True, slots=True)
class Guide:
    """What the guide's way reached on a sample. CPU is in seconds per million events."""

    events: int
    seconds: float
    cpu: dict[str, float]

    @property
    def rate(self) -> float:
        return self.events / self.seconds

    @property
    def cpu_total(self) -> float:
        return sum(self.cpu.values())


def measure(fixture: Fixture, events: int) -> Guide:
    """Consume a sample one event at a time."""
    with (
        fixture.postgres() as database,
        closing(connect_redis(fixture.settings)) as cache,
        closing(_consumer(fixture)) as consumer,
    ):
        database.execute(_SCHEMA)
        database.autocommit = False
        values = _values(consumer)
        first = next(values)  # joining the group is not the rate's
        began, own, servers = monotonic(), process_time(), read_servers(fixture.stack)
        _handle(database, cache, first)
        for _ in range(events - 1):
            _handle(database, cache, next(values))
        seconds = monotonic() - began
        cpu = {"consumer": process_time() - own, **read_servers(fixture.stack).since(servers)}
        row = database.execute(
            "SELECT count(*), (SELECT sum(total_events) FROM guide.player_statistics) FROM guide.events"
        )
        if (counted := row.fetchone()) != (events, events):
            raise RuntimeError(f"the guide's tables hold {counted}, not {events} events")
    return Guide(events, seconds, {name: spent / (events / 1e6) for name, spent in cpu.items()})


def _consumer(fixture: Fixture) -> Consumer:
    config: dict[str, Any] = {
        **client_config(fixture.settings), "group.id": f"{fixture.group}-guide", "auto.offset.reset": "earliest",
    }  # fmt: skip
    consumer = Consumer(config)
    consumer.subscribe([fixture.settings.kafka_topic])
    return consumer


def _values(consumer: Consumer) -> Iterator[bytes]:
    while True:
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            yield message.value() or b""


def _handle(database: psycopg.Connection, cache: "redis.Redis", value: bytes) -> None:
    """Do one event's whole job."""
    event = orjson.loads(value)
    score = score_of(event["event_type"], event["data"], load_scoring())
    day = datetime.fromisoformat(event["timestamp"]).astimezone(UTC)
    boards = [period.label(day.date()) for period in PERIODS.values()]
    with database.transaction():
        database.execute(_EVENT, {**event, "data": orjson.dumps(event["data"]).decode()})
        database.execute(_STATISTICS, event)
        if score is not None:
            for board in boards:
                database.execute(_BOARD, {**event, "period": board, "score": score})
    key = stats_key(event["player_id"])
    cache.hincrby(key, TOTAL_EVENTS, 1)
    cache.hincrby(key, count_field(event["event_type"]), 1)
    cache.hset(key, LAST_EVENT, event["timestamp"])
    if score is not None:
        for board in boards:
            cache.zincrby(board_key(event["game_id"], board), score, event["player_id"])


_SCHEMA: Final = """
CREATE SCHEMA guide;
CREATE TABLE guide.events (
    event_id uuid PRIMARY KEY, event_type varchar(100) NOT NULL, player_id varchar(255) NOT NULL,
    game_id varchar(255) NOT NULL, event_timestamp timestamptz NOT NULL, ingested_at timestamptz NOT NULL,
    data jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON guide.events (player_id);
CREATE INDEX ON guide.events (game_id);
CREATE INDEX ON guide.events (event_type);
CREATE INDEX ON guide.events (event_timestamp);
CREATE TABLE guide.player_statistics (
    player_id varchar(255) PRIMARY KEY, total_events bigint NOT NULL, event_breakdown jsonb NOT NULL,
    last_event timestamptz NOT NULL);
CREATE TABLE guide.leaderboards (
    game_id varchar(255), player_id varchar(255), period varchar(50), rank integer, score bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (game_id, player_id, period));
"""

_EVENT: Final = """
INSERT INTO guide.events (event_id, event_type, player_id, game_id, event_timestamp, ingested_at, data)
VALUES (%(event_id)s, %(event_type)s, %(player_id)s, %(game_id)s, %(timestamp)s, %(ingested_at)s, %(data)s)
ON CONFLICT (event_id) DO NOTHING
"""

_STATISTICS: Final = """
INSERT INTO guide.player_statistics AS kept VALUES
    (%(player_id)s, 1, jsonb_build_object(%(event_type)s::text, 1), %(timestamp)s)
ON CONFLICT (player_id) DO UPDATE SET
    total_events = kept.total_events + 1,
    event_breakdown = jsonb_set(kept.event_breakdown, ARRAY[%(event_type)s::text],
        to_jsonb(coalesce((kept.event_breakdown ->> %(event_type)s::text)::bigint, 0) + 1)),
    last_event = greatest(kept.last_event, excluded.last_event)
"""

_BOARD: Final = """
INSERT INTO guide.leaderboards AS kept (game_id, player_id, period, score)
VALUES (%(game_id)s, %(player_id)s, %(period)s, %(score)s)
ON CONFLICT (game_id, player_id, period) DO UPDATE SET score = kept.score + excluded.score, updated_at = now()
"""
