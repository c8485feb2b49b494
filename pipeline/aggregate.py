"""What an epoch adds up to: deltas per player and per board, and the chunks that carry them to Redis.

Pure functions of frames. Deltas are increments, which commute, so it does not matter in which order partitions and
epochs arrive, only that each arrives once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import polars as pl

from pipeline.event import stats_key

MAX_OPERATIONS: Final = 5_000
"""Redis commands one call of the function may run: it blocks the server for a few milliseconds, not for a second."""

_PERIODS: Final = 3  # alltime, daily, weekly: each score is one increment in each
_HASH_OVERHEAD: Final = 2  # total_events and last_event, beside one increment an event type


SECONDS_A_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Expiry:
    """How many days a daily and a weekly board stay in Redis after their period; PostgreSQL keeps them."""

    daily_days: int
    weekly_days: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """One call's worth of increments of one partition: JSON (UTF-8), as `sinks/apply.lua` reads it."""

    partition: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Deltas:
    """What a set of events adds, each frame sorted by its key.

    counts: player_id, event_type, partition, events (Int64), last_event (Datetime us UTC).
    days: game_id, day (Date, UTC), player_id, partition, score (Int128: a sum may pass 2^63).
    totals: game_id, player_id, score (Int128), over all days and partitions.
    """

    counts: pl.DataFrame
    days: pl.DataFrame
    totals: pl.DataFrame


