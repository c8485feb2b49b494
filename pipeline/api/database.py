"""The edge's connections to PostgreSQL."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, Self

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from pipeline.config import Settings
from pipeline.errors import ConfigurationError, RefusedError, UnavailableError
from pipeline.sinks.connection import turned_away, unavailable
from pipeline.sinks.session import parameters, pin_async

_TIMEOUT_SECONDS: Final = 3.0
_PATIENCE_SECONDS: Final = 4.0
"""A server that lives ends a statement itself after _TIMEOUT_SECONDS; one that is frozen is left after this."""

_PINNED: Final = {
    "jit": "off",
    "statement_timeout": f"{_TIMEOUT_SECONDS:.0f}s",
    "lock_timeout": f"{_TIMEOUT_SECONDS:.0f}s",
}

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class _Telling(psycopg.AsyncConnection[tuple[Any, ...]]):
    """Tells why it could not be opened: the pool says only that nothing came in time."""

    @classmethod
    async def connect(  # type: ignore[override]  # with one argument more
        cls,
        conninfo: str = "",
        *,
        tell: Callable[[psycopg.Error | None], Awaitable[None]],
        **kwargs: Any,  # noqa: ANN401 - what psycopg takes
    ) -> Self:
        try:
            connection = await super().connect(conninfo, **kwargs)
        except psycopg.Error as error:
            await tell(error)
            raise
        await tell(None)
        return connection


class Database:
    """The edge's connections to PostgreSQL, made when first needed."""

    def __init__(self, settings: Settings) -> None:
        self.refusal = ""
        """Why PostgreSQL turns the account away for good, or is no database for us; empty: it does not, or is away."""
        self._settings = settings
        self._pool = AsyncConnectionPool(
            connection_class=_Telling,
            kwargs=self._parameters,
            configure=self._configure,
            min_size=0,
            max_size=4,
            max_waiting=64,
            timeout=_TIMEOUT_SECONDS,
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
    async def _connection(self) -> AsyncIterator[Connection]:
        """Lend a connection; whatever the server said to an operation on it costs it."""
        try:
            async with self._pool.connection() as connection:
                try:
                    with _deadline(connection):
                        yield connection
                except psycopg.Error:
                    await connection.close()
                    raise
        except PoolTimeout as error:
            if self.refusal:
                raise RefusedError(self.refusal) from error
            raise UnavailableError("PostgreSQL: PoolTimeout") from error
        except psycopg.Error as error:
            raise unavailable(error) from error

    async def _configure(self, connection: Connection) -> None:
        try:
            with _deadline(connection):
                await pin_async(connection, _PINNED)
        except ConfigurationError as error:
            self.refusal = str(error)
            raise

    async def _parameters(self) -> dict[str, Any]:
        """Return what the next connection is opened with: passwords change while the edge runs."""
        return {
            **parameters(self._settings, "gamemetrics-edge"),
            "connect_timeout": int(_TIMEOUT_SECONDS),
            "tcp_user_timeout": int(_TIMEOUT_SECONDS * 1000),
            "tell": self._told,
        }

    async def _told(self, error: psycopg.Error | None) -> None:
        refusal = await asyncio.to_thread(turned_away, error, self._settings) if error is not None else None
        self.refusal = str(refusal) if isinstance(refusal, ConfigurationError | RefusedError) else ""


@contextlib.contextmanager
def _deadline(connection: Connection) -> Iterator[None]:
    """Cut the connection's wire if the block takes too long.

    Not by cancelling the task: the driver would ask the frozen server first to end the statement, and wait for it.
    """
    late = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, _cut, connection)
    try:
        yield
    finally:
        late.cancel()


def _cut(connection: Connection) -> None:
    if connection.closed:
        return
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)
