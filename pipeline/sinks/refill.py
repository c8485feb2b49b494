"""Filling Redis from PostgreSQL: every key of a role's projections, or one.

Absolute values, read from one snapshot, under names that were cleared first. Callers hold off the consumers, and not
the readers: what these find must be whole. A player's statistics are one command. A board is many, so it is filled
under another name, which nobody reads, and renamed once its last row is there; until then readers find none, and the
edge answers from PostgreSQL. What a refill that died left under such names goes with the next one, which must come.

What readers see is written in transactions that the caller guards: a process that froze in the middle, and wakes when
another has refilled everything, must not put its own older rows there.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql

from pipeline.contract.event import board_key, format_timestamp, stats_key
from pipeline.epoch.aggregate import SECONDS_A_DAY
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
_FILLING: Final = "pipeline:filling:"
"""What stands before a board's key while it is filled, with an id of the refill."""

_STATS: Final = "SELECT player_id, total_events, event_breakdown, last_event FROM player_statistics"
_ALLTIME: Final = "SELECT game_id, NULL::date, player_id, score FROM leaderboard_alltime"
# By the clock that is behind: boards that are over and filled all the same expire at once; one that is missing would be
# made anew by the next event, with nothing but that in it.
_DAILY: Final = (
    "SELECT game_id, day, player_id, score FROM leaderboard_daily"
    " WHERE day >= least((now() AT TIME ZONE 'UTC')::date, %(today)s) - %(keep)s::integer"
)
_WEEKLY: Final = (
    "SELECT game_id, date_trunc('week', day)::date, player_id, sum(score) FROM leaderboard_daily"
    " WHERE day >= least((now() AT TIME ZONE 'UTC')::date, %(today)s) - %(keep)s::integer - 6 GROUP BY 1, 2, 3"
)


@dataclass(frozen=True, slots=True)
class _Board:
    """Where rows of scores go: the period, its length, and how long it stays after that (0: for ever)."""

    period: str
    days: int
    keep: int


def _boards(plan: Plan) -> tuple[tuple[_Board, str], ...]:
    return (
        (_Board("alltime", 0, 0), _ALLTIME),
        (_Board("daily", 1, plan.expiry.daily_days), _DAILY),
        (_Board("weekly", 7, plan.expiry.weekly_days), _WEEKLY),
    )


def _window(board: _Board) -> dict[str, object]:
    return {"keep": board.keep, "today": datetime.now(UTC).date()}


def refill(connection: psycopg.Connection, target: Target, plan: Plan) -> int:
    """Clear and fill all keys of the plan's projections; returns how many rows were written.

    Raises psycopg.Error, and UnavailableError where Redis is away.
    """
    written = 0
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if "stats" in plan.role.projections:
            _clear(target.client, "player_stats:*")
            written += _fill_stats(read_pages(connection, _STATS, {}), target)
        if "leaderboard" in plan.role.projections:
            _clear(target.client, "leaderboard:*")
            _clear(target.client, f"{_FILLING}*")
            for board, query in _boards(plan):
                written += _fill_boards(target, board, read_pages(connection, query, _window(board)))
    return written


def refill_key(connection: psycopg.Connection, client: "redis.Redis", key: str, plan: Plan, boards: str) -> None:
    """Clear and fill one key, named as `contract.event` names them."""

    @contextmanager
    def guard() -> "Iterator[Pipeline]":
        connection.execute("SELECT")  # raises where the session, and its lock, ended while this process stood still
        with redis_translated(), client.pipeline(transaction=True) as pipe:
            yield pipe

    with redis_translated():
        client.unlink(key)
    if key.startswith(stats_key("")):
        wanted = {"player": key[len(stats_key("")) :]}
        _fill_stats(
            read_pages(connection, f"{_STATS} WHERE player_id = %(player)s", wanted), Target(client, guard, boards)
        )
        return
    game, period, start = split_board_key(key)
    board, query = next(one for one in _boards(plan) if one[0].period == period)
    where = " WHERE game_id = %(game)s"
    if period != "alltime":
        where = " AND game_id = %(game)s AND day >= %(start)s AND day < %(stop)s"
    head, group, tail = query.partition(" GROUP BY")
    filters = {**_window(board), "game": game, "start": start, "stop": start + timedelta(days=board.days)}
    _fill_boards(Target(client, guard, boards), board, read_pages(connection, f"{head}{where}{group}{tail}", filters))


