"""The sums of players and of places on boards, against the events of the ledger, in the caller's snapshot.

What was proven of a sum is kept (`proven_counts`, `proven_scores`), so that a piece costs what is new: proven, and what
the piece's records added, is what the counters must be. If that does not come out, because an event was there
already perhaps, the player's events are summed up anew; and who differs then is looked at closely.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from pipeline.contract.event import Scoring
from pipeline.epoch.roles import Role
from pipeline.sinks.dialect import DISTRIBUTED, dialect_of
from pipeline.verify.beside import Beside, Run
from pipeline.verify.board_pages import BoardPart, board_off
from pipeline.verify.contents import Moment, covers

_IN_FLIGHT: Final = timedelta(seconds=10)
"""An epoch whose transaction began so long before a snapshot, or longer, was committed in it or never will be."""

_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)

_TABLES: Final = """
CREATE TEMPORARY TABLE IF NOT EXISTS proof_events (player_id varchar COLLATE "C", event_type varchar COLLATE "C",
    game_id varchar COLLATE "C", event_timestamp timestamptz, score numeric, content bigint,
    unsure boolean);
CREATE TEMPORARY TABLE IF NOT EXISTS proof_counts (player_id varchar COLLATE "C", event_type varchar COLLATE "C",
    events bigint, last_event timestamptz, contents numeric);
CREATE TEMPORARY TABLE IF NOT EXISTS proof_scores (game_id varchar COLLATE "C", player_id varchar COLLATE "C",
    day date, score numeric);
CREATE TEMPORARY TABLE IF NOT EXISTS proof_players (player_id varchar COLLATE "C" PRIMARY KEY);
CREATE TEMPORARY TABLE IF NOT EXISTS proof_parts (player_id varchar COLLATE "C", event_type varchar COLLATE "C",
    game_id varchar COLLATE "C", day date, moment timestamptz, events bigint, last_event timestamptz, contents numeric,
    score numeric)
"""
_FILL: Final = """
INSERT INTO proof_events
SELECT kept.player_id, kept.event_type, kept.game_id, kept.event_timestamp, {score},
       hash_record_extended(ROW(kept.event_id, kept.event_timestamp, kept.event_type, kept.game_id, kept.data), 0),
       kept.created_at < {level_at}
FROM {which}
"""
# The new ones: of an identity that was there at the last level snapshot, the row is older than that. One that is only
# a little older was of an epoch that was under way then, or is proven and met a copy: added again, it would hide that
# the copy was counted too.
_NEW: Final = """
(SELECT DISTINCT player_id, event_timestamp, event_id FROM proof_records
 WHERE event_timestamp >= {start} AND event_timestamp < {stop}) AS sent JOIN events AS kept
  ON kept.player_id = sent.player_id AND kept.event_timestamp = sent.event_timestamp AND kept.event_id = sent.event_id
 AND kept.event_timestamp >= {start} AND kept.event_timestamp < {stop}
