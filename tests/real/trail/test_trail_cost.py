"""What a trail costs where there is much, and that it is right where things move beneath it."""

import asyncio
import json
import time
import uuid
from typing import Any

import psycopg
import pytest

from pipeline.api.database import Database
from pipeline.api.valkey import Valkey
from pipeline.contract.event import parse_timestamp
from pipeline.trail.found import Asked
from pipeline.trail.log import Search, Wanted
from pipeline.trail.tables import Query, Rows, find_times, read_snapshot
from pipeline.trail.tracer import Traced, Tracer
from tests.consuming import consume_all
from tests.edges import EdgeUnderTest
from tests.events import valid
from tests.place import Place
from tests.tracing import trail

pytestmark = pytest.mark.real

MANY = 100_000
FILL = """
INSERT INTO events (event_id, event_type, player_id, game_id, event_timestamp, ingested_at, data)
SELECT gen_random_uuid(), 'login', 'busy', 'g', moment, now(), '{}'
FROM (SELECT now() - n * interval '5 seconds' AS moment FROM generate_series(1, %s) AS n) AS times
"""


def test_an_event_among_a_hundred_thousand_of_its_player_is_found_at_once(place: Place, edge: EdgeUnderTest) -> None:
    """Without its time, by an id that tells nothing. 100 ms on a quiet machine; not each try takes a busy one 500."""
    with place.pg() as connection:
        connection.execute("SELECT make_day_partitions('events', 2)")
        connection.execute(FILL, (MANY,))
        connection.execute("VACUUM ANALYZE events")
        ids = connection.execute("SELECT event_id FROM events ORDER BY event_id LIMIT 9").fetchall()
    took = []
    for (event_id,) in ids:
        started = time.monotonic()
        assert trail(edge, "busy", str(event_id))["fate"] == "counted"
        took.append(time.monotonic() - started)
    assert min(took) < 0.5, took


class OneSession:
    """The database in one transaction, whose locks can be counted after each statement."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self.most = 0

    async def rows(self, query: str, parameters: Any = ()) -> Rows:
        with self._connection.transaction():
            found = self._connection.execute(query.encode(), parameters).fetchall()
            self.count()
        return found

    async def transaction(self, *queries: Query) -> list[Rows]:
        with self._connection.transaction():
            found = [self._connection.execute(query.encode(), values).fetchall() for query, values in queries]
            self.count()
        return found

    def count(self) -> None:
        row = self._connection.execute("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()").fetchone()
        assert row is not None
        self.most = max(self.most, row[0])


def test_no_statement_locks_all_the_days(place: Place) -> None:
    async def ask(tables: OneSession) -> None:
        for _ in range(12):  # the driver prepares what comes for the sixth time
            asked = Asked("p", uuid.uuid4())
            assert await find_times(tables, asked, "events") == []
            await read_snapshot(tables, "topic", asked, parse_timestamp("2026-01-15T10:30:00Z"), None)

    with place.pg() as connection:
        connection.execute("SELECT make_day_partitions('events', 365)")
        tables = OneSession(connection)
        asyncio.run(ask(tables))
        assert 0 < tables.most < 150


def test_an_event_that_is_counted_while_it_is_looked_for_is_not_called_lost(place: Place) -> None:
    event = valid(player_id="p", game_id="g")

    async def ask() -> Traced:
        database, valkey = Database(place.settings), Valkey(place.settings)
        await database.open()
        tracer = Tracer(place.settings, database, valkey.hash)
        find = tracer._log.find  # noqa: SLF001 - between this and what follows the event is counted

        async def find_and_count(wanted: Wanted, within: float) -> Search:
            found = await find(wanted, within)
            await asyncio.to_thread(consume_all, place)
            return found

        tracer._log.find = find_and_count  # type: ignore[method-assign]  # noqa: SLF001
        try:
            return await tracer.trace(Asked("p", uuid.UUID(event["event_id"])), 30)
        finally:
            await tracer.close()
            await valkey.aclose()
            await database.close()

    place.produce([("p", json.dumps(event).encode())])
    assert asyncio.run(ask()).trail.fate == "counted"
