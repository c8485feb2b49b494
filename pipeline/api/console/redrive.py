"""POST: dead letters redriven or dropped, a part at a time, each part with its row of the audit.

Asked with `preview`, nothing is done and what would be is told. A record is sent through the edge's own producer, which
never holds up the loop; it is marked, and the audit written, in one statement after Kafka has it. If the process
ends between the two it is sent again by the next redrive, and counts once, for it keeps its identity.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final

import msgspec
import orjson
import structlog
from confluent_kafka import KafkaError, Message
from msgspec import UNSET, Meta, UnsetType

from pipeline.api.access.keyring import ANYONE, Caller
from pipeline.api.console.answers import answer, asking, unavailable
from pipeline.api.console.letters import COLUMNS, letter
from pipeline.api.console.schemas import Change
from pipeline.api.console.sources import MOST_COUNTED
from pipeline.api.context import Context
from pipeline.api.database import Database
from pipeline.api.http.connection import Connection
from pipeline.api.http.heads import Head
from pipeline.api.http.replies import Refusal
from pipeline.contract.event import MAX_EVENT_BYTES
from pipeline.epoch.rejected import Code
from pipeline.errors import PipelineError, UnavailableError
from pipeline.kafka.producer import EventProducer, Resent
from pipeline.kafka.sizes import STORED_NOT, TOO_LARGE
from pipeline.sinks.redrive import (
    LETTER,
    MARK,
    MOST_REASON,
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

MOST_IDS: Final = 1_000
MAX_BODY: Final = 64 << 10
_REDRIVE_SECONDS: Final = 10.0
"""How long parts are gone through of which nothing can be sent, in search of one of which something can."""
_PART: Final = 1_000
_PART_BYTES: Final = 4 << 20
_SHOWN: Final = 20
_SHOWN_CHARACTERS: Final = 2_000
_FITS: Final = f"{VALUE_SIZE} <= {MAX_EVENT_BYTES} AND topic = %s"
"""Whether a letter can be sent again here: it is no longer than an event may be, and of the edge's own topic."""

Id = Annotated[int, Meta(ge=1, le=2**63 - 1)]

