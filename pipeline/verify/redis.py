"""Redis against PostgreSQL, key by key, while consumers go on.

First everything is compared as it comes: what was being counted at that moment differs, and all else is clear. Then
the epochs are held off by the lock that each of them shares, Redis is paid what the outbox owes it, and only what
differed is read again from both: what differs now, differs. So the lock is held for as long as it takes to read the
keys of the epochs that were under way, however many keys there are. Should more differ than can be read in a second,
epochs go on for a while between.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

import psycopg

from pipeline.config import Settings
from pipeline.contract.boards import STATS_KEYS, stats_fields, stats_key, stats_player
from pipeline.contract.names import name_of, raw_of, texts
from pipeline.epoch.epoch import plan_for
from pipeline.sinks.connection import connect, translated
from pipeline.sinks.level import Cache
from pipeline.sinks.redis import RedisSink
from pipeline.sinks.redis import translated as redis_translated
from pipeline.verify.boards import BoardPages, Places, pages_of
from pipeline.verify.by_keys import go_by_keys
from pipeline.verify.differences import Difference
from pipeline.verify.groups import Group, read_groups
from pipeline.verify.report import Advance, Report

if TYPE_CHECKING:
    import redis

_PAGE: Final = 2_000
_RECHECKS: Final = 5
_RECHECK_SECONDS: Final = 5.0
"""How often, and how long, what differs is read again as it comes, before the epochs are held off for it."""

_HOLD_SECONDS: Final = 1.0
_BETWEEN_SECONDS: Final = 1.0
"""How long the epochs are held off at once, a page more at most, and how long they go on before the next time."""

_STATS: Final = "SELECT player_id, total_events, event_breakdown, last_event FROM player_statistics"


@contextmanager
def comparing(settings: Settings, group: Group, advance: Advance) -> Iterator["RedisComparison"]:
    """Have a comparison of the group's keys in Redis with its tables, for the time of a with statement."""
    plan = plan_for(group.role, settings)
    with (
        closing(RedisSink(settings, group.id)) as sink,
        closing(Cache(settings, plan, group.id, sink)) as cache,
        translated(),
        connect(settings, "gamemetrics-verify") as connection,
    ):
        go_by_keys(connection)
        found = RedisComparison(
            settings,
            group,
            advance,
            _Servers(connection, sink, cache),
            Hashes(connection, sink.client) if "stats" in group.role.projections else None,
            BoardPages(connection, sink.client, plan) if "leaderboard" in group.role.projections else None,
        )
        yield found


@dataclass(frozen=True, slots=True)
class _Servers:
    connection: psycopg.Connection
    sink: RedisSink
    cache: Cache


