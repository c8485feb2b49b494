"""The dead letters: records that were no events, looked at, sent again, or dropped.

A redriven record is a new record of the topic, judged like any other: mended meanwhile (a rule, the scoring table, a
partition for its day), it counts; still bad, it comes back as a new row. It keeps the identity it had: where it
carried no event_id or no timestamp, it is given those of its first place in the topic, so that sending it twice, or
again after only some of several were acknowledged, is one event. Where that place has no time either (a record's own
may be any number), it is the time at which the first service met it.
"""

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from psycopg import sql
from psycopg.rows import class_row

from pipeline.config import Settings
from pipeline.contract.event import EARLIEST, LATEST, format_timestamp, record_id
from pipeline.epoch.rejected import Code
from pipeline.errors import PipelineError, UnavailableError
from pipeline.kafka.client import client_config, translate
from pipeline.sinks.connection import connect, translated

_COLUMNS: Final = sql.SQL(
    "id, created_at, consumer_service, code, error_message, topic, partition, record_offset, record_timestamp,"
    " record_key, record_value, original_event, redriven_at, dropped_at, (SELECT min(same.created_at)"
    " FROM dlq_events AS same WHERE (same.topic, same.partition, same.record_offset, same.record_timestamp)"
    " = (dlq_events.topic, dlq_events.partition, dlq_events.record_offset, dlq_events.record_timestamp)) AS first_met"
)
_PAGE: Final = 1_000
_FLUSH_SECONDS: Final = 60.0


class UnknownLetterError(PipelineError):
    """No dead letter has this id, or it is not in a state that allows what was asked."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One row of dlq_events; `first_met` is when the first service wrote one for the same record."""

    id: int
    created_at: datetime
    consumer_service: str
    code: str
    error_message: str
    topic: str
    partition: int
    record_offset: int
    record_timestamp: datetime
    record_key: bytes | None
    record_value: bytes | None
    original_event: str
    redriven_at: datetime | None
    dropped_at: datetime | None
    first_met: datetime

    @property
    def state(self) -> str:
        """What became of it: open, redriven or dropped."""
        if self.dropped_at is not None:
            return "dropped"
        return "open" if self.redriven_at is None else "redriven"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters: of a service, a code, with a text in the reason, made since a time; those open, or all."""

    service: str | None = None
    reason_contains: str | None = None
    since: datetime | None = None
    only_open: bool = False
    code: Code | None = None


class DeadLetters:
    """The rows of dlq_events; close it. Raises UnavailableError."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection = connect(settings, "gamemetrics-dlq")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def count(self, wanted: Wanted) -> int:
        """Count what is wanted."""
        with translated():
            query = sql.SQL("SELECT count(*) FROM dlq_events WHERE {}").format(_where(wanted))
            row = self._connection.execute(query).fetchone()
        return int(row[0]) if row is not None else 0

    def newest(self, wanted: Wanted, limit: int) -> list[Letter]:
        """Return what is wanted, the newest first."""
        query = sql.SQL("SELECT {} FROM dlq_events WHERE {} ORDER BY id DESC LIMIT {}")
        return self._letters(query.format(_COLUMNS, _where(wanted), sql.Literal(limit)))

    def get(self, ids: Sequence[int]) -> list[Letter]:
        """Return letters by id, in the order asked. Raises UnknownLetterError."""
        query = sql.SQL("SELECT {} FROM dlq_events WHERE id = ANY({})").format(_COLUMNS, sql.Literal(list(ids)))
        found = {letter.id: letter for letter in self._letters(query)}
        for number in ids:
            if number not in found:
                raise UnknownLetterError(f"dlq_events has no row {number}")
        return [found[number] for number in ids]

    def drop(self, ids: Sequence[int]) -> int:
        """Mark letters as dropped: they stay, and are not redriven. Raises UnknownLetterError; then none is marked."""
        self.get(ids)
        with translated():
            done = self._connection.execute(
                "UPDATE dlq_events SET dropped_at = now() WHERE id = ANY(%s) AND dropped_at IS NULL", (list(ids),)
            )
        return done.rowcount

    def redrive(self, ids: Sequence[int]) -> int:
        """Send letters to their topic again, dropped ones not; returns how many records were acknowledged.

        Raises UnknownLetterError, and UnavailableError where Kafka did not acknowledge all: what it did is marked.
        """
        letters = self.get(ids)
        if dropped := [letter.id for letter in letters if letter.dropped_at is not None]:
            raise UnknownLetterError(f"dlq_events: dropped, and so not to be redriven: {dropped}")
        return self._send(letters)

    def redrive_open(self, wanted: Wanted, limit: int | None) -> int:
        """Send what is open of what is wanted, the oldest first, up to a limit; returns how many records were sent."""
        sent, above = 0, 0
        while limit is None or sent < limit:
            room = _PAGE if limit is None else min(_PAGE, limit - sent)
            query = sql.SQL("SELECT {} FROM dlq_events WHERE id > {} AND {} ORDER BY id LIMIT {}")
            letters = self._letters(
                query.format(_COLUMNS, sql.Literal(above), _where(wanted, only_open=True), sql.Literal(room))
            )
            if not letters:
                break
            above = letters[-1].id
            sent += self._send(letters)
        return sent

    def _send(self, letters: Iterable[Letter]) -> int:
        """Produce each record once, however many services refused it, and mark the rows of those acknowledged."""
        places = {(one.topic, one.partition, one.record_offset): one for one in letters}
        acknowledged: list[tuple[str, int, int]] = []
        refused: list[KafkaError] = []
        producer = Producer(
            {
                **client_config(self._settings),
                "acks": "all",
                "enable.idempotence": True,
                # As the edge and every Java producer place a player.
                "partitioner": "murmur2_random",
                "message.timeout.ms": int(_FLUSH_SECONDS * 1000),
            },
            logger=None,
        )
        for place, letter in places.items():

            def on_delivery(error: KafkaError | None, _message: Message, place: tuple[str, int, int] = place) -> None:
                if error is None:
                    acknowledged.append(place)
                else:
                    refused.append(error)

            value, headers = mended(letter)
            try:
                producer.produce(letter.topic, value, letter.record_key, on_delivery=on_delivery, headers=headers)
            except KafkaException as error:
                refused.append(error.args[0])
            producer.poll(0)
        producer.flush(_FLUSH_SECONDS)
        self._mark(acknowledged)
        if refused:
            raise translate(refused[0], self._settings)
        if len(acknowledged) < len(places):
            raise UnavailableError(f"Kafka acknowledged {len(acknowledged)} of {len(places)} records; do it again")
        return len(places)

    def _mark(self, places: list[tuple[str, int, int]]) -> None:
        with translated(), self._connection.cursor() as cursor:
            cursor.executemany(
                "UPDATE dlq_events SET redriven_at = now()"
                " WHERE topic = %s AND partition = %s AND record_offset = %s AND dropped_at IS NULL",
                places,
            )

    def _letters(self, query: sql.Composed) -> list[Letter]:
        with translated(), self._connection.cursor(row_factory=class_row(Letter)) as cursor:
            return cursor.execute(query).fetchall()


