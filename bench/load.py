"""The reference load, in slices that fit in memory, and its way into a topic."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import polars as pl
from confluent_kafka import KafkaError, Message, Producer

from bench.rig import Bed
from pipeline.event import format_timestamp
from pipeline.ingest import Headers
from pipeline.operations.workload import Workload, record_values

_SLICE: Final = 100_000
_FLUSH_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """So many events of the reference load that ends at a moment."""

    count: int
    workload: Workload

    def slices(self) -> Iterator[pl.DataFrame]:
        """The events in order, as `Workload.events` gives them."""
        for start in range(0, self.count, _SLICE):
            yield self.workload.events(start, min(_SLICE, self.count - start))


def reference_load(count: int, seed: int = 1) -> Load:
    """The load of the last three days up to a minute ago."""
    return Load(count, Workload(seed=seed, end=datetime.now(UTC) - timedelta(minutes=1)))


@dataclass(frozen=True, slots=True)
class Produced:
    """What lies in the topic: records, and the bytes of their values."""

    events: int
    value_bytes: int


def produce(bed: Bed, load: Load) -> Produced:
    """Write a load as the edge writes it: same bytes, headers, partitioner and compression."""
    refused: list[KafkaError] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            refused.append(error)

    producer = Producer({**bed.stack.kafka.config(), **_DELIVERY})

    def send(value: str, key: str, headers: Headers) -> None:
        while True:
            try:
                producer.produce(bed.settings.kafka_topic, value, key, headers=headers, on_delivery=delivered)
            except BufferError:
                producer.poll(0.1)
            else:
                return

    size = 0
    for events in load.slices():
        values = record_values(events, format_timestamp(datetime.now(UTC)))
        size += int(values.str.len_bytes().sum())
        rows = events.select("player_id", "event_type", "event_id").iter_rows()
        for value, (player, kind, event_id) in zip(values, rows, strict=True):
            send(value, player, [("event_type", kind), ("event_id", event_id)])
        producer.poll(0)
    unsent = producer.flush(_FLUSH_SECONDS)
    if refused or unsent:
        raise RuntimeError(f"Kafka did not take the load: {unsent} unsent, {refused[:1]}")
    return Produced(load.count, size)


_DELIVERY: Final[dict[str, Any]] = {
    "log_level": 3,
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "lz4",
    "partitioner": "murmur2_random",
    "linger.ms": 5,
    "queue.buffering.max.messages": 200_000,
}
