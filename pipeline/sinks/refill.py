"""Filling Redis from PostgreSQL: every key of a role's projections, or one.

Absolute values, read from one snapshot, under names that were cleared first. Callers hold off the consumers.
"""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final, LiteralString

import psycopg
from psycopg import sql

from pipeline.contract.boards import (
    BOARD_KEYS,
    PERIODS,
    STATS_KEYS,
    Period,
    board_key,
    read_board_key,
    stats_fields,
    stats_key,
    stats_player,
)
from pipeline.epoch.epoch import Plan
from pipeline.sinks.redis import translated as redis_translated

if TYPE_CHECKING:
    import redis

_PAGE: Final = 2_000

_STATS: Final = "SELECT player_id, total_events, event_breakdown, last_event FROM player_statistics"
_SCORES: Final = "SELECT game_id, {first_day}, player_id, {score} FROM {table} WHERE {which}{grouped}"


def _scores(period: Period, *, of_one_board: bool = False) -> sql.Composed:
    """Select game, first day of the period, player and score of the boards that are in Redis, or of one of them."""
    whole = period.days > 1
    which: list[LiteralString] = ["true"]
    if period.dated:
        which.append("day >= (now() AT TIME ZONE 'UTC')::date - %(back)s::integer")
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


def refill(connection: psycopg.Connection, client: "redis.Redis", plan: Plan) -> int:
    """Clear and fill all keys of the plan's projections; returns how many rows were written.

    Raises psycopg.Error, and UnavailableError where Redis is away.
    """
    written = 0
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if "stats" in plan.role.projections:
            _clear(client, STATS_KEYS)
            written += _fill_stats(connection, client, _STATS, {})
        if "leaderboard" in plan.role.projections:
            _clear(client, BOARD_KEYS)
            for period in PERIODS.values():
                keep = plan.expiry.of(period)
                pages = _pages(connection, _scores(period), {"back": period.days_back(keep)})
                written += _fill_boards(client, period, keep, pages)
    return written


def refill_key(connection: psycopg.Connection, client: "redis.Redis", key: str, plan: Plan) -> None:
    """Clear and fill one key, named as `contract.boards` names them."""
    with redis_translated():
        client.unlink(key)
    if (player := stats_player(key)) is not None:
        _fill_stats(connection, client, f"{_STATS} WHERE player_id = %(player)s", {"player": player})
        return
    game, period, start = read_board_key(key)
    keep = plan.expiry.of(period)
    filters = {
        "back": period.days_back(keep), "game": game, "start": start, "stop": start + timedelta(days=period.days)
    }  # fmt: skip
    _fill_boards(client, period, keep, _pages(connection, _scores(period, of_one_board=True), filters))


def _fill_stats(
    connection: psycopg.Connection, client: "redis.Redis", query: LiteralString, filters: Mapping[str, object]
) -> int:
    written = 0
    for page in _pages(connection, sql.SQL(query), filters):
        pipe = client.pipeline(transaction=False)
        for player_id, total, breakdown, last in page:
            fields: dict[Any, Any] = stats_fields(total, breakdown, last)
            pipe.hset(stats_key(player_id), mapping=fields)
        with redis_translated():
            pipe.execute()
        written += len(page)
    return written


def _fill_boards(client: "redis.Redis", period: Period, keep: int, pages: Iterator[list[tuple[Any, ...]]]) -> int:
    written = 0
    for page in pages:
        pipe = client.pipeline(transaction=False)
        scores: dict[tuple[str, date | None], dict[Any, Any]] = {}
        for game, start, player, score in page:
            scores.setdefault((game, start), {})[player] = str(score)
        for (game, start), members in scores.items():
            day = start or date.min
            key = board_key(game, period.label(day))
            pipe.zadd(key, members)
            if period.dated:
                pipe.expireat(key, period.expires_at(day, keep))
        with redis_translated():
            pipe.execute()
        written += len(page)
    return written


def _pages(
    connection: psycopg.Connection, query: sql.SQL | sql.Composed, filters: Mapping[str, object]
) -> Iterator[list[tuple[Any, ...]]]:
    """Stream a query's rows in pages through a server-side cursor: a refill must not hold millions of rows."""
    with connection.transaction(), connection.cursor(name="refill") as cursor:
        cursor.execute(query, filters)
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
