"""What was proven, as PostgreSQL keeps it: a checkpoint a partition, and how the proof of a group stands.

Checkpoints, proven sums and suspects are moved in one transaction, so a verifier may end anywhere, and a database that
is restored brings all of them back to one moment.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

PROOF_LOCK: Final = 0x70726F6F66
"""Advisory lock of whoever moves checkpoints; two verifiers take turns."""


_FORGET: Final = (
    "DELETE FROM pipeline_proofs WHERE group_id = %s AND topic = %s",
    "DELETE FROM pipeline_proof_state WHERE group_id = %s AND topic = %s",
    "DELETE FROM pipeline_suspects WHERE group_id = %s AND topic = %s",
    "DELETE FROM pipeline_suspect_records WHERE group_id = %s AND topic = %s",
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One partition: below `next_offset` each of so many records has its fate, so many of them are dead letters.

    It is not `whole` where records were gone from the log before they were read. Some of both were booked `again` after
    the watermark was set back; `foreign_letters` are dead letters at these offsets of a log that was here before.
    """

    partition: int
    topic_id: str
    next_offset: int
    records: int
    dead_letters: int
    whole: bool
    records_again: int = 0
    dead_letters_again: int = 0
    foreign_letters: int = 0


@dataclass(frozen=True, slots=True)
class ProofState:
    """How a group's proof stands.

    level_at: PostgreSQL's time at the last step that reached the watermarks. swept_to: the last player whose sums are
    proven; None: all are. rolled_to: where the round over what is old stands. kinds: differences by kind, as last told.
    unproven: how much cannot be recounted, by reason.
    redis_owed: whose comparison of Redis is still to come (0: that of all keys); None: nobody's.
    """

    level_at: datetime | None
    swept_to: str | None
    rolled_to: Mapping[str, Any]
    round_seconds: float | None
    kinds: Mapping[str, int]
    unproven: Mapping[str, int]
    redis_owed: int | None


