"""A test's own place on the shared stack: its topic, database, Redis database and consumer group."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg
import redis
from confluent_kafka import KafkaError, Message, Producer
from psycopg.conninfo import make_conninfo

from pipeline.config import Settings
from pipeline.local.stack import Stack
from pipeline.sinks.session import address

TOPIC_PREFIX = "test."
Record = bytes | tuple[str | bytes | None, bytes | None]


@dataclass(frozen=True, slots=True)
class Place:
    """Everything one test may touch; no other test sees it."""

    stack: Stack
    settings: Settings

    @property
    def topic(self) -> str:
        return self.settings.kafka_topic

    @property
    def group(self) -> str:
        return self.settings.kafka_group_id

    def produce(
        self,
        records: Sequence[Record],
        *,
        partition: int = -1,
        headers: Mapping[str, bytes] | None = None,
    ) -> list[tuple[int, int]]:
        """Produce values or (key, value) pairs with the pipeline's account; return the (partition, offset) of each."""
        placed: dict[int, tuple[int, int]] = {}
        refused: list[KafkaError] = []
        producer = Producer({**self.stack.kafka.config(), "enable.idempotence": True, "linger.ms": 5})
        for index, record in enumerate(records):
            key, value = record if isinstance(record, tuple) else (None, record)

            def acknowledged(error: KafkaError | None, message: Message, index: int = index) -> None:
                if error is not None:
                    refused.append(error)
                else:
                    placed[index] = (_known(message.partition()), _known(message.offset()))

            while True:
                try:
                    producer.produce(
                        self.topic,
                        value=value,
                        key=key,
                        partition=partition,
                        headers=list(headers.items()) if headers else None,
                        on_delivery=acknowledged,
                    )
                    break
                except BufferError:
                    producer.poll(1.0)
        unsent = producer.flush(60.0)
        assert not refused, refused[0]
        assert unsent == 0
        return [placed[index] for index in range(len(records))]

    def pg(self) -> "psycopg.Connection[psycopg.rows.TupleRow]":
        """Return a connection to the test's database, in autocommit; close it, or use it in a with statement."""
        return psycopg.connect(self.dsn(), autocommit=True)

    def dsn(self) -> str:
        """Return the conninfo of the test's database for the pipeline's account."""
        return make_conninfo(**address(self.settings))

    def redis(self) -> redis.Redis:
        """Return a client of the test's Redis database that does not retry; close it, or use it in a with statement."""
        return self.stack.valkey.client(self.settings.redis_db)

    def environment(self) -> dict[str, str]:
        """Return the environment of a subprocess that is to work here."""
        return {
            **os.environ,
            **self.stack.environment(),
            "KAFKA_TOPIC": self.topic,
            "KAFKA_GROUP_ID": self.group,
            "DB_NAME": self.settings.db_name,
            "REDIS_DB": str(self.settings.redis_db),
        }


def _known(number: int | None) -> int:
    assert number is not None
    return number