_log = structlog.get_logger("console")


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """Which dead letters, why, and whether only to tell what would be done: ids, or the code of those that wait."""

    ids: Annotated[list[Id], Meta(min_length=1, max_length=MOST_IDS)] | UnsetType = UNSET
    code: Code | UnsetType = UNSET
    reason: (
        Annotated[str, Meta(max_length=MOST_REASON, description="For the audit; needed unless preview")] | UnsetType
    ) = UNSET
    preview: bool = False

    @property
    def why(self) -> str:
        """The reason, without space around it."""
        return "" if self.reason is UNSET else self.reason.strip()


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which letters are meant, as a condition of SQL with its parameters; those of a `code` may be however many."""

    where: str
    values: tuple[object, ...]
    by_code: bool

    def also(self, where: str, *values: object) -> "Chosen":
        """Return those of them for which something more holds."""
        return replace(self, where=f"{self.where} AND {where}", values=(*self.values, *values))


def post_redrive(context: Context, connection: Connection, head: Head, body: bytes, caller: Caller) -> None:
    """Answer POST /api/v1/console/dead-letters/redrive."""
    context.spawn(connection, _change(context, connection, head, body, caller, "redrive"))


def post_drop(context: Context, connection: Connection, head: Head, body: bytes, caller: Caller) -> None:
    """Answer POST /api/v1/console/dead-letters/drop."""
    context.spawn(connection, _change(context, connection, head, body, caller, "drop"))


async def _change(  # noqa: PLR0913, PLR0917 - what a POST is given
    context: Context, connection: Connection, head: Head, body: bytes, caller: Caller, action: Action
) -> None:
    asked = _read(head, body)
    chosen = _chosen(asked)
    console = context.console
    with asking():
        await _check_known(console.database, asked, action)
        if asked.preview:
            unfit = 0
            if action == "redrive":
                unfit = await _count(console.database, chosen.also(f"NOT ({_FITS})", console.topic))
                chosen = chosen.also(_FITS, console.topic)
            answer(connection, await _preview(console.database, chosen, unfit))
            return
        if console.changing.locked():
            raise Refusal(409, "another change is under way")
        what = orjson.dumps({"ids": asked.ids} if asked.ids is not UNSET else {"code": asked.code}).decode()
        author = Author(_actor(context, head, connection.peer, caller), action, asked.why, what)
        async with console.changing:
            doing = _drop(console.database, chosen, author) if action == "drop" else _redrive(context, chosen, author)
            answer(connection, await doing)


def _actor(context: Context, head: Head, peer: str, caller: Caller) -> str:
    key = "loopback" if caller is ANYONE else caller.name
    person = context.console.origins.identity(head, peer)
    return f"{person} by {key}" if person else key


# -- what is asked ---------------------------------------------------------------------------------------------------


def _read(head: Head, body: bytes) -> Asked:
    """Read the body. Raises Refusal."""
    if head.encoding:
        raise Refusal(415, "Content-Encoding: none is taken here")
    try:
        asked = msgspec.json.decode(body, type=Asked)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, f"body: {error}") from None
    if (asked.ids is UNSET) == (asked.code is UNSET):
        raise Refusal(400, "ids: give ids, or a code, and not both")
    if not asked.preview and not asked.why:
        raise Refusal(400, "reason: required, for the audit")
    if "\0" in asked.why:
        raise Refusal(400, "reason: must not hold NUL")
    return asked


def _chosen(asked: Asked) -> Chosen:
    """Say which letters are meant: of ids those not dropped, of a code those that wait."""
    if asked.ids is not UNSET:
        return Chosen("id = ANY(%s) AND dropped_at IS NULL", (sorted(set(asked.ids)),), by_code=False)
    return Chosen(f"code = %s AND {WAITING}", (asked.code,), by_code=True)


async def _check_known(database: Database, asked: Asked, action: Action) -> None:
    """Raise Refusal for an id that no letter has, or that is of one dropped and so not to be redriven."""
    if asked.ids is UNSET:
        return
    rows = await database.rows("SELECT id, dropped_at IS NOT NULL FROM dlq_events WHERE id = ANY(%s)", [asked.ids])
    states = dict(rows)
    if unknown := [number for number in asked.ids if number not in states]:
        raise Refusal(404, f"ids: there is no dead letter {unknown[0]}")
    if action == "redrive" and (dropped := [number for number in asked.ids if states[number]]):
        raise Refusal(409, f"ids: dropped, and so not to be redriven: {dropped[0]}")


async def _preview(database: Database, chosen: Chosen, unfit: int) -> Change:
    """Tell what would be done, and to how many: counted up to a bound."""
    total = await _count(database, chosen)
    query = f"SELECT {COLUMNS} FROM dlq_events WHERE {chosen.where} ORDER BY id LIMIT {_SHOWN}"  # noqa: S608
    rows = await database.rows(query, [_SHOWN_CHARACTERS, *chosen.values])
    return Change(total, [letter(row) for row in rows], done=True, unfit=unfit)


# -- what is done ----------------------------------------------------------------------------------------------------


async def _drop(database: Database, chosen: Chosen, author: Author) -> Change:
    """Drop a part of the letters, and note it, in one statement."""
    query = _DROP.format(where=chosen.where)
    rows = await database.rows(query, [*chosen.values, *author, _SHOWN_CHARACTERS])
    count = rows[0][0] if rows else 0
    return Change(count, [letter(row[1:]) for row in rows], done=count < _PART)


async def _redrive(context: Context, chosen: Chosen, author: Author) -> Change:
    """Send letters again: all of those given by id, of a code one part."""
    console = context.console
    fitting = chosen.also(_FITS, console.topic)
    unfit = await _count(console.database, chosen.also(f"NOT ({_FITS})", console.topic))
    deadline = asyncio.get_running_loop().time() + _REDRIVE_SECONDS
    sent: list[int] = []
    count = above = 0
    while letters := await _part(console.database, fitting.also("id > %s", above)):
        above = letters[-1].id
        done = await _send(context, letters)
        if done.places:
            await _note(console.database, done.places, author)
        count += len(done.places)
        unfit += done.unfit
        sent += [one.id for one in letters if one.place in done.places]
        if done.failed is not None:
            raise unavailable(f"{done.failed}; {count} records were sent again, and no others")
        if chosen.by_code and (count or asyncio.get_running_loop().time() > deadline):
            break
    left = await _count(console.database, fitting.also("id > %s", above))
    query = f"SELECT {COLUMNS} FROM dlq_events WHERE id = ANY(%s) ORDER BY id"  # noqa: S608 - a constant
    rows = await console.database.rows(query, [_SHOWN_CHARACTERS, sent[:_SHOWN]])
    return Change(count, [letter(row) for row in rows], done=not left or not count, unfit=unfit)


async def _count(database: Database, chosen: Chosen) -> int:
    query = f"SELECT count(*) FROM (SELECT FROM dlq_events WHERE {chosen.where} LIMIT {MOST_COUNTED}) AS found"  # noqa: S608
    ((count,),) = await database.rows(query, chosen.values)
    return int(count)


async def _part(database: Database, chosen: Chosen) -> list[Letter]:
    """Read the next letters, the oldest first: so many at most, and so many bytes, but always one."""
    query = f"SELECT id, {SIZE} FROM dlq_events WHERE {chosen.where} ORDER BY id LIMIT {_PART}"  # noqa: S608
    ids: list[int] = []
    size = 0
    for number, length in await database.rows(query, chosen.values):
        size += length
        if ids and size > _PART_BYTES:
            break
        ids.append(number)
    query = f"SELECT {LETTER} FROM dlq_events WHERE id = ANY(%s) ORDER BY id"  # noqa: S608 - a constant
    return [Letter(*row) for row in await database.rows(query, [ids])] if ids else []


@dataclass(slots=True)
class _Sent:
    """What Kafka said of a part: the places of the records it has, how many it never will, why not of the others."""

    places: set[Place]
    unfit: int = 0
    failed: PipelineError | None = None


async def _send(context: Context, letters: Sequence[Letter]) -> _Sent:
    """Publish each record once, however many services refused it, and wait for Kafka's word on each."""
    context.require_kafka()
    every = {one.place: _record(one) for one in letters}
    # What the topic is known not to take is not tried: in one batch with others it would be refused with them.
    records = {place: one for place, one in every.items() if not context.producer.sizes.fault(_length(one))}
    size = sum(map(_length, records.values()))
    context.pressure.enter(size)
    try:
        answers = await asyncio.gather(*(_published(context.producer, record) for record in records.values()))
    finally:
        context.pressure.leave(size)
    found = _Sent(
        {place for place, error in zip(records, answers, strict=True) if error is None}, len(every) - len(records)
    )
    for record, error in zip(records.values(), answers, strict=True):
        if error is None:
            continue
        found.failed = UnavailableError(f"Kafka did not confirm: {error.str()}")
        if error.code() not in STORED_NOT:
            context.producer.note(error)
            continue
        context.producer.doubt_sizes(error, _length(record))
        if error.code() not in TOO_LARGE or context.producer.sizes.lasting(_length(record)):
            found.unfit += 1
    if found.unfit == len(every) - len(found.places):
        found.failed = None
    return found


