"""The edge's connections to PostgreSQL."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from pipeline.config import Settings
from pipeline.errors import UnavailableError
from pipeline.sinks.session import parameters, pin_async

_TIMEOUT_S: Final = 3


_PINNED: Final = {"jit": "off", "statement_timeout": f"{_TIMEOUT_S}s"}


class Database:
    """The edge's connections to PostgreSQL, made when first needed."""

    def __init__(self, settings: Settings) -> None:
        self._pool = AsyncConnectionPool(
            kwargs={**parameters(settings, "gamemetrics-edge"), "connect_timeout": _TIMEOUT_S},
            configure=_configure,
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


async def _configure(connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
    await pin_async(connection, _PINNED)
