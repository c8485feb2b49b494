"""Filling Redis from PostgreSQL: every key of a role's projections, or one.

Absolute values, read from one snapshot, under names that were cleared first. Callers hold off the consumers, and not
the readers: what these find must be whole. A player's statistics have their total last, without which they are none to
a reader. A board is filled under another name, which nobody reads, and renamed once its last row is there. Until then
readers find none, and the edge answers from PostgreSQL. What a refill that died left under such names goes with the
next one, which must come.

What readers see is written in transactions that the caller guards: a process that froze in the middle, and wakes when
another has refilled everything, must not put its own older rows there.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, LiteralString

import psycopg
from psycopg import sql

from pipeline.contract.boards import (
    BOARD_KEYS,
    FILLING_KEYS,
    PERIODS,
    STATS_KEYS,
    Period,
    board_key,
    count_fields,
    filling_key,
    read_board_key,
    stats_fields,
    stats_key,
    stats_player,
)
from pipeline.epoch.epoch import Plan
from pipeline.sinks.redis import translated as redis_translated

if TYPE_CHECKING:
    import redis
    from redis.client import Pipeline

Guard = Callable[[], AbstractContextManager["Pipeline"]]
"""Opens a transaction of Redis' that runs only while the caller may still refill, or raises UnavailableError."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a refill goes; `boards` is the sorted set of dated boards that were made, as sinks/apply.lua keeps it."""

    client: "redis.Redis"
    guard: Guard
    boards: str


_PAGE: Final = 2_000

# Row by row: one value of all types of a player would pass what a jsonb can hold, by whoever sends millions of them.
_STATS: Final = (
    "SELECT player_id, event_type, events, last_event FROM player_event_counts WHERE {} ORDER BY player_id, event_type"
)
_SCORES: Final = "SELECT game_id, {first_day}, player_id, {score} FROM {table} WHERE {which}{grouped}"
# By the clock that is behind: boards that are over and filled all the same expire at once; one that is missing would be
# made anew by the next event, with nothing but that in it.
_SINCE: Final = "day >= least((now() AT TIME ZONE 'UTC')::date, %(today)s) - %(back)s::integer"


def _scores(period: Period, *, of_one_board: bool = False) -> sql.Composed:
    """Select game, first day of the period, player and score of the boards that are in Redis, or of one of them."""
    whole = period.days > 1
    which: list[LiteralString] = ["true"]
    if period.dated:
        which.append(_SINCE)
    if of_one_board:
        which.append("game_id = %(game)s")
    if of_one_board and period.dated:
        which.append("day >= %(start)s AND day < %(stop)s")
    return sql.SQL(_SCORES).format(
        first_day=sql.SQL(period.sql_first_day),
        score=sql.SQL("sum(score)" if whole else "score"),
        table=sql.Identifier("leaderboard_daily" if period.dated else "leaderboard_alltime"),
        which=sql.SQL(" AND ".join(which)),
        grouped=sql.SQL(" GROUP BY 1, 2, 3" if whole else ""),
    )


def _window(period: Period, keep: int) -> dict[str, object]:
    return {"back": period.days_back(keep), "today": datetime.now(UTC).date()}


