"""A small Valkey client for the edge: one connection, commands in a pipeline, no retries.

It does what the edge needs (a command, its reply, a deadline) at a tenth of a general client's CPU, and it never
repeats a command on its own: a limiter's charge must not be made twice.
"""

import asyncio
import contextlib
import ssl
import time
from collections import deque
from typing import Any, Final, cast

import hiredis

from pipeline.config import Settings
from pipeline.errors import UnavailableError

_CONNECT_TIMEOUT_S: Final = 1.0
_REPLY_TIMEOUT_S: Final = 1.0
_RETRY_AFTER_S: Final = 0.5

Argument = str | bytes | int | float


class ReplyError(Exception):
    """Valkey answered a command with an error."""


class _Wire(asyncio.Protocol):
    """One connection; replies come in the order of the commands."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(encoding="utf-8", errors="surrogateescape")
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._transport: asyncio.Transport | None = None

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while self._waiting and (reply := self._reader.gets()) is not False:
            waiting = self._waiting.popleft()
            if waiting.done():
                continue
            if isinstance(reply, hiredis.ReplyError):
                waiting.set_exception(ReplyError(str(reply)))
            else:
                waiting.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(UnavailableError(f"Valkey closed the connection: {exc or 'no reason given'}"))
        self._waiting.clear()

    def send(self, command: tuple[Argument, ...]) -> asyncio.Future[Any]:
        if self._transport is None:
            raise UnavailableError("Valkey is away")
        waiting: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # the stub knows commands of one word only
        self._transport.write(packed)
        return waiting

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Valkey:
    """The edge's Valkey. Connects when first needed; while it is away, calls fail at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wire: _Wire | None = None
        self._connecting: asyncio.Task[_Wire] | None = None
        self._not_before = 0.0

    async def call(self, *command: Argument) -> Any:  # noqa: ANN401 (a reply is what the command returns)
        """Send one command and return its reply. Raises UnavailableError, or ReplyError for an error reply."""
        wire = self._wire if self._wire is not None and self._wire.alive else await self._connected()
        return await self._answer(wire, command)

    def close(self) -> None:
        """Cut the connection."""
        if self._wire is not None:
            self._wire.abort()

    async def _answer(self, wire: _Wire, command: tuple[Argument, ...]) -> Any:  # noqa: ANN401
        try:
            async with asyncio.timeout(_REPLY_TIMEOUT_S):
                return await wire.send(command)
        except TimeoutError:
            # Whatever comes later on this connection would wait as long.
            wire.abort()
            raise UnavailableError("Valkey does not answer") from None

    async def _connected(self) -> _Wire:
        if self._connecting is None:
            if time.monotonic() < self._not_before:
                raise UnavailableError("Valkey is away")
            self._connecting = asyncio.create_task(self._connect())
        connecting = self._connecting
        try:
            return await asyncio.shield(connecting)
        finally:
            if connecting.done() and self._connecting is connecting:
                self._connecting = None

    async def _connect(self) -> _Wire:
        self._not_before = time.monotonic() + _RETRY_AFTER_S
        settings = self._settings
        context = ssl.create_default_context() if settings.redis_tls else None
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                _, wire = await asyncio.get_running_loop().create_connection(
                    _Wire, settings.redis_host, settings.redis_port, ssl=context
                )
        except (OSError, TimeoutError) as error:
            raise UnavailableError(f"Valkey is away: {error}") from error
        try:
            if password := settings.redis_password.get_secret_value():
                await self._answer(wire, ("AUTH", *filter(None, [settings.redis_username]), password))
            if settings.redis_db:
                await self._answer(wire, ("SELECT", settings.redis_db))
        except ReplyError as error:
            wire.abort()
            raise UnavailableError(f"REDIS_PASSWORD, REDIS_DB: Valkey refused: {error}") from error
        self._wire = wire
        return wire


class Script:
    """A server-side script, loaded where it is not yet known."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._sha = ""

    async def call(self, valkey: Valkey, keys: list[str], *arguments: Argument) -> Any:  # noqa: ANN401
        """Run the script. Raises UnavailableError or ReplyError."""
        with contextlib.suppress(_NotLoaded):
            return await self._run(valkey, keys, arguments)
        self._sha = await valkey.call("SCRIPT", "LOAD", self._source)
        return await self._run(valkey, keys, arguments)

    async def _run(self, valkey: Valkey, keys: list[str], arguments: tuple[Argument, ...]) -> Any:  # noqa: ANN401
        if not self._sha:
            raise _NotLoaded
        try:
            return await valkey.call("EVALSHA", self._sha, len(keys), *keys, *arguments)
        except ReplyError as error:
            if str(error).startswith("NOSCRIPT"):
                raise _NotLoaded from error
            raise


class _NotLoaded(Exception):  # noqa: N818 (caught within this module)
    """The server does not know the script."""
