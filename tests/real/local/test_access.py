"""Who gets into the embedded servers, and how far."""

import secrets
from typing import Any

import psutil
import psycopg
import pytest
import redis
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import (
    AclOperation,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipeline.local.kafka_access import TOPIC, create_topic, delete_topic, grants
from pipeline.local.stack import Stack
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real

SERVERS = ("kafka", "postgres", "valkey")


def test_kafka_lets_the_right_password_in(stack: Stack) -> None:
    assert TOPIC in AdminClient(stack.kafka.config()).list_topics(timeout=10).topics


@pytest.mark.parametrize(
    "change",
    [
        {"sasl.password": "wrong"},
        {"sasl.username": "nobody"},
        {"sasl.mechanism": "PLAIN"},
        {"sasl.mechanism": "SCRAM-SHA-256"},
    ],
)
def test_kafka_refuses_other_credentials(stack: Stack, change: dict[str, str]) -> None:
    assert "_AUTHENTICATION" in _connection_errors({**stack.kafka.config(), **change})


def test_kafka_refuses_a_client_without_credentials(stack: Stack) -> None:
    for port in (stack.kafka.port, stack.kafka.controller_port):
        config: dict[str, Any] = {"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0}
        with pytest.raises(KafkaException):
            AdminClient(config).list_topics(timeout=3)


def test_the_account_cannot_make_change_or_delete_topics(stack: Stack) -> None:
    admin = AdminClient(stack.kafka.config())
    name = f"other.{secrets.token_hex(4)}"
    assert _refusal(admin.create_topics([NewTopic(name, 1, 1)])[name]) == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert _refusal(admin.delete_topics([TOPIC])[TOPIC]) == KafkaError.TOPIC_AUTHORIZATION_FAILED
    retention = ConfigEntry("retention.ms", "1", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, TOPIC, incremental_configs=[retention])
    assert _refusal(admin.incremental_alter_configs([resource])[resource]) == KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_the_account_cannot_grant_itself_more(stack: Stack) -> None:
    binding = grants(ResourceType.TOPIC, "*", ResourcePatternType.LITERAL, [AclOperation.ALL])[0]
    admin = AdminClient(stack.kafka.config())
    assert _refusal(admin.create_acls([binding])[binding]) == KafkaError.CLUSTER_AUTHORIZATION_FAILED


def test_the_account_may_read_its_topics_configuration(stack: Stack) -> None:
    resource = ConfigResource(ConfigResource.Type.TOPIC, TOPIC)
    admin = AdminClient(stack.kafka.config())
    found = admin.describe_configs([resource])[resource].result(10)
    assert found["message.timestamp.type"].value == "CreateTime"


def test_the_account_cannot_see_read_or_write_another_topic(stack: Stack) -> None:
    admin = AdminClient(stack.kafka.admin_config())
    name = f"other.{secrets.token_hex(4)}"
    create_topic(admin, name, 1)
    try:
        assert name not in AdminClient(stack.kafka.config()).list_topics(timeout=10).topics
        with Consumer({**stack.kafka.config(), "group.id": "event-spy"}) as consumer:
            consumer.subscribe([name])
            assert _first_error(consumer) == KafkaError.TOPIC_AUTHORIZATION_FAILED
        refused: list[int] = []
        producer = Producer(stack.kafka.config())
        producer.produce(name, b"x", on_delivery=lambda error, _: refused.append(error.code() if error else 0))
        producer.flush(10)
        assert refused == [KafkaError.TOPIC_AUTHORIZATION_FAILED]
    finally:
        delete_topic(admin, name)


def test_the_account_joins_only_groups_of_the_pipeline(place: Place) -> None:
    with Consumer({**place.stack.kafka.config(), "group.id": "another-group"}) as consumer:
        consumer.subscribe([place.topic])
        assert _first_error(consumer) == KafkaError.GROUP_AUTHORIZATION_FAILED


def test_postgres_asks_for_the_password_and_the_account_is_no_superuser(place: Place) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(psycopg.conninfo.make_conninfo(place.dsn(), password="wrong"))
    with place.pg() as connection:
        query = "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication FROM pg_roles WHERE rolname = current_user"
        assert connection.execute(query).fetchone() == (False, False, False, False)
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_valkey_asks_for_the_password_and_evicts_nothing(stack: Stack) -> None:
    with (
        redis.Redis(port=stack.valkey.port, retry=Retry(NoBackoff(), 0)) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()
    with stack.valkey.client() as client:
        found: Any = client.config_get("maxmemory-policy", "save")
        assert found == {"maxmemory-policy": "noeviction", "save": "120 1"}


@pytest.mark.parametrize("name", SERVERS)
def test_every_listener_is_on_loopback(stack: Stack, name: str) -> None:
    process = psutil.Process(getattr(stack, name).pid)
    listening = [
        connection.laddr.ip
        for member in (process, *process.children(recursive=True))
        for connection in member.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) == {"127.0.0.1"}


def test_secrets_are_readable_by_their_owner_alone(stack: Stack) -> None:
    files = [path for path in stack.directory.rglob("*") if path.suffix in {".json", ".properties", ".conf", ".log"}]
    assert len(files) > 6
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}


def test_no_password_is_on_a_command_line(stack: Stack) -> None:
    secret = {value for name, value in stack.environment().items() if name.endswith("PASSWORD")}
    for server in stack.servers:
        words = " ".join(psutil.Process(server.pid).cmdline())
        assert not [value for value in secret if value in words]


def _connection_errors(config: dict[str, Any]) -> set[str]:
    """Return the names of the first errors that librdkafka reports of a client."""
    seen: set[str] = set()
    quiet: dict[str, Any] = {**config, "log_level": 0, "error_cb": lambda error: seen.add(error.name())}
    client = AdminClient(quiet)
    eventually(lambda: client.poll(0.1) or seen)
    return seen


def _first_error(consumer: Consumer) -> int:
    message = eventually(lambda: consumer.poll(0.5))
    error = message.error() if message else None
    assert error is not None
    return error.code()


def _refusal(future: Any) -> int | None:
    error = future.exception(10)
    assert isinstance(error, KafkaException)
    code: int = error.args[0].code()
    return code