WHERE {since}
"""
_ADD_UP: Final = """
INSERT INTO proof_counts
SELECT player_id, event_type, count(*), max(event_timestamp), sum(content) FROM proof_events
GROUP BY 1, 2 ORDER BY 1, 2;
INSERT INTO proof_scores
SELECT game_id, player_id, event_timestamp::date, sum(score) FROM proof_events WHERE score IS NOT NULL
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
# All events of some players, added up in one pass: by type, and if they score by game and day.
_FOUND: Final = """
(SELECT kept.player_id, kept.event_type, kept.event_timestamp, {moment} AS moment, {score} AS score,
        CASE WHEN kept.event_type = ANY({scoring}) THEN kept.game_id END AS game_id,
        CASE WHEN kept.event_type = ANY({scoring}) THEN kept.event_timestamp::date END AS day,
        hash_record_extended(
            ROW(kept.event_id, kept.event_timestamp, kept.event_type, kept.game_id, kept.data), 0) AS content
 FROM events AS kept WHERE {which}) AS found
"""
_ALL: Final = """
SELECT player_id, event_type, game_id, day, moment, count(*) AS events, max(event_timestamp) AS last_event,
       sum(content) AS contents, sum(score) AS score
FROM {found} GROUP BY GROUPING SETS ((player_id, event_type, moment), (game_id, player_id, day))
"""
# In two passes, for a distributed server knows no GROUPING SETS.
_ALL_APART: Final = """
SELECT player_id, event_type, NULL::varchar, NULL::date, moment, count(*), max(event_timestamp), sum(content),
       NULL::numeric
FROM {found} GROUP BY player_id, event_type, moment
UNION ALL
SELECT player_id, NULL, game_id, day, NULL::timestamptz, count(*), max(event_timestamp), sum(content), sum(score)
FROM {found} WHERE score IS NOT NULL GROUP BY game_id, player_id, day
"""
_RECOUNT: Final = """
WITH sums AS MATERIALIZED ({all}), counted AS (
    INSERT INTO proof_counts
    SELECT player_id, event_type, events, last_event, contents FROM sums WHERE event_type IS NOT NULL ORDER BY 1, 2
)
INSERT INTO proof_scores SELECT game_id, player_id, day, score FROM sums WHERE score IS NOT NULL AND day IS NOT NULL
ORDER BY 1, 2, 3
"""
# The same of parts: by runs of days, or by the moments at which events were written.
_ADD_PARTS: Final = """
INSERT INTO proof_counts
SELECT player_id, event_type, sum(events)::bigint, max(last_event), sum(contents) FROM proof_parts
WHERE event_type IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2;
INSERT INTO proof_scores
SELECT game_id, player_id, day, score FROM proof_parts WHERE score IS NOT NULL AND day IS NOT NULL ORDER BY 1, 2, 3
"""
# What was proven is what was there at one moment: of each type the events written first, as many as were proven.
_NOT_FIRST: Final = """
SELECT player_id, event_type, events::numeric, contents FROM proven_counts WHERE {players}
EXCEPT
SELECT player_id, event_type, sum(events) OVER so_far, sum(contents) OVER so_far
FROM proof_parts WHERE event_type IS NOT NULL
WINDOW so_far AS (PARTITION BY player_id, event_type ORDER BY moment)
"""
_MOMENTS: Final = """
SELECT part.player_id, part.event_type, part.moment, sum(part.events)::bigint, sum(part.contents)
FROM proof_parts AS part JOIN unnest(%s::text[], %s::text[]) AS asked(player_id, event_type)
  ON asked.player_id = part.player_id AND asked.event_type = part.event_type
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_CLEAR: Final = "TRUNCATE proof_events, proof_counts, proof_scores, proof_parts"

_PAGE: Final = "SELECT player_id FROM events WHERE player_id > %(after)s ORDER BY player_id LIMIT 1 OFFSET %(events)s"
# By the counters, which are nearly right, if looking at the events would lock too many days.
_PAGE_BY_COUNTERS: Final = """
SELECT player_id
FROM (SELECT player_id, sum(sum(events)) OVER (ORDER BY player_id) AS so_far
      FROM (SELECT player_id, events FROM player_event_counts WHERE player_id > %(after)s
            ORDER BY player_id LIMIT %(events)s + 1) AS counted
      GROUP BY player_id) AS added
WHERE so_far > %(events)s ORDER BY player_id LIMIT 1
"""

_TOUCHED_COUNTS: Final = """
SELECT DISTINCT sent.player_id
FROM (SELECT DISTINCT player_id, event_type FROM proof_records) AS sent
LEFT JOIN proven_counts AS proven ON proven.player_id = sent.player_id AND proven.event_type = sent.event_type
LEFT JOIN {counts} AS kept ON kept.player_id = sent.player_id AND kept.event_type = sent.event_type
FULL JOIN proof_counts AS added ON added.player_id = sent.player_id AND added.event_type = sent.event_type
WHERE coalesce(proven.events, 0) + coalesce(added.events, 0) IS DISTINCT FROM kept.events
   OR greatest(proven.last_event, added.last_event) IS DISTINCT FROM kept.last_event
"""
_TOUCHED_SCORES: Final = """
SELECT DISTINCT sent.player_id
FROM (SELECT DISTINCT game_id, player_id, event_timestamp::date AS day FROM proof_records
      WHERE event_type = ANY({scoring})) AS sent
LEFT JOIN proven_scores AS proven
  ON proven.game_id = sent.game_id AND proven.player_id = sent.player_id AND proven.day = sent.day
LEFT JOIN {days} AS kept
  ON kept.game_id = sent.game_id AND kept.player_id = sent.player_id AND kept.day = sent.day
