"""A gate before a group: its members get their partitions at one moment, whenever each of them came.

Kafka deals a group's partitions to whoever is there, and tells the others by their heartbeats, seconds apart: the first
of several processes would read most of a backlog alone. So a member that reads nothing enters before them. Kafka deals
again when every member it knows has asked to join again or has left: this one does not ask, and leaves once all wait.
https://cwiki.apache.org/confluence/display/KAFKA/Kafka+Client-side+Assignment+Proposal
"""

from typing import Final

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from bench.rig import Fixture
from bench.waiting import eventually
from pipeline.kafka.client import client_config, reader_config

_TIMEOUT_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.05
_QUIET: Final = {"log_level": 3}


class Gate:
    """The member that holds the partitions of a fixture's group back, until it is opened or closed."""

    def __init__(self, fixture: Fixture) -> None:
        self._group = fixture.group
        self._admin = AdminClient({**client_config(fixture.settings), **_QUIET})
        self._held = False
        self._member = Consumer(
            {
                **reader_config(fixture.settings, "bench-gate", fixture.group),
                **_QUIET,
                "partition.assignment.strategy": "cooperative-sticky",
                # A heartbeat's answer would tell it that others joined, and it would ask again, too.
                "heartbeat.interval.ms": int(_TIMEOUT_SECONDS * 1_000),
                "session.timeout.ms": int(_TIMEOUT_SECONDS * 3_000),
            }
        )
        self._member.subscribe([fixture.settings.kafka_topic], on_assign=self._on_assign)
        eventually(self._shut, _TIMEOUT_SECONDS)

    def open(self, members: int) -> None:
        """Let in the members that wait, once there are so many. Raises TimeoutError."""
        eventually(lambda: self._members() == members + 1, _TIMEOUT_SECONDS, _POLL_SECONDS)
        self.close()

    def close(self) -> None:
        """Leave the group; a second time it does nothing."""
        self._member.close()

    def _shut(self) -> bool:
        self._member.poll(_POLL_SECONDS)
        return self._held

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign(partitions)
        consumer.pause(partitions)
        self._held = True

    def _members(self) -> int:
        return len(self._admin.describe_consumer_groups([self._group])[self._group].result(_TIMEOUT_SECONDS).members)