@dataclass(slots=True)
class RedisComparison:
    """Collects what differs as it comes, and confirms it."""

    _settings: Settings
    _group: Group
    _advance: Advance
    _servers: _Servers
    _hashes: "Hashes | None"
    _boards: BoardPages | None
    _players: set[str] = field(default_factory=set)
    _places: Places = field(default_factory=Places)

    def touched(self, players: list[str], places: list[tuple[str, str, date]], *, level: bool) -> None:
        """Compare the hashes of players, and the boards that places (game, player, day) are on.

        The boards are compared with what was proven, which is not yet what is there if consumers were ahead.
        """
        if self._hashes is not None:
            self._players |= self._hashes.suspects_among(players)
        if self._boards is not None and level:
            self._boards.suspects_among(places, self._places)

    def everything(self, *, proven: bool) -> Iterator[None]:
        """Compare every key, boards with what was proven if all of them was; yields after each page."""
        if self._hashes is not None:
            yield from self._hashes.suspects(self._players, self._advance)
        if self._boards is not None:
            yield from self._boards.suspects(self._places, self._advance, proven=proven)

    @property
    def suspects(self) -> int:
        """How many keys and places differed as they came."""
        return len(self._players) + sum(max(1, len(players)) for players in self._places.players.values())

    @property
    def compared(self) -> int:
        """How many hashes and places were compared so far."""
        hashes, boards = self._hashes, self._boards
        return (hashes.compared if hashes is not None else 0) + (boards.compared if boards is not None else 0)

    def recheck_some(self) -> int:
        """Read what differed again as it comes, for a while, and let go of what no longer does; returns what is left.

        It ends when nothing is left, after a few times, or after some seconds: then what it did not come to is left.
        """
        until = monotonic() + _RECHECK_SECONDS
        for _ in range(_RECHECKS):
            if not self.suspects or monotonic() > until:
                break
            if self._hashes is not None:
                for page in _paged(self._players):
                    if monotonic() < until:
                        self._players -= set(page) - self._hashes.suspects_among(page)
            if self._boards is not None:
                self._places = self._boards.suspects_again(self._places, until)
        return self.suspects

    def confirm(self, report: Report) -> None:
        """Report what differs now, as `confirming` does, to its end."""
        for _ in self.confirming(report):
            sleep(_BETWEEN_SECONDS)

    def confirming(self, report: Report) -> Iterator[None]:
        """Hold off the epochs, let Redis be paid what it is owed, and report what differs; it stays suspect.

        In bounded time: what is not read by then is left to another hold. Yields between two, for epochs to go on.
        Each page is reported once it is certain that the epochs were held off until it was read.
        """
        hashes, boards = self._hashes, self._boards
        report.compare("Redis hashes", hashes.compared if hashes is not None else 0)
        report.compare("Redis board places", boards.compared if boards is not None else 0)
        pages, done, total, held = self._suspect_pages(), 0, self.suspects, False
        page = next(pages, None)
        while page is not None or not held:
            if held:
                yield
            with self._servers.cache.exclusively() as lock:
                until = monotonic() + _HOLD_SECONDS
                self._advance("comparing Redis, epochs held off", done, max(1, total))
                self._servers.cache.replay()
                if not held:
                    self._certain(lock, self._standings(), report)
                held = True
                while page is not None and monotonic() < until:
                    self._certain(lock, page.differing(), report)
                    done = min(total, done + page.size)
                    page = next(pages, None)
        self._advance("comparing Redis, epochs held off", 1, 1)

    def _suspect_pages(self) -> Iterator["_Page"]:
        """Yield what differed as it came, in pages."""
        hashes, boards = self._hashes, self._boards
        if hashes is not None:
            for players in _paged(self._players):
                yield _Page(partial(hashes.confirm, players), len(players))
        if boards is not None:
            for key, members in pages_of(self._places):
                yield _Page(partial(boards.confirm, key, members), len(members))

    @staticmethod
    def _certain(lock: psycopg.Connection, found: Iterable[Difference], report: Report) -> None:
        """Report what was found, if the lock was held all the while: otherwise epochs may have gone on between."""
        differing = list(found)
        with translated():
            lock.execute("SELECT")  # the server ends a session that is idle for long, and frees its locks
        for one in differing:
            report.differences.add(one.kind, one.key, one.expected, one.found)

    def _standings(self) -> Iterator[Difference]:
        """Redis stands where PostgreSQL stands."""
        group = self._group
        standings = self._servers.sink.standings()
        for one in read_groups(self._servers.connection, self._settings.kafka_topic):
            for mark in one.marks.values() if one.id == group.id else ():
                standing = standings.get(mark.partition)
                if (standing.offset if standing is not None else mark.first_offset) != mark.next_offset:
                    found = standing.offset if standing is not None else None
                    key = f"{group.id} partition {mark.partition}"
                    yield Difference.of("Redis watermark", key, mark.next_offset, found)


@dataclass(frozen=True, slots=True)
class _Page:
    """A page of suspects: how what differs is found, and how many they are."""

    differing: Callable[[], Iterable[Difference]]
    size: int


def _paged(players: set[str]) -> Iterator[list[str]]:
    ordered = sorted(players)
    for start in range(0, len(ordered), _PAGE):
        yield ordered[start : start + _PAGE]


