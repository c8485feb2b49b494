"""What PostgreSQL holds of a group's projections, in the recount's terms: of all players, or of some.

Read whole from the caller's snapshot, before the topic is: no transaction is open while Kafka is waited for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import polars as pl
import psycopg
from psycopg import sql

from pipeline.contract.boards import DAILY, WEEKLY
from pipeline.contract.event import Scoring, score_of
from pipeline.epoch.roles import Role
from pipeline.errors import EventError
from pipeline.sinks.letters import MILLISECONDS
from pipeline.verify.beside import Beside
from pipeline.verify.fingerprint import fingerprint
from pipeline.verify.recount import CONTENT, IDENTITY, LEDGER_SCHEMA, ORIGIN, PLACE_SCHEMA, Names

Statement = sql.SQL | sql.Composed

_PAGE: Final = 50_000

_IDENTITIES: Final = (
    "SELECT player_id, (extract(epoch FROM event_timestamp) * 1000000)::bigint AS at, uuid_send(event_id) FROM {}"
)
_EVENTS: Final = (
    "SELECT player_id, (extract(epoch FROM event_timestamp) * 1000000)::bigint AS at, uuid_send(event_id),"
    " event_type, game_id, data::text, (extract(epoch FROM ingested_at) * 1000000)::bigint FROM events"
)
_COUNTS: Final = (
    "SELECT player_id, event_type, events, (extract(epoch FROM last_event) * 1000000)::bigint FROM player_event_counts"
)
_TOTALS: Final = "SELECT game_id, player_id, trim_scale(score)::text FROM leaderboard_alltime"
_DAYS: Final = "SELECT game_id, day, player_id, trim_scale(score)::text FROM leaderboard_daily"
_WEEKS: Final = (
    "SELECT game_id, period, player_id, trim_scale(score)::text FROM leaderboards WHERE starts_with(period, {})"
)


@dataclass(frozen=True, slots=True)
class Projections:
    """One group's: its ledger, dead letters and sums; of projections that its role does not write, nothing."""

    ledger: pl.DataFrame
    ledger_start: int
    dead_letters: pl.DataFrame
    unmended: list[tuple[int, int, int, str]]
    counts: pl.DataFrame
    totals: pl.DataFrame
    days: pl.DataFrame
    weeks: pl.DataFrame


