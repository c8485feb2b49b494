"""What PostgreSQL holds, in the recount's terms, read from the caller's snapshot in pages."""

from collections.abc import Iterator
from typing import Any, Final

import orjson
import polars as pl
import psycopg
from psycopg import sql

from pipeline.contract.boards import DAILY, WEEKLY
from pipeline.contract.event import Scoring, score_of
from pipeline.epoch.roles import Role
from pipeline.errors import EventError
from pipeline.verify.fingerprint import fingerprint
from pipeline.verify.recount import CONTENT, IDENTITY, LEDGER_SCHEMA, PLACE_SCHEMA, Names

_PAGE: Final = 50_000

_IDENTITIES: Final = (
    "SELECT player_id, (extract(epoch FROM event_timestamp) * 1000000)::bigint, uuid_send(event_id) FROM {}"
)
_EVENTS: Final = (
    "SELECT player_id, (extract(epoch FROM event_timestamp) * 1000000)::bigint, uuid_send(event_id),"
    " event_type, game_id, data::text FROM events"
)
_COUNTS: Final = (
    "SELECT player_id, event_type, events, (extract(epoch FROM last_event) * 1000000)::bigint FROM player_event_counts"
)
_TOTALS: Final = "SELECT game_id, player_id, trim_scale(score)::text FROM leaderboard_alltime"
_DAYS: Final = "SELECT game_id, day, player_id, trim_scale(score)::text FROM leaderboard_daily"
_WEEKS: Final = (
    "SELECT game_id, period, player_id, trim_scale(score)::text FROM leaderboards WHERE starts_with(period, {})"
)


class Stored:
    """Reads the tables of the projections. The connection is in a transaction that sees one moment."""

    def __init__(self, connection: psycopg.Connection, names: Names, scoring: Scoring) -> None:
        self._connection = connection
        self._names = names
        self._scoring = scoring

    def ledger(self, role: Role) -> pl.DataFrame:
        """Return the role's ledger (LEDGER_SCHEMA); of one that keeps identities only, the contents are null."""
        if role.ledger == "events":
            pages = self._pages(sql.SQL(_EVENTS))
            full = [pl.DataFrame(map(self._event, page), LEDGER_SCHEMA, orient="row") for page in pages]
            return pl.concat(full) if full else LEDGER_SCHEMA.to_frame()
        statement = sql.SQL(_IDENTITIES).format(sql.Identifier(role.ledger))
        schema = pl.Schema({name: LEDGER_SCHEMA[name] for name in IDENTITY})
        bare = [pl.DataFrame(map(self._identity, page), schema, orient="row") for page in self._pages(statement)]
        frame = pl.concat(bare) if bare else schema.to_frame()
        return frame.with_columns(pl.lit(None, LEDGER_SCHEMA[name]).alias(name) for name in CONTENT)

    def dead_letters(self, topic: str, role: Role) -> pl.DataFrame:
        """Return the places of the role's dead letters (PLACE_SCHEMA)."""
        rows = self._connection.execute(
            "SELECT partition, record_offset FROM dlq_events WHERE topic = %s AND consumer_service = %s",
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

    def counts(self) -> pl.DataFrame:
        """Return the statistics: player, type, events, last_event."""
        schema = pl.Schema({"player": pl.UInt32, "type": pl.UInt32, "events": pl.Int64, "last_event": pl.Int64})
        return self._coded(sql.SQL(_COUNTS), schema)

    def totals(self) -> pl.DataFrame:
        """Return the boards of all time: game, player, score (text)."""
        return self._coded(sql.SQL(_TOTALS), pl.Schema({"game": pl.UInt32, "player": pl.UInt32, "score": pl.String}))

    def days(self) -> pl.DataFrame:
        """Return the boards of days: game, period, player, score."""
        found = self._coded(sql.SQL(_DAYS), _OF_DAYS)
        return found.with_columns(DAILY.labels(pl.col("period")))

    def weeks(self) -> pl.DataFrame:
        """Return the boards of weeks, as the view shows them: game, period, player, score."""
        return self._coded(sql.SQL(_WEEKS).format(sql.Literal(f"{WEEKLY.name}:")), _DATED)

    def _coded(self, statement: sql.SQL | sql.Composed, schema: pl.Schema) -> pl.DataFrame:
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
        kind, game, data = row[3:]
        score, code = self._score(kind, data), self._names.code
        return (*self._identity(row), code(kind), code(game), score, fingerprint(data))

    def _score(self, event_type: str, data: str) -> int | None:
        if event_type not in self._scoring:
            return None
        try:
            loaded = orjson.loads(data)
            return score_of(event_type, loaded, self._scoring) if isinstance(loaded, dict) else None
        except (orjson.JSONDecodeError, EventError):
            return None

    def _pages(self, statement: sql.SQL | sql.Composed) -> Iterator[list[tuple[Any, ...]]]:
        with self._connection.cursor(name="verify", binary=True) as cursor:
            cursor.execute(statement)
            while page := cursor.fetchmany(_PAGE):
                yield page


_DATED: Final = pl.Schema({"game": pl.UInt32, "period": pl.String, "player": pl.UInt32, "score": pl.String})
_OF_DAYS: Final = pl.Schema({"game": pl.UInt32, "period": pl.Date, "player": pl.UInt32, "score": pl.String})
