"""Passwords, and the names that go with them, that change while a consumer and the API run: no restart, nothing lost.

Both read the account from files of SECRETS_DIR. It is changed at the server and in the file, every connection is cut,
and an event sent after that is counted, and read.
"""

import secrets
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from psycopg import sql

from pipeline.config import Settings
from pipeline.errors import UnavailableError
from pipeline.kafka.browser import Browser
from pipeline.kafka.ends import LogEnds
from pipeline.kafka.facts import TopicFacts
from pipeline.kafka.sizes import SizeLimit
from pipeline.local.kafka_access import TOPIC_OPERATIONS, allow
from tests.chaos.proxy import Proxy
from tests.edges import EVENT, EdgeUnderTest, free_port, make_key, running_edge
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real

FIELDS = ("kafka_username", "kafka_password", "db_user", "db_password", "redis_username", "redis_password")


@dataclass
class Rotating:
    """A place whose accounts are files, and the wires to its servers."""

    place: Place
    files: Path
    kafka: Proxy
    made: list[str] = field(default_factory=list)

    def write(self, server: str, name: str, password: str) -> None:
        """Put an account where the programs look for it, as Kubernetes does: each file replaced at once."""
        user = "db_user" if server == "db" else f"{server}_username"
        for file, text in ((user, name), (f"{server}_password", password)):
            new = self.files / f".{file}"
            new.write_text(text + "\n")
            new.rename(self.files / file)

    def environment(self) -> dict[str, str]:
        """Everything but the accounts, which are files."""
        known = {name: value for name, value in self.place.environment().items() if name.lower() not in FIELDS}
        return known | {"SECRETS_DIR": str(self.files), "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self.kafka.port}"}

    def renew_kafka(self, name: str) -> None:
        """Give an account of Kafka its first or its next password, and end every connection."""
        password = secrets.token_urlsafe(12)
        admin = AdminClient(self.place.stack.kafka.admin_config())
        credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        changed = UserScramCredentialUpsertion(name, credential, password.encode())
        admin.alter_user_scram_credentials([changed])[name].result(15)
        if name not in self.made:
            allow(admin, rights(name, self.place))
        self.made.append(name)
        self.write("kafka", name, password)
        self.kafka.reset()

    def renew_db(self, name: str) -> None:
        password = secrets.token_urlsafe(12)
        role, owner = sql.Identifier(name), sql.Identifier(self.place.settings.db_user)
        with psycopg.connect(self.place.stack.postgres.admin_dsn(), autocommit=True) as connection:
            if name not in self.made:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN IN ROLE {}").format(role, owner))
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(password)))
            self.made.append(name)
            self.write("db", name, password)
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [self.place.settings.db_name],
            )

    def renew_redis(self, name: str) -> None:
        password = secrets.token_urlsafe(12)
        with self.place.redis() as client:
            client.execute_command("ACL", "SETUSER", name, "reset", "on", f">{password}", "~*", "+@all")
            self.made.append(name)
            self.write("redis", name, password)
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def rights(name: str, place: Place) -> list[AclBinding]:
    wanted = [(ResourceType.TOPIC, place.topic, operation) for operation in TOPIC_OPERATIONS]
    wanted += [(ResourceType.GROUP, place.group, AclOperation.READ)]
    return [
        AclBinding(kind, resource, ResourcePatternType.LITERAL, f"User:{name}", "*", operation, AclPermissionType.ALLOW)
        for kind, resource, operation in wanted
    ]


@pytest.fixture
def rotating(place: Place, tmp_path: Path) -> Iterator[Rotating]:
    with Proxy(place.stack.kafka.port, kafka=True) as wire:
        found = Rotating(place, tmp_path, wire)
        settings = place.settings
        found.write("kafka", settings.kafka_username, settings.kafka_password.get_secret_value())
        found.write("db", settings.db_user, settings.db_password.get_secret_value())
        found.write("redis", settings.redis_username or "default", settings.redis_password.get_secret_value())
        yield found
        with psycopg.connect(place.stack.postgres.admin_dsn(), autocommit=True) as connection:
            for name in dict.fromkeys(found.made):
                connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))
        with place.redis() as client:
            client.execute_command("ACL", "DELUSER", "nobody", *found.made)