class Checkpoints:
    """Reads and writes what was proven of one group and topic, on the caller's connection."""

    def __init__(self, connection: psycopg.Connection, group_id: str, topic: str) -> None:
        self._connection = connection
        self._key = (group_id, topic)
        self._verifier = 1 + secrets.randbits(62)
        self.redis_owed = False
        """Whether keys of Redis are owed a comparison that this verifier does not know by name."""

    def read(self) -> dict[int, Checkpoint]:
        """Return the checkpoints by partition."""
        rows = self._connection.execute(
            "SELECT partition, topic_id, next_offset, records, dead_letters, whole, records_again, dead_letters_again,"
            " foreign_letters FROM pipeline_proofs"
            " WHERE group_id = %s AND topic = %s ORDER BY partition",
            self._key,
        ).fetchall()
        return {row[0]: Checkpoint(*row) for row in rows}

    def standing(self) -> ProofState | None:
        """Return how the proof stands, or None if none was begun."""
        row = self._connection.execute(
            "SELECT level_at, swept_to, rolled_to, round_seconds, kinds, unproven, redis_owed FROM pipeline_proof_state"
            " WHERE group_id = %s AND topic = %s",
            self._key,
        ).fetchone()
        return ProofState(*row) if row is not None else None

    def begin(self, *, sums: bool) -> None:
        """Forget what was proven, in the caller's transaction; of the sums only where the group has them."""
        for statement in _FORGET:
            self._connection.execute(statement, self._key)
        self._connection.execute("INSERT INTO pipeline_proof_state (group_id, topic) VALUES (%s, %s)", self._key)
        if sums:
            self._connection.execute("TRUNCATE proven_counts, proven_scores")

    def sweep_again(self) -> None:
        """Let all sums be proven anew, in the caller's transaction; what they cover already they must still cover."""
        self._connection.execute(
            "DELETE FROM pipeline_suspects WHERE group_id = %s AND topic = %s AND NOT differs", self._key
        )
        self.swept("")

    def move(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Write checkpoints."""
        for one in checkpoints:
            self._connection.execute(
                "INSERT INTO pipeline_proofs (group_id, topic, partition, topic_id, next_offset, records, dead_letters,"
                " whole, records_again, dead_letters_again, foreign_letters)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
                " ON CONFLICT (group_id, topic, partition) DO UPDATE SET topic_id = excluded.topic_id,"
                " next_offset = excluded.next_offset, records = excluded.records, whole = excluded.whole,"
                " dead_letters = excluded.dead_letters, records_again = excluded.records_again,"
                " dead_letters_again = excluded.dead_letters_again, foreign_letters = excluded.foreign_letters,"
                " proven_at = now()",
                (*self._key, *astuple(one)),
            )

    def owe_redis(self, *, named: bool) -> None:
        """Note in the transaction that moves checkpoints that Redis is to be compared in what they pass.

        `named`: this verifier knows which keys that is. What another left, which may have died since, it does not.
        """
        row = self._connection.execute(
            "SELECT redis_owed FROM pipeline_proof_state WHERE group_id = %s AND topic = %s", self._key
        ).fetchone()
        if row is None:
            return
        self.redis_owed |= not named or row[0] not in {None, self._verifier}
        if row[0] != self._verifier:
            self._connection.execute(
                "UPDATE pipeline_proof_state SET redis_owed = %s WHERE group_id = %s AND topic = %s",
                (self._verifier, *self._key),
            )

    def redis_compared(self) -> None:
        """Note that Redis was compared in all that this verifier's steps passed; another's are owed still."""
        self.redis_owed = False
        self._connection.execute(
            "UPDATE pipeline_proof_state SET redis_owed = NULL WHERE group_id = %s AND topic = %s AND redis_owed = %s",
            (*self._key, self._verifier),
        )

    def level(self, at: datetime) -> None:
        """Note that this transaction's snapshot is what was proven; it was taken before `at`, PostgreSQL's time."""
        self._connection.execute(
            "UPDATE pipeline_proof_state SET level_at = %s WHERE group_id = %s AND topic = %s", (at, *self._key)
        )

    def swept(self, to: str | None) -> None:
        """Note up to which player sums are proven; None: of all."""
        self._connection.execute(
            "UPDATE pipeline_proof_state SET swept_to = %s WHERE group_id = %s AND topic = %s", (to, *self._key)
        )

    def rolled(self, to: Mapping[str, Any], *, ended: bool) -> None:
        """Note where the round over what is old stands, or that one has ended and the next begins."""
        self._connection.execute(
            "UPDATE pipeline_proof_state SET rolled_to = %(to)s,"
            " round_seconds = CASE WHEN %(ended)s THEN extract(epoch FROM now() - round_began) ELSE round_seconds END,"
            " round_began = CASE WHEN %(ended)s THEN now() ELSE round_began END"
            " WHERE group_id = %(group)s AND topic = %(topic)s",
            {"to": Jsonb(dict(to)), "ended": ended, "group": self._key[0], "topic": self._key[1]},
        )

    def leave_unproven(self, amounts: Mapping[str, int]) -> None:
        """Note how much could not be recounted, by reason."""
        self._connection.execute(
            "UPDATE pipeline_proof_state SET unproven = %s WHERE group_id = %s AND topic = %s",
            (Jsonb(dict(amounts)), *self._key),
        )

    def tell(self, kinds: Mapping[str, int], behind: int) -> None:
        """Note what a check came to."""
        self._connection.execute(
            "UPDATE pipeline_proof_state SET state = %s, differences = %s, kinds = %s, behind_records = %s,"
            " checked_at = now() WHERE group_id = %s AND topic = %s",
            ("differs" if kinds else "good", sum(kinds.values()), Jsonb(dict(kinds)), behind, *self._key),
        )

    def tell_whole(self, kinds: Mapping[str, int], seconds: float) -> None:
        """Note what it came to that everything was counted again, which took so long and leaves no checkpoint."""
        self._connection.execute(
            "INSERT INTO pipeline_proof_state (group_id, topic, swept_to, redis_owed) VALUES (%s, %s, NULL, NULL)"
            " ON CONFLICT (group_id, topic) DO UPDATE SET swept_to = NULL, redis_owed = NULL",
            self._key,
        )
        self.tell(kinds, 0)
        self._connection.execute(
            "UPDATE pipeline_proof_state SET level_at = now(), round_seconds = %s WHERE group_id = %s AND topic = %s",
            (seconds, *self._key),
        )

    # -- suspects ----------------------------------------------------------------------------------------------------

    def suspect(self, players: Iterable[str], *, differs: bool, changed: bool = False) -> None:
        """Note players to look at again; `changed`: what was proven of them is not there any more."""
        self._connection.execute(
            "INSERT INTO pipeline_suspects AS kept (group_id, topic, player_id, differs, changed)"
            " SELECT %s, %s, player, %s, %s FROM unnest(%s::text[]) AS seen(player)"
            " ON CONFLICT (group_id, topic, player_id) DO UPDATE SET differs = kept.differs OR excluded.differs,"
            " changed = kept.changed OR excluded.changed",
            (*self._key, differs, changed, sorted(set(players))),
        )

    def suspects(self, limit: int, *, differing: bool) -> list[str]:
        """Return players that differ, or those that are only owed."""
        rows = self._connection.execute(
            "SELECT player_id FROM pipeline_suspects WHERE group_id = %s AND topic = %s AND differs = %s"
            " ORDER BY player_id LIMIT %s",
            (*self._key, differing, limit),
        )
        return [row[0] for row in rows]

    def suspects_among(self, players: list[str]) -> set[str]:
        """Return those of the players that are suspects already."""
        rows = self._connection.execute(
            "SELECT player_id FROM pipeline_suspects WHERE group_id = %s AND topic = %s AND player_id = ANY(%s)",
            (*self._key, players),
        )
        return {row[0] for row in rows}

    def differing(self, which: sql.Composed) -> set[str]:
        """Return the suspects that differ, of some players: `which` is a condition on player_id."""
        statement = "SELECT player_id FROM pipeline_suspects WHERE group_id = %s AND topic = %s AND differs AND {}"
        return {row[0] for row in self._connection.execute(sql.SQL(statement).format(which), self._key)}

    def count_suspects(self, *, differing: bool) -> int:
        """Count them."""
        row = self._connection.execute(
            "SELECT count(*) FROM pipeline_suspects WHERE group_id = %s AND topic = %s AND differs = %s",
            (*self._key, differing),
        ).fetchone()
        return int(row[0]) if row is not None else 0

    def clear(self, players: Iterable[str]) -> None:
        """Suspect players no more."""
        self._connection.execute(
            "DELETE FROM pipeline_suspects WHERE group_id = %s AND topic = %s AND player_id = ANY(%s)",
            (*self._key, list(players)),
        )

    def owe(self, players: Iterable[str]) -> None:
        """Let players that were looked at and found good be summed up anew."""
        self._connection.execute(
            "UPDATE pipeline_suspects SET differs = false, changed = false"
            " WHERE group_id = %s AND topic = %s AND player_id = ANY(%s)",
            (*self._key, list(players)),
        )

    def changed(self, players: Iterable[str]) -> set[str]:
        """Return those of the suspects of whom what was proven is not there any more."""
        rows = self._connection.execute(
            "SELECT player_id FROM pipeline_suspects WHERE group_id = %s AND topic = %s AND changed"
            " AND player_id = ANY(%s)",
            (*self._key, list(players)),
        )
        return {row[0] for row in rows}

    def prove_anew(self, players: Iterable[str]) -> None:
        """Forget what was proven of players: the topic confirms what there is."""
        self._connection.execute("DELETE FROM proven_counts WHERE player_id = ANY(%s)", (list(players),))

    def unburied(self, service: str) -> list[tuple[int, int]]:
        """Return the bad records that still have no dead letter, and forget those that have one now."""
        self._connection.execute(
            "DELETE FROM pipeline_suspect_records AS bad USING dlq_events AS dead"
            " WHERE bad.group_id = %s AND bad.topic = %s AND dead.topic = bad.topic AND dead.partition = bad.partition"
            " AND dead.record_offset = bad.record_offset AND dead.consumer_service = %s"
            " AND dead.record_timestamp = coalesce(bad.record_timestamp, dead.record_timestamp)",
            (*self._key, service),
        )
        return self._connection.execute(
            "SELECT partition, record_offset FROM pipeline_suspect_records WHERE group_id = %s AND topic = %s"
            " ORDER BY 1, 2",
            self._key,
        ).fetchall()

    def suspect_records(self, places: Iterable[tuple[int, int, int]]) -> None:
        """Note bad records without a dead letter: partition, offset, and the record's time in milliseconds."""
        columns = [list(column) for column in zip(*places, strict=True)]
        if columns:
            self._connection.execute(
                "INSERT INTO pipeline_suspect_records (group_id, topic, partition, record_offset, record_timestamp)"
                " SELECT %s, %s, partition, record_offset, to_timestamp(milliseconds / 1000.0)"
                " FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) AS bad(partition, record_offset, milliseconds)"
                " ON CONFLICT DO NOTHING",
                (*self._key, *columns),
            )


def forget_others(connection: psycopg.Connection, topic: str, groups: Sequence[str]) -> None:
    """Forget how the proofs stand of groups that write nothing any more: nobody proves on from there."""
    connection.execute(
        "DELETE FROM pipeline_proof_state WHERE topic = %s AND group_id <> ALL(%s)", (topic, list(groups))
    )
