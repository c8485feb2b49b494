"""The epoch as a polars frame: its columns, and its encodings as bytes for PostgreSQL's binary COPY.

One row is one event. Everything after decoding works on these columns and never on objects.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

import polars as pl
from pgpq import ArrowToPostgresBinaryEncoder
from pgpq.encoders import LargeStringEncoderBuilder
from pgpq.schema import Jsonb

from pipeline.epoch.roles import IDENTITY

if TYPE_CHECKING:
    import pyarrow as pa
    from pgpq._pgpq import EncoderBuilder

_COLUMNS: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "partition": pl.Int32,
    "offset": pl.Int64,
    "event_id": pl.Binary,  # 16 bytes
    "event_type": pl.String,
    "player_id": pl.String,
    "game_id": pl.String,
    "event_timestamp": pl.Datetime("us", "UTC"),
    "ingested_at": pl.Datetime("us", "UTC"),
    "data": pl.String,  # the JSON text as it was sent
    "score": pl.Int64,  # null if the event's type does not score
    "row": pl.UInt32,  # the place of its record among the epoch's values
}
EVENT_SCHEMA: Final = pl.Schema(_COLUMNS)

CopyData = Iterable[bytes]
"""PostgreSQL binary COPY data, in pieces as they are sent: joined, they would take their memory twice."""

_ARROW: Final = pl.CompatLevel.oldest()
_PIECE: Final = 10_000
_PIECE_BYTES: Final = 4 << 20
"""Rows, and bytes of text, encoded at a time: on the way to bytes they take four times their memory."""


def text_or_null(values: pl.Series) -> pl.Series:
    """View bytes as text; null if they are not UTF-8 (polars refuses the whole column for one of them)."""
    try:
        return values.cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series(values.name, [None if value is None else _decoded(value) for value in values], dtype=pl.String)


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def sort_by_identity(events: pl.DataFrame) -> pl.DataFrame:
    """Order events as the ledger's primary key does.

    Sorted rows go to neighbouring index pages (a quarter less CPU in PostgreSQL, measured), two writers that share keys
    take them in the same order, so they cannot deadlock, and a player's events lie together for aggregation.
    """
    return events.sort(IDENTITY)


def encode_copy(frame: pl.DataFrame, jsonb: frozenset[str] = frozenset()) -> Iterator[bytes]:
    """Encode a frame as PostgreSQL binary COPY data (PGCOPY format), its columns in order, while it is read.

    String columns become text, or jsonb if named; Binary becomes bytea (a uuid column takes its 16 bytes as they
    are); Datetime(us) timestamptz, Date date, Int32 and Int64 int4 and int8.
    """
    schema = frame[:0].to_arrow(compat_level=_ARROW).schema
    encoder = ArrowToPostgresBinaryEncoder.new_with_encoders(schema, _encoders(schema, jsonb))
    yield encoder.write_header()
    for piece in _pieces(frame):
        for batch in piece.rechunk().to_arrow(compat_level=_ARROW).to_batches():
            yield encoder.write_batch(batch)
    yield encoder.finish()


def _pieces(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    if frame.estimated_size() <= _PIECE_BYTES:  # a small epoch's cost is the number of queries
        yield frame
        return
    for start, rows in pieces_of(_text_sizes(frame), _PIECE, _PIECE_BYTES):
        yield frame[start : start + rows]


def _text_sizes(frame: pl.DataFrame) -> pl.Series:
    """Return the bytes of each row's texts and byte strings."""
    sizes = [pl.repeat(0, pl.len(), dtype=pl.Int64)]
    sizes += [pl.col(name).str.len_bytes().cast(pl.Int64) for name, kind in frame.schema.items() if kind == pl.String]
    sizes += [pl.col(name).bin.size().cast(pl.Int64) for name, kind in frame.schema.items() if kind == pl.Binary]
    return frame.select(pl.sum_horizontal(sizes)).to_series()


def pieces_of(sizes: pl.Series, rows: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut rows of given sizes into runs, as (first row, rows): of at most so many rows, and of about `size` bytes."""
    places = pl.int_range(len(sizes), dtype=pl.Int64, eager=True)
    start = 0
    for length in (sizes.fill_null(0).cum_sum() // size + places // rows).rle().struct.field("len"):
        yield start, length
        start += length


def _encoders(schema: "pa.Schema", jsonb: frozenset[str]) -> "dict[str, EncoderBuilder]":
    encoders = {field.name: ArrowToPostgresBinaryEncoder.infer_encoder(field) for field in schema}
    for name in jsonb:
        encoders[name] = LargeStringEncoderBuilder.new_with_output(schema.field(name), Jsonb())
    return encoders
