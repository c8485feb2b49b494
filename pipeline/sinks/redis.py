"""The Redis sink: calls of one server-side function that applies a chunk of increments once.

Client retries are off: the library's own retry would send a command again after a lost answer. That a call may safely
be repeated is the function's doing (sinks/apply.lua), and when to repeat it is the consumer's decision.
"""

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.retry import Retry

from pipeline import tls
from pipeline.config import Settings
from pipeline.contract.boards import (
    ALLTIME,
    PERIODS,
    Expiry,
    board_key,
    filling_key,
    keep_field,
    made_key,
    refused_key,
    stats_key,
    watermark_key,
)
from pipeline.contract.names import name_of, raw_of
from pipeline.epoch.outbox import Call
from pipeline.errors import ConfigurationError, PipelineError, RefusedError, UnavailableError
from pipeline.sinks.marks import Standing, standings_in
from pipeline.sinks.redis_account import account, certificates

if TYPE_CHECKING:
    from redis.client import Pipeline

FUNCTION: Final = "gamemetrics_apply"
_RIGHTS: Final = "gamemetrics_lacks"
_BOARD: Final = board_key("probe", ALLTIME.name)
_PROBED: Final = (stats_key("probe"), _BOARD, filling_key("probe", _BOARD))
LIBRARY: Final = Path(__file__).with_name("apply.lua")
_SOCKET_SECONDS: Final = 15.0
_CLUSTER: Final = re.compile(r"(MOVED|CROSSSLOT|CLUSTERDOWN)\b|SELECT is not allowed in cluster mode")
_LACKING: Final = (
    (re.compile(r"\bDB index\b", re.IGNORECASE), "REDIS_DB: the server has no such database"),
    (re.compile(r"unknown command"), "REDIS_HOST: it must be Redis 7 or newer, or Valkey, with all commands"),
)
"""What a server lacks, and no waiting brings it."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a call; `refused` names keys of a wrong type that lack increments, by this call or one before."""

    verdict: Literal["applied", "duplicate", "behind"]
    refused: tuple[str, ...] = ()


def connect(settings: Settings) -> "redis.Redis":
    """Make a client with retries off; it connects at its first command."""
    return redis.Redis(
        host=settings.redis_host,
        port=settings.redis_port,
        db=settings.redis_db,
        credential_provider=account(settings),
        ssl=settings.redis_tls,
        **certificates(settings),
        retry=Retry(NoBackoff(), 0),
        socket_timeout=_SOCKET_SECONDS,
        socket_connect_timeout=5,
        decode_responses=False,
    )


@contextmanager
def translated(client: "redis.Redis | None" = None) -> Iterator[None]:
    """Raise what the driver raises as one of our errors; whatever it is costs the client its connections.

    A missing right, a refused password, a certificate that does not do, a database or a command that the server lacks
    are a RefusedError, a cluster is a ConfigurationError, all else is an UnavailableError. It costs the connections,
    for an error may say that they lead to the wrong server: after a failover behind a name or a proxy they stand at one
    that takes no writes, READONLY, for as long as they are kept.
    """
    try:
        yield
    except redis.RedisError as error:
        if client is not None:
            client.connection_pool.disconnect(inuse_connections=False)
        raise _refusal(error, client) from error


def _refusal(error: "redis.RedisError", client: "redis.Redis | None") -> PipelineError:
    said = f"Redis: {type(error).__name__}: {error}"
    if isinstance(error, AuthenticationError):
        return RefusedError(f"REDIS_USERNAME, REDIS_PASSWORD: {error}")
    if isinstance(error, NoPermissionError):
        return RefusedError(f"REDIS_USERNAME: the account lacks a right: {error}")
    if _CLUSTER.match(str(error)):
        return ConfigurationError(f"REDIS_HOST: it is a cluster, where the keys of one call may lie apart: {error}")
    for text, lacking in _LACKING:
        if text.search(str(error)):
            return RefusedError(f"{lacking}: {error}")
    if client is not None and isinstance(error, redis.ConnectionError) and (fault := tls_fault(client, error)):
        return RefusedError(fault)
    return UnavailableError(said)


def tls_fault(client: "redis.Redis", error: "redis.ConnectionError") -> str:
    """Say what is wrong with the certificates of either side, if that is why a connection failed. May block."""
    asked = client.connection_pool.connection_kwargs
    if not issubclass(client.connection_pool.connection_class, redis.SSLConnection):
        return ""
    host, port = str(asked["host"]), int(asked["port"])
    authority, certificate, key, password = (
        str(asked.get(f"ssl_{name}") or "") for name in ("ca_certs", "certfile", "keyfile", "password")
    )
    files = tls.Files(tls.REDIS, authority, certificate, key, password)
    met = tls.handshake_error(error)
    return (tls.reason(files, f"{host}:{port}", met) if met is not None else "") or tls.fault(files, host, port)