@contextmanager
def snapshot(connection: psycopg.Connection) -> Iterator[None]:
    """See one moment of PostgreSQL until the block ends."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield


def refill(connection: psycopg.Connection, target: Target, plan: Plan) -> int:
    """Clear and fill all keys of the plan's projections, within a `snapshot`; returns how many rows were written.

    Raises psycopg.Error, and UnavailableError if Redis is away.
    """
    written = 0
    if "stats" in plan.role.projections:
        _clear(target.client, STATS_KEYS)
        written += _fill_stats(read_pages(connection, sql.SQL(_STATS).format(sql.SQL("true")), {}), target)
    if "leaderboard" in plan.role.projections:
        _clear(target.client, BOARD_KEYS)
        _clear(target.client, FILLING_KEYS)
        for period in PERIODS.values():
            keep = plan.expiry.of(period)
            pages = read_pages(connection, _scores(period), _window(period, keep))
            written += _fill_boards(target, period, keep, pages)
    return written


def refill_key(connection: psycopg.Connection, client: "redis.Redis", key: str, plan: Plan, boards: str) -> None:
    """Clear and fill one key, named as `contract.boards` names them."""

    @contextmanager
    def guard() -> "Iterator[Pipeline]":
        connection.execute("SELECT")  # raises if the session, and its lock, ended while this process stood still
        with redis_translated(client), client.pipeline(transaction=True) as pipe:
            yield pipe

    with redis_translated(client):
        client.unlink(key)
    target = Target(client, guard, boards)
    if (player := stats_player(key)) is not None:
        query = sql.SQL(_STATS).format(sql.SQL("player_id = %(player)s"))
        _fill_stats(read_pages(connection, query, {"player": player}), target)
        return
    game, period, start = read_board_key(key)
    keep = plan.expiry.of(period)
    filters = {**_window(period, keep), "game": game, "start": start, "stop": start + timedelta(days=period.days)}
    pages = read_pages(connection, _scores(period, of_one_board=True), filters)
    _fill_boards(target, period, keep, pages)


def _fill_stats(pages: Iterator[list[tuple[Any, ...]]], target: Target) -> int:
    """Fill hashes from counts in the order of players.

    The total comes with a player's last types, which may be on a later page than the first; without it, readers take a
    hash for none, and the edge answers from PostgreSQL.
    """
    written, player, types, total, last = 0, None, dict[str, int](), 0, datetime.min.replace(tzinfo=UTC)
    for page in pages:
        with target.guard() as pipe:
            for player_id, event_type, events, moment in page:
                if player_id != player:
                    if player is not None:
                        pipe.hset(stats_key(player), mapping=dict[Any, Any](stats_fields(total, types, last)))
                    player, types, total, last = player_id, {}, 0, moment
                types[event_type] = events
                total, last = total + events, max(last, moment)
            if player is not None:
                pipe.hset(stats_key(player), mapping=dict[Any, Any](count_fields(types)))
                types = {}
            pipe.execute()
        written += len(page)
    if player is not None:
        with target.guard() as pipe:
            pipe.hset(stats_key(player), mapping=dict[Any, Any](stats_fields(total, types, last)))
            pipe.execute()
    return written


def _fill_boards(target: Target, period: Period, keep: int, pages: Iterator[list[tuple[Any, ...]]]) -> int:
    """Fill the boards of one period beside their names, and rename them when all of them are whole."""
    refill_id = str(uuid.uuid4())
    filled: dict[str, date] = {}
    written = 0
    for page in pages:
        pipe = target.client.pipeline(transaction=False)
        scores: dict[tuple[str, date | None], dict[Any, Any]] = {}
        for game, start, player, score in page:
            scores.setdefault((game, start), {})[player] = str(score)
        for (game, start), members in scores.items():
            day = start or date.min
            key = board_key(game, period.label(day))
            pipe.zadd(filling_key(refill_id, key), members)
            filled[key] = day
        with redis_translated(target.client):
            pipe.execute()
        written += len(page)
    names = list(filled)
    for first in range(0, len(names), _PAGE):
        with target.guard() as pipe:
            for key in names[first : first + _PAGE]:
                pipe.rename(filling_key(refill_id, key), key)
                if period.dated:
                    expires_at = period.expires_at(filled[key], keep)
                    pipe.expireat(key, expires_at)
                    pipe.zadd(target.boards, {key: expires_at})
            pipe.execute()
    return written


def read_pages(
    connection: psycopg.Connection, query: sql.SQL | sql.Composed, filters: Mapping[str, object]
) -> Iterator[list[tuple[Any, ...]]]:
    """Stream a query's rows in pages through a server-side cursor: a refill must not hold millions of rows."""
    with connection.transaction(), connection.cursor(name="refill") as cursor:
        cursor.execute(query, filters)
        while page := cursor.fetchmany(_PAGE):
            yield page


def _clear(client: "redis.Redis", pattern: str) -> None:
    with redis_translated(client):
        page: list[bytes] = []
        for key in client.scan_iter(match=pattern, count=_PAGE):
            page.append(key)
            if len(page) == _PAGE:
                client.unlink(*page)
                page.clear()
        if page:
            client.unlink(*page)
