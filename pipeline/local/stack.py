"""The embedded stack of one checkout: Kafka, PostgreSQL and Valkey, started and stopped together."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pipeline.config import Settings
from pipeline.errors import PipelineError, UnavailableError
from pipeline.local.jars import cached_jars
from pipeline.local.jvm import startup_cache
from pipeline.local.kafka import Kafka
from pipeline.local.kafka_access import TOPIC, USER
from pipeline.local.postgres import DATABASE, Postgres
from pipeline.local.postgres import USER as DB_USER
from pipeline.local.server import Server
from pipeline.local.state import State, make_directory
from pipeline.local.supervisor import HOST, Supervisor, supervised
from pipeline.local.valkey import Valkey
from pipeline.local.warmup import make_startup_cache


class Stack:
    """The three servers whose state is in `<root>/.local`. Nothing is written before the first start."""

    def __init__(self, root: Path) -> None:
        self.directory = root.resolve() / ".local"
        self._state = State(self.directory)
        self.kafka = Kafka(self._state)
        self.postgres = Postgres(self._state)
        self.valkey = Valkey(self._state)

    @property
    def created(self) -> bool:
        """Whether the stack was ever started here."""
        return self._state.exists

    @property
    def servers(self) -> Sequence[Server]:
        """The three servers, the slowest to start first."""
        return (self.kafka, self.postgres, self.valkey)

    def fetch(self, *, warm_up: bool = False) -> None:
        """Fetch what the user's cache lacks of Kafka; with `warm_up`, also make the cache that speeds up its starts."""
        cached_jars()
        if warm_up and not startup_cache().exists():
            make_startup_cache()

    def start(self) -> None:
        """Start whatever does not run, all at once, and return when every server answers.

        Raises UnavailableError with the log's last lines of the server that failed, after stopping the others.
        """
        with self._exclusively():
            self._state.reload()
            self._state.create()
            for server in self.servers:
                server.repick_ports()
            try:
                self._each(lambda server: server.start())
            except PipelineError:
                self._each(lambda server: server.stop())
                raise

    def supervised(self) -> AbstractContextManager[Supervisor]:
        """While inside, have the stack stopped should this process die without doing so itself, even by kill -9."""
        return supervised(self.directory.parent)

    def stop(self) -> None:
        """Stop what runs; the data stays."""
        if self._state.exists:
            with self._exclusively():
                self._each(lambda server: server.stop())

    def wipe(self) -> None:
        """Stop, and delete the data, the ports and the passwords."""
        if self.directory.exists():
            with self._exclusively():
                self._each(lambda server: server.wipe())
                shutil.rmtree(self.directory, ignore_errors=True)

    def status(self) -> Mapping[str, bool]:
        """Tell of each server whether it answers an authenticated client."""
        return {server.name: server.ready for server in self.servers}

    def environment(self) -> dict[str, str]:
        """Return the environment variables by which any client finds the stack. Raises before the first start."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "KAFKA_TOPIC": TOPIC,
            "KAFKA_USERNAME": USER,
            "KAFKA_PASSWORD": self._state.secret("kafka"),
            "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "DB_HOST": HOST,
            "DB_PORT": str(self.postgres.port),
            "DB_NAME": DATABASE,
            "DB_USER": DB_USER,
            "DB_PASSWORD": self._state.secret("postgres"),
            "REDIS_HOST": HOST,
            "REDIS_PORT": str(self.valkey.port),
            "REDIS_DB": "0",
            "REDIS_PASSWORD": self._state.secret("valkey"),
        }

    def settings(self, **chosen: Any) -> Settings:  # noqa: ANN401 - as each setting is
        """Return the stack as settings, beside those that are chosen. Raises before the first start."""
        found: dict[str, Any] = {name.lower(): value for name, value in self.environment().items()}
        return Settings(**{**found, **chosen})

    def _each(self, act: Callable[[Server], None]) -> None:
        """Do the same to all servers at the same time; raise the first error once all are done."""
        with ThreadPoolExecutor(len(self.servers)) as pool:
            outcomes = [pool.submit(act, server) for server in self.servers]
        for outcome in outcomes:
            outcome.result()

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Hold the checkout's lock: two commands must not start the same data directory at once."""
        make_directory(self.directory)
        with os.fdopen(os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT, 0o600), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                raise UnavailableError(f"{self.directory / 'lock'}: {error.strerror}") from error
            yield
