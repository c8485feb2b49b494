"""Statistics and boards from PostgreSQL: slower than Redis, and complete."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC
from typing import Any, Final

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from pipeline.api.boards import Entry, Page, Statistics
from pipeline.config import Settings
from pipeline.errors import UnavailableError
from pipeline.event import format_timestamp

_TIMEOUT_S: Final = 3.0

_STATISTICS: Final = """
SELECT total_events, event_breakdown, last_event FROM player_statistics WHERE player_id = %s
"""
_PAGE: Final = """
SELECT rank, player_id, score FROM leaderboards
WHERE game_id = %s AND period = %s AND rank > %s AND rank <= %s ORDER BY rank
"""
_TOTAL: Final = "SELECT count(*) FROM leaderboards WHERE game_id = %s AND period = %s"
_RANK: Final = "SELECT rank FROM leaderboards WHERE game_id = %s AND period = %s AND player_id = %s"


class Database:
    """The edge's connections to PostgreSQL, made when first needed."""

    def __init__(self, settings: Settings) -> None:
        self._pool = AsyncConnectionPool(
            kwargs={
                "host": settings.db_host,
                "port": settings.db_port,
                "dbname": settings.db_name,
                "user": settings.db_user,
                "password": settings.db_password.get_secret_value(),
                "sslmode": settings.db_sslmode,
                "application_name": "gamemetrics-edge",
                "options": f"-c timezone=UTC -c jit=off -c statement_timeout={int(_TIMEOUT_S * 1000)}",
                "connect_timeout": 3,
                "autocommit": True,
            },
            min_size=0,
            max_size=4,
            max_waiting=64,
            timeout=_TIMEOUT_S,
            reconnect_timeout=0,
            open=False,
        )

    async def open(self) -> None:
        """Start the pool; it connects when it is asked to."""
        await self._pool.open()

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close(timeout=1.0)

    async def rows(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one query. Raises UnavailableError."""
        async with self._connection() as connection:
            return await (await connection.execute(query.encode(), parameters)).fetchall()

    async def transaction(self, *queries: tuple[str, Sequence[object]]) -> list[list[tuple[Any, ...]]]:
        """Run queries that see one moment. Raises UnavailableError."""
        async with self._connection() as connection, connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return [await (await connection.execute(query.encode(), values)).fetchall() for query, values in queries]

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[psycopg.AsyncConnection[tuple[Any, ...]]]:
        try:
            async with self._pool.connection() as connection:
                yield connection
        except (psycopg.Error, PoolTimeout) as error:
            raise UnavailableError(f"PostgreSQL: {type(error).__name__}") from error


class PostgresBoards:
    """Reads the views that answer for the guide's tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def statistics(self, player_id: str) -> Statistics | None:
        """Return a player's statistics."""
        rows = await self._database.rows(_STATISTICS, [player_id])
        if not rows:
            return None
        total, events, last = rows[0]
        return Statistics(total, dict(sorted(events.items())), format_timestamp(last.astimezone(UTC)) if last else None)

    async def page(self, game_id: str, period: str, offset: int, limit: int) -> Page | None:
        """Return the places from `offset` on."""
        board = [game_id, period]
        total, rows = await self._database.transaction((_TOTAL, board), (_PAGE, [*board, offset, offset + limit]))
        return _page(total, rows)

    async def around(self, game_id: str, period: str, player_id: str, around: int) -> Page | None:
        """Return the player's place and its neighbours."""
        board = [game_id, period]
        near = _PAGE.replace("rank > %s AND rank <= %s", f"rank BETWEEN ({_RANK}) - %s AND ({_RANK}) + %s")
        place = [*board, player_id]
        total, rows = await self._database.transaction(
            (_TOTAL, board), (near, [*board, *place, around, *place, around])
        )
        return _page(total, rows) if rows else None


def _page(total: list[tuple[Any, ...]], rows: list[tuple[Any, ...]]) -> Page | None:
    if not total[0][0]:
        return None
    return Page(total[0][0], [Entry(rank, player_id, int(score)) for rank, player_id, score in rows])
