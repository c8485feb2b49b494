"""The dead letters: records that were no events, looked at, sent again, or dropped.

A redriven record is a new record of the topic, judged like any other: mended meanwhile (a rule, the scoring table, a
partition for its day), it counts; still bad, it comes back as a new row. It keeps the identity it had
(`sinks.redrive`), so that sending it twice, or again after only some of several were acknowledged, is one event.

What is done is noted in `pipeline_audit`, in the statement that marks the letters, as the console does.

Letters are read and sent by bytes, not by number, whatever lies in the table. One that is longer than an event may be
is never sent: it would come back, and of such a record only the beginning is kept (`sinks.letters`).
"""

from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, LiteralString, NamedTuple

import orjson
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from psycopg import sql
from psycopg.rows import class_row

from pipeline.config import Settings
from pipeline.contract.event import MAX_EVENT_BYTES
from pipeline.epoch.rejected import Code
from pipeline.errors import PipelineError, RefusedError, UnavailableError
from pipeline.kafka.client import translate
from pipeline.kafka.sizes import STORED_NOT, plain_producer
from pipeline.sinks.connection import connect, translated
from pipeline.sinks.redrive import (
    LETTER,
    MARK,
    NOTED,
    SIZE,
    VALUE_SIZE,
    WAITING,
    Action,
    Author,
    Letter,
    Place,
    marking,
    mended,
)

_COLUMNS: Final = sql.SQL(LETTER)
_PAGE: Final = 1_000
_PAGE_BYTES: Final = 8 << 20
_SIZE: Final = sql.SQL(SIZE)
_FITS: Final = sql.SQL(VALUE_SIZE + " <= {}").format(sql.Literal(MAX_EVENT_BYTES))
_FLUSH_SECONDS: Final = 60.0
_DROP: Final[LiteralString] = f"""
WITH dropped AS (UPDATE dlq_events SET dropped_at = now() WHERE id = ANY(%s) AND dropped_at IS NULL RETURNING id),
noted AS ({NOTED} SELECT %s, %s, %s, %s::jsonb, count(*) FROM dropped HAVING count(*) > 0)
SELECT count(*) FROM dropped
"""  # noqa: S608 - constants of ours


class By(NamedTuple):
    """Who changes dead letters, and why: for the audit."""

    actor: str
    reason: str

    def author(self, action: Action, what: dict[str, Any]) -> Author:
        """Say what is done, and to which letters."""
        return Author(self.actor, action, self.reason, orjson.dumps(what).decode())


class UnknownLetterError(PipelineError):
    """No dead letter has this id, or it is not in a state that allows what was asked."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters: of a service, a code, with a text in the reason, made since a time; those open, or all."""

    service: str | None = None
    reason_contains: str | None = None
    since: datetime | None = None
    only_open: bool = False
    code: Code | None = None


@dataclass(slots=True)
class Redriven:
    """How many records were sent again, and how many letters of those asked for can never be."""

    sent: int = 0
    unfit: int = 0


