"""A piece of the topic in PostgreSQL: its events as their records spell them, beside the ledger that should have them.

They travel as text, in PostgreSQL's own form of COPY, and PostgreSQL reads times, ids and JSON itself: nothing that
encodes here encodes in the consumer too, so no mistake can be made twice and agree with itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import polars as pl
import psycopg
from psycopg import sql

from pipeline.epoch.roles import Role
from pipeline.verify.beside import DAYS_AT_ONCE, Beside, pipe
from pipeline.verify.columns import EVENT_TEXTS

_ROWS: Final = 20_000
_RUN_DAYS: Final = 8
"""So many days are asked for in one statement: it locks their partitions, and no others."""

_TABLES: Final = """
CREATE TEMPORARY TABLE IF NOT EXISTS proof_records (partition integer, record_offset bigint,
    player_id varchar COLLATE "C", event_timestamp timestamptz, event_id uuid, event_type varchar COLLATE "C",
    game_id varchar COLLATE "C", data text)
"""

_WRONG: Final = """
SELECT DISTINCT sent.player_id
FROM proof_records AS sent LEFT JOIN {ledger} AS kept
  ON kept.player_id = sent.player_id AND kept.event_timestamp = sent.event_timestamp AND kept.event_id = sent.event_id
 AND kept.event_timestamp >= {start} AND kept.event_timestamp < {stop}
WHERE sent.event_timestamp >= {start} AND sent.event_timestamp < {stop} AND (kept.event_id IS NULL{contents})
"""
_CONTENTS: Final = """
 OR kept.event_type <> sent.event_type OR kept.game_id <> sent.game_id OR kept.data <> sent.data::jsonb"""


class Piece:
    """The temporary table of a piece, on the caller's connection."""

    def __init__(self, connection: psycopg.Connection, role: Role, beside: Beside) -> None:
        self._connection = connection
        self._beside = beside
        self._role = role
        self._players: set[str] = set()
        self._days: set[str] = set()
        connection.execute(_TABLES)

    @property
    def wide(self) -> bool:
        """Whether its events are of more days than one transaction may lock."""
        return len(self._days) > DAYS_AT_ONCE

    def clear(self) -> None:
        """Begin a new piece."""
        self._connection.execute("TRUNCATE proof_records")
        self._players, self._days = set(), set()

    def add(self, events: pl.DataFrame) -> None:
        """Copy events (EVENT_TEXTS) into the table, in the order of the ledger's key."""
        self._players.update(events["player_id"].unique())
        self._days.update(events["event_timestamp"].str.slice(0, 10).unique())
        ordered = events.sort("player_id", "event_timestamp")
        with self._connection.cursor() as cursor, cursor.copy("COPY proof_records FROM STDIN") as copy:
            for part in ordered.iter_slices(_ROWS):
                copy.write("\n".join(_lines(part)) + "\n")

    def drop(self, partition: int, stop: int) -> None:
        """Leave out what lies beyond a partition's watermark."""
        self._connection.execute(
            "DELETE FROM proof_records WHERE partition = %s AND record_offset >= %s", (partition, stop)
        )

    def drop_places(self, places: Sequence[tuple[int, int]]) -> None:
        """Leave out records that are dead letters."""
        if places:
            self._connection.execute(
                "DELETE FROM proof_records AS sent USING unnest(%s::int[], %s::bigint[]) AS dead(partition, place)"
                " WHERE sent.partition = dead.partition AND sent.record_offset = dead.place",
                ([partition for partition, _ in places], [offset for _, offset in places]),
            )

    def before(self, since: datetime) -> int:
        """Count the events of days before one, which the ledger no longer has."""
        row = self._connection.execute(
            "SELECT count(DISTINCT (player_id, event_timestamp, event_id)) FROM proof_records"
            " WHERE event_timestamp < %s",
            (since,),
        ).fetchone()
        return int(row[0]) if row is not None else 0

    def players(self) -> list[str]:
        """Return whose events were copied, also of those that were dropped again."""
        return sorted(self._players)

    def places(self, scoring: Iterable[str]) -> list[tuple[str, str, date]]:
        """Return the places on boards that these events are about: game, player, day."""
        return self._connection.execute(
            "SELECT DISTINCT game_id, player_id, event_timestamp::date FROM proof_records"
            " WHERE event_type = ANY(%s) ORDER BY 1, 2, 3",
            (list(scoring),),
        ).fetchall()

    def runs(self) -> Iterator[tuple[datetime, datetime]]:
        """Cut the days of the events into runs of a few days that follow each other."""
        run: list[date] = []
        for day in map(date.fromisoformat, sorted(self._days)):
            if run and (day - run[0]).days >= _RUN_DAYS:
                yield _bounds(run)
                run = []
            run.append(day)
        if run:
            yield _bounds(run)

    def wrong(self, since: datetime) -> set[str]:
        """Return the players of events that are not in the ledger, or not with what their records hold.

        `since`: where the ledger begins; days before were dropped. A copy of an event with other contents is among
        these too, for only its topic tells which was first. A wide piece is held to the ledger as it is now, which has
        what the caller's snapshot had.
        """
        connection = self._lent() if self.wide else self._connection
        found: set[str] = set()
        for start, stop in self.runs():
            if stop > since:
                try:
                    with connection.transaction():
                        found |= {row[0] for row in connection.execute(self._wrong(max(start, since), stop))}
                except psycopg.DataError:  # a copy of an event, with what no jsonb holds
                    found |= set(self.players())
        return found

    def _lent(self) -> psycopg.Connection:
        """Copy the piece to the second connection, whose transactions lock a few days each."""
        second = self._beside.connection
        second.execute(_TABLES)
        second.execute("TRUNCATE proof_records")
        out, into = sql.SQL("COPY proof_records TO STDOUT"), sql.SQL("COPY proof_records FROM STDIN")
        pipe(self._connection, out, second, into)
        return second

    def _wrong(self, start: datetime, stop: datetime) -> sql.Composed:
        return sql.SQL(_WRONG).format(
            ledger=sql.Identifier(self._role.ledger),
            start=sql.Literal(start),
            stop=sql.Literal(stop),
            contents=sql.SQL(_CONTENTS if self._role.ledger == "events" else ""),
        )


def _bounds(run: list[date]) -> tuple[datetime, datetime]:
    midnight = time(tzinfo=UTC)
    return datetime.combine(run[0], midnight), datetime.combine(run[-1] + timedelta(days=1), midnight)


def _lines(events: pl.DataFrame) -> list[str]:
    """Write rows in the text form of COPY: tabs between, backslashes before what would end a field."""
    data = pl.col("data").str.replace_all("\\", "\\\\", literal=True)
    # White space between the tokens of JSON; inside its strings there is none that is not escaped.
    for raw, escaped in (("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        data = data.str.replace_all(raw, escaped, literal=True)
    names = [pl.col(name).str.replace_all("\\", "\\\\", literal=True) for name in ("player_id", "game_id")]
    cells = [pl.col(name).cast(pl.String) for name in EVENT_TEXTS]
    return events.with_columns(*names, data).select(pl.concat_str(cells, separator="\t")).to_series().to_list()