@contextmanager
def consumer(found: Rotating) -> Iterator["subprocess.Popen[bytes]"]:
    environment = found.environment() | {"METRICS_PORT": str(free_port())}
    process = subprocess.Popen([sys.executable, "-m", "pipeline", "consume"], env=environment)
    try:
        yield process
        assert process.poll() is None, f"the consumer ended with {process.returncode}"
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def edge(found: Rotating) -> Iterator[EdgeUnderTest]:
    with running_edge(
        found.place, ready=True, **found.environment(), **dict.fromkeys(map(str.upper, FIELDS), "")
    ) as running:
        yield running
        assert running.answers("/health/live")


Asked = Callable[[], object]


def ends(settings: Settings) -> Asked:
    """The console's question for the bounds of the logs."""
    log_ends = LogEnds(settings)
    return lambda: log_ends.ask(3.0)


def facts(settings: Settings) -> Asked:
    """The question of a read that waits for a receipt."""
    topic = TopicFacts(settings)
    return lambda: topic.ask(3.0)


def sizes(settings: Settings) -> Asked:
    """The edge's question for the largest batch, which tells nobody that it had no answer."""
    limit = SizeLimit(settings)

    def ask() -> int:
        limit.batch = 0
        limit.ask(3.0)
        if not limit.batch:
            raise UnavailableError("no answer")
        return limit.batch

    return ask


def browser(settings: Settings) -> Asked:
    """The console's page of records."""
    pages = Browser(settings)
    return lambda: pages.offset_at(0, 0)


def answers(ask: Asked) -> bool:
    try:
        ask()
    except UnavailableError:
        return False
    return True


def total(running: EdgeUnderTest, player: str, key: str) -> tuple[int, str]:
    """A player's events as the API reads them, and where from."""
    reply = running.get(f"/api/v1/players/{player}/stats", {"X-API-Key": key})
    return (reply.json()["total_events"], reply.headers["X-Source"]) if reply.status == 200 else (0, "")


def accepted(running: EdgeUnderTest, player: str, key: str) -> bool:
    """Send the player's one event, as often as it takes: whatever a 503 left behind, it is the same event."""
    event = EVENT | {"player_id": player, "event_id": str(uuid.uuid5(uuid.NAMESPACE_DNS, player))}
    return running.send(event, {"X-API-Key": key}).status == 200


@pytest.mark.parametrize("server", ["kafka", "db", "redis"])
def test_an_account_that_changes_is_taken_up_without_a_restart(rotating: Rotating, server: str) -> None:
    """Twice: to another account, and then to another password of it."""
    renew: Callable[[str], None] = getattr(rotating, f"renew_{server}")
    name = f"rotated_{secrets.token_hex(4)}"
    with edge(rotating) as api, consumer(rotating):
        assert_served(rotating, api, "before")
        for player in ("another-account", "another-password"):
            renew(name)
            assert_served(rotating, api, player)


@pytest.mark.parametrize("kept", [ends, facts, sizes, browser])
def test_a_client_that_is_asked_now_and_then_stays_connected_and_takes_a_new_account_up(
    rotating: Rotating, kept: Callable[[Settings], Asked]
) -> None:
    """What the API asks Kafka beside its work: made anew for each question, a client costs 20 ms of CPU."""
    name = f"rotated_{secrets.token_hex(4)}"
    rotating.renew_kafka(name)
    settings = rotating.place.settings.model_copy(
        update={"kafka_bootstrap_servers": f"127.0.0.1:{rotating.kafka.port}"}
    )
    settings.read_from(rotating.files, ())
    ask = kept(settings)
    eventually(lambda: answers(ask), timeout=30)
    connected = rotating.kafka.accepted
    assert all(answers(ask) for _ in range(5))
    assert rotating.kafka.accepted == connected
    rotating.renew_kafka(name)
    eventually(lambda: answers(ask), timeout=30)


def assert_served(found: Rotating, api: EdgeUnderTest, player: str) -> None:
    """A new key is known to the API, an event sent with it is counted, and read from Redis: every server answers."""
    key = make_key(found.place, f"of-{player}")
    eventually(lambda: api.send(EVENT).status == 401, timeout=60)
    eventually(lambda: accepted(api, player, key), timeout=60)
    eventually(lambda: total(api, player, key) == (1, "redis"), timeout=60)