def split_board_key(key: str) -> tuple[str, str, date]:
    """Read a board's key as game, period and first day (of the alltime board: date.min). Raises ValueError."""
    name = key.removeprefix("leaderboard:")
    if name.endswith(":alltime"):
        return name.removesuffix(":alltime"), "alltime", date.min
    game, period, stamp = name.rsplit(":", 2)
    if period == "weekly":
        return game, period, datetime.strptime(f"{stamp}-1", "%G-W%V-%u").date()  # noqa: DTZ007 - a date, no time
    return game, period, date.fromisoformat(stamp)


def period_name(period: str, start: date) -> str:
    """Name a period as the end of a board's key, from its first day."""
    if period == "alltime":
        return period
    return f"{period}:{start:%Y-%m-%d}" if period == "daily" else f"{period}:{start:%G-W%V}"


def _fill_stats(pages: Iterator[list[tuple[Any, ...]]], target: Target) -> int:
    written = 0
    for page in pages:
        with target.guard() as pipe:
            for player_id, total, breakdown, last in page:
                fields: dict[Any, Any] = {f"event_{kind}": count for kind, count in breakdown.items()}
                fields |= {"total_events": total, "last_event": format_timestamp(last)}
                pipe.hset(stats_key(player_id), mapping=fields)
            pipe.execute()
        written += len(page)
    return written


def _fill_boards(target: Target, board: _Board, pages: Iterator[list[tuple[Any, ...]]]) -> int:
    """Fill the boards of one period beside their names, and rename them when all of them are whole."""
    beside = f"{_FILLING}{uuid.uuid4()}:"
    filled: dict[str, date] = {}
    written = 0
    for page in pages:
        pipe = target.client.pipeline(transaction=False)
        scores: dict[tuple[str, date], dict[Any, Any]] = {}
        for game, start, player, score in page:
            scores.setdefault((game, start), {})[player] = str(score)
        for (game, start), members in scores.items():
            key = board_key(game, period_name(board.period, start))
            pipe.zadd(beside + key, members)
            filled[key] = start
        with redis_translated():
            pipe.execute()
        written += len(page)
    names = list(filled)
    for first in range(0, len(names), _PAGE):
        with target.guard() as pipe:
            for key in names[first : first + _PAGE]:
                pipe.rename(beside + key, key)
                if board.days:
                    days = (filled[key] - date(1970, 1, 1)).days + board.days + board.keep
                    pipe.expireat(key, days * SECONDS_A_DAY)
                    pipe.zadd(target.boards, {key: days * SECONDS_A_DAY})
            pipe.execute()
    return written


def read_pages(
    connection: psycopg.Connection, query: str, filters: Mapping[str, object]
) -> Iterator[list[tuple[Any, ...]]]:
    """Stream a query's rows in pages through a server-side cursor: a refill must not hold millions of rows."""
    with connection.transaction(), connection.cursor(name="refill") as cursor:
        cursor.execute(sql.SQL(query), filters)
        while page := cursor.fetchmany(_PAGE):
            yield page


def _clear(client: "redis.Redis", pattern: str) -> None:
    with redis_translated():
        page: list[bytes] = []
        for key in client.scan_iter(match=pattern, count=_PAGE):
            page.append(key)
            if len(page) == _PAGE:
                client.unlink(*page)
                page.clear()
        if page:
            client.unlink(*page)
