"""What an epoch adds up to: deltas per player and per board, and the chunks that carry them to Redis.

Pure functions of frames. Deltas are increments, which commute, so it does not matter in which order partitions and
epochs arrive, only that each arrives once.
"""

from dataclasses import dataclass
from typing import Final

import orjson
import polars as pl

from pipeline.contract.boards import DAILY, PERIODS, WEEKLY, Expiry, stats_key
from pipeline.contract.event import POLARS_TIMESTAMP

MAX_OPERATIONS: Final = 5_000
"""Redis commands one call of the function may run: it blocks the server for a few milliseconds, not for a second."""

_HASH_OVERHEAD: Final = 2  # the total and the last event, beside one increment an event type

_MOST_TYPES: Final = 500
"""Event types of a player in one row of a call. Pieces are cut to leave room for the dearest row, so one player of
thousands of types would make a call of each other player's; and he might not fit into one himself."""

_LARGE: Final = 20_000
"""Rows from which keys are packed; below, looking at the keys first costs more than it saves."""
_PACKED: Final = 2**63


@dataclass(frozen=True, slots=True)
class Chunk:
    """One call's worth of increments of one partition: JSON (UTF-8), as `sinks/apply.lua` reads it."""

    partition: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Deltas:
    """What a set of events adds, each frame sorted by its key, then by partition.

    counts: player_id, event_type, partition, events (Int64), last_event (Datetime us UTC).
    days: game_id, day (Date, UTC), player_id, partition, score (Int128: a sum may pass 2^63).
    Both also have `player`, a number that orders as player_id does and is cheaper to group by; of this set only.
    """

    counts: pl.DataFrame
    days: pl.DataFrame


def aggregate(events: pl.DataFrame) -> Deltas:
    """Add up admitted events (columns of EVENT_SCHEMA, sorted by player_id) per key.

    Keys are grouped and sorted as integers that order as their strings do: a player's run in the sorted frame, and the
    place of a type or a game in a sorted Enum. Strings cost five times as much. Each frame is one lazy query: a small
    epoch's cost is the number of queries, not of rows.
    """
    keyed = events.select(
        "partition",
        "player_id",
        "event_timestamp",
        "score",
        _ordered(events["event_type"]),
        _ordered(events["game_id"]),
        player=pl.col("player_id").rle_id(),
    )
    return Deltas(_counts(keyed), _days(keyed.filter(pl.col("score").is_not_null())))


def _counts(keyed: pl.DataFrame) -> pl.DataFrame:
    events, last = pl.len().cast(pl.Int64).alias("events"), pl.col("event_timestamp").max().alias("last_event")
    grouped = _grouped(keyed, ["player", "event_type", "partition"], [pl.col("player_id").first(), events, last])
    return grouped.with_columns(pl.col("event_type").cast(pl.String))


def _days(scored: pl.DataFrame) -> pl.DataFrame:
    dated = scored.with_columns(day=pl.col("event_timestamp").dt.date())
    sums = [pl.col("player_id").first(), pl.col("score").cast(pl.Int128).sum()]
    grouped = _grouped(dated, ["game_id", "day", "player", "partition"], sums)
    return grouped.with_columns(pl.col("game_id").cast(pl.String))


def _grouped(frame: pl.DataFrame, keys: list[str], sums: list[pl.Expr]) -> pl.DataFrame:
    """Add up per key, in the order of the keys, which are whole numbers from 0 or stored as such.

    In a large frame they are packed into one number: a run of equal numbers is found in a third of the time.
    """
    packed = _packed(frame, keys) if len(frame) >= _LARGE else None
    if packed is None:
        return frame.group_by(keys).agg(sums).sort(keys)
    runs = frame.lazy().with_columns(packed.alias("key")).sort("key").group_by("key", maintain_order=True)
    return runs.agg(pl.col(keys).first(), *sums).drop("key").collect()


def _packed(frame: pl.DataFrame, keys: list[str]) -> pl.Expr | None:
    """Return keys as one number that orders as they do; None if 63 bits do not hold it."""
    numbers = [pl.col(key).to_physical().cast(pl.Int64) for key in keys]
    packed, size = pl.lit(0, pl.Int64), 1
    for number, most in zip(numbers, frame.select(number.max() for number in numbers).row(0), strict=True):
        packed, size = packed * (most + 1) + number, size * (most + 1)
    return packed if size < _PACKED else None


def _ordered(column: pl.Series) -> pl.Expr:
    """Code strings as an Enum whose integers order as the strings do, the same in every process."""
    return pl.col(column.name).cast(pl.Enum(column.unique().sort()))


def per_player(deltas: Deltas) -> pl.DataFrame:
    """Return the counts over all partitions: player_id, event_type, events, last_event."""
    sums = [pl.col("player_id").first(), pl.col("events").sum(), pl.col("last_event").max()]
    counts = _over_partitions(deltas.counts, ["player", "event_type"], sums)
    return counts.select("player_id", "event_type", "events", "last_event")


