"""What the pipeline finds in Kafka: its topic, and an account that may do what the pipeline does and nothing else."""

import threading
import time
from collections.abc import Iterable
from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from pipeline.errors import UnavailableError

TOPIC: Final = "player.events.raw"
PARTITIONS: Final = 3
USER: Final = "gamemetrics"
GROUP_PREFIX: Final = "event-"
WAIT_SECONDS: Final = 15.0

TOPIC_OPERATIONS: Final = (
    AclOperation.DESCRIBE,
    AclOperation.DESCRIBE_CONFIGS,
    AclOperation.READ,
    AclOperation.WRITE,
)


def provision(admin: AdminClient) -> None:
    """Make the topic and grant the account its rights, unless both are there. Raises UnavailableError."""
    create_topic(admin, TOPIC, PARTITIONS)
    cluster = "kafka-cluster"
    allow(
        admin,
        [
            *grants(ResourceType.TOPIC, TOPIC, ResourcePatternType.LITERAL, TOPIC_OPERATIONS),
            *grants(
                ResourceType.GROUP,
                GROUP_PREFIX,
                ResourcePatternType.PREFIXED,
                (AclOperation.READ, AclOperation.DESCRIBE),
            ),
            *grants(ResourceType.BROKER, cluster, ResourcePatternType.LITERAL, (AclOperation.IDEMPOTENT_WRITE,)),
        ],
    )


def await_access(client: AdminClient, topic: str) -> None:
    """Wait until the broker lets the account of this client use the topic. Raises UnavailableError.

    The controller's word that a topic or a right is made comes a moment before the broker acts on it: a client that
    is told to go ahead at once is refused, for good, by an error that names its rights.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    pause = threading.Event()
    while not _may_use(client, topic):
        if time.monotonic() > deadline:
            raise UnavailableError(f"kafka: topic {topic} cannot be used {WAIT_SECONDS:.0f} s after it was made")
        pause.wait(0.02)


def _may_use(client: AdminClient, topic: str) -> bool:
    request = client.describe_topics(TopicCollection([topic]), include_authorized_operations=True)
    try:
        found = request[topic].result(WAIT_SECONDS)
    except KafkaException:
        return False
    led = all(partition.leader is not None for partition in found.partitions)
    return led and set(TOPIC_OPERATIONS) <= set(found.authorized_operations or ())


def create_topic(admin: AdminClient, topic: str, partitions: int) -> None:
    """Make a topic unless it is there."""
    try:
        admin.create_topics([NewTopic(topic, partitions, 1)], request_timeout=WAIT_SECONDS)[topic].result(WAIT_SECONDS)
    except KafkaException as error:
        cause = error.args[0]
        if not (isinstance(cause, KafkaError) and cause.code() == KafkaError.TOPIC_ALREADY_EXISTS):
            raise UnavailableError(f"kafka: topic {topic} cannot be made: {cause}") from error


def delete_topic(admin: AdminClient, topic: str) -> None:
    """Delete a topic and its records."""
    try:
        admin.delete_topics([topic], request_timeout=WAIT_SECONDS)[topic].result(WAIT_SECONDS)
    except KafkaException as error:
        raise UnavailableError(f"kafka: topic {topic} cannot be deleted: {error.args[0]}") from error


def allow(admin: AdminClient, bindings: list[AclBinding]) -> None:
    """Add access rights; those that are there stay."""
    for pending in admin.create_acls(bindings, request_timeout=WAIT_SECONDS).values():
        try:
            pending.result(WAIT_SECONDS)
        except KafkaException as error:
            raise UnavailableError(f"kafka: access rights cannot be granted: {error.args[0]}") from error


def grants(
    resource: ResourceType, name: str, pattern: ResourcePatternType, operations: Iterable[AclOperation]
) -> list[AclBinding]:
    """Build the rights of the pipeline's account to one resource, from loopback only."""
    return [
        AclBinding(resource, name, pattern, f"User:{USER}", "127.0.0.1", operation, AclPermissionType.ALLOW)
        for operation in operations
    ]
