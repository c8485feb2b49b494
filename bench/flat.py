"""Flatness: the same job into a database that has been running for a quarter of a year.

The past is made in the database itself (going through Kafka would take the night): day partitions, their events in
ten passes a day as epochs would have brought them, the counters those add up to, and Redis refilled from them.
"""

from dataclasses import dataclass
from typing import Final, LiteralString

from bench.capture import make_ready
from bench.load import Produced
from bench.rig import Fixture, Rig
from bench.throughput import Throughput, measure
from bench.truth import Truth, WrongSumsError, require
from pipeline.contract.boards import TOTAL_EVENTS, stats_key
from pipeline.operations.rebuild import rebuild
from pipeline.sinks import redis as redis_sink

DAYS: Final = 90
EVENTS_A_PLAYER: Final = 10
_AHEAD: Final = 7
_SAMPLE: Final = 2_000


@dataclass(frozen=True, slots=True)
class Flat:
    """The run into a full database, and the run into an empty one that came right after it."""

    prefilled_events: int
    prefilled_players: int
    day_partitions: int
    full: Throughput
    empty: Throughput

    @property
    def ratio(self) -> float:
        """The rate into the full database as a share of that into the empty one."""
        return self.full.rate / self.empty.rate


def measure_flat(rig: Rig, fixture: Fixture, produced: Produced, truth: Truth, events: int) -> Flat:
    """Fill a fixture with a past, then consume what lies in its topic. Raises WrongSumsError."""
    players = max(events // EVENTS_A_PLAYER, 1)
    fill(fixture, events, players)
    make_ready(fixture)
    rebuild(fixture.settings)
    before = _sums(fixture)
    full = measure(rig, fixture, produced)
    added = tuple(after - earlier for after, earlier in zip(_sums(fixture), before, strict=True))
    score = int(truth.days["score"].sum())
    if added != (truth.events, score, score):
        raise WrongSumsError(f"added to the full database: {added}, generated: {(truth.events, score, score)}")
    _require_level_redis(fixture, truth)
    partitions = fixture.scalar("SELECT count(*) FROM day_partitions WHERE parent = 'events'::regclass")
    with rig.sibling(fixture) as fresh:
        empty = measure(rig, fresh, produced)
        require(fresh, truth)
    return Flat(events, players, partitions, full, empty)


def fill(fixture: Fixture, events: int, players: int) -> None:
    """Make the past: `events` of `players` evenly over DAYS day partitions, and all that follows from them."""
    with fixture.postgres() as connection:
        connection.execute("SET synchronous_commit = off")
        for (partition,) in connection.execute(
            "SELECT partition::text FROM day_partitions WHERE parent = 'events'::regclass"
        ).fetchall():
            connection.execute(f"DROP TABLE {partition}".encode())
        made = "SELECT make_day_partitions('events', %s, %s)"
        while connection.execute(made, (_AHEAD, DAYS - _AHEAD - 1)).fetchone() != (0,):
            pass
        for day in range(DAYS - _AHEAD):
            for turn in range(10):
                connection.execute(
                    _EVENTS, {"day": day, "turn": turn, "events": events // (DAYS - _AHEAD), "players": players}
                )
        for statement in (_COUNTS, _DAILY, _AGE, _SETTLE):
            connection.execute(statement)
        connection.execute("VACUUM (FREEZE, ANALYZE)")


def settle(fixture: Fixture) -> None:
    """Settle the boards of a new fixture, as if it were a day old: what comes later is added to settled days."""
    with fixture.postgres() as connection:
        for statement in (_AGE, _SETTLE):
            connection.execute(statement)


def _sums(fixture: Fixture) -> tuple[int, int, int]:
    return (
        fixture.scalar("SELECT coalesce(sum(events), 0) FROM player_event_counts"),
        fixture.scalar("SELECT coalesce(sum(score), 0) FROM leaderboard_daily"),
        fixture.scalar("SELECT coalesce(sum(score), 0) FROM leaderboard_alltime"),
    )


def _require_level_redis(fixture: Fixture, truth: Truth) -> None:
    """Hold a sample of the load's players in Redis to PostgreSQL's totals."""
    players = (
        truth.counts["player_id"].unique().sort().gather_every(max(1, truth.counts["player_id"].n_unique() // _SAMPLE))
    )
    with fixture.postgres() as connection:
        statement = "SELECT player_id, total_events FROM player_statistics WHERE player_id = ANY(%s)"
        totals: dict[str, int] = dict(connection.execute(statement, (players.to_list(),)).fetchall())
    with redis_sink.connect(fixture.settings) as client, client.pipeline(transaction=False) as asked:
        for player in totals:
            asked.hget(stats_key(player), TOTAL_EVENTS)
        found = [int(total or 0) for total in asked.execute()]
    if found != list(totals.values()):
        raise WrongSumsError("Redis' totals are not PostgreSQL's in the full database")


# A turn brings every tenth player, in order, as a sorted epoch does; who plays on a day is spread by a prime. A player
# keeps to one game, and three events in ten score.
_EVENTS: Final[LiteralString] = """
INSERT INTO events (event_id, event_type, player_id, game_id, event_timestamp, ingested_at, data)
SELECT gen_random_uuid(), CASE WHEN i %% 10 < 3 THEN 'player_score' ELSE 'login' END,
       'player-' || lpad(player::text, 6, '0'), 'game-' || lpad((player %% 20 + 1)::text, 2, '0'), moment, moment,
       jsonb_build_object('score', i %% 10000, 'combo', i %% 1000, 'session', 's' || lpad(i::text, 9, '0'))
FROM (SELECT i, (i * 7919 + %(day)s * 104729) %% %(players)s + 1 AS player,
             date_trunc('day', now()) - make_interval(days => %(day)s)
             + make_interval(secs => 86399.0 * i / greatest(%(events)s, 1)) AS moment
      FROM generate_series(%(turn)s::bigint, %(events)s::bigint - 1, 10) AS i) AS made
ORDER BY player
"""

_COUNTS: Final[LiteralString] = """
INSERT INTO player_event_counts (player_id, event_type, events, last_event)
SELECT player_id, event_type, count(*), max(event_timestamp) FROM events GROUP BY 1, 2 ORDER BY 1, 2
"""

_DAILY: Final[LiteralString] = """
INSERT INTO leaderboard_daily (game_id, day, player_id, score, updated_at)
SELECT game_id, (event_timestamp AT TIME ZONE 'UTC')::date, player_id, sum((data ->> 'score')::bigint), now()
FROM events WHERE event_type = 'player_score' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""

_AGE: Final[LiteralString] = "UPDATE leaderboard_horizon SET settled_at = settled_at - interval '1 day'"

_SETTLE: Final[LiteralString] = """
DO $$ BEGIN WHILE settle_boards(0) > 0 LOOP NULL; END LOOP; END $$  -- nobody else is about
"""