def per_day(deltas: Deltas) -> pl.DataFrame:
    """Return the scores of each day over all partitions: game_id, day, player_id, score (Decimal(38,0))."""
    sums = [pl.col("player_id").first(), pl.col("score").sum()]
    days = _over_partitions(deltas.days, ["game_id", "day", "player"], sums)
    return days.select("game_id", "day", "player_id", pl.col("score").cast(pl.Decimal(38, 0)))


def _over_partitions(frame: pl.DataFrame, keys: list[str], sums: list[pl.Expr]) -> pl.DataFrame:
    """Join the rows of one key; only a player whose events come in by several partitions has more than one."""
    player, partition = frame["player"], frame["partition"]
    repeats = ((player == player.shift()) & (partition != partition.shift())).any()
    return frame.group_by(keys, maintain_order=True).agg(sums) if repeats else frame


# -- chunks for Redis ----------------------------------------------------------------------------------------------


def chunk(deltas: Deltas, expiry: Expiry) -> list[Chunk]:
    """Cut deltas into calls of at most MAX_OPERATIONS commands, each of one partition; none for no deltas.

    The same deltas always give the same chunks in the same order: that is what makes a chunk's number its identity.
    """
    return [*_stats_chunks(deltas.counts), *_board_chunks(deltas.days, expiry)]


def _stats_chunks(counts: pl.DataFrame) -> list[Chunk]:
    """Columns: k (hash key), t (event types), n (increments), s (their total), l (last event, comparable as text).

    A player of more than _MOST_TYPES has several rows, each with the total of its own types: they may lie in several
    calls, and after each of these his total is the sum of his types.
    """
    keys: list[str | pl.Expr] = ["partition", "player"]
    if (counts["player"] == counts["player"].shift(_MOST_TYPES)).any():
        keys.append((pl.int_range(pl.len()).over("partition", "player") // _MOST_TYPES).alias("part"))
    players = counts.group_by(keys, maintain_order=True).agg(
        pl.col("player_id").first(),
        t="event_type",
        n="events",
        s=pl.col("events").sum(),
        l=pl.col("last_event").max(),
    )
    rows = _cut(players, pl.col("t").list.len().cast(pl.Int64) + _HASH_OVERHEAD).with_columns(
        pl.col("l").dt.strftime(POLARS_TIMESTAMP), k=pl.lit(stats_key("")) + pl.col("player_id")
    )
    return _render("stats", rows, "k", "t", "n", "s", "l")


def _board_chunks(days: pl.DataFrame, expiry: Expiry) -> list[Chunk]:
    """Columns: g (game), d (day), w (ISO week), x and y (when those expire, Unix seconds), p (players), s (scores).

    Scores are text, for a sum may pass 2^53, to which JSON numbers are exact in Lua. Beside them stands for how many
    days boards are kept: what that was before tells which may have been passed over.
    """
    rows = _cut(days, pl.lit(len(PERIODS), dtype=pl.Int64)).with_columns(pl.col("score").cast(pl.String))
    boards = rows.group_by("piece", "partition", "game_id", "day", maintain_order=True).agg(p="player_id", s="score")
    day = pl.col("day")
    dated = boards.with_columns(
        g="game_id",
        d=DAILY.stamps(day),
        w=WEEKLY.stamps(day),
        x=DAILY.expire_at(day, expiry.daily_days),
        y=WEEKLY.expire_at(day, expiry.weekly_days),
    )
    keep = orjson.dumps({period.name: expiry.of(period) for period in PERIODS.values() if period.dated}).decode()
    return _render("boards", dated, "g", "d", "w", "x", "y", "p", "s", further=f',"keep":{keep}')


def _cut(rows: pl.DataFrame, cost: pl.Expr) -> pl.DataFrame:
    """Mark each row with its piece: of one partition, and of at most MAX_OPERATIONS commands; a row costs far less."""
    sorted_rows = rows.sort("partition", maintain_order=True).with_columns(cost=cost)
    limit = MAX_OPERATIONS - pl.col("cost").max()  # a piece may run over by its last row
    spent = (pl.col("cost").cum_sum() - pl.col("cost")).over("partition")
    return sorted_rows.with_columns(piece=pl.struct("partition", spent // limit).rle_id())


def _render(name: str, rows: pl.DataFrame, *columns: str, further: str = "") -> list[Chunk]:
    """Write each piece as one JSON object of columns, with further members beside them."""
    pieces = rows.group_by("piece", maintain_order=True).agg(pl.col("partition").first(), *columns)
    written = pieces.select("partition", pl.struct(columns).struct.json_encode())
    return [Chunk(partition, f'{{"{name}":{text}{further}}}'.encode()) for partition, text in written.iter_rows()]