FULL JOIN proof_scores AS added
  ON added.game_id = sent.game_id AND added.player_id = sent.player_id AND added.day = sent.day
WHERE coalesce(proven.score, 0) + coalesce(added.score, 0) IS DISTINCT FROM kept.score
"""
# Days long past are in the settled scores too.
_TOUCHED_SETTLED: Final = """
SELECT DISTINCT late.player_id
FROM (SELECT DISTINCT game_id, player_id FROM proof_records
      WHERE event_type = ANY({scoring})
        AND event_timestamp < (SELECT settled_before FROM leaderboard_horizon)) AS late
LEFT JOIN {settled} AS kept ON kept.game_id = late.game_id AND kept.player_id = late.player_id
WHERE kept.score IS DISTINCT FROM (
    SELECT sum(proven.score) FROM proven_scores AS proven
    WHERE proven.game_id = late.game_id AND proven.player_id = late.player_id
      AND proven.day < (SELECT settled_before FROM leaderboard_horizon))
"""
# A distributed server joins none of its tables with local ones: of those players they come to the coordinator first.
_OF_TOUCHED: Final = "(SELECT * FROM {} WHERE player_id IN (SELECT player_id FROM proof_records) OFFSET 0)"
_SPREAD: Final = (
    ("counts", "player_event_counts"),
    ("days", "leaderboard_daily"),
    ("settled", "leaderboard_settled"),
)
_KEEP_COUNTS: Final = """
INSERT INTO proven_counts AS proven
SELECT added.* FROM proof_counts AS added
WHERE NOT EXISTS (SELECT FROM proof_players AS bad WHERE bad.player_id = added.player_id)
ON CONFLICT (player_id, event_type) DO UPDATE SET events = proven.events + excluded.events,
    last_event = greatest(proven.last_event, excluded.last_event), contents = proven.contents + excluded.contents
"""
_KEEP_SCORES: Final = """
INSERT INTO proven_scores AS proven
SELECT added.* FROM proof_scores AS added
WHERE NOT EXISTS (SELECT FROM proof_players AS bad WHERE bad.player_id = added.player_id)
ON CONFLICT (game_id, player_id, day) DO UPDATE SET score = proven.score + excluded.score
"""
_WRONG_COUNTS: Final = """
SELECT DISTINCT coalesce(found.player_id, kept.player_id)
FROM (SELECT * FROM player_event_counts WHERE {players}) AS kept
FULL JOIN proof_counts AS found ON found.player_id = kept.player_id AND found.event_type = kept.event_type
WHERE (found.events, found.last_event) IS DISTINCT FROM (kept.events, kept.last_event)
"""
_WRONG_SCORES: Final = """
SELECT DISTINCT found.player_id
FROM proof_scores AS found LEFT JOIN leaderboard_daily AS kept
  ON kept.game_id = found.game_id AND kept.player_id = found.player_id AND kept.day = found.day
WHERE kept.score IS DISTINCT FROM found.score
"""
_CHANGED_COUNTS: Final = """
SELECT DISTINCT coalesce(found.player_id, proven.player_id)
FROM (SELECT * FROM proven_counts WHERE {players}) AS proven
FULL JOIN proof_counts AS found ON found.player_id = proven.player_id AND found.event_type = proven.event_type
WHERE (found.events, found.last_event, found.contents)
   IS DISTINCT FROM (proven.events, proven.last_event, proven.contents)
"""
_CHANGED_SCORES: Final = """
SELECT DISTINCT found.player_id
FROM proof_scores AS found LEFT JOIN proven_scores AS proven
  ON proven.game_id = found.game_id AND proven.player_id = found.player_id AND proven.day = found.day
