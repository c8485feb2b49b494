"""Filling Redis from PostgreSQL: every key of a role's projections, or one.

Absolute values, read from one snapshot, under names that were cleared first. Callers hold off the consumers.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql

from pipeline.contract.event import board_key, format_timestamp, stats_key
from pipeline.epoch.aggregate import SECONDS_A_DAY
from pipeline.epoch.epoch import Plan
from pipeline.sinks.redis import translated as redis_translated

if TYPE_CHECKING:
    import redis

_PAGE: Final = 2_000

_STATS: Final = "SELECT player_id, total_events, event_breakdown, last_event FROM player_statistics"
_ALLTIME: Final = "SELECT game_id, NULL::date, player_id, score FROM leaderboard_alltime"
_DAILY: Final = (
    "SELECT game_id, day, player_id, score FROM leaderboard_daily"
    " WHERE day >= (now() AT TIME ZONE 'UTC')::date - %(keep)s::integer"
)
_WEEKLY: Final = (
    "SELECT game_id, date_trunc('week', day)::date, player_id, sum(score) FROM leaderboard_daily"
    " WHERE day >= (now() AT TIME ZONE 'UTC')::date - %(keep)s::integer - 6 GROUP BY 1, 2, 3"
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


@contextmanager
def snapshot(connection: psycopg.Connection) -> Iterator[None]:
    """See one moment of PostgreSQL until the block ends."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield


def refill(connection: psycopg.Connection, client: "redis.Redis", plan: Plan) -> int:
    """Clear and fill all keys of the plan's projections, within a `snapshot`; returns how many rows were written.

    Raises psycopg.Error, and UnavailableError where Redis is away.
    """
    written = 0
    if "stats" in plan.role.projections:
        _clear(client, "player_stats:*")
        written += _fill_stats(connection, client, _STATS, {})
    if "leaderboard" in plan.role.projections:
        _clear(client, "leaderboard:*")
        for board, query in _boards(plan):
            written += _fill_boards(client, board, _pages(connection, query, {"keep": board.keep}))
    return written


def refill_key(connection: psycopg.Connection, client: "redis.Redis", key: str, plan: Plan) -> None:
    """Clear and fill one key, named as `contract.event` names them."""
    with redis_translated(client):
        client.unlink(key)
    if key.startswith(stats_key("")):
        _fill_stats(connection, client, f"{_STATS} WHERE player_id = %(player)s", {"player": key[len(stats_key("")) :]})
        return
    game, period, start = split_board_key(key)
    board, query = next(one for one in _boards(plan) if one[0].period == period)
    where = " WHERE game_id = %(game)s"
    if period != "alltime":
        where = " AND game_id = %(game)s AND day >= %(start)s AND day < %(stop)s"
    head, group, tail = query.partition(" GROUP BY")
    filters = {"keep": board.keep, "game": game, "start": start, "stop": start + timedelta(days=board.days)}
    _fill_boards(client, board, _pages(connection, f"{head}{where}{group}{tail}", filters))


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


def _fill_stats(
    connection: psycopg.Connection, client: "redis.Redis", query: str, filters: Mapping[str, object]
) -> int:
    written = 0
    for page in _pages(connection, query, filters):
        pipe = client.pipeline(transaction=False)
        for player_id, total, breakdown, last in page:
            fields: dict[Any, Any] = {f"event_{kind}": count for kind, count in breakdown.items()}
            fields |= {"total_events": total, "last_event": format_timestamp(last)}
            pipe.hset(stats_key(player_id), mapping=fields)
        with redis_translated(client):
            pipe.execute()
        written += len(page)
    return written


def _fill_boards(client: "redis.Redis", board: _Board, pages: Iterator[list[tuple[Any, ...]]]) -> int:
    written = 0
    for page in pages:
        pipe = client.pipeline(transaction=False)
        scores: dict[tuple[str, date], dict[Any, Any]] = {}
        for game, start, player, score in page:
            scores.setdefault((game, start), {})[player] = str(score)
        for (game, start), members in scores.items():
            key = board_key(game, period_name(board.period, start))
            pipe.zadd(key, members)
            if board.days:
                pipe.expireat(key, ((start - date(1970, 1, 1)).days + board.days + board.keep) * SECONDS_A_DAY)
        with redis_translated(client):
            pipe.execute()
        written += len(page)
    return written


def _pages(
    connection: psycopg.Connection, query: str, filters: Mapping[str, object]
) -> Iterator[list[tuple[Any, ...]]]:
    """Stream a query's rows in pages through a server-side cursor: a refill must not hold millions of rows."""
    with connection.transaction(), connection.cursor(name="refill") as cursor:
        cursor.execute(sql.SQL(query), filters)
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