def aggregate(events: pl.DataFrame) -> Deltas:
    """Add up admitted events (columns of EVENT_SCHEMA, sorted by player_id) per key.

    Keys are grouped and sorted as integers that order as their strings do: a player's run in the sorted frame, and the
    place of a type or a game in a sorted Enum. Strings cost five times as much.
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
    return Deltas(_counts(keyed), *_scores(keyed.filter(pl.col("score").is_not_null())))


def _counts(keyed: pl.DataFrame) -> pl.DataFrame:
    grouped = keyed.group_by("player", "event_type", "partition").agg(
        pl.col("player_id").first(),
        events=pl.len().cast(pl.Int64),
        last_event=pl.col("event_timestamp").max(),
    )
    return grouped.sort("player", "event_type", "partition").select(
        "player_id", pl.col("event_type").cast(pl.String), "partition", "events", "last_event"
    )


def _scores(keyed: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    keys = ["game_id", "day", "player", "partition"]
    days = (
        keyed.group_by("game_id", "player", "partition", day=pl.col("event_timestamp").dt.date())
        .agg(pl.col("player_id").first(), pl.col("score").cast(pl.Int128).sum())
        .sort(keys)
    )
    totals = (
        days.group_by("game_id", "player")
        .agg(pl.col("player_id").first(), pl.col("score").sum())
        .sort("game_id", "player")
    )
    game = pl.col("game_id").cast(pl.String)
    return days.select(game, "day", "player_id", "partition", "score"), totals.select(game, "player_id", "score")


def _ordered(column: pl.Series) -> pl.Series:
    """Code strings as an Enum whose integers order as the strings do, the same in every process."""
    return column.cast(pl.Enum(column.unique().sort()))


def per_player(deltas: Deltas) -> pl.DataFrame:
    """Return the counts over all partitions: player_id, event_type, events, last_event."""
    sums = [pl.col("events").sum(), pl.col("last_event").max()]
    return _over_partitions(deltas.counts, ["player_id", "event_type"], sums)


def per_day(deltas: Deltas) -> pl.DataFrame:
    """Return the scores of each day over all partitions: game_id, day, player_id, score (Decimal(38,0))."""
    days = _over_partitions(deltas.days, ["game_id", "day", "player_id"], [pl.col("score").sum()])
    return days.with_columns(pl.col("score").cast(pl.Decimal(38, 0)))


def all_time(deltas: Deltas) -> pl.DataFrame:
    """Return the scores over all days and partitions: game_id, player_id, score (Decimal(38,0))."""
    return deltas.totals.with_columns(pl.col("score").cast(pl.Decimal(38, 0)))


def _over_partitions(frame: pl.DataFrame, keys: list[str], sums: list[pl.Expr]) -> pl.DataFrame:
    """Join the rows of one key; only a player whose events come in by several partitions has more than one."""
    repeats = frame.select(pl.all_horizontal(pl.col(key) == pl.col(key).shift() for key in keys).any()).item()
    return frame.group_by(keys, maintain_order=True).agg(sums) if repeats else frame.drop("partition")


# -- chunks for Redis ----------------------------------------------------------------------------------------------


def chunk(deltas: Deltas, expiry: Expiry) -> list[Chunk]:
    """Cut deltas into calls of at most MAX_OPERATIONS commands, each of one partition; none for no deltas.

    The same deltas always give the same chunks in the same order: that is what makes a chunk's number its identity.
    """
    return [*_stats_chunks(deltas.counts), *_board_chunks(deltas.days, expiry)]


def _stats_chunks(counts: pl.DataFrame) -> Iterator[Chunk]:
    """Columns: k (hash key), t (event types), n (increments), s (total), l (last event, comparable as text)."""
    players = counts.group_by("partition", "player_id", maintain_order=True).agg(
        t="event_type",
        n="events",
        s=pl.col("events").sum(),
        l=pl.col("last_event").max().dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"),
    )
    players = players.with_columns(k=pl.lit(stats_key("")) + pl.col("player_id"))
    cost = pl.col("t").list.len().cast(pl.Int64) + _HASH_OVERHEAD
    for partition, rows in _cut(players, cost):
        yield Chunk(partition, _columns_to_json("stats", rows.select("k", "t", "n", "s", "l")))


def _board_chunks(days: pl.DataFrame, expiry: Expiry) -> Iterator[Chunk]:
    """Columns: g (game), d (day), w (ISO week), x and y (when those expire, Unix seconds), p (players), s (scores).

    Scores are text, for a sum may pass 2^53, to which JSON numbers are exact in Lua.
    """
    day = pl.col("day")
    number = day.cast(pl.Int32).cast(pl.Int64)
    week_ends = number - day.dt.weekday().cast(pl.Int64) + 8
    for partition, rows in _cut(days, pl.lit(_PERIODS, dtype=pl.Int64)):
        boards = rows.group_by("game_id", "day", maintain_order=True).agg(
            p="player_id", s=pl.col("score").cast(pl.String)
        )
        boards = boards.select(
            g="game_id",
            d=day.dt.strftime("%Y-%m-%d"),
            w=day.dt.strftime("%G-W%V"),
            x=(number + 1 + expiry.daily_days) * SECONDS_A_DAY,
            y=(week_ends + expiry.weekly_days) * SECONDS_A_DAY,
            p="p",
            s="s",
        )
        yield Chunk(partition, _columns_to_json("boards", boards))


def _cut(frame: pl.DataFrame, cost: pl.Expr) -> Iterator[tuple[int, pl.DataFrame]]:
    """Split rows by partition, and each partition so that a piece costs at most MAX_OPERATIONS (or is one row)."""
    rows = frame.sort("partition", maintain_order=True).with_columns(cost=cost)
    limit = pl.max_horizontal(MAX_OPERATIONS - pl.col("cost").max(), 1)  # a piece may run over by its last row
    spent = (pl.col("cost").cum_sum() - pl.col("cost")).over("partition")
    start = 0
    for length, piece in rows.select(pl.struct("partition", spent // limit).rle()).unnest("partition").iter_rows():
        yield int(piece["partition"]), rows.slice(start, length)
        start += length


def _columns_to_json(name: str, frame: pl.DataFrame) -> bytes:
    encoded = frame.select(pl.all().implode()).to_struct().struct.json_encode().item()
    return f'{{"{name}":{encoded}}}'.encode()
