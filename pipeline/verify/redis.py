"""Redis against PostgreSQL, key by key, while consumers go on.

First everything is compared as it comes: what was being counted at that moment differs, and all else is settled. Then
the epochs are held off by the lock that each of them shares, Redis is paid what the outbox owes it, and only what
differed is read again from both: what differs now, differs. So the lock is held for as long as it takes to read the
keys of the epochs that were under way, however many keys there are.
"""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import psycopg

from pipeline.config import Settings
from pipeline.contract.boards import STATS_KEYS, stats_fields, stats_key, stats_player
from pipeline.epoch.epoch import plan_for
from pipeline.sinks.connection import connect, translated
from pipeline.sinks.level import Cache
from pipeline.sinks.redis import RedisSink
from pipeline.sinks.redis import translated as redis_translated
from pipeline.verify.boards import BoardPages, Places
from pipeline.verify.groups import Group, read_groups
from pipeline.verify.report import Advance, Report

if TYPE_CHECKING:
    import redis

_PAGE: Final = 2_000
_STATS: Final = "SELECT player_id, total_events, event_breakdown, last_event FROM player_statistics"


def compare_redis(settings: Settings, group: Group, report: Report, advance: Advance) -> None:
    """Compare the group's keys in Redis with its tables in PostgreSQL."""
    plan = plan_for(group.role, settings)
    with (
        closing(RedisSink(settings, group.id)) as sink,
        closing(Cache(settings, plan, group.id, sink)) as cache,
        translated(),
        connect(settings, "gamemetrics-verify") as connection,
    ):
        stats = Hashes(connection, sink.client) if "stats" in group.role.projections else None
        boards = BoardPages(connection, sink.client, plan) if "leaderboard" in group.role.projections else None
        players = stats.suspects(advance) if stats is not None else set()
        places = boards.suspects(advance) if boards is not None else Places()
        report.compare("Redis hashes", stats.compared if stats is not None else 0)
        report.compare("Redis board places", boards.compared if boards is not None else 0)
        with cache.exclusively():
            advance("comparing Redis, epochs held off", 0, 1)
            cache.replay()
            _standings(connection, settings, group, sink, report)
            if stats is not None:
                stats.settle(sorted(players), report)
            if boards is not None:
                boards.settle(places, report)
        advance("comparing Redis, epochs held off", 1, 1)


def _standings(
    connection: psycopg.Connection, settings: Settings, group: Group, sink: RedisSink, report: Report
) -> None:
    """Redis stands where PostgreSQL stands."""
    standings = sink.standings()
    for one in read_groups(connection, settings.kafka_topic):
        for mark in one.marks.values() if one.id == group.id else ():
            standing = standings.get(mark.partition)
            if (standing.offset if standing is not None else mark.first_offset) != mark.next_offset:
                found = standing.offset if standing is not None else None
                report.differences.add(
                    "Redis watermark", f"{group.id} partition {mark.partition}", mark.next_offset, found
                )


class Hashes:
    """The hashes of statistics."""

    def __init__(self, connection: psycopg.Connection, client: "redis.Redis") -> None:
        self._connection = connection
        self._client = client
        self.compared = 0

    def suspects(self, advance: Advance) -> set[str]:
        """Compare all as it comes; returns the players that differ."""
        found: set[str] = set()
        for page in self._pages():
            stored = self._hashes([row[0] for row in page])
            found |= {row[0] for row, fields in zip(page, stored, strict=True) if fields != _fields(row)}
            self.compared += len(page)
            advance("comparing Redis statistics", self.compared, 0)
        for players in self._scanned():
            known = {row[0] for row in self._rows(players)}
            found |= set(players) - known
        return found

    def settle(self, players: list[str], report: Report) -> None:
        """Read players again, with the epochs held off, and report those that differ."""
        for start in range(0, len(players), _PAGE):
            page = players[start : start + _PAGE]
            rows = {row[0]: row for row in self._rows(page)}
            for player, fields in zip(page, self._hashes(page), strict=True):
                expected = _fields(rows[player]) if player in rows else {}
                if fields != expected:
                    self._report(player, expected, fields, report)

    def _report(self, player: str, expected: dict[bytes, bytes], found: Any, report: Report) -> None:  # noqa: ANN401
        if not isinstance(found, dict):
            report.differences.add("Redis statistics", stats_key(player), "a hash", f"another type: {found}")
            return
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                shown = [value.decode("utf-8", "replace") if value is not None else None
                         for value in (expected.get(name), found.get(name))]  # fmt: skip
                key = f"{stats_key(player)} {name.decode('utf-8', 'replace')}"
                report.differences.add("Redis statistics", key, *shown)

    def _hashes(self, players: list[str]) -> list[Any]:
        """Read hashes; in place of one that is of another type stands the error."""
        pipe = self._client.pipeline(transaction=False)
        for player in players:
            pipe.hgetall(stats_key(player))
        with redis_translated():
            return pipe.execute(raise_on_error=False)

    def _rows(self, players: list[str]) -> list[tuple[Any, ...]]:
        return self._connection.execute(f"{_STATS} WHERE player_id = ANY(%s)", (players,)).fetchall()

    def _pages(self) -> Iterator[list[tuple[Any, ...]]]:
        with self._connection.transaction(), self._connection.cursor(name="hashes") as cursor:
            cursor.execute(_STATS)
            while page := cursor.fetchmany(_PAGE):
                yield page

    def _scanned(self) -> Iterator[list[str]]:
        for page in scan(self._client, STATS_KEYS):
            yield [player for key in page if (player := stats_player(key)) is not None]


def scan(client: "redis.Redis", pattern: str) -> Iterator[list[str]]:
    """Yield the names of keys in pages; some may come twice."""
    page: list[str] = []
    with redis_translated():
        for key in client.scan_iter(match=pattern, count=_PAGE):
            page.append(key.decode("utf-8", "replace"))
            if len(page) >= _PAGE:
                yield page
                page = []
    if page:
        yield page


def _fields(row: tuple[Any, ...]) -> dict[bytes, bytes]:
    """Return the hash that a row of player_statistics should be."""
    _, total, breakdown, last = row
    return {name.encode(): value.encode() for name, value in stats_fields(total, breakdown, last).items()}
