"""The rig: an embedded stack that only this run knows, and fresh fixtures on it to measure in."""

import itertools
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from confluent_kafka.admin import AdminClient, ResourcePatternType, ResourceType
from psycopg import sql

from pipeline.config import Settings
from pipeline.local.kafka_access import TOPIC_OPERATIONS, allow, await_access, create_topic, delete_topic, grants
from pipeline.local.postgres import USER
from pipeline.local.stack import Stack
from pipeline.operations.migrate import migrate
from pipeline.sinks import redis as redis_sink
from pipeline.sinks.connection import connect

_TOPIC_PREFIX: Final = "bench."
_REDIS_DATABASES: Final = 255
_QUIET: Final = {"log_level": 3}


@dataclass(frozen=True, slots=True)
class Fixture:
    """A topic, a group, a database and a Redis database; no other measurement touches them."""

    stack: Stack
    settings: Settings

    @property
    def group(self) -> str:
        return self.settings.kafka_group_id

    def environment(self) -> dict[str, str]:
        """The environment of a process that is to work here, with the default of every setting but the places."""
        return {
            **os.environ,
            **self.stack.environment(),
            "KAFKA_TOPIC": self.settings.kafka_topic,
            "KAFKA_GROUP_ID": self.group,
            "DB_NAME": self.settings.db_name,
            "REDIS_DB": str(self.settings.redis_db),
        }

    def postgres(self) -> psycopg.Connection:
        """A connection to the fixture's database, in autocommit; close it, or use it in a with statement."""
        return connect(self.settings, "bench")

    def scalar(self, statement: str) -> int:
        """The one number that a statement gives."""
        with self.postgres() as connection:
            row = connection.execute(statement.encode()).fetchone()
        if row is None:
            raise LookupError(f"no row: {statement}")
        return int(row[0])


class Rig:
    """Makes fixtures, and clears each away when its measurement ends, so that none pays for another's rows."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._numbers = itertools.cycle(range(1, _REDIS_DATABASES + 1))

    @contextmanager
    def fixture(self, partitions: int = 3) -> Iterator[Fixture]:
        """A fresh topic, and a fresh database and Redis database."""
        topic = f"{_TOPIC_PREFIX}{secrets.token_hex(6)}"
        create_topic(_admin(self.stack), topic, partitions)
        await_access(AdminClient({**self.stack.kafka.config(), **_QUIET}), topic)
        try:
            with self._stores(topic, f"event-{topic}") as fixture:
                yield fixture
        finally:
            delete_topic(_admin(self.stack), topic)

    @contextmanager
    def sibling(self, fixture: Fixture, *, same_group: bool = False) -> Iterator[Fixture]:
        """The topic of another fixture, read anew: a fresh database and Redis database, and a group of its own."""
        group = fixture.group if same_group else f"event-bench-{secrets.token_hex(6)}"
        with self._stores(fixture.settings.kafka_topic, group) as sibling:
            yield sibling

    @contextmanager
    def _stores(self, topic: str, group: str) -> Iterator[Fixture]:
        database = f"bench_{secrets.token_hex(6)}"
        fixture = Fixture(self.stack, self._settings(topic, group, database, next(self._numbers)))
        name = sql.Identifier(database)
        self._administer(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, sql.Identifier(USER)))
        try:
            migrate(fixture.settings)
            with redis_sink.connect(fixture.settings) as client:
                client.flushdb()
            yield fixture
        finally:
            with redis_sink.connect(fixture.settings) as client:
                client.flushdb()
            self._administer(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

    def checkpoint(self) -> None:
        """Write out what earlier work left dirty, so that this work does not pay for it."""
        self._administer(sql.SQL("CHECKPOINT"))

    def _administer(self, statement: sql.SQL | sql.Composed) -> None:
        with psycopg.connect(self.stack.postgres.admin_dsn(), autocommit=True) as connection:
            connection.execute(statement)

    def _settings(self, topic: str, group: str, database: str, redis_db: int) -> Settings:
        return self.stack.settings(
            kafka_topic=topic, kafka_group_id=group, db_name=database, db_sslmode="disable", redis_db=redis_db
        )


def _admin(stack: Stack) -> AdminClient:
    return AdminClient({**stack.kafka.admin_config(), **_QUIET})


def rig_on(stack: Stack) -> Rig:
    """Make a rig of servers that run, and give its topics to the pipeline's account."""
    allow(_admin(stack), grants(ResourceType.TOPIC, _TOPIC_PREFIX, ResourcePatternType.PREFIXED, TOPIC_OPERATIONS))
    return Rig(stack)


@contextmanager
def running_rig() -> Iterator[Rig]:
    """Start Kafka, PostgreSQL and Valkey in a temporary directory, and wipe them at the end, however it comes."""
    with tempfile.TemporaryDirectory(prefix="gamemetrics-bench-") as directory:
        # PostgreSQL runs as another account when the bench runs as root, and must pass through.
        Path(directory).chmod(0o711)
        stack = Stack(Path(directory))
        with stack.supervised():
            stack.start()
            try:
                yield rig_on(stack)
            finally:
                stack.wipe()
