"""GET: the topic's partitions, and a page of one: the newest records, or those from an offset or a time on."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import orjson
from confluent_kafka import Message

from pipeline.api.access.keyring import Caller
from pipeline.api.console.answers import answer, asking, written_or_none
from pipeline.api.console.schemas import Bounds, Record, Records, Topic
from pipeline.api.console.sources import told
from pipeline.api.context import Context
from pipeline.api.http.connection import Connection
from pipeline.api.http.heads import Head
from pipeline.api.http.replies import Refusal
from pipeline.api.parameters import Whole, identifier, moment, parameters, whole
from pipeline.contract.event import record_time
from pipeline.kafka.browser import Browser, Filter, Page, UnknownPartitionError

RECORDS: Final = Whole("limit", 50, 1, 200, "How many records")
OFFSET: Final = Whole("offset", 0, 0, 2**63 - 1, "Records from here on, the oldest first")
BEFORE: Final = Whole("before", 2**63 - 1, 0, 2**63 - 1, "Records below this, the newest first; missing: the newest")
_PARTITION: Final = Whole("partition", 0, 0, 2**31 - 1, "")
_MOST_VALUE_BYTES: Final = 256 << 10
_MOST_HEADERS: Final = 50
_MOST_HEADER_BYTES: Final = 1024
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


async def get_topic(context: Context, connection: Connection, head: Head, _caller: Caller) -> None:
    """Answer GET /api/v1/console/topic."""
    parameters(head)
    console = context.console
    with asking():
        bounds = told(console.composer.bounds)
    partitions = [Bounds(partition, first, end) for partition, (first, end) in bounds.items()]
    answer(connection, Topic(console.topic, partitions))


async def get_records(context: Context, connection: Connection, head: Head, _caller: Caller) -> None:
    """Answer GET /api/v1/console/topic/{partition}."""
    partition = _partition(head)
    asked = parameters(head, RECORDS.name, OFFSET.name, BEFORE.name, "since", "player_id", "event_type")
    if len(asked.keys() & {OFFSET.name, BEFORE.name, "since"}) > 1:
        raise Refusal(400, "offset: only one of offset, before and since")
    limit, wanted = whole(asked, RECORDS), _filter(identifier(asked, "player_id"), asked.get("event_type"))
    offset, before = whole(asked, OFFSET), whole(asked, BEFORE)
    since = moment("since", asked["since"]) if "since" in asked else None

    def read(browser: Browser) -> Page:
        if since is not None:
            start = browser.offset_at(partition, max(0, (since - _EPOCH) // _MILLISECOND))
            return browser.onward(partition, start, limit, wanted)
        if OFFSET.name in asked:
            return browser.onward(partition, offset, limit, wanted)
        return browser.newest(partition, before, limit, wanted)

    with asking():
        try:
            page = await context.console.reader.page(read)
        except UnknownPartitionError as error:
            raise Refusal(404, f"partition: {error}") from None
    records = [_record(message) for message in page.records]
    answer(connection, Records(partition, page.first, page.end, records, page.next, page.scanned))


def _partition(head: Head) -> int:
    try:
        text = head.segments()[4]
    except UnicodeDecodeError:
        text = ""
    return whole({_PARTITION.name: text}, _PARTITION)


def _filter(player_id: str | None, event_type: str | None) -> Filter:
    """Make what picks records: by the key or the header as the edge sets them, otherwise by what is in the value."""
    if player_id is None and event_type is None:
        return lambda _: True
    player, kind = (
        None if text is None else text.encode("utf-8", "surrogateescape") for text in (player_id, event_type)
    )

    def wanted(message: Message) -> bool:
        headers = dict(_headers(message))
        fields: Mapping[str, Any] | None = None
        for name, said, asked in (
            ("player_id", message.key(), player),
            ("event_type", headers.get("event_type"), kind),
        ):
            if asked is None or said == asked:
                continue
            fields = _fields(message.value()) if fields is None else fields
            if fields.get(name) != asked.decode("utf-8", "surrogateescape"):
                return False
        return True

    return wanted


def _headers(message: Message) -> list[tuple[str, str | bytes | None]]:
    return cast("list[tuple[str, str | bytes | None]]", message.headers() or [])


def _fields(value: bytes | None) -> Mapping[str, Any]:
    try:
        loaded = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _record(message: Message) -> Record:
    value = message.value()
    text, encoded = _shown(value)
    return Record(
        offset=message.offset() or 0,
        timestamp=written_or_none(record_time(message.timestamp()[1])),
        key=None if message.key() is None else _text(message.key()),
        value=text,
        value_base64=encoded,
        headers=[[name[:_MOST_HEADER_BYTES], _text(held)] for name, held in _headers(message)[:_MOST_HEADERS]],
        bytes=len(value or b""),
    )


def _shown(value: bytes | None) -> tuple[str | None, str | None]:
    """Show a value as text, or in base64 if it is none; of a long one the beginning."""
    if value is None:
        return None, None
    cut = value[:_MOST_VALUE_BYTES]
    try:
        return cut.decode(), None
    except UnicodeDecodeError as error:
        if len(value) > len(cut) and error.start >= len(cut) - 3:  # only its last character is cut
            return cut[: error.start].decode(), None
        return None, base64.b64encode(cut).decode()


def _text(part: str | bytes | None) -> str:
    return part if isinstance(part, str) else (part or b"")[:_MOST_HEADER_BYTES].decode("utf-8", "replace")