class Hashes:
    """The hashes of statistics."""

    def __init__(self, connection: psycopg.Connection, client: "redis.Redis") -> None:
        self._connection = connection
        self._client = client
        self.compared = 0

    def suspects(self, found: set[str], advance: Advance) -> Iterator[None]:
        """Compare all as it comes, a page at a time; adds the players that differ."""
        for page in self._pages():
            stored = self._hashes([row[0] for row in page])
            found |= {row[0] for row, fields in zip(page, stored, strict=True) if fields != _fields(row)}
            self.compared += len(page)
            advance("comparing Redis statistics", self.compared, 0)
            yield
        for players in self._scanned():
            found |= self.unknown(players)
            yield

    def unknown(self, players: list[str]) -> set[str]:
        """Return those of the players whose keys Redis has, and of whom PostgreSQL counts nothing."""
        known = "SELECT DISTINCT player_id FROM player_event_counts WHERE player_id = ANY(%s)"
        return set(players) - {row[0] for row in self._connection.execute(known, (texts(players),))}

    def suspects_among(self, players: list[str]) -> set[str]:
        """Compare players as they come; returns those that differ."""
        found: set[str] = set()
        for start in range(0, len(players), _PAGE):
            page = players[start : start + _PAGE]
            rows = {row[0]: row for row in self._rows(page)}
            expected = [_fields(rows[player]) if player in rows else {} for player in page]
            found |= {
                player
                for player, fields, stored in zip(page, expected, self._hashes(page), strict=True)
                if fields != stored
            }
        self.compared += len(players)
        return found

    def confirm(self, players: list[str]) -> Iterator[Difference]:
        """Read players again, with the epochs held off; yields what differs."""
        rows = {row[0]: row for row in self._rows(players)}
        for player, fields in zip(players, self._hashes(players), strict=True):
            expected = _fields(rows[player]) if player in rows else {}
            if fields != expected:
                yield from self._differing(player, expected, fields)

    @staticmethod
    def _differing(player: str, expected: dict[bytes, bytes], found: Any) -> Iterator[Difference]:  # noqa: ANN401
        if not isinstance(found, dict):
            yield Difference.of("Redis statistics", stats_key(player), "a hash", f"another type: {found}")
            return
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                shown = [value.decode("utf-8", "replace") if value is not None else None
                         for value in (expected.get(name), found.get(name))]  # fmt: skip
                key = f"{stats_key(player)} {name.decode('utf-8', 'replace')}"
                yield Difference.of("Redis statistics", key, *shown)

    def _hashes(self, players: list[str]) -> list[Any]:
        """Read hashes; in place of one that is of another type stands the error."""
        pipe = self._client.pipeline(transaction=False)
        for player in players:
            pipe.hgetall(raw_of(stats_key(player)))
        with redis_translated():
            return pipe.execute(raise_on_error=False)

    def _rows(self, players: list[str]) -> list[tuple[Any, ...]]:
        return self._connection.execute(f"{_STATS} WHERE player_id = ANY(%s)", (texts(players),)).fetchall()

    def _pages(self) -> Iterator[list[tuple[Any, ...]]]:
        after = ""
        page_after = f"{_STATS} WHERE player_id > %s ORDER BY player_id LIMIT {_PAGE}".encode()
        while page := self._connection.execute(page_after, (after,)).fetchall():
            yield page
            after = page[-1][0]

    def _scanned(self) -> Iterator[list[str]]:
        for page in scan(self._client, STATS_KEYS):
            yield [player for key in page if (player := stats_player(key)) is not None]


def scan(client: "redis.Redis", pattern: str) -> Iterator[list[str]]:
    """Yield the names of keys in pages; some may come twice."""
    page: list[str] = []
    with redis_translated():
        for key in client.scan_iter(match=pattern, count=_PAGE):
            page.append(name_of(key))
            if len(page) >= _PAGE:
                yield page
                page = []
    if page:
        yield page


def _fields(row: tuple[Any, ...]) -> dict[bytes, bytes]:
    """Return the hash that a row of player_statistics should be."""
    _, total, breakdown, last = row
    return {name.encode(): value.encode() for name, value in stats_fields(total, breakdown, last).items()}