class RedisSink:
    """Applies calls for one group and topic. One thread: who levels Redis in another has a sink of its own."""

    def __init__(self, settings: Settings, group_id: str) -> None:
        self._client = connect(settings)
        self._account = settings.redis_username or "default"
        self._topic = settings.kafka_topic
        self._key = watermark_key(group_id)
        self._refused = refused_key(group_id)  # as apply.lua names it
        self.boards = made_key(group_id)  # likewise
        expiry = Expiry(settings.board_daily_days, settings.board_weekly_days)
        self._keep = {keep_field(period): expiry.of(period) for period in PERIODS.values() if period.dated}

    @property
    def client(self) -> "redis.Redis":
        """The client, for a rebuild."""
        return self._client

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def open(self) -> None:
        """Check the server's policy and load the function. Raises ConfigurationError, UnavailableError."""
        with translated(self._client):
            policy = self._policy()
            if policy != "noeviction":
                raise ConfigurationError(
                    f"REDIS_HOST: maxmemory-policy is {policy}: the server would drop counters when memory is short. "
                    f"Set it to noeviction"
                )
            self._client.function_load(LIBRARY.read_text(), replace=True)
            lacking: list[bytes] = self._client.fcall(_RIGHTS, 1, self._key, *_PROBED)
        if lacking:
            what = ", ".join(one.decode() for one in lacking)
            raise RefusedError(f"REDIS_USERNAME: the account {self._account!r} may not run {what}")

    def _policy(self) -> str:
        """Ask what the server does when memory is short: by INFO, for if Redis is managed CONFIG is nobody's."""
        try:
            return str(self._client.info("memory")["maxmemory_policy"])
        except NoPermissionError:
            pass
        try:
            found = self._client.config_get("maxmemory-policy")
        except NoPermissionError as error:
            raise RefusedError(
                f"REDIS_USERNAME: the account {self._account!r} may run neither INFO nor CONFIG GET, so nobody knows "
                f"whether the server drops counters when memory is short"
            ) from error
        return str(found["maxmemory-policy"])

    def standings(self) -> dict[int, Standing]:
        """Return where Redis stands in each partition of the topic that it knows."""
        with translated(self._client):
            stored: dict[bytes, bytes] = self._client.hgetall(self._key)  # type: ignore[assignment]  # responses stay bytes
        return standings_in(stored, self._topic)

    def start(self, partition: int, offset: int) -> None:
        """Set the watermark of a partition that nothing was applied of; one that stands already is left alone."""
        with translated(self._client):
            self._client.hsetnx(self._key, self._field(partition), f"{offset}:0")

    def forget(self, partitions: Iterable[int]) -> bytes:
        """Replace all watermarks by a token, which `restore` asks for: until then every call is answered `behind`.

        A token and not nothing, so that `start` cannot set a watermark on counters that are being refilled. For how
        long boards are kept is noted, too: by that they are filled from here on.
        """
        token = f"refilling:{uuid.uuid4()}".encode()
        fields: dict[Any, Any] = {self._field(partition): token for partition in partitions}
        with translated(self._client), self._client.pipeline(transaction=True) as pipe:
            pipe.delete(self._key, self._refused, self.boards)
            pipe.hset(self._key, mapping=fields | self._keep)
            pipe.execute()
        return token

    def restore(self, offsets: dict[int, int], token: bytes) -> None:
        """Set the watermarks after the counters were filled from PostgreSQL as of these offsets.

        Raises UnavailableError if another refill began since the token was given: its counters are not these.
        """
        if offsets:
            with self.while_held(offsets, token) as pipe:
                pipe.hset(self._key, mapping={self._field(p): f"{offset}:0" for p, offset in offsets.items()})
                pipe.execute()

    @contextmanager
    def while_held(self, partitions: Iterable[int], token: bytes) -> "Iterator[Pipeline]":
        """Open a transaction that runs only while the token of `forget` stands for all these partitions.

        Raises UnavailableError if another refill began since.
        """
        fields = [self._field(partition) for partition in partitions]
        with translated(self._client), self._client.pipeline(transaction=True) as pipe:
            pipe.watch(self._key)  # type: ignore[no-untyped-call]
            if fields and set(pipe.hmget(self._key, fields)) != {token}:
                raise UnavailableError("Redis: the counters are being refilled by another consumer")
            pipe.multi()
            yield pipe

    def refused(self) -> frozenset[str]:
        """Return the keys that refused an increment and were not refilled since, and what somebody wrote beside."""
        with translated(self._client):
            members: set[bytes] = self._client.smembers(self._refused)  # type: ignore[assignment]  # responses stay bytes
        return frozenset(map(name_of, members))

    def mended(self, key: str) -> None:
        """Note that a refused key was refilled, or is none of ours."""
        with translated(self._client):
            self._client.srem(self._refused, raw_of(key))

    def apply(self, calls: Sequence[Call]) -> Applied:
        """Apply calls in order until one is `behind`. Raises UnavailableError: the same calls may be sent again."""
        refused: list[str] = []
        verdict: Literal["applied", "duplicate"] = "duplicate"
        for call in calls:
            answer = self.call(call)
            if answer[0] == b"behind":
                return Applied("behind", tuple(refused))
            if answer[0] == b"applied":
                verdict = "applied"
            refused += map(name_of, answer[2:])
        return Applied(verdict, tuple(refused))

    def call(self, call: Call) -> list[bytes]:
        """Send one call; returns the function's answer: the verdict, the watermark, and the keys that refused."""
        arguments = (
            self._field(call.partition),
            call.from_offset,
            call.next_offset,
            call.chunk,
            call.chunks,
            call.payload,
        )
        with translated(self._client):
            try:
                answer: list[bytes] = self._client.fcall(FUNCTION, 1, self._key, *arguments)
            except ResponseError as error:
                if "Function not found" not in str(error):
                    raise
                # An emptied server lost its functions with its data; nothing ran, so the call can be made again.
                self._client.function_load(LIBRARY.read_text(), replace=True)
                answer = self._client.fcall(FUNCTION, 1, self._key, *arguments)
        return answer

    def _field(self, partition: int) -> str:
        """Name a partition's watermark in the hash."""
        return f"{self._topic}:{partition}"
