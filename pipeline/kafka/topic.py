"""The topic as an operator reads it: its bounds, its committed offsets, its records; no group is joined or moved."""

from collections.abc import Iterator, Mapping
from time import monotonic
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.config import Settings
from pipeline.epoch.batch import Records, joined
from pipeline.errors import RefusedError, UnavailableError
from pipeline.kafka.client import ASK_SECONDS, reader_config, topic_id, translate
from pipeline.kafka.source import frame_of
from pipeline.logs import librdkafka

_PATIENCE_SECONDS: Final = 30.0
_PAGE: Final = 5_000
_POLL_SECONDS: Final = 0.1  # a poll that finds less than a page waits it out

Bounds = Mapping[int, tuple[int, int]]
"""By partition: the first position, and the one after the last."""


class Topic:
    """Reads one topic; close it. Raises what `kafka.client.translate` makes of Kafka's errors."""

    def __init__(self, settings: Settings, group_id: str) -> None:
        self._settings = settings
        self._name = settings.kafka_topic
        self.id = topic_id(settings)  # says first and clearly what is wrong with the account or the topic
        self._consumer = Consumer(
            {
                **reader_config(settings, "gamemetrics", group_id),
                "log_level": 0,  # what matters comes as an error
                "fetch.wait.max.ms": 100,
                "queued.max.messages.kbytes": 16 * 1024,
            },
            logger=librdkafka(),
        )

        self._at: dict[int, int] = {}

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def bounds(self) -> dict[int, tuple[int, int]]:
        """Return the first position and the end of each partition's log."""
        try:
            partitions = self._consumer.list_topics(self._name, timeout=ASK_SECONDS).topics[self._name].partitions
            return {
                p: self._consumer.get_watermark_offsets(TopicPartition(self._name, p), timeout=ASK_SECONDS)
                for p in sorted(partitions)
            }
        except KafkaException as error:
            raise translate(error.args[0], self._settings) from error

    def committed(self, partitions: list[int]) -> dict[int, int | None]:
        """Return what the group committed of each partition; None if it committed nothing."""
        asked = [TopicPartition(self._name, p) for p in partitions]
        try:
            found = self._consumer.committed(asked, timeout=ASK_SECONDS)
        except KafkaException as error:
            raise translate(error.args[0], self._settings) from error
        return {one.partition: one.offset if one.offset >= 0 else None for one in found}

    def read(self, ranges: Bounds) -> Iterator[Records]:
        """Yield every committed record whose position lies in the ranges, in order within a partition."""
        stops = {p: stop for p, (start, stop) in ranges.items() if start < stop}
        self._consumer.assign([TopicPartition(self._name, p, ranges[p][0]) for p in stops])
        heard_at = monotonic()
        while stops:
            messages = self._consumer.consume(_PAGE, _POLL_SECONDS)
            if any(message.error() is None for message in messages):
                heard_at = monotonic()
            elif monotonic() - heard_at > _PATIENCE_SECONDS:
                raise UnavailableError(f"Kafka: no record came for {_PATIENCE_SECONDS:.0f} s")
            yield self._within(messages, stops)
        self._consumer.unassign()

    # -- in pieces -----------------------------------------------------------------------------------------------------

    @property
    def positions(self) -> dict[int, int]:
        """Where each partition that is followed is read next."""
        return dict(self._at)

    def follow(self, starts: Mapping[int, int]) -> None:
        """Read on from these positions with `take`."""
        if starts != self._at:
            self._at = dict(starts)
            self._consumer.assign([TopicPartition(self._name, p, at) for p, at in starts.items()])

    def take(self, limit: int, size: int, until: Mapping[int, int]) -> Records:
        """Return the next records: up to `limit` of them or `size` bytes of values, or what there is.

        What lies below `until` is waited for, and must be there; what has come beyond it is taken along.
        """
        parts: list[Records] = []
        count = taken = 0
        heard_at = monotonic()
        while count < limit and taken < size:
            due = any(self._at[p] < stop for p, stop in until.items())
            messages = self._consumer.consume(min(_PAGE, limit - count), _POLL_SECONDS if due else 0)
            if not messages and not due:
                break
            if messages:
                heard_at = monotonic()
            elif monotonic() - heard_at > _PATIENCE_SECONDS:
                raise UnavailableError(f"Kafka: no record came for {_PATIENCE_SECONDS:.0f} s")
            part = self._following(messages)
            parts.append(part)
            count += len(part)
            taken += int(part.frame["value"].bin.size().sum())
        return joined(parts)

    def _following(self, messages: list[Message]) -> Records:
        """Keep what is a record, and note how far each partition was read."""
        good = [message for message in messages if message.error() is None]
        if len(good) < len(messages):
            for message in messages:
                self._note_end(message)
        records = Records(frame_of(good))
        for partition, stop in records.stops().items():
            self._at[partition] = max(self._at.get(partition, stop), stop)
        return records

    def _note_end(self, message: Message) -> None:
        """Note the end of a log by its position: the last ones may hold no record (a transaction's marker)."""
        partition, offset, error = message.partition(), message.offset(), message.error()
        if error is None:
            return
        if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            self._refuse(error)
        elif partition is not None and offset is not None:
            self._at[partition] = max(self._at.get(partition, offset), offset)

    # -- whole ---------------------------------------------------------------------------------------------------------

    def _within(self, messages: list[Message], stops: dict[int, int]) -> Records:
        """Keep the records below the stops, and drop the stops that were reached."""
        inside: list[Message] = []
        for message in messages:
            partition, offset = message.partition(), message.offset()
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                self._refuse(error)
                continue
            if partition is None or offset is None or partition not in stops:
                continue
            if error is None and offset < stops[partition]:
                inside.append(message)
                offset += 1
            # The end of the log is told by its position: the last ones may hold no record (a transaction's marker).
            if offset >= stops[partition]:
                del stops[partition]
                self._consumer.incremental_unassign([TopicPartition(self._name, partition)])
        return Records(frame_of(inside))

    def _refuse(self, error: KafkaError) -> None:
        """Raise what will not pass; of the rest the client reconnects by itself, and `read` is patient."""
        translated = translate(error, self._settings)
        lost = error.code() in {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}  # noqa: SLF001
        if lost or isinstance(translated, RefusedError) or not isinstance(translated, UnavailableError):
            raise translated
