"""The Kafka source: records as columns, and assignments that start where PostgreSQL says.

Kafka's committed offset is only a hint for lag tools. All calls come from one thread; the callbacks of a rebalance run
inside `poll`, and what they raise comes out of it.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import polars as pl
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.config import Settings
from pipeline.contract.offsets import Spans
from pipeline.epoch.batch import RECORD_COLUMNS, Records
from pipeline.errors import ConfigurationError, HaltError, PipelineError, RefusedError, UnavailableError
from pipeline.kafka.client import ASK_SECONDS, Account, client_config, translate, turns_away
from pipeline.logs import Seldom, librdkafka

_PREFETCH_KILOBYTES: Final = 4 * 1024
_RENEW_SECONDS: Final = 2.0
"""How often the client is told of a changed password, for when it connects again."""
_SAMPLED: Final = 4
"""Of so many records a poll the headers are looked at: all of them would cost a tenth of what an event costs in all."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a rebalance asks of its listener: where to start partitions, and to finish work on those that go away."""

    start: Callable[[list[int]], dict[int, int]]
    finish: Callable[[list[int]], None]


class Source:
    """Reads one topic as a member of a group."""

    def __init__(self, settings: Settings, group_id: str, service: str, assignment: Assignment) -> None:
        self._settings = settings
        self._topic = settings.kafka_topic
        self._assignment = assignment
        self._failed: PipelineError | None = None
        self._joined = False
        self._account = Account(settings)
        self._seldom = Seldom()
        self._renew_at = monotonic() + _RENEW_SECONDS
        self._turned_away = ""
        self.refusal = ""
        """Why Kafka denies the account the topic or the group; empty once it gives records again."""
        self._paused = False
        self._consumer = _client(
            {
                **client_config(settings),
                "client.id": service,
                "group.id": group_id,
                "enable.auto.commit": False,
                # Positions come from PostgreSQL; an offset the broker does not have is a gap to halt on, not to jump.
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                # Where a log ends in a transaction's marker, only this tells that nothing is left to read.
                "enable.partition.eof": True,
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": settings.kafka_session_timeout_ms,
                "heartbeat.interval.ms": min(3_000, settings.kafka_session_timeout_ms // 3),
                "max.poll.interval.ms": settings.kafka_max_poll_interval_ms,
                "queued.min.messages": 200_000,
                "queued.max.messages.kbytes": _PREFETCH_KILOBYTES,
                "fetch.queue.backoff.ms": 10,  # its default holds a drained queue back for a second
                "on_commit": _committed,
                "error_cb": self._on_error,
            }
        )

    def subscribe(self) -> None:
        """Join the group; assignments come in through `poll`."""
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def poll(self, limit: int, timeout: float) -> Records:
        """Return up to `limit` records, as soon as there are that many or else after `timeout` seconds.

        Raises HaltError, ConfigurationError, and what the assignment's callbacks raise.
        """
        if monotonic() > self._renew_at:
            if not self._account.renew(self._consumer) and self._turned_away:
                self.refusal = self._turned_away
            self._turned_away, self._renew_at = "", monotonic() + _RENEW_SECONDS
        try:
            messages = self._consumer.consume(limit, timeout)
        except KafkaException as error:
            raise translate(error.args[0], self._settings) from error
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        good, ends = messages, dict[int, int]()
        if bad := [message for message in messages if message.error() is not None]:
            for message in bad:
                self._note(message, ends)
            good = [message for message in messages if message.error() is None]
        if good:
            self.refusal = ""
        return Records(frame_of(good), ends, header_bytes(good))

    def _on_error(self, error: KafkaError) -> None:
        """Learn why the client has no connection: it goes on trying. A password that has changed is taken up next."""
        if self._seldom(error.str()):
            log.warning("kafka client", error=error.str())
        if turns_away(error):
            self._turned_away = str(translate(error, self._settings))
            self._renew_at = 0.0

    def _note(self, message: Message, ends: dict[int, int]) -> None:
        """Raise what stops the consumer; log what passes by itself; note the end of a partition.

        A right that is missing stops one that starts. One that had partitions waits until it is there again.
        """
        error, partition, offset = message.error(), message.partition(), message.offset()
        if error is None:
            return
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            self.refusal = ""
            if partition is not None and offset is not None:
                ends[partition] = offset
            return
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - its public name
            raise HaltError(f"topic {self._topic} partition {partition}: {error.str()}")
        translated = translate(error, self._settings)
        if isinstance(translated, RefusedError):
            if not self._joined:
                raise ConfigurationError(str(translated))
            self.refusal = str(translated)
        elif not isinstance(translated, UnavailableError):
            raise translated
        log.warning("kafka", error=error.str())

    def ranges(self, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        """Return the first offset and the end of each partition's log, within ASK_SECONDS for all of them.

        Raises UnavailableError.
        """
        deadline = monotonic() + ASK_SECONDS
        try:
            return {
                p: self._consumer.get_watermark_offsets(
                    TopicPartition(self._topic, p), timeout=max(0.1, deadline - monotonic())
                )
                for p in partitions
            }
        except KafkaException as error:
            raise translate(error.args[0], self._settings) from error

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        """Return the end of each partition's log, as the last fetch saw it; Kafka is asked only while none is made.

        For metrics: a partition whose end is not known now is left out.
        """
        found: dict[int, int] = {}
        deadline = monotonic() + 1.0  # for all of them: they are asked on the loop
        for partition in partitions:
            if monotonic() > deadline:
                return found
            place = TopicPartition(self._topic, partition)
            with contextlib.suppress(KafkaException):
                known = self._consumer.get_watermark_offsets(place, timeout=1.0, cached=not self._paused)
                if known is not None and known[1] >= 0:
                    found[partition] = known[1]
        return found

    def commit(self, spans: Spans) -> None:
        """Tell the broker how far the sinks are, and do not wait: the truth lies in PostgreSQL.

        Waiting for a broker that is frozen would stop the loop for as long as it is, and the probes would have the
        process killed for it. A refusal comes to `_committed`.
        """
        offsets = [TopicPartition(self._topic, span.partition, span.stop) for span in spans]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            log.info("offset commit refused; the next one covers it", error=str(error))

    def seek(self, offsets: dict[int, int]) -> None:
        """Continue partitions from other offsets. Raises UnavailableError."""
        for partition, offset in offsets.items():
            place = TopicPartition(self._topic, partition, offset)
            try:
                self._consumer.seek(place)
            except KafkaException as error:
                if error.args[0].code() != KafkaError._STATE:  # noqa: SLF001 - its public name
                    raise translate(error.args[0], self._settings) from error
                # Reading it has not begun, or has ended with an error: assigned anew, it starts where it should.
                self._consumer.incremental_unassign([place])
                self._assign([place])

    def pause(self) -> None:
        """Fetch nothing more, so that `poll` can keep the membership alive while the sinks are behind."""
        if not self._paused:
            self._consumer.pause(self._consumer.assignment())
            self._paused = True

    def resume(self) -> None:
        """Fetch again."""
        if self._paused:
            self._consumer.resume(self._consumer.assignment())
            self._paused = False

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    # -- rebalance -------------------------------------------------------------------------------------------------

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            starts = self._assignment.start([one.partition for one in partitions])
        except PipelineError as error:
            self._failed = error
            return
        self._joined = True
        self._assign([TopicPartition(self._topic, p, offset) for p, offset in starts.items()])

    def _assign(self, places: list[TopicPartition]) -> None:
        self._consumer.incremental_assign(places)
        if self._paused:
            self._consumer.pause(places)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            self._assignment.finish([one.partition for one in partitions])
        except PipelineError as error:
            self._failed = error
        if self._paused:
            # The client remembers a pause beyond the assignment: a partition that came back would never be read again.
            consumer.resume(partitions)
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        log.warning("partitions lost", partitions=[one.partition for one in partitions])
        self._on_revoke(consumer, partitions)


def _client(config: dict[str, Any]) -> Consumer:
    try:
        return Consumer(config, logger=librdkafka())
    except KafkaException as error:
        raise ConfigurationError(f"KAFKA_*: the client does not take the settings: {error.args[0].str()}") from error


def _committed(error: KafkaError | None, _: list[TopicPartition]) -> None:
    if error is not None:
        log.info("offset commit refused; the next one covers it", error=error.str())


def header_bytes(messages: Sequence[Message]) -> int:
    """Guess how much messages hold in headers, by some of them.

    Nobody reads them and a record may have a megabyte of them, which its message keeps until it is put into columns.
    """
    looked_at = messages[:: max(1, len(messages) // _SAMPLED)]
    found = 0
    for message in looked_at:
        headers: Any = message.headers()  # the client's stubs say that it may be a mapping; what is read is a list
        found += sum(len(name) + len(value or b"") for name, value in headers or ())
    return found * len(messages) // max(1, len(looked_at))


def frame_of(messages: Sequence[Message]) -> pl.DataFrame:
    """Put messages that are no errors into columns of RECORD_COLUMNS."""
    return pl.DataFrame(
        {
            "partition": list(map(Message.partition, messages)),
            "offset": list(map(Message.offset, messages)),
            "timestamp": [moment for _, moment in map(Message.timestamp, messages)],
            "key": list(map(Message.key, messages)),
            "value": list(map(Message.value, messages)),
        },
        schema=RECORD_COLUMNS,
    )
