"""Single records of the topic, found by their place or their time; no group is joined or moved.

For one thread: the client is opened when it is first needed and kept, for to open one takes longer than to ask it.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.config import Settings
from pipeline.errors import UnavailableError
from pipeline.kafka.client import reader_config, translate

_CHUNK: Final = 200
"""Records taken at once. To make objects of them holds the interpreter's lock, for which a loop beside may wait."""
_FETCH_BYTES: Final = 256 * 1024
_POLL_SECONDS: Final = 0.05
_LATER_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Stretch:
    """The positions [start, stop) of one partition, as far as their times are not past `until_ms` by ten seconds.

    Times in a log are in order but for what several producers, and their clocks, make of it.
    """

    partition: int
    start: int
    stop: int
    until_ms: int | None = None


@dataclass(slots=True)
class Budget:
    """How many records, and until when (monotonic), a search may read; `spent` once it had to end early."""

    records: int
    deadline: float
    spent: bool = False

    def seconds(self) -> float:
        """Return how much time is left, and a moment if none is."""
        return max(0.01, self.deadline - monotonic())

    def take(self, records: int) -> bool:
        """Count what was read; False if that was the last."""
        self.records -= records
        self.spent = self.spent or self.records <= 0 or monotonic() > self.deadline
        return not self.spent


class Lookup:
    """Reads one topic here and there. Raises what `kafka.client.translate` makes of Kafka's errors."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.kafka_topic
        self._open: Consumer | None = None

    def close(self) -> None:
        """Close the client."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def partitions(self, budget: Budget) -> list[int]:
        """Return the partitions that there are. Raises ConfigurationError if there is no such topic."""
        with self._translated():
            found = self._client().list_topics(self._topic, timeout=budget.seconds()).topics[self._topic]
        if found.error is not None:
            raise translate(found.error, self._settings)
        return sorted(found.partitions)

    def bounds(self, partitions: Iterable[int], budget: Budget) -> dict[int, tuple[int, int]]:
        """Return the first position and the end of each partition's log."""
        with self._translated():
            return {
                p: self._client().get_watermark_offsets(TopicPartition(self._topic, p), timeout=budget.seconds())
                for p in partitions
            }

    def since(self, partitions: Iterable[int], milliseconds: int, budget: Budget) -> dict[int, int]:
        """Return the first position of each partition whose record is of a time or later; no entry: none is."""
        asked = [TopicPartition(self._topic, p, max(0, milliseconds)) for p in partitions]
        with self._translated():
            found = self._client().offsets_for_times(asked, timeout=budget.seconds())
        return {one.partition: one.offset for one in found if one.error is None and one.offset >= 0}

    def read(self, stretches: Iterable[Stretch], budget: Budget) -> Iterator[list[Message]]:
        """Yield the committed records of stretches, those of one partition in order, until the budget is spent.

        Raises UnavailableError if nothing came of them at all: that is no answer.
        """
        left = {one.partition: one for one in stretches if one.start < one.stop}
        if not left:
            return
        client, heard = self._client(), False
        try:
            with self._translated():
                client.assign([TopicPartition(self._topic, one.partition, one.start) for one in left.values()])
                while left:
                    messages = client.consume(_CHUNK, min(_POLL_SECONDS, budget.seconds()))
                    heard = heard or bool(messages)
                    yield self._within(messages, left)
                    if not budget.take(len(messages)):
                        break
            if not heard:
                raise UnavailableError("Kafka: no record came in time")
        finally:
            if self._open is client:
                client.unassign()

    def _within(self, messages: list[Message], left: dict[int, Stretch]) -> list[Message]:
        """Keep the records of stretches, and drop the stretches that are read."""
        inside: list[Message] = []
        for message in messages:
            partition, offset, error = message.partition(), message.offset(), message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                raise KafkaException(error)
            if partition is None or offset is None or partition not in left:
                continue
            stretch = left[partition]
            _, moment = message.timestamp()
            if error is None and offset < stretch.stop:
                inside.append(message)
                offset += 1
            late = error is None and stretch.until_ms is not None and moment > stretch.until_ms + _LATER_MS
            if offset >= stretch.stop or late:
                del left[partition]
        return inside

    def _client(self) -> Consumer:
        if self._open is None:
            self._open = Consumer(
                {
                    **reader_config(
                        self._settings, "gamemetrics-lookup", self._settings.kafka_group_id or "event-lookup"
                    ),
                    "log_level": 0,  # what matters comes as an error
                    "fetch.wait.max.ms": 50,
                    "fetch.message.max.bytes": _FETCH_BYTES,
                    "queued.max.messages.kbytes": 2 * _FETCH_BYTES // 1024,
                    "fetch.queue.backoff.ms": 10,
                },
                logger=None,
            )
        return self._open

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise Kafka's errors as ours; a client that met one is opened anew."""
        try:
            yield
        except KafkaException as error:
            self.close()
            raise translate(error.args[0], self._settings) from error
