"""Dead letters: what is kept of a record that is not counted, and the writing of it.

A value longer than an event may be is kept up to one byte past that: it can never be an event, a redrive sees that by
its length, and its reason has the size that it had. Kept whole, records of a topic that takes large ones would fill
the table, and the memory of whoever reads it, at a rate that their producer chooses.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import psycopg

from pipeline.contract.event import MAX_EVENT_BYTES
from pipeline.epoch.rejected import Rejected

KEPT_BYTES: Final = MAX_EVENT_BYTES + 1
_SHOWN_BYTES: Final = 4_096
_STATEMENT_BYTES: Final = 4 << 20
_STATEMENT_ROWS: Final = 10_000

FIRST_TIME: Final = -62_135_510_400_000
LAST_TIME: Final = 253_402_214_400_000
"""Between them a record's own time, any 64 bits, is kept: days 2 of year 1 and 31 of December 9999, in milliseconds; a
client reads them in every zone."""

MILLISECONDS: Final = "round(extract(epoch FROM record_timestamp) * 1000)::bigint"
"""A record's time again, of its dead letter."""

# One statement for many rows, never executemany: psycopg makes a pipeline of that, whose last message disarms
# PostgreSQL's idle_in_transaction_session_timeout (seen), and a consumer frozen then would keep its peers waiting.
_BURY: Final = """
INSERT INTO dlq_events (consumer_service, topic, original_event, error_message, code, partition, record_offset,
                        record_timestamp, record_key, record_value)
SELECT %s, %s, bad.event, bad.reason, bad.code, bad.partition, bad.record_offset,
       to_timestamp(bad.milliseconds / 1000.0), bad.record_key, bad.record_value
FROM unnest(%s::text[], %s::text[], %s::text[], %s::int[], %s::bigint[], %s::bigint[], %s::bytea[], %s::bytea[])
     AS bad(event, reason, code, partition, record_offset, milliseconds, record_key, record_value)
ON CONFLICT DO NOTHING
"""


def bury(connection: psycopg.Connection, service: str, topic: str, bad: Iterable[Rejected]) -> None:
    """Write dead letters, within the caller's transaction."""
    for part in _parts(bad):
        columns = zip(
            *(
                (
                    readable(one.value),
                    one.reason,
                    one.code,
                    one.partition,
                    one.offset,
                    min(max(one.timestamp, FIRST_TIME), LAST_TIME),
                    _kept(one.key),
                    _kept(one.value),
                )
                for one in part
            ),
            strict=True,
        )
        connection.execute(_BURY, (service, topic, *map(list, columns)))


def readable(value: bytes | None) -> str:
    """Show a record's value as text that PostgreSQL stores: what does not decode, and NUL, is replaced.

    Of a value that is no event's by its length, the beginning is shown.
    """
    shown = value or b""
    rest = ""
    if len(shown) > MAX_EVENT_BYTES:
        shown, rest = shown[:_SHOWN_BYTES], f" ... {len(shown)} bytes"
    return shown.decode("utf-8", "replace").replace("\0", "\ufffd") + rest


def _kept(part: bytes | None) -> bytes | None:
    return part if part is None or len(part) <= KEPT_BYTES else part[:KEPT_BYTES]


def _parts(bad: Iterable[Rejected]) -> Iterator[list[Rejected]]:
    """Cut into what one statement holds: its parameters are in memory several times over."""
    part: list[Rejected] = []
    size = 0
    for one in bad:
        part.append(one)
        size += min(len(one.value or b""), KEPT_BYTES) + min(len(one.key or b""), KEPT_BYTES)
        if size >= _STATEMENT_BYTES or len(part) >= _STATEMENT_ROWS:
            yield part
            part, size = [], 0
    if part:
        yield part
