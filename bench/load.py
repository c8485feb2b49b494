"""The reference load, in slices that fit in memory, and its way into a topic."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import polars as pl
from confluent_kafka import KafkaError, Message, Producer

from bench.rig import Fixture
from bench.shapes import SHAPES, Shape, values
from pipeline.contract.event import format_timestamp
from pipeline.kafka.client import DELIVERY
from pipeline.kafka.producer import Headers
from pipeline.load.workload import Workload, draw

_SLICE: Final = 100_000
_SLICE_BYTES: Final = 64 << 20
_FLUSH_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """So many records with the events of a workload, in a shape.

    `copies`: every second record is another copy of an event before it, near or far.
    """

    count: int
    workload: Workload
    shape: Shape = SHAPES["flat"]
    copies: bool = False

    @property
    def events(self) -> int:
        """How many different events there are."""
        return (self.count + 1) // 2 if self.copies else self.count

    def slices(self) -> Iterator[pl.DataFrame]:
        """The events in order, each once: columns of `Workload.events`, and those that `Shape.dress` adds."""
        for places in self._places(self.events):
            yield self._made(places)

    def records(self) -> Iterator[pl.DataFrame]:
        """The records in order: as the events, but for copies."""
        for places in self._places(self.count):
            yield self._made(self._copied(places) if self.copies else places)

    def _places(self, count: int) -> Iterator[pl.Series]:
        step = max(1, min(_SLICE, _SLICE_BYTES // self.shape.event_bytes))
        for start in range(0, count, step):
            yield pl.int_range(start, min(start + step, count), dtype=pl.UInt64, eager=True).alias("index")

    def _copied(self, places: pl.Series) -> pl.Series:
        half = pl.col("index") // 2
        earlier = draw(self.workload.seed, 0) % (half + 1)
        chosen = pl.when(pl.col("index") % 2 == 0).then(half).otherwise(earlier)
        return places.to_frame().select(chosen.alias("index")).to_series()

    def _made(self, places: pl.Series) -> pl.DataFrame:
        return self.shape.dress(self.workload.at(places), self.workload.seed)


def reference_load(count: int, seed: int = 1, shape: Shape = SHAPES["flat"]) -> Load:
    """The load of the last three days up to a minute ago."""
    return Load(count, Workload(seed=seed, end=datetime.now(UTC) - timedelta(minutes=1)), shape)


@dataclass(frozen=True, slots=True)
class Produced:
    """What lies in the topic: `events` records, and the bytes of their values."""

    events: int
    value_bytes: int


def produce(fixture: Fixture, load: Load) -> Produced:
    """Write a load as the edge writes it: same bytes, headers, partitioner and compression."""
    refused: list[KafkaError] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            refused.append(error)

    producer = Producer({**fixture.stack.kafka.config(), **_DELIVERY})

    def send(value: str, key: str, headers: Headers) -> None:
        while True:
            try:
                producer.produce(fixture.settings.kafka_topic, value, key, headers=headers, on_delivery=delivered)
            except BufferError:
                producer.poll(0.1)
            else:
                return

    size = 0
    for events in load.records():
        texts = values(events, format_timestamp(datetime.now(UTC)))
        size += int(texts.str.len_bytes().sum())
        rows = events.select("player_id", "event_type", "event_id").iter_rows()
        for value, (player, kind, event_id) in zip(texts, rows, strict=True):
            send(value, player, [("event_type", kind), ("event_id", event_id)])
        producer.poll(0)
    unsent = producer.flush(_FLUSH_SECONDS)
    if refused or unsent:
        raise RuntimeError(f"Kafka did not take the load: {unsent} unsent, {refused[:1]}")
    return Produced(load.count, size)


_DELIVERY: Final[dict[str, Any]] = {
    "log_level": 3,
    **DELIVERY,
    "linger.ms": 5,
    "queue.buffering.max.messages": 200_000,
}
