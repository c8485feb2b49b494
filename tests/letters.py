"""Dead letters put where they lie, without a consumer that wrote them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

_WRITE = """
INSERT INTO dlq_events (original_event, error_message, consumer_service, code, topic, partition, record_offset,
                        record_timestamp, record_key, record_value)
SELECT %(text)s, %(error)s, 'event-consumer', %(code)s, %(topic)s, 0, %(first)s + number, now(), %(key)s, %(value)s
FROM generate_series(1, %(count)s) AS number RETURNING id
"""


def write_letter(
    connection: "psycopg.Connection[Any]",
    topic: str,
    value: bytes | None = b"not JSON",
    **more: Any,
) -> list[int]:
    """Write dead letters of records of a topic; `count` of them, of `code`, from the offset `first` on."""
    text = (value or b"").decode("utf-8", "replace").replace("\0", "\ufffd")
    given = {"text": text, "error": "not JSON", "code": "invalid", "topic": topic, "key": b"k", "value": value}
    rows = connection.execute(_WRITE, {**given, "first": 0, "count": 1, **more}).fetchall()
    return [row[0] for row in rows]
