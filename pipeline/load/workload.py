"""The reference load: events that look like a game's, the same for the same seed, made a million in a few seconds.

Eight types in fixed shares, players by a Zipf distribution, games evenly, times over some days; as a record in the
topic an event has about 268 bytes. Each number is drawn by hashing (seed, index, stream), so that any slice of a load
can be made alone and nothing depends on how it is cut.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import polars as pl

from pipeline.contract.event import POLARS_TIMESTAMP

ZIPF_EXPONENT: Final = 0.8
GAMES: Final = 20
DAYS: Final = 3

_DAY_MICROSECONDS: Final = 86_400_000_000


@dataclass(frozen=True, slots=True)
class _Kind:
    """One event type: its share of the load in percent, and two numbers in its data (name, and range of the first)."""

    name: str
    percent: int
    first: str
    limit: int
    second: str


_KINDS: Final = (
    _Kind("player_score", 30, "score", 10_000, "combo"),
    _Kind("login", 20, "client_build", 5_000, "region"),
    _Kind("level_up", 10, "new_level", 100, "experience_gained"),
    _Kind("item_purchased", 10, "price", 2_000, "item"),
    _Kind("quest_completed", 10, "reward_points", 500, "quest"),
    _Kind("achievement_unlocked", 8, "points", 100, "achievement"),
    _Kind("boss_defeated", 7, "difficulty_score", 300, "boss"),
    _Kind("match_finished", 5, "placement", 64, "kills"),
)


@dataclass(frozen=True, slots=True)
class Workload:
    """A load of any length: who plays, and over which days before `end` (aware)."""

    seed: int
    end: datetime
    players: int = 100_000
    games: int = GAMES
    days: int = DAYS
    _shares: pl.Series = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Sum up the shares of the players, once."""
        weights = pl.int_range(1, self.players + 1, dtype=pl.Int64, eager=True).cast(pl.Float64) ** -ZIPF_EXPONENT
        sums = weights.cum_sum()
        object.__setattr__(self, "_shares", sums / sums[-1])

    def events(self, start: int, count: int) -> pl.DataFrame:
        """Make events `start` and on: index, event_type, player_id, game_id, event_id, timestamp, data (as text)."""
        return self.at(pl.int_range(start, start + count, dtype=pl.UInt64, eager=True))

    def at(self, index: pl.Series) -> pl.DataFrame:
        """Make the events of these places (UInt64) in this order; a place twice is the same event twice."""
        drawn = pl.DataFrame({"index": index}).with_columns(
            pick=draw(self.seed, 0),
            player=_fraction(draw(self.seed, 1)),
            game=draw(self.seed, 2) % self.games + 1,
            ago=(_fraction(draw(self.seed, 3)) * (self.days * _DAY_MICROSECONDS)).cast(pl.Int64),
            number=draw(self.seed, 4),
            mark=draw(self.seed, 5),
        )
        kinds = pl.Series([place for place, kind in enumerate(_KINDS) for _ in range(kind.percent)], dtype=pl.UInt32)
        drawn = drawn.with_columns(
            kind=kinds.gather((drawn["pick"] % 100).cast(pl.UInt32)),
            player=self._shares.search_sorted(drawn["player"]) + 1,
        )
        return drawn.select(
            "index",
            event_type=_of_kind([kind.name for kind in _KINDS]),
            player_id=pl.lit("player-") + pl.col("player").cast(pl.String).str.zfill(6),
            game_id=pl.lit("game-") + pl.col("game").cast(pl.String).str.zfill(2),
            event_id=self._event_id(),
            timestamp=(pl.lit(self.end) - pl.duration(microseconds="ago"))
            .dt.convert_time_zone("UTC")
            .dt.strftime(POLARS_TIMESTAMP),
            data=_data(),
        )

    def _event_id(self) -> pl.Expr:
        """Make a UUID of version 8 (RFC 9562: the maker's own) from the seed, chance and the index, in decimals."""
        seed_tag = int(_mix(pl.lit(self.seed % 2**64, dtype=pl.UInt64)).mod(100_000_000).pipe(_evaluate))
        mark = pl.col("mark")
        return pl.format(
            f"{seed_tag:08}-{{}}-8{{}}-8{{}}-{{}}",
            (mark % 10_000).cast(pl.String).str.zfill(4),
            (mark // 10_000 % 1_000).cast(pl.String).str.zfill(3),
            (mark // 10_000_000 % 1_000).cast(pl.String).str.zfill(3),
            pl.col("index").cast(pl.String).str.zfill(12),
        )


def client_bodies(events: pl.DataFrame) -> list[str]:
    """Write events as a client sends them."""
    return events.select(_as_json(())).to_series().to_list()


def record_values(events: pl.DataFrame, ingested_at: str) -> pl.Series:
    """Write events as records of the topic, as the edge would at `ingested_at` (RFC 3339, 27 characters)."""
    return events.select(_as_json((f'"ingested_at":"{ingested_at}",',))).to_series()


def _as_json(extra: tuple[str, ...]) -> pl.Expr:
    names = ("event_type", "player_id", "game_id", "event_id", "timestamp")
    parts: list[pl.Expr] = []
    for place, name in enumerate(names):
        parts += [pl.lit(("{" if place == 0 else '",') + f'"{name}":"'), pl.col(name)]
    return pl.concat_str([*parts, pl.lit('",' + "".join(extra) + '"data":'), pl.col("data"), pl.lit("}")])


def _data() -> pl.Expr:
    number = pl.col("number")
    limit = _of_kind([kind.limit for kind in _KINDS])
    parts = [
        pl.lit('{"'),
        _of_kind([kind.first for kind in _KINDS]),
        pl.lit('":'),
        number % limit,
        pl.lit(',"'),
        _of_kind([kind.second for kind in _KINDS]),
        pl.lit('":'),
        number // 10_000 % 1_000,
        pl.lit(',"match":"m'),
        (number // 100_000_000 % 1_000_000).cast(pl.String).str.zfill(6),
        pl.lit('"}'),
    ]
    return pl.concat_str(parts)


def _of_kind(values: list[str] | list[int]) -> pl.Expr:
    return pl.lit(pl.Series(values)).gather(pl.col("kind"))


# -- chance: splitmix64, which polars' wrapping integers compute for whole columns -----------------------------------

_GOLDEN: Final = 0x9E3779B97F4A7C15
_STREAMS: Final = 8
"""Independent draws an index; the workload itself uses the first six."""


def draw(seed: int, stream: int) -> pl.Expr:
    """Draw 64 bits for each `index` of a frame (UInt64); `stream` is 0 to 7."""
    base = (seed * 0xD1B54A32D192ED03 + stream) % 2**64
    return _mix(pl.col("index") * _u64(_STREAMS) + _u64(base))


def _mix(value: pl.Expr) -> pl.Expr:
    value = (value + _u64(1)) * _u64(_GOLDEN)
    value = (value ^ (value // _u64(2**30))) * _u64(0xBF58476D1CE4E5B9)
    value = (value ^ (value // _u64(2**27))) * _u64(0x94D049BB133111EB)
    return value ^ (value // _u64(2**31))


def _fraction(drawn: pl.Expr) -> pl.Expr:
    return (drawn // _u64(2**11)).cast(pl.Float64) / 2**53


def _u64(value: int) -> pl.Expr:
    return pl.lit(value, dtype=pl.UInt64)


def _evaluate(expression: pl.Expr) -> int:
    return int(pl.select(expression).item())