class DeadLetters:
    """The rows of dlq_events; close it. Raises UnavailableError."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection = connect(settings, "gamemetrics-dlq")
        self._producer: Producer | None = None

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

    def drop(self, ids: Sequence[int], by: By) -> int:
        """Mark letters as dropped: they stay, and are not redriven. Raises UnknownLetterError; then none is marked."""
        self._check_known(ids)
        with translated():
            row = self._connection.execute(_DROP, (list(ids), *by.author("drop", {"ids": list(ids)}))).fetchone()
        return int(row[0]) if row is not None else 0

    def redrive(self, ids: Sequence[int], by: By) -> Redriven:
        """Send letters to their topic again, dropped ones not.

        Raises UnknownLetterError, and UnavailableError if Kafka did not acknowledge all: what it did is marked.
        """
        self._check_known(ids)
        asked = sql.SQL("id = ANY({})").format(sql.Literal(list(ids)))
        if dropped := [number for number, _ in self._sized(sql.SQL("{} AND dropped_at IS NOT NULL").format(asked))]:
            raise UnknownLetterError(f"dlq_events: dropped, and so not to be redriven: {dropped}")
        return self._redrive(asked, None, by.author("redrive", {"ids": list(ids)}))

    def redrive_open(self, wanted: Wanted, limit: int | None, by: By) -> Redriven:
        """Send what is open of what is wanted, the oldest first, up to a limit of letters."""
        asked = {**asdict(wanted), "only_open": None, "limit": limit}
        what = {name: value for name, value in asked.items() if value is not None}
        return self._redrive(_where(wanted, only_open=True), limit, by.author("redrive", what))

    def _redrive(self, which: sql.Composable, limit: int | None, author: Author) -> Redriven:
        self._check_rights()
        done, above = Redriven(), 0
        while limit is None or done.sent < limit:
            page = self._page(which, above, _PAGE if limit is None else min(_PAGE, limit - done.sent))
            if not page:
                break
            above = page[-1]
            self._send(self.get(page), done, author)
        row = self._rows(sql.SQL("SELECT count(*) FROM dlq_events WHERE {} AND NOT {}").format(which, _FITS))[0]
        done.unfit += int(row[0])
        return done

    def _page(self, which: sql.Composable, above: int, most: int) -> list[int]:
        """Return the ids of the next letters that may be sent: so many at most, and so many bytes, but always one."""
        fitting = sql.SQL("{} AND {} AND id > {}").format(which, _FITS, sql.Literal(above))
        ids: list[int] = []
        size = 0
        for number, length in self._sized(fitting, most):
            size += length
            if ids and size > _PAGE_BYTES:
                break
            ids.append(number)
        return ids

    def _sized(self, which: sql.Composable, most: int = _PAGE) -> list[tuple[int, int]]:
        """Return ids, in order, with how many bytes each letter is."""
        query = sql.SQL("SELECT id, {} FROM dlq_events WHERE {} ORDER BY id LIMIT {}")
        return [(row[0], row[1]) for row in self._rows(query.format(_SIZE, which, sql.Literal(most)))]

    def _check_known(self, ids: Sequence[int]) -> None:
        """Raise UnknownLetterError for an id that no letter has."""
        query = sql.SQL("SELECT id FROM dlq_events WHERE id = ANY({})").format(sql.Literal(list(ids)))
        found = {row[0] for row in self._rows(query)}
        for number in ids:
            if number not in found:
                raise UnknownLetterError(f"dlq_events has no row {number}")

    def _send(self, letters: Iterable[Letter], done: Redriven, author: Author) -> None:
        """Produce each record once, however many services refused it, and mark the rows of those acknowledged."""
        places = {one.place: one for one in letters}
        acknowledged: list[Place] = []
        refused: list[KafkaError] = []
        if self._producer is None:  # not `or`: a client without messages counts as false
            self._producer = plain_producer(self._settings, _FLUSH_SECONDS)
        producer = self._producer
        for place, letter in places.items():

            def on_delivery(error: KafkaError | None, _message: Message, place: Place = place) -> None:
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
        self._mark(acknowledged, author)
        done.sent += len(acknowledged)
        passing = [error for error in refused if error.code() not in STORED_NOT]
        done.unfit += len(refused) - len(passing)
        if passing:
            raise translate(passing[0], self._settings)
        if len(acknowledged) + len(refused) < len(places):
            raise UnavailableError(f"Kafka acknowledged {len(acknowledged)} of {len(places)} records; do it again")

    def _check_rights(self) -> None:
        """Raise RefusedError if what is to be sent could then be neither marked nor noted."""
        for table, right in (("dlq_events", "UPDATE"), ("pipeline_audit", "INSERT")):
            query = sql.SQL("SELECT has_any_column_privilege({}, {})").format(sql.Literal(table), sql.Literal(right))
            if not self._rows(query)[0][0]:
                raise RefusedError(f"DB_USER: permission denied for table {table}: it takes {right}")

    def _mark(self, places: Collection[Place], author: Author) -> None:
        if not places:
            return
        try:
            with translated():
                self._connection.execute(MARK, marking(places, author))
        except PipelineError as error:
            raise UnavailableError(f"{len(places)} records were sent again and could not be marked: {error}") from error

    def _rows(self, query: sql.Composed) -> list[tuple[Any, ...]]:
        with translated():
            return self._connection.execute(query).fetchall()

    def _letters(self, query: sql.Composed) -> list[Letter]:
        with translated(), self._connection.cursor(row_factory=class_row(Letter)) as cursor:
            return cursor.execute(query).fetchall()


def open_letters(settings: Settings) -> "closing[DeadLetters]":
    """Open the dead letters for a `with` statement."""
    return closing(DeadLetters(settings))


def _where(wanted: Wanted, *, only_open: bool = False) -> sql.Composable:
    parts: list[sql.Composable] = [sql.SQL("true")]
    if wanted.only_open or only_open:
        parts.append(sql.SQL(WAITING))
    if wanted.service is not None:
        parts.append(sql.SQL("consumer_service = {}").format(sql.Literal(wanted.service)))
    if wanted.reason_contains is not None:
        parts.append(sql.SQL("strpos(error_message, {}) > 0").format(sql.Literal(wanted.reason_contains)))
    if wanted.code is not None:
        parts.append(sql.SQL("code = {}").format(sql.Literal(wanted.code)))
    if wanted.since is not None:
        parts.append(sql.SQL("created_at >= {}").format(sql.Literal(wanted.since)))
    return sql.SQL(" AND ").join(parts)