def open_letters(settings: Settings) -> "closing[DeadLetters]":
    """Open the dead letters for a `with` statement."""
    return closing(DeadLetters(settings))


def mended(letter: Letter) -> tuple[bytes | None, list[tuple[str, str | bytes | None]]]:
    """Return the value to send, with its identity spliced in where it lacks one, and the headers that the edge sets.

    The bytes are not written anew: a value that JSON readers disagree about must come back as it was.
    """
    value = letter.record_value
    loaded = _object(value)
    if value is None or loaded is None:
        return value, []
    added = {}
    if "event_id" not in loaded:
        added["event_id"] = str(record_id(letter.topic, letter.partition, letter.record_offset))
    if "timestamp" not in loaded:
        own = letter.record_timestamp
        moment = own if EARLIEST <= own <= LATEST else letter.first_met
        added["timestamp"] = format_timestamp(moment.astimezone(UTC))
    if added:
        body = value.rstrip()[:-1]  # an object ends with its brace
        value = body + (b"," if loaded else b"") + orjson.dumps(added)[1:]
    named = {**loaded, **added}
    headers = [(name, named[name]) for name in ("event_type", "event_id") if isinstance(named.get(name), str)]
    return value, [(name, text.encode()) for name, text in headers]


def _object(value: bytes | None) -> dict[str, Any] | None:
    try:
        loaded = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    return loaded if isinstance(loaded, dict) else None


def _where(wanted: Wanted, *, only_open: bool = False) -> sql.Composable:
    parts: list[sql.Composable] = [sql.SQL("true")]
    if wanted.only_open or only_open:
        parts.append(sql.SQL("redriven_at IS NULL AND dropped_at IS NULL"))
    if wanted.service is not None:
        parts.append(sql.SQL("consumer_service = {}").format(sql.Literal(wanted.service)))
    if wanted.reason_contains is not None:
        parts.append(sql.SQL("strpos(error_message, {}) > 0").format(sql.Literal(wanted.reason_contains)))
    if wanted.code is not None:
        parts.append(sql.SQL("code = {}").format(sql.Literal(wanted.code)))
    if wanted.since is not None:
        parts.append(sql.SQL("created_at >= {}").format(sql.Literal(wanted.since)))
    return sql.SQL(" AND ").join(parts)
