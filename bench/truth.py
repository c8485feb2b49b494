"""What the generator knows must come out: its own sums, against what a reader of PostgreSQL and Redis finds.

The sums are made from the generated columns, by none of the consumer's code; Redis, the dead letters and every
single record are then `gamemetrics verify`'s, which recounts the topic. A run whose sums are off has no rate.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import polars as pl
import psycopg

from bench.rig import Fixture
from pipeline.contract.event import load_scoring
from pipeline.verify.verify import verify

_COUNT_KEYS: Final = ["player_id", "event_type"]
_DAY_KEYS: Final = ["game_id", "day", "player_id"]


class WrongSumsError(Exception):
    """The pipeline's sums are not the generator's: nothing that was measured counts."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Events by player and type, and scores by game, day and player."""

    counts: pl.DataFrame
    days: pl.DataFrame

    @property
    def events(self) -> int:
        return int(self.counts["events"].sum())


def sum_up(slices: Iterable[pl.DataFrame]) -> Truth:
    """Add up generated events, a slice at a time: by their column `score`, otherwise by what `data` holds."""
    counts, days = [], []
    for events in slices:
        counts.append(events.group_by(_COUNT_KEYS).agg(events=pl.len().cast(pl.Int64)))
        scored = events if "score" in events.columns else events.with_columns(score=score_in_data())
        scored = scored.with_columns(day=pl.col("timestamp").str.slice(0, 10).str.to_date())
        scored = scored.filter(pl.col("score").is_not_null())
        days.append(scored.group_by(_DAY_KEYS).agg(pl.col("score").sum()))
    return Truth(
        pl.concat(counts).group_by(_COUNT_KEYS).agg(pl.col("events").sum()),
        pl.concat(days).group_by(_DAY_KEYS).agg(pl.col("score").sum()),
    )


def score_in_data() -> pl.Expr:
    """Read the score out of `data` of the flat load by the scoring table; null if the type has none."""
    score: pl.Expr = pl.lit(None, dtype=pl.Int64)
    for kind, rule in load_scoring().items():
        found = pl.col("data").str.json_path_match(f"$.{rule.field}").cast(pl.Int64)
        default = pl.lit(rule.default, dtype=pl.Int64)
        score = pl.when(pl.col("event_type") == kind).then(found.fill_null(default)).otherwise(score)
    return score


def require(fixture: Fixture, truth: Truth, *, recount: bool = True) -> None:
    """Raise WrongSumsError unless PostgreSQL holds the truth and, with `recount`, `gamemetrics verify` is content."""
    faults = compare(fixture, truth)
    if recount:
        report = verify(fixture.settings, lambda _what, _done, _total: None, full=True)
        faults += [f"verify: {kind}: {total}" for kind, total in report.differences.totals.items()]
        faults += [f"verify: not recounted: {what}" for what in report.not_recounted]
    if faults:
        raise WrongSumsError("; ".join(faults))


def compare(fixture: Fixture, truth: Truth) -> list[str]:
    """Name what differs between the generator's sums and PostgreSQL's tables."""
    faults = []
    with fixture.postgres() as connection:
        row = connection.execute("SELECT count(*), count(DISTINCT event_id) FROM events").fetchone()
        if row != (truth.events, truth.events):
            faults.append(f"events: {row} rows and ids, generated {truth.events}")
        statement = "SELECT player_id, event_type, events FROM player_event_counts"
        faults += _differing("counts", truth.counts, _frame(connection, statement, truth.counts))
        statement = "SELECT game_id, day, player_id, score::bigint FROM leaderboard_daily"
        faults += _differing("daily scores", truth.days, _frame(connection, statement, truth.days))
        alltime = truth.days.group_by("game_id", "player_id").agg(pl.col("score").sum())
        statement = "SELECT game_id, player_id, score::bigint FROM leaderboard_alltime"
        faults += _differing("all-time scores", alltime, _frame(connection, statement, alltime))
    return faults


def _frame(connection: psycopg.Connection, statement: str, like: pl.DataFrame) -> pl.DataFrame:
    rows: list[tuple[Any, ...]] = connection.execute(statement.encode()).fetchall()
    return pl.DataFrame(rows, schema=like.schema, orient="row")


def _differing(what: str, expected: pl.DataFrame, found: pl.DataFrame) -> list[str]:
    """Count the rows that are on one side only."""
    keys = expected.columns
    off = len(expected.join(found, on=keys, how="anti")) + len(found.join(expected, on=keys, how="anti"))
    return [f"{what}: {off} rows differ"] if off else []
