"""Rights to the topic taken away under the edge and given back; a client that is broken; parts of the edge that end."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from pydantic import SecretStr

from pipeline.api.access.key_store import KeyStore
from pipeline.api.server import serve
from pipeline.config import Settings
from pipeline.errors import HaltError
from pipeline.kafka.producer import EventProducer, Record
from pipeline.local.kafka_access import USER, allow
from tests.edges import EVENT, EdgeUnderTest, free_port
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real

TIMEOUT = 15.0


def binding(place: Place, user: str, operation: AclOperation, permission: AclPermissionType) -> AclBinding:
    return AclBinding(
        ResourceType.TOPIC, place.topic, ResourcePatternType.LITERAL, f"User:{user}", "*", operation, permission
    )


def withdraw(place: Place, user: str, operation: AclOperation, permission: AclPermissionType) -> None:
    admin = AdminClient(place.stack.kafka.admin_config())
    which = AclBindingFilter(
        ResourceType.TOPIC, place.topic, ResourcePatternType.LITERAL, f"User:{user}", "*", operation, permission
    )
    for pending in admin.delete_acls([which], request_timeout=TIMEOUT).values():
        assert pending.result(TIMEOUT)


@contextmanager
def denied(place: Place, operation: AclOperation) -> Iterator[None]:
    """Deny the pipeline's account an operation on the topic until the block ends."""
    allow(AdminClient(place.stack.kafka.admin_config()), [binding(place, USER, operation, AclPermissionType.DENY)])
    try:
        yield
    finally:
        withdraw(place, USER, operation, AclPermissionType.DENY)


@contextmanager
def account(place: Place, *operations: AclOperation) -> Iterator[Place]:
    """Another account that may do so much with the topic, and nothing else."""
    name, password = f"other-{secrets.token_hex(4)}", secrets.token_hex(8)
    admin = AdminClient(place.stack.kafka.admin_config())
    scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    made = UserScramCredentialUpsertion(name, scram, password.encode())
    admin.alter_user_scram_credentials([made], request_timeout=TIMEOUT)[name].result(TIMEOUT)
    allow(admin, [binding(place, name, operation, AclPermissionType.ALLOW) for operation in operations])
    changes = {"kafka_username": name, "kafka_password": SecretStr(password)}
    # Left there: to delete one can cost a Kafka 4.3.1 all of them at its next start. ScramDelta.apply drops the whole
    # mechanism where a removal comes first in its map; docs/deploy.md says it to operators.
    yield replace(place, settings=place.settings.model_copy(update=changes))


@pytest.mark.parametrize("operation", [AclOperation.WRITE, AclOperation.ALL], ids=["write", "all"])
def test_a_right_taken_away_is_told_at_once_and_used_once_it_is_back(
    operation: AclOperation, place: Place, edge: EdgeUnderTest
) -> None:
    assert edge.send(EVENT).status == 200
    with denied(place, operation):
        eventually(lambda: edge.send(EVENT).status == 503, timeout=30)
        replies = [edge.send(EVENT) for _ in range(100)]
        assert {reply.status for reply in replies} == {503}
        ready = edge.get("/health/ready")
        assert ready.status == 503
        assert "KAFKA_USERNAME" in ready.json()["error"]
        assert edge.answers("/health/live")
        assert edge.metric("kafka_reachable") == 0
    eventually(lambda: edge.send(EVENT).status == 200, timeout=20)
    eventually(lambda: edge.answers("/health/ready"))
    code, said = edge.stop()
    assert code == 0, said


@pytest.mark.parametrize("operation", [AclOperation.WRITE, AclOperation.ALL], ids=["write", "all"])
def test_a_right_that_is_missing_at_the_start_stops_it(operation: AclOperation, place: Place) -> None:
    with denied(place, operation):
        code, said = EdgeUnderTest(place).refused()
    assert code == 2, said
    assert "KAFKA_" in said


def test_a_client_that_is_broken_ends_the_process(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account without any right to write is given no producer's number, and the client never works again.

    The start asks for the right; but it may be taken away just then.
    """

    async def granted(_: EventProducer) -> str:
        return ""

    monkeypatch.setattr(EventProducer, "_denial", granted)
    with account(place, AclOperation.DESCRIBE) as other:
        settings = other.settings.model_copy(update={"port": free_port(), "metrics_port": free_port()})
        with pytest.raises(
            HaltError, match=r"a part of the edge ended: KafkaException: .*CLUSTER_AUTHORIZATION_FAILED"
        ):
            serve(settings)


def test_what_waits_for_a_broken_client_is_answered(place: Place) -> None:
    async def run(settings: Settings) -> tuple[list[KafkaError | None], list[str]]:
        told, fates = list[str](), asyncio.Queue[KafkaError | None]()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
        producer = EventProducer(settings, 1 << 20)
        met = list[KafkaError | None]()
        async with asyncio.timeout(20):
            for _ in range(3):
                producer.publish(Record(b"k", b"v", [], 0), lambda error, _: fates.put_nowait(error))
                met.append(await fates.get())
        await producer.close(2.0)
        return met, told

    with account(place, AclOperation.DESCRIBE) as other:
        fates, told = asyncio.run(run(other.settings))
    assert all(fates)
    assert [message.startswith("the Kafka client is broken") for message in told] == [True]


def test_a_part_of_the_edge_that_ends_ends_the_process(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys would never be read again, and a revoked one let in for good."""
    original, calls = KeyStore.load, list[int]()

    async def load(self: KeyStore) -> bool:
        calls.append(1)
        if len(calls) > 1:
            raise ValueError("a bug")
        return await original(self)

    monkeypatch.setattr(KeyStore, "load", load)
    settings = place.settings.model_copy(update={"port": free_port(), "metrics_port": free_port()})
    with pytest.raises(HaltError, match="a part of the edge ended: ValueError: a bug"):
        serve(settings)