WHERE proven.score IS DISTINCT FROM found.score
"""


@dataclass(frozen=True, slots=True)
class Players:
    """Some players: those after one and up to another (None: all that come), or those named."""

    after: str = ""
    upto: str | None = None
    named: tuple[str, ...] | None = None

    def where(self, column: LiteralString = "player_id") -> sql.Composed:
        """Say it in SQL."""
        name = sql.SQL(column)
        if self.named is not None:
            return sql.SQL("{} = ANY({})").format(name, sql.Literal(list(self.named)))
        if self.upto is None:
            return sql.SQL("{} > {}").format(name, sql.Literal(self.after))
        return sql.SQL("{} > {} AND {} <= {}").format(name, sql.Literal(self.after), name, sql.Literal(self.upto))


class Sums:
    """The sums of a group that writes the events table, on the caller's connection."""

    def __init__(self, connection: psycopg.Connection, role: Role, scoring: Scoring, beside: Beside) -> None:
        self._connection = connection
        self._beside = beside
        self._stats = "stats" in role.projections
        self._boards = "leaderboard" in role.projections
        self._scoring = list(scoring)
        self._score = _score(scoring)
        self._apart = dialect_of(connection) is DISTRIBUTED
        connection.execute(_TABLES)

    def touched(
        self, runs: Sequence[tuple[datetime, datetime]], level_at: datetime | None, left_out: set[str]
    ) -> set[str]:
        """Hold the counters of a piece's events to what was proven and what is new; returns the players that are off.

        `level_at`: when the proven sums were level with the watermarks. What holds is proven now; players that are left
        out are neither held to it nor kept. Nor are those of whom it is not sure what is new.
        """
        self._connection.execute(_CLEAR)
        known = level_at or _EVER
        since = sql.SQL("kept.created_at >= {}").format(sql.Literal(known - _IN_FLIGHT))
        for start, stop in runs:
            which = sql.SQL(_NEW).format(start=sql.Literal(start), stop=sql.Literal(stop), since=since)
            fill = sql.SQL(_FILL).format(score=self._score, level_at=sql.Literal(known), which=which)
            self._connection.execute(fill)
        self._connection.execute(_ADD_UP)
        wrong = self._players("SELECT DISTINCT player_id FROM proof_events WHERE unsure")
        if self._stats:
            wrong |= self._off(_TOUCHED_COUNTS)
        if self._boards:
            wrong |= self._off(_TOUCHED_SCORES)
        self._connection.execute("TRUNCATE proof_players")
        self._connection.execute("INSERT INTO proof_players SELECT unnest(%s::text[])", (sorted(wrong | left_out),))
        self._connection.execute(_KEEP_COUNTS)
        self._connection.execute(_KEEP_SCORES)
        if self._boards:
            wrong |= self._off(_TOUCHED_SETTLED) - left_out
        return wrong - left_out

    def page(self, after: str, events: int) -> Players:
        """Return the players after one whose events are about so many; to the last if there are no more."""
        page = _PAGE if len(self._beside.runs()) == 1 else _PAGE_BY_COUNTERS
        row = self._connection.execute(page, {"after": after, "events": events}).fetchone()
        return Players(after, row[0] if row is not None else None)

    def recount(self, players: Players, *, moments: bool = False) -> set[str]:
        """Sum up all events of players; returns those whose counters are not that.

        With `moments`, when they were written is kept, for `altered`.
        """
        self._connection.execute(_CLEAR)
        runs = self._beside.runs()
        if len(runs) > 1 or self._apart:
            for run in runs:
                self._beside.copy(self._all(players, run, moments=moments), "proof_parts")
            self._connection.execute(_ADD_PARTS)
        elif moments:
            added = sql.SQL("INSERT INTO proof_parts {}").format(self._all(players, runs[0], moments=True))
            self._connection.execute(added)
            self._connection.execute(_ADD_PARTS)
        else:
            self._connection.execute(sql.SQL(_RECOUNT).format(all=self._all(players, runs[0], moments=False)))
        wrong: set[str] = set()
        if self._stats:
            wrong |= self._players(sql.SQL(_WRONG_COUNTS).format(players=players.where()))
        if self._boards:
            wrong |= self._players(_WRONG_SCORES)
        return wrong

    def any_proven(self, players: Players) -> bool:
        """Whether something was proven of any of these players."""
        statement = sql.SQL("SELECT FROM proven_counts WHERE {} LIMIT 1").format(players.where())
        return self._connection.execute(statement).fetchone() is not None

    def altered(self, players: Players) -> set[str]:
        """Return the players whose events, just recounted by their moments, don't begin with those that were proven."""
        proven = self._connection.execute(sql.SQL(_NOT_FIRST).format(players=players.where())).fetchall()
        moments: dict[tuple[str, str], list[Moment]] = {(row[0], row[1]): [] for row in proven}
        if not proven:
            return set()
        asked = [list(column) for column in zip(*moments, strict=True)]
        for player, kind, at, events, contents in self._connection.execute(_MOMENTS, asked):
            moments[player, kind].append(Moment(at, events, int(contents)))
        return {
            player
            for player, kind, events, contents in proven
            if not covers(moments[player, kind], int(events), int(contents))
        }

    def _all(self, players: Players, run: Run, *, moments: bool) -> sql.Composed:
        which = sql.SQL("{} AND {}").format(players.where("kept.player_id"), run.has("kept.event_timestamp"))
        scoring = sql.SQL("{}::text[]").format(sql.Literal(self._scoring))
        moment = sql.SQL("kept.created_at" if moments else "NULL::timestamptz")
        found = sql.SQL(_FOUND).format(score=self._score, scoring=scoring, which=which, moment=moment)
        return sql.SQL(_ALL_APART if self._apart else _ALL).format(found=found)

    def recounted(self) -> int:
        """Count the players that were just recounted."""
        row = self._connection.execute("SELECT count(DISTINCT player_id) FROM proof_counts").fetchone()
        return int(row[0]) if row is not None else 0

    def changed(self, players: Players) -> set[str]:
        """Return the players whose events, just recounted, are not those that were proven."""
        wrong = self._players(sql.SQL(_CHANGED_COUNTS).format(players=players.where()))
        return wrong | self._players(_CHANGED_SCORES)

    def leave_out(self, players: Iterable[str]) -> None:
        """Forget what was just recounted of some players."""
        if named := list(players):
            self._connection.execute("DELETE FROM proof_counts WHERE player_id = ANY(%s)", (named,))
            self._connection.execute("DELETE FROM proof_scores WHERE player_id = ANY(%s)", (named,))

    def replace(self, players: Players, but: Iterable[str]) -> None:
        """Keep what was just recounted as proven; of some players what was."""
        gone = sql.SQL("DELETE FROM proven_counts WHERE {} AND player_id <> ALL(%s)").format(players.where())
        self._connection.execute(gone, (list(but),))
        self._connection.execute("INSERT INTO proven_counts SELECT * FROM proof_counts")
        self._connection.execute(
            "INSERT INTO proven_scores SELECT * FROM proof_scores"
            " ON CONFLICT (game_id, player_id, day) DO UPDATE SET score = excluded.score"
        )

    def boards_off(
        self, board: BoardPart, after: Mapping[str, Any], size: int
    ) -> tuple[set[str], dict[str, Any] | None]:
        """Hold a page of boards to what was proven; returns who is off, and the last key (None: there is no more)."""
        return board_off(self._connection, board, after, size) if self._boards else (set(), None)

    def total(self) -> int:
        """Count the events that are proven."""
        row = self._connection.execute("SELECT coalesce(sum(events), 0)::bigint FROM proven_counts").fetchone()
        return int(row[0]) if row is not None else 0

    def _off(self, statement: LiteralString) -> set[str]:
        """Return whom a statement about what a piece touched finds."""
        scoring = sql.SQL("{}::text[]").format(sql.Literal(self._scoring))
        tables = {
            name: sql.SQL(_OF_TOUCHED if self._apart else "{}").format(sql.Identifier(table)) for name, table in _SPREAD
        }
        return self._players(sql.SQL(statement).format(scoring=scoring, **tables))

    def _players(self, statement: LiteralString | sql.Composed) -> set[str]:
        query = sql.SQL(statement) if isinstance(statement, str) else statement
        return {row[0] for row in self._connection.execute(query).fetchall() if row[0] is not None}


def _score(scoring: Scoring) -> sql.Composed:
    """Read an event's score out of its data, by the scoring table; null if it has none.

    Each WHEN is a condition of its own: Citus 13 writes no others for its workers.
    """
    case = (
        "WHEN kept.event_type = {} THEN"
        " CASE WHEN jsonb_typeof(kept.data->{}) = 'number' THEN (kept.data->{})::numeric ELSE {} END"
    )
    cases = [
        sql.SQL(case).format(*map(sql.Literal, (kind, rule.field, rule.field, rule.default)))
        for kind, rule in scoring.items()
    ]
    if not cases:
        return sql.Composed([sql.SQL("NULL::numeric")])
    return sql.SQL("CASE {} END").format(sql.SQL(" ").join(cases))
