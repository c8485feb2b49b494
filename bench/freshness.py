"""Freshness: from a client's POST to readable in Redis and in PostgreSQL, while events come in at a steady rate.

Probes are events of players of their own, so that the first sight of a player is the sight of the event. A look at a
store takes a moment and there is a pause between two: what is noted is late by some milliseconds, never early.

One event goes ahead of all and is not counted. It takes up to half a second, once: librdkafka asks for its producer id
when a timer of 500 ms finds a broker (rd_kafka_idemp_pid_timer_restart in its rdkafka_idempotence.c), and the
consumer's first epoch loads what an epoch needs.
"""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Final

import polars as pl
import psycopg
import redis.asyncio
import uvloop

from bench.clients import HttpClient, streams
from bench.load import Load
from bench.meter import Reading
from bench.progress import await_level
from bench.rig import Fixture
from bench.service import Service, running
from bench.waiting import eventually
from pipeline.contract.boards import TOTAL_EVENTS, stats_key
from pipeline.contract.event import format_timestamp
from pipeline.load.workload import client_bodies

PROBES_A_SECOND: Final = 20
_PAUSE: Final = 0.005
_LAST_SECONDS: Final = 60.0
_START_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Freshness:
    """Seconds from POST to readable, one per probe; CPU in seconds per million events, the clients' not counted."""

    rate: float
    achieved_rate: float
    redis: list[float]
    postgres: list[float]
    accepted: list[float]
    cpu: dict[str, float]


def percentile(seconds: list[float], share: float) -> float:
    """The value below which a share of them lies (nearest rank, so one that was measured)."""
    return sorted(seconds)[max(0, math.ceil(round(len(seconds) * share, 6)) - 1)]


@dataclass(slots=True)
class _Probes:
    """When each probe was sent, and when it was first seen where."""

    sent: dict[str, float] = field(default_factory=dict)
    accepted: dict[str, float] = field(default_factory=dict)
    seen: dict[str, dict[str, float]] = field(default_factory=lambda: {"redis": {}, "postgres": {}})
    done: bool = False

    def missing(self, store: str) -> list[str]:
        return [player for player in self.sent if player not in self.seen[store]]

    def delays(self, store: str) -> list[float]:
        return [moment - self.sent[player] for player, moment in self.seen[store].items()]


def measure(fixture: Fixture, load: Load, rate: float, **changes: str) -> tuple[Freshness, pl.DataFrame]:
    """Send a load at a rate through the API, and probes among it; also returns the probes as generated events."""
    bodies = [body for events in load.slices() for body in client_bodies(events)]
    with running("serve", fixture) as edge, running("consume", fixture, **changes) as consumer:
        for service in (edge, consumer):
            eventually(service.ready, _START_SECONDS)
        consumer.moment("partitions assigned")
        first = _Probes()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_probe(edge.port, range(1), first))
            await_level(fixture, [consumer], _LAST_SECONDS)
            begun = _read(edge, consumer)
            probes, seconds = runner.run(_run(fixture, edge.port, bodies, rate))
        await_level(fixture, [consumer], _LAST_SECONDS)  # the last of the load may lie behind the last probe
        ended = _read(edge, consumer)
    events = len(bodies) + len(probes.sent)
    found = Freshness(
        rate=rate,
        achieved_rate=len(bodies) / seconds,
        redis=probes.delays("redis"),
        postgres=probes.delays("postgres"),
        accepted=[moment - probes.sent[player] for player, moment in probes.accepted.items()],
        cpu={name: spent / (events / 1e6) for name, spent in ended.since(begun).items()},
    )
    return found, _as_events([*first.sent, *probes.sent])


def _read(edge: Service, consumer: Service) -> Reading:
    reading = consumer.read()
    cpu = dict(reading.cpu)
    cpu["consumer"] = cpu.pop("service")
    return Reading(reading.at, {**cpu, "edge": edge.read().cpu["service"]})


async def _run(fixture: Fixture, port: int, bodies: list[str], rate: float) -> tuple[_Probes, float]:
    probes = _Probes()
    settings = fixture.settings
    cache = redis.asyncio.Redis(
        host=settings.redis_host, port=settings.redis_port, db=settings.redis_db,
        password=settings.redis_password.get_secret_value(),
    )  # fmt: skip
    with closing(fixture.postgres()) as connection:
        dsn, password = connection.info.dsn, connection.info.password
    # Nothing is prepared: a plan made while the table was empty would read all of it at every look, when it is not.
    connecting = psycopg.AsyncConnection.connect(dsn, password=password, autocommit=True, prepare_threshold=None)
    async with cache, await connecting as database:
        watching = [
            asyncio.create_task(_watch(probes, "redis", lambda players: _in_redis(cache, players))),
            asyncio.create_task(_watch(probes, "postgres", lambda players: _in_postgres(database, players))),
        ]
        began = monotonic()
        probing = asyncio.create_task(_probe(port, range(1, 1 + int(len(bodies) / rate * PROBES_A_SECOND)), probes))
        await asyncio.gather(*(stream.run(port) for stream in streams(bodies, rate)))
        seconds = monotonic() - began
        await probing
        probes.done = True
        async with asyncio.timeout(_LAST_SECONDS):
            await asyncio.gather(*watching)
    return probes, seconds


async def _probe(port: int, numbers: range, probes: _Probes) -> None:
    client = HttpClient(port)
    began = monotonic()
    for number in numbers:
        await asyncio.sleep(max(0.0, began + (number - numbers.start) / PROBES_A_SECOND - monotonic()))
        player = f"probe-{number:05}"
        event = {"event_type": "login", "player_id": player, "game_id": "game-probe", "data": {"probe": number}}
        body = json.dumps({**event, "timestamp": format_timestamp(datetime.now(UTC))}).encode()
        probes.sent[player] = monotonic()
        await client.post("/api/v1/events", body)
        probes.accepted[player] = monotonic()
    client.close()


async def _watch(probes: _Probes, store: str, look: Callable[[list[str]], Awaitable[list[str]]]) -> None:
    while not probes.done or probes.missing(store):
        if missing := probes.missing(store):
            found = await look(missing)
            now = monotonic()
            probes.seen[store].update(dict.fromkeys(found, now))
        await asyncio.sleep(_PAUSE)


async def _in_redis(client: "redis.asyncio.Redis", players: list[str]) -> list[str]:
    asked = client.pipeline(transaction=False)
    for player in players:
        asked.hget(stats_key(player), TOTAL_EVENTS)
    totals = await asked.execute()
    return [player for player, total in zip(players, totals, strict=True) if total is not None]


async def _in_postgres(connection: "psycopg.AsyncConnection", players: list[str]) -> list[str]:
    cursor = await connection.execute("SELECT player_id FROM player_statistics WHERE player_id = ANY(%s)", (players,))
    return [row[0] for row in await cursor.fetchall()]


def _as_events(players: Iterable[str]) -> pl.DataFrame:
    """The probes as rows of generated events, for the truth."""
    rows = [("login", player, "game-probe", format_timestamp(datetime.now(UTC)), "{}") for player in players]
    return pl.DataFrame(
        rows, schema=dict.fromkeys(("event_type", "player_id", "game_id", "timestamp", "data"), pl.String), orient="row"
    )
