"""The edge's Valkey: redis-py, told to send every command once and to be heard within a second.

A limiter's charge must not be made twice, so nothing is ever sent again: `Retry(NoBackoff(), 0)` in place of the
library's ten tries. What it still repeats by itself is safe to repeat: a connection found closed before anything was
sent on it is made anew, and a script that the server does not know (NOSCRIPT, so it did not run) is loaded and called.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final, cast

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError, RedisError

from pipeline.config import Settings
from pipeline.errors import UnavailableError

_DEADLINE_SECONDS: Final = 1.0
_CONNECTIONS: Final = 16


def connect(settings: Settings) -> Redis:
    """Make the client; it connects when first needed, and again after it was cut."""
    pool = BlockingConnectionPool(
        connection_class=SSLConnection if settings.redis_tls else Connection,
        max_connections=_CONNECTIONS,
        host=settings.redis_host,
        port=settings.redis_port,
        db=settings.redis_db,
        username=settings.redis_username or None,
        password=settings.redis_password.get_secret_value() or None,
        protocol=2,
        decode_responses=True,
        encoding_errors="surrogateescape",
        # `answering` bounds the whole of a call; a timer for each of its steps would cost a task of the loop apiece.
        timeout=None,
        socket_timeout=None,
        socket_connect_timeout=None,
        retry=Retry(NoBackoff(), 0),
        # Not to be tried again, but to cost the connection: behind a name, the next one finds the new primary.
        retry_on_error=[ReadOnlyError],
    )
    return Redis.from_pool(pool)


@contextlib.asynccontextmanager
async def answering() -> AsyncIterator[None]:
    """Bound a call: a connection, the command and its answer. Raises UnavailableError, for an error reply too."""
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            yield
    except TimeoutError:
        # redis-py cuts a connection whose answer was not awaited: nobody is given another command's answer.
        raise UnavailableError("Valkey does not answer") from None
    except RedisError as error:
        raise UnavailableError(f"Valkey: {error}") from error


async def read_hash(valkey: Redis, key: str) -> dict[bytes, bytes]:
    """Read a hash whole, as bytes. Raises UnavailableError."""
    async with answering():
        found = cast("dict[str, str]", await valkey.hgetall(key))
    return {_encoded(name): _encoded(value) for name, value in found.items()}


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
