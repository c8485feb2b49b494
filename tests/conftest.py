"""The fixtures of every tier. One embedded stack serves the whole run; each test gets its own place on it."""

import itertools
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import psycopg
import pytest
from confluent_kafka.admin import AdminClient, ResourcePatternType, ResourceType
from psycopg import sql

from pipeline.config import Settings
from pipeline.local.kafka_access import TOPIC_OPERATIONS, allow, await_access, create_topic, delete_topic, grants
from pipeline.local.postgres import USER
from pipeline.local.stack import Stack
from pipeline.operations.migrate import migrate
from tests.dialects import override
from tests.place import TOPIC_PREFIX, Place

hypothesis.settings.register_profile("here", hypothesis.settings.default, deadline=None)  # a busy machine is no fault
hypothesis.settings.load_profile("here")

TEMPLATE = "test_template"
MakePlace = Callable[..., Place]


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The embedded Kafka, PostgreSQL and Valkey of this run, in a directory that only it knows."""
    with tempfile.TemporaryDirectory(prefix="gamemetrics-test-") as directory:
        # PostgreSQL runs as another account when the tests run as root, and must pass through.
        Path(directory).chmod(0o711)
        stack = Stack(Path(directory))
        with stack.supervised():
            stack.start()
            try:
                rights = grants(ResourceType.TOPIC, TOPIC_PREFIX, ResourcePatternType.PREFIXED, TOPIC_OPERATIONS)
                allow(AdminClient(stack.kafka.admin_config()), rights)
                yield stack
            finally:
                stack.wipe()


@pytest.fixture(scope="session")
def template(stack: Stack) -> str:
    """The name of a database with the schema in it, of which each test gets a copy."""
    with psycopg.connect(stack.postgres.admin_dsn(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(TEMPLATE), sql.Identifier(USER))
        )
    migrate(_settings(stack, "unused", TEMPLATE, 0))
    return TEMPLATE


@pytest.fixture(scope="session")
def numbers() -> Iterator[int]:
    """Redis databases for tests, 1 to 255 in turn; 0 belongs to the stack itself."""
    return itertools.cycle(range(1, 256))


@pytest.fixture
def dialect() -> str:
    """How places say that sums are added to their tables, empty: by what the server is. See IN_BOTH_DIALECTS."""
    return ""


@pytest.fixture
def make_place(stack: Stack, template: str, numbers: Iterator[int], dialect: str) -> Iterator[MakePlace]:
    """Make places on the shared stack: `make_place(partitions=1)`. They are cleared away after the test."""
    made: list[Place] = []

    def make(partitions: int = 3) -> Place:
        _mend(stack)
        name = f"{TOPIC_PREFIX}{secrets.token_hex(6)}"
        create_topic(AdminClient(stack.kafka.admin_config()), name, partitions)
        await_access(AdminClient(stack.kafka.config()), name)
        database = name.replace(".", "_")
        _administer(
            stack,
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
                sql.Identifier(database), sql.Identifier(template), sql.Identifier(USER)
            ),
        )
        if dialect:
            override(stack, database, dialect)
        place = Place(stack, _settings(stack, name, database, next(numbers)))
        with place.redis() as client:
            client.flushdb()
        made.append(place)
        return place

    yield make
    _mend(stack)
    for place in made:
        delete_topic(AdminClient(stack.kafka.admin_config()), place.topic)
        _administer(stack, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(place.settings.db_name)))


@pytest.fixture
def place(make_place: MakePlace) -> Place:
    """This test's own topic (3 partitions), database, Redis database and group."""
    return make_place()


def _mend(stack: Stack) -> None:
    """Bring back what an earlier test killed or froze, so that one failure is not followed by a hundred."""
    for server in stack.servers:
        server.resume()
        if not server.running:
            server.start()


def _administer(stack: Stack, statement: sql.Composed) -> None:
    with psycopg.connect(stack.postgres.admin_dsn(), autocommit=True) as connection:
        connection.execute(statement)


def _settings(stack: Stack, topic: str, database: str, redis_db: int) -> Settings:
    return stack.settings(kafka_topic=topic, kafka_group_id=f"event-{topic}", db_name=database, redis_db=redis_db)
