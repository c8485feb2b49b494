"""How deltas are added to the tables: by what the server is, a plain PostgreSQL or a distributed one (Citus).

A plain one is given MERGE, which updates a matched row without locking it first, for 15 % less CPU. A distributed one
does not take MERGE from a table of the coordinator's, and takes INSERT ... ON CONFLICT DO UPDATE, in whose SET nothing
may be volatile or stable: the time comes as a column of what is inserted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, LiteralString

import psycopg

from pipeline.errors import ConfigurationError, UnavailableError

SHARD_KEY: Final = "player_id"
SHARDED: Final = (
    "events",
    "stats_ledger",
    "leaderboard_ledger",
    "player_event_counts",
    "leaderboard_daily",
    "leaderboard_settled",
)
"""The tables that a distributed server spreads, all by SHARD_KEY and together. The others stay at its coordinator,
whose commit decides: the watermark and the horizon move with that, and not a moment before or after it."""

OVERRIDE: Final = "gamemetrics.dialect"
"""A setting of the database (ALTER DATABASE ... SET) that names the dialect if the server does not tell it."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The statements that add what was copied into the temporary tables to those that keep it."""

    name: str
    counts: LiteralString
    days: LiteralString
    settled: LiteralString
    """Adds what is late to the all-time board, of which settled days are a part."""


# If another session inserts the same key at the same moment this raises unique_violation, and the epoch is written
# again.
PLAIN: Final = Dialect(
    "plain",
    counts="""
MERGE INTO player_event_counts AS kept USING added_counts AS added
   ON kept.player_id = added.player_id AND kept.event_type = added.event_type
WHEN MATCHED THEN UPDATE SET events = kept.events + added.events,
                             last_event = greatest(kept.last_event, added.last_event)
WHEN NOT MATCHED THEN INSERT (player_id, event_type, events, last_event)
                      VALUES (added.player_id, added.event_type, added.events, added.last_event)
""",
    days="""
MERGE INTO leaderboard_daily AS kept USING added_days AS added
   ON kept.game_id = added.game_id AND kept.day = added.day AND kept.player_id = added.player_id
WHEN MATCHED THEN UPDATE SET score = kept.score + added.score, updated_at = now()
WHEN NOT MATCHED THEN INSERT (game_id, day, player_id, score, updated_at)
                      VALUES (added.game_id, added.day, added.player_id, added.score, now())
""",
    settled="""
MERGE INTO leaderboard_settled AS kept
USING (SELECT game_id, player_id, sum(score) AS score FROM added_days
       WHERE day < (SELECT settled_before FROM leaderboard_horizon) GROUP BY 1, 2 ORDER BY 1, 2) AS added
   ON kept.game_id = added.game_id AND kept.player_id = added.player_id
WHEN MATCHED THEN UPDATE SET score = kept.score + added.score, updated_at = now()
WHEN NOT MATCHED THEN INSERT (game_id, player_id, score, updated_at)
                      VALUES (added.game_id, added.player_id, added.score, now())
""",
)

DISTRIBUTED: Final = Dialect(
    "distributed",
    counts="""
INSERT INTO player_event_counts AS kept (player_id, event_type, events, last_event)
SELECT player_id, event_type, events, last_event FROM added_counts
ON CONFLICT (player_id, event_type) DO UPDATE
SET events = kept.events + excluded.events, last_event = greatest(kept.last_event, excluded.last_event)
""",
    days="""
INSERT INTO leaderboard_daily AS kept (game_id, day, player_id, score, updated_at)
SELECT game_id, day, player_id, score, now() FROM added_days
ON CONFLICT (game_id, day, player_id) DO UPDATE
SET score = kept.score + excluded.score, updated_at = excluded.updated_at
""",
    settled="""
INSERT INTO leaderboard_settled AS kept (game_id, player_id, score, updated_at)
SELECT game_id, player_id, sum(score), now() FROM added_days
WHERE day < (SELECT settled_before FROM leaderboard_horizon) GROUP BY 1, 2 ORDER BY 1, 2
ON CONFLICT (game_id, player_id) DO UPDATE
SET score = kept.score + excluded.score, updated_at = excluded.updated_at
""",
)

DIALECTS: Final = {dialect.name: dialect for dialect in (PLAIN, DISTRIBUTED)}

_ASK: Final = (
    "SELECT current_setting(%s, true), EXISTS (SELECT FROM pg_extension WHERE extname = 'citus'), current_database()"
)
_SPREAD: Final = (
    "SELECT logicalrelid::regclass::text FROM pg_dist_partition WHERE partmethod = 'h'"
    " AND logicalrelid IN (SELECT to_regclass(name) FROM unnest(%s::text[]) AS wanted(name))"
)

# Workers have prepared their parts before the coordinator commits, and are told to commit them before it frees its
# locks; one that cannot be told then is told by the coordinator's maintenance, a minute later.
_UNCOMMITTED: Final = (
    "SELECT count(*) FILTER (WHERE NOT success), coalesce(sum(result::integer) FILTER (WHERE success), 0)"
    " FROM run_command_on_workers($$SELECT count(*) FROM pg_prepared_xacts"
    " WHERE database = current_database() AND gid LIKE 'citus\\_%'$$)"
)


def dialect_of(connection: psycopg.Connection) -> Dialect:
    """Return the dialect of the server that a connection leads to.

    Raises psycopg.Error, and ConfigurationError if the database's override names none.
    """
    row = connection.execute(_ASK, (OVERRIDE,)).fetchone()
    named, citus, database = row if row is not None else (None, False, "")
    if named:
        if named not in DIALECTS:
            raise ConfigurationError(
                f"DB_NAME: {OVERRIDE} of the database {database!r} is {named!r}; it is one of {', '.join(DIALECTS)}"
            )
        return DIALECTS[named]
    return DISTRIBUTED if citus and spread(connection) else PLAIN


def spread(connection: psycopg.Connection) -> Sequence[str]:
    """Return which of SHARDED a server with Citus has distributed."""
    return [row[0] for row in connection.execute(_SPREAD, (list(SHARDED),)).fetchall()]


def await_workers(connection: psycopg.Connection) -> None:
    """Raise UnavailableError while some worker has not committed its part of a transaction that is committed.

    No snapshot spans the workers of a distributed server. Who reads sums that belong to a watermark (a refill of Redis,
    a comparison with it) holds off the epochs, and would miss for good what one of them has not made visible yet.
    """
    row = connection.execute("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')").fetchone()
    if row is None or not row[0]:
        return
    row = connection.execute(_UNCOMMITTED).fetchone()
    silent, uncommitted = row if row is not None else (0, 0)
    if silent or uncommitted:
        raise UnavailableError(
            f"PostgreSQL: {uncommitted} transactions are prepared and not committed at the workers, {silent} workers "
            f"do not answer: sums and watermarks are not of one moment"
        )
