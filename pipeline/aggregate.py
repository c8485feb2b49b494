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
    """What a set of events adds, sorted by key.

    counts: partition, player_id, event_type, events (Int64), last_event (Datetime us UTC).
    scores: partition, game_id, player_id, day (Date, UTC), score (Int128: a sum may pass 2^63).
    """

    counts: pl.DataFrame
    scores: pl.DataFrame


def aggregate(events: pl.DataFrame) -> Deltas:
    """Add up admitted events (columns of EVENT_SCHEMA) per partition and key."""
    counts = (
        events.group_by("partition", "player_id", "event_type")
        .agg(events=pl.len().cast(pl.Int64), last_event=pl.col("event_timestamp").max())
        .sort("partition", "player_id", "event_type")
    )
    scores = (
        events.filter(pl.col("score").is_not_null())
        .group_by("partition", "game_id", "player_id", day=pl.col("event_timestamp").dt.date())
        .agg(score=pl.col("score").cast(pl.Int128).sum())
        .sort("partition", "game_id", "day", "player_id")
    )
    return Deltas(counts, scores)


def per_player(counts: pl.DataFrame) -> pl.DataFrame:
    """Add up counts over all partitions: player_id, event_type, events, last_event; sorted, against deadlocks."""
    keys = ["player_id", "event_type"]
    return counts.group_by(keys).agg(pl.col("events").sum(), pl.col("last_event").max()).sort(keys)


def per_day(scores: pl.DataFrame) -> pl.DataFrame:
    """Add up scores over all partitions: game_id, day, player_id, score (Decimal(38,0)), sorted."""
    keys = ["game_id", "day", "player_id"]
    return _sum_scores(scores, keys)


def all_time(scores: pl.DataFrame) -> pl.DataFrame:
    """Add up scores over all partitions and days: game_id, player_id, score (Decimal(38,0)), sorted."""
    return _sum_scores(scores, ["game_id", "player_id"])


def _sum_scores(scores: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    return scores.group_by(keys).agg(pl.col("score").sum().cast(pl.Decimal(38, 0))).sort(keys)


# -- chunks for Redis ----------------------------------------------------------------------------------------------


def chunk(deltas: Deltas, expiry: Expiry) -> list[Chunk]:
    """Cut deltas into calls of at most MAX_OPERATIONS commands, each of one partition; none for no deltas.

    The same deltas always give the same chunks in the same order: that is what makes a chunk's number its identity.
    """
    return [*_stats_chunks(deltas.counts), *_board_chunks(deltas.scores, expiry)]


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


def _board_chunks(scores: pl.DataFrame, expiry: Expiry) -> Iterator[Chunk]:
    """Columns: g (game), d (day), w (ISO week), x and y (when those expire, Unix seconds), p (players), s (scores).

    Scores are text, for a sum may pass 2^53, to which JSON numbers are exact in Lua.
    """
    day = pl.col("day")
    days = day.cast(pl.Int32).cast(pl.Int64)
    week_ends = days - day.dt.weekday().cast(pl.Int64) + 8
    for partition, rows in _cut(scores, pl.lit(_PERIODS, dtype=pl.Int64)):
        boards = rows.group_by("game_id", "day", maintain_order=True).agg(
            p="player_id", s=pl.col("score").cast(pl.String)
        )
        boards = boards.select(
            g="game_id",
            d=day.dt.strftime("%Y-%m-%d"),
            w=day.dt.strftime("%G-W%V"),
            x=(days + 1 + expiry.daily_days) * SECONDS_A_DAY,
            y=(week_ends + expiry.weekly_days) * SECONDS_A_DAY,
            p="p",
            s="s",
        )
        yield Chunk(partition, _columns_to_json("boards", boards))


def _cut(frame: pl.DataFrame, cost: pl.Expr) -> Iterator[tuple[int, pl.DataFrame]]:
    """Split rows by partition, and each partition so that a piece costs at most MAX_OPERATIONS (or is one row)."""
    spent = pl.col("cost")
    limit = pl.max_horizontal(MAX_OPERATIONS - spent.max(), 1)  # a piece may run over by its last row
    piece = ((spent.cum_sum() - spent) // limit).over("partition")
    costed = frame.with_columns(cost=cost)
    for keys, rows in costed.group_by("partition", piece.alias("piece"), maintain_order=True):
        yield int(keys[0]), rows


def _columns_to_json(name: str, frame: pl.DataFrame) -> bytes:
    encoded = frame.select(pl.all().implode()).to_struct().struct.json_encode().item()
    return f'{{"{name}":{encoded}}}'.encode()