def _published(producer: EventProducer, record: Resent) -> asyncio.Future[KafkaError | None]:
    """Send a record; the future is Kafka's word, which comes within the producer's own time."""
    answered: asyncio.Future[KafkaError | None] = asyncio.get_running_loop().create_future()

    def on_delivery(error: KafkaError | None, _message: Message | None) -> None:
        if not answered.done():
            answered.set_result(error)

    producer.publish(record, on_delivery)
    return answered


async def _note(database: Database, places: set[Place], author: Author) -> None:
    """Mark the letters of records that were sent, and write the audit. Raises UnavailableError."""
    try:
        await database.rows(MARK, marking(places, author))
    except PipelineError as error:
        _log.error("redriven, and not noted", actor=author.actor, reason=author.reason, records=len(places))
        raise UnavailableError(f"{len(places)} records were sent again and could not be marked: {error}") from error


def _length(record: Resent) -> int:
    return len(record.key or b"") + len(record.value or b"")


def _record(letter: Letter) -> Resent:
    value, headers = mended(letter)
    return Resent(letter.record_key, value, headers, int(time.time() * 1000))


_DROP: Final = f"""
WITH chosen AS (SELECT id AS number FROM dlq_events WHERE {{where}} ORDER BY id LIMIT {_PART} FOR UPDATE),
dropped AS (UPDATE dlq_events SET dropped_at = now() FROM chosen WHERE id = number RETURNING dlq_events.*),
noted AS ({NOTED} SELECT %s, %s, %s, %s::jsonb, count(*) FROM dropped HAVING count(*) > 0)
SELECT (SELECT count(*) FROM dropped), {COLUMNS} FROM dropped ORDER BY id LIMIT {_SHOWN}
"""  # noqa: S608 - constants of ours
