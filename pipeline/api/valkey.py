"""The edge's Valkey: every command is sent once, on one connection that all share, and heard within a second.

The connection is redis-py's (names, TLS, login, the reading of replies). Its client and pool are not used: with them a
read cost a quarter more of the edge's CPU, and at 2,000 reads a second the slowest hundredth took 18 ms in place of 6
(docs/decisions.md). Nor is anything sent again, as a limiter's charge must not be made twice.
"""

import asyncio
import contextlib
import time
from collections import deque
from typing import Any, Final

from redis.asyncio import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from pipeline import tls
from pipeline.config import Settings
from pipeline.contract.names import raw_of
from pipeline.errors import UnavailableError
from pipeline.sinks.redis_account import account, certificates
from pipeline.tasks import cancel

_DEADLINE_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 0.5
"""After a failed connection, until the next one is tried: meanwhile calls fail at once."""

Argument = str | bytes | int | float


class Valkey:
    """Connects when first needed, and again after it was cut. One loop's; see `aclose`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wire: _Wire | None = None
        self._connecting: asyncio.Task[_Wire] | None = None
        self._not_before = 0.0

    async def call(self, *command: Argument) -> Any:  # noqa: ANN401 (a reply is what the command returns)
        """Send a command and return its reply, with text decoded. Raises UnavailableError, for an error reply too."""
        try:
            return await self.answer(*command)
        except RedisError as error:
            raise UnavailableError(f"Valkey: {error}") from error

    async def hash(self, key: str) -> dict[bytes, bytes]:
        """Read a hash whole, as bytes. Raises UnavailableError."""
        flat = [raw_of(text) for text in await self.call("HGETALL", key)]
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def script(self, source: str) -> "Script":
        """Return a server-side script to call."""
        return Script(self, source)

    async def aclose(self) -> None:
        """Close the connection."""
        if self._connecting is not None:
            await cancel(self._connecting)
        if self._wire is not None:
            await self._wire.close()

    async def answer(self, *command: Argument) -> Any:  # noqa: ANN401
        """Return the reply. Raises UnavailableError, and RedisError if the reply is an error."""
        wire = self._wire
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                if wire is None or not wire.alive:
                    wire = await self._connected()
                return await wire.send(command)
        except TimeoutError:
            if wire is not None:
                # Whatever was asked on this connection since would wait as long, or be given another's answer.
                await wire.close()
            raise UnavailableError("Valkey does not answer") from None

    async def _connected(self) -> "_Wire":
        """Return the one connection, which several may be waiting for."""
        if self._connecting is None:
            if time.monotonic() < self._not_before:
                raise UnavailableError("Valkey is away")
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(_heard)
        connecting = self._connecting
        try:
            return await asyncio.shield(connecting)
        finally:
            if connecting.done() and self._connecting is connecting:
                self._connecting = None

    async def _connect(self) -> "_Wire":
        settings = self._settings
        connection = (SSLConnection if settings.redis_tls else Connection)(
            host=settings.redis_host,
            port=settings.redis_port,
            db=settings.redis_db,
            credential_provider=account(settings),
            **certificates(settings),
            protocol=2,
            decode_responses=True,
            encoding_errors="surrogateescape",
            socket_timeout=None,
            socket_connect_timeout=None,  # a second bounds the whole: a name, a connection, a login
            retry=Retry(NoBackoff(), 0),
        )
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                await connection.connect()  # type: ignore[no-untyped-call]
        except (TimeoutError, RedisError) as error:
            self._not_before = time.monotonic() + _AGAIN_SECONDS
            await connection.disconnect(nowait=True)
            met = tls.handshake_error(error)
            fault = tls.reason(tls.Files(tls.REDIS), "Valkey", met) if met is not None else ""
            raise UnavailableError(fault or f"Valkey: {error or 'does not answer'}") from error
        self._wire = _Wire(connection)
        return self._wire


def _heard(connecting: "asyncio.Task[_Wire]") -> None:
    """Take what a connection raised whose callers have all given up: it is not a fault of the edge's."""
    if not connecting.cancelled():
        connecting.exception()


class _Wire:
    """One connection, and a task that gives each reply to who asked first: replies come in the order of commands."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._reading = asyncio.create_task(self._read())

    @property
    def alive(self) -> bool:
        return self._connection.is_connected and not self._reading.done()

    async def send(self, command: tuple[Argument, ...]) -> Any:  # noqa: ANN401
        """Return the reply, or raise it. Between the check that it lives and the write nothing else runs."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(reply)
        await self._connection.send_packed_command(self._connection.pack_command(*command), check_health=False)
        return await reply

    async def close(self) -> None:
        """Cut the connection: whoever waits is told so by the task that reads."""
        await self._connection.disconnect(nowait=True)
        await cancel(self._reading)

    async def _read(self) -> None:
        reason = "closed"
        try:
            while True:
                self._give(await self._reply())
        except RedisError as error:
            reason = str(error)
        finally:
            await self._connection.disconnect(nowait=True)
            for waiting in self._waiting:
                if not waiting.done():
                    waiting.set_exception(UnavailableError(f"Valkey: {reason}"))
            self._waiting.clear()

    async def _reply(self) -> Any:  # noqa: ANN401
        """Return the next reply; an error that is an answer like others is returned too. Raises RedisError."""
        try:
            return await self._connection.read_response(disconnect_on_error=False)
        except ReadOnlyError as error:
            # Behind a name, the next connection finds the new primary.
            self._give(error)
            raise
        except ResponseError as error:
            return error

    def _give(self, reply: Any) -> None:  # noqa: ANN401
        waiting = self._waiting.popleft()
        if waiting.done():
            return
        if isinstance(reply, RedisError):
            waiting.set_exception(reply)
        else:
            waiting.set_result(reply)


class Script:
    """A server-side script, loaded if it is not known."""

    def __init__(self, valkey: Valkey, source: str) -> None:
        self._valkey = valkey
        self._source = source
        self._sha = ""

    async def __call__(self, keys: list[str], arguments: list[Argument]) -> Any:  # noqa: ANN401
        """Run it. Raises UnavailableError."""
        try:
            if self._sha:
                with contextlib.suppress(NoScriptError):  # so it did not run
                    return await self._run(keys, arguments)
            self._sha = await self._valkey.call("SCRIPT", "LOAD", self._source)
            return await self._run(keys, arguments)
        except RedisError as error:
            raise UnavailableError(f"Valkey: {error}") from error

    async def _run(self, keys: list[str], arguments: list[Argument]) -> Any:  # noqa: ANN401
        return await self._valkey.answer("EVALSHA", self._sha, len(keys), *keys, *arguments)
