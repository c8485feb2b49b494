"""The topic as a person looks at it: a page of one partition's records, within bounds, of no group.

Nothing is committed and no group joined; what is read is bounded in records, in bytes and in time, whatever is asked.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.config import Settings
from pipeline.errors import RefusedError, UnavailableError
from pipeline.kafka.client import Account, is_authentication, reader_config, translate

SCAN_RECORDS: Final = 20_000
"""How many records are looked at for one page, if a filter leaves most of them out."""
PAGE_BYTES: Final = 2 << 20
_WINDOW_BYTES: Final = 8 << 20
"""What is in memory of what is looked at: of records that are larger together, fewer are."""
_PAGE_SECONDS: Final = 4.0
_ASK_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.1
_POLL_RECORDS: Final = 500

Filter = Callable[[Message], bool]


@dataclass(slots=True)
class Page:
    """Records of one partition with its bounds; `next` is where the next page begins, None after the last."""

    first: int
    end: int
    records: list[Message] = field(default_factory=list)
    next: int | None = None
    scanned: int = 0


class UnknownPartitionError(UnavailableError):
    """The topic has no such partition."""


class Browser:
    """Reads pages of one topic. It blocks; one thread. Close it.

    Raises what `client.translate` makes of Kafka's errors.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.kafka_topic
        self._refused: KafkaError | None = None
        config: dict[str, Any] = {
            **reader_config(settings, "gamemetrics-console", "gamemetrics-console"),
            "log_level": 0,  # what matters comes as an error
            "fetch.wait.max.ms": 50,
            "queued.max.messages.kbytes": 4096,
            "auto.offset.reset": "earliest",  # what is asked for may have been deleted meanwhile
            "error_cb": self._on_error,
        }
        self._account = Account(settings)
        self._consumer = Consumer(config, logger=None)

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()

    def newest(self, partition: int, before: int | None, limit: int, wanted: Filter) -> Page:
        """Return the last records below an offset, or below the end, the newest first."""
        deadline = monotonic() + _PAGE_SECONDS
        page = self._begun(partition)
        stop = page.end if before is None else max(page.first, min(before, page.end))
        window, size = limit, 0
        while stop > page.first and len(page.records) < limit and page.scanned + window <= SCAN_RECORDS:
            start = max(page.first, stop - window)
            found = self._window(partition, start, stop, deadline)
            if found is None:
                break
            if isinstance(found, int):
                window = found
                continue
            page.scanned += len(found)
            for message in reversed(found):
                if not wanted(message):
                    continue
                size += _size(message)
                if len(page.records) == limit or (page.records and size > PAGE_BYTES):
                    page.next = _above(page.records[-1].offset(), page.first)
                    return page
                page.records.append(message)
            stop, window = start, window * 2
        page.next = _above(stop, page.first)
        return page

    def onward(self, partition: int, offset: int, limit: int, wanted: Filter) -> Page:
        """Return the records from an offset on, the oldest first."""
        page = self._begun(partition)
        position, size = max(offset, page.first), 0
        for message in self._read(partition, position, page.end, monotonic() + _PAGE_SECONDS):
            place = page.end if message is None else message.offset() or 0
            if message is not None and wanted(message):
                size += _size(message)
                if len(page.records) == limit or (page.records and size > PAGE_BYTES):
                    page.next = place
                    return page
                page.records.append(message)
            page.scanned += message is not None
            position = place + (message is not None)
            if page.scanned >= SCAN_RECORDS:
                break
        page.next = position if position < page.end else None
        return page

    def offset_at(self, partition: int, milliseconds: int) -> int:
        """Return the offset of the first record that is as new as that; the end if none is."""
        asked = TopicPartition(self._topic, partition, milliseconds)
        self._account.renew(self._consumer)
        try:
            (found,) = self._consumer.offsets_for_times([asked], timeout=_ASK_SECONDS)
        except KafkaException as error:
            raise self._translated(error.args[0]) from error
        if found.error is not None:
            raise self._translated(found.error)
        return found.offset if found.offset >= 0 else self._begun(partition).end

    def _begun(self, partition: int) -> Page:
        self._refused = None
        self._account.renew(self._consumer)
        place = TopicPartition(self._topic, partition)
        try:
            known = self._consumer.get_watermark_offsets(place, timeout=_ASK_SECONDS)
        except KafkaException as error:
            raise self._translated(error.args[0]) from error
        if known is None:
            raise UnavailableError(f"Kafka: no answer from {self._settings.kafka_bootstrap_servers}")
        return Page(*known)

    def _window(self, partition: int, start: int, stop: int, deadline: float) -> list[Message] | int | None:
        """Return the records between two offsets; if they are too large together, how many make a page; or None."""
        found: list[Message] = []
        size = 0
        for message in self._read(partition, start, stop, deadline):
            if message is None:
                return found
            size += _size(message)
            found.append(message)
            if len(found) > 1 and size > _WINDOW_BYTES:
                return max(1, len(found) * PAGE_BYTES // size)
        return None  # the time is over

    def _read(self, partition: int, start: int, stop: int, deadline: float) -> Iterator[Message | None]:
        """Yield the records between two offsets, and None once there are no more; it ends early at the deadline."""
        if start >= stop:
            yield None
            return
        try:
            self._consumer.assign([TopicPartition(self._topic, partition, start)])
            while monotonic() < deadline:
                for message in self._consumer.consume(_POLL_RECORDS, _POLL_SECONDS):
                    error, offset = message.error(), message.offset() or 0
                    if error is None and offset < stop:
                        yield message
                    # The end is told by its position: the last ones may hold no record (a transaction's marker).
                    at_end = error is not None and error.code() == KafkaError._PARTITION_EOF  # noqa: SLF001 - public
                    if at_end or (error is None and offset >= stop - 1):
                        yield None
                        return
                    if error is not None:
                        self._refuse(error)
        except KafkaException as error:
            raise self._translated(error.args[0]) from error
        finally:
            self._consumer.unassign()

    def _refuse(self, error: KafkaError) -> None:
        """Raise what will not pass; of the rest the client recovers by itself, or the deadline comes.

        Not if the account has no right to a group: the client looks for the one that it was given, and none is used.
        """
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return
        translated = self._translated(error)
        if isinstance(translated, RefusedError) or not isinstance(translated, UnavailableError):
            raise translated

    def _translated(self, error: KafkaError) -> Exception:
        if error.code() == KafkaError._UNKNOWN_PARTITION:  # noqa: SLF001 - its public name
            return UnknownPartitionError(f"the topic has no such partition: {error.str()}")
        return translate(self._refused or error, self._settings)

    def _on_error(self, error: KafkaError) -> None:
        if is_authentication(error):
            self._refused = error


def _size(message: Message) -> int:
    return len(message.value() or b"") + len(message.key() or b"")


def _above(offset: int | None, first: int) -> int | None:
    """Return where the page of what is older ends; None if nothing is."""
    return offset if offset is not None and offset > first else None