class ProjectionReader:
    """Reads the tables of the projections. The connection is in a transaction that sees one moment.

    `players`: the only ones to read; None: all. Dead letters are of all. `beside` is for a ledger of many days.
    """

    def __init__(
        self,
        connection: psycopg.Connection,
        beside: Beside,
        names: Names,
        scoring: Scoring,
        players: Sequence[str] | None,
    ) -> None:
        self._connection = connection
        self._beside = beside
        self._names = names
        self._scoring = scoring
        self._players = list(players) if players is not None else None

    def read(self, topic: str, role: Role) -> Projections:
        """Read all that a role writes."""
        return Projections(
            self.ledger(role),
            self.ledger_start(role),
            self.dead_letters(topic, role),
            self.unmended(topic, role),
            self.counts(role),
            *self.boards(role),
        )

    def ledger(self, role: Role) -> pl.DataFrame:
        """Return the role's ledger (LEDGER_SCHEMA); of one that keeps identities only, the contents are null."""
        if role.ledger == "events":
            pages = self._ledger_pages(sql.SQL(_EVENTS))
            full = [pl.DataFrame(map(self._event, page), LEDGER_SCHEMA, orient="row") for page in pages]
            return pl.concat(full) if full else LEDGER_SCHEMA.to_frame()
        statement = sql.SQL(_IDENTITIES).format(sql.Identifier(role.ledger))
        schema = pl.Schema({name: LEDGER_SCHEMA[name] for name in IDENTITY})
        bare = [pl.DataFrame(map(self._identity, page), schema, orient="row") for page in self._ledger_pages(statement)]
        frame = pl.concat(bare) if bare else schema.to_frame()
        return frame.with_columns(pl.lit(None, LEDGER_SCHEMA[name]).alias(name) for name in (*CONTENT, *ORIGIN))

    def dead_letters(self, topic: str, role: Role) -> pl.DataFrame:
        """Return the places of the role's dead letters (PLACE_SCHEMA)."""
        rows = self._connection.execute(
            f"SELECT partition, record_offset, {MILLISECONDS} FROM dlq_events"  # noqa: S608 - our own
            " WHERE topic = %s AND consumer_service = %s",
            (topic, role.service),
        ).fetchall()
        return pl.DataFrame(rows, schema=PLACE_SCHEMA, orient="row")

    def unmended(self, topic: str, role: Role) -> list[tuple[int, int, int, str]]:
        """Return partition, offset, id and reason of records that a fault of ours met, neither redriven nor dropped."""
        return self._connection.execute(
            "SELECT partition, record_offset, id, error_message FROM dlq_events WHERE topic = %s"
            " AND consumer_service = %s AND code = 'internal' AND redriven_at IS NULL AND dropped_at IS NULL"
            " ORDER BY id",
            (topic, role.service),
        ).fetchall()

    def ledger_start(self, role: Role) -> int:
        """Return where the oldest partition of the role's ledger begins, in microseconds since 1970."""
        row = self._connection.execute(
            "SELECT (extract(epoch FROM min(lower_bound)) * 1000000)::bigint FROM day_partitions"
            " WHERE parent = %s::regclass",
            (role.ledger,),
        ).fetchone()
        return int(row[0]) if row is not None and row[0] is not None else 0

    def counts(self, role: Role) -> pl.DataFrame:
        """Return the statistics: player, type, events, last_event."""
        if "stats" not in role.projections:
            return _OF_COUNTS.to_frame()
        return self._coded(sql.SQL(_COUNTS), _OF_COUNTS)

    def boards(self, role: Role) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """Return the boards of all time (game, player, score as text), of days, and of weeks as the view shows them.

        Those of days and weeks are told apart by the label of the period.
        """
        if "leaderboard" not in role.projections:
            return _OF_TOTALS.to_frame(), _DATED.to_frame(), _DATED.to_frame()
        days = self._coded(sql.SQL(_DAYS), _OF_DAYS)
        weeks = self._coded(sql.SQL(_WEEKS).format(sql.Literal(f"{WEEKLY.name}:")), _DATED)
        return self._coded(sql.SQL(_TOTALS), _OF_TOTALS), days.with_columns(DAILY.labels(pl.col("period"))), weeks

    def _coded(self, statement: Statement, schema: pl.Schema) -> pl.DataFrame:
        coded = [place for place, kind in enumerate(schema.values()) if kind == pl.UInt32]
        frames = []
        for page in self._pages(statement):
            columns: list[list[Any]] = [list(column) for column in zip(*page, strict=True)]
            for place in coded:
                columns[place] = [self._names.code(name) for name in columns[place]]
            frames.append(pl.DataFrame(dict(zip(schema, columns, strict=True)), schema))
        return pl.concat(frames) if frames else schema.to_frame()

    def _identity(self, row: tuple[Any, ...]) -> tuple[int, int, int]:
        return (self._names.code(row[0]), row[1], int.from_bytes(row[2], "big"))

    def _event(self, row: tuple[Any, ...]) -> tuple[int | None, ...]:
        kind, game, data, taken = row[3:]
        score, code = self._score(kind, data), self._names.code
        return (*self._identity(row), code(kind), code(game), score, fingerprint(data), taken)

    def _score(self, event_type: str, data: str) -> int | None:
        if event_type not in self._scoring:
            return None
        try:
            loaded = orjson.loads(data)
            return score_of(event_type, loaded, self._scoring) if isinstance(loaded, dict) else None
        except (orjson.JSONDecodeError, EventError):
            return None

    def _ledger_pages(self, statement: Statement) -> Iterator[list[tuple[Any, ...]]]:
        runs = self._beside.runs()
        if len(runs) == 1:
            yield from self._pages(statement)
            return
        for run in runs:
            with self._beside.moment() as connection:
                of_run = sql.SQL("{} WHERE {}").format(statement, run.has("event_timestamp"))
                yield from self._pages(of_run, connection)

    def _pages(
        self, statement: Statement, connection: psycopg.Connection | None = None
    ) -> Iterator[list[tuple[Any, ...]]]:
        only = sql.SQL("") if self._players is None else sql.SQL(" WHERE player_id = ANY(%(players)s)")
        whole = sql.SQL("SELECT * FROM ({}) AS found{}").format(statement, only)
        with (connection or self._connection).cursor(name="verify", binary=True) as cursor:
            cursor.execute(whole, {"players": self._players})
            while page := cursor.fetchmany(_PAGE):
                yield page


_OF_COUNTS: Final = pl.Schema({"player": pl.UInt32, "type": pl.UInt32, "events": pl.Int64, "last_event": pl.Int64})
_OF_TOTALS: Final = pl.Schema({"game": pl.UInt32, "player": pl.UInt32, "score": pl.String})
_DATED: Final = pl.Schema({"game": pl.UInt32, "period": pl.String, "player": pl.UInt32, "score": pl.String})
_OF_DAYS: Final = pl.Schema({"game": pl.UInt32, "period": pl.Date, "player": pl.UInt32, "score": pl.String})
