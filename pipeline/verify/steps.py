"""The proof in steps: a piece of the topic, its records' fates, the sums that they touch; then the checkpoint moves.

A step reads from Kafka with no transaction open, and judges. Then one transaction of a second or two sees one moment of
PostgreSQL: watermarks, ledger and sums belong together in it. A step that was read up to the watermarks of that moment
is *level*, and holds the sums to what it read; one that consumers are ahead of proves the fates, and owes the sums.
Checkpoints, proven sums and suspects commit together, so that a step happens or does not.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Final

import polars as pl
import psycopg

from pipeline.config import Settings
from pipeline.contract.event import EARLIEST, load_scoring
from pipeline.kafka.topic import Bounds, Topic
from pipeline.sinks.letters import FIRST_TIME, LAST_TIME, MILLISECONDS
from pipeline.verify.beside import Beside
from pipeline.verify.by_keys import go_by_keys
from pipeline.verify.checkpoints import PROOF_LOCK, Checkpoint, Checkpoints
from pipeline.verify.columns import ColumnJudge
from pipeline.verify.findings import Findings, Marks
from pipeline.verify.groups import Group, read_groups
from pipeline.verify.piece import Piece
from pipeline.verify.report import Report
from pipeline.verify.resets import Resets, read_resets
from pipeline.verify.rounds import Rounds, swept
from pipeline.verify.sums import Sums

PIECE_RECORDS: Final = 100_000
PIECE_BYTES: Final = 32 << 20
_ATTEMPTS: Final = 8

_SESSION: Final = (
    # A piece and a page stay in memory; both are bounded.
    "SET temp_buffers = '64MB'",
    "SET work_mem = '64MB'",
    # A step that a crash undoes is taken again.
    "SET synchronous_commit = off",
)

_OFFSETS: Final = pl.Schema({"partition": pl.Int32(), "offset": pl.Int64()})
_PLACES: Final = pl.Schema({**_OFFSETS, "timestamp": pl.Int64()})
_PLACE: Final = _OFFSETS.names()


@dataclass(slots=True)
class Read:
    """What was read of the topic for a step: from where, the places of all records, and which are no events.

    `over`: the partitions of which nothing is left to read. `gone`: how many offsets were passed over, unread.
    """

    starts: dict[int, Checkpoint] = field(default_factory=dict)
    over: dict[int, Checkpoint] = field(default_factory=dict)
    gone: int = 0
    places: pl.DataFrame = field(default_factory=_PLACES.to_frame)
    bad: list[tuple[int, int]] = field(default_factory=list)
    size: int = 0

    @property
    def full(self) -> bool:
        """Whether it is as large as a piece may be."""
        return len(self.places) >= PIECE_RECORDS or self.size >= PIECE_BYTES


@dataclass(frozen=True, slots=True)
class Step:
    """What a step came to: how many records it proved, whether it was level, and what is left of the sums.

    `moved` is False where another verifier was there first, and nothing was done.
    """

    moved: bool
    level: bool
    records: int
    left: bool
    marks: Marks
    stops: Mapping[int, int] = field(default_factory=dict)


class Prover:
    """Takes steps for one group whose ledger is of identities or events. One thread, on the caller's connection."""

    def __init__(
        self, connection: psycopg.Connection, topic: Topic, group: Group, settings: Settings, report: Report
    ) -> None:
        scoring = load_scoring(settings.scoring_file)
        self._connection = connection
        self._topic = topic
        self._group = group
        self._name = settings.kafka_topic
        self._report = report
        self._scoring = scoring
        self._judge = ColumnJudge(self._name, scoring, report.seed)
        go_by_keys(connection)
        for statement in _SESSION:
            connection.execute(statement)
        self._beside = Beside(settings, connection, group.role.ledger)
        self._piece = Piece(connection, group.role, self._beside)
        self._sums = Sums(connection, group.role, scoring, self._beside) if group.role.ledger == "events" else None
        self.checkpoints = Checkpoints(connection, group.id, self._name)
        self._rounds = Rounds(self.checkpoints, self._sums, report) if self._sums is not None else None
        self.bounds: Bounds = {}
        self.findings = Findings(connection, self.checkpoints, group, self._name)
        standing = self.checkpoints.standing()
        self.unproven = dict(standing.unproven) if standing is not None else {}
        """How much cannot be recounted, by reason: `records` that were gone unread, and `sums` (1: none of them)."""
        self._seen_at = EARLIEST
        self.since = EARLIEST
        self.dropped = 0
        self.roll_pages = 0
        """How many pages of the round over what is old a step looks at."""
        self.rolled = 0
        self.round_ended = False
        """How many players or places were on the last page, and whether it was the last of a round."""

    def close(self) -> None:
        """Close what was opened beside the caller's connection."""
        self._beside.close()

    def begin(self) -> None:
        """Start from the log's beginning."""
        with self._turn(), self._connection.transaction():
            self.checkpoints.begin(sums=self._sums is not None)

    def touched(self) -> tuple[list[str], list[tuple[str, str, date]]]:
        """Return the players of the last step's records, and their places on boards: game, player, day."""
        return self._piece.players(), self._piece.places(self._scoring)

    def altered(self, players: Sequence[str]) -> set[str]:
        """Return those of whom what was proven is not there any more, in one moment of PostgreSQL."""
        if self._rounds is None:
            return set()
        with self._snapshot():
            return self._rounds.altered(players) if self._ledger_start() <= EARLIEST else set()

    def step(self) -> Step:
        """Read a piece, and prove it."""
        # In this order: each is asked for after what it may not lie below, though all of them move meanwhile.
        before = self.checkpoints.read()
        marks = self._marks()
        self.bounds = self._topic.bounds()
        read = self._starting(marks, before)
        self._topic.follow({p: one.next_offset for p, one in read.starts.items()})
        self._piece.clear()
        until = {p: marks[p].next_offset for p in read.starts}
        for attempt in range(_ATTEMPTS):
            self._read(read, until)
            try:
                with self._snapshot():
                    marks = self._marks()
                    if self.checkpoints.read() != before:
                        return Step(moved=False, level=False, records=0, left=True, marks=marks)
                    until = {p: marks[p].next_offset for p in read.starts if p in marks}
                    at = self._topic.positions
                    level = all(at[p] >= stop for p, stop in until.items())
                    level = level and all(
                        p in marks and one.next_offset >= marks[p].next_offset for p, one in read.over.items()
                    )
                    if level or read.full or attempt + 1 == _ATTEMPTS:
                        return self._prove(read, marks, level=level)
            except psycopg.errors.SerializationFailure:  # another verifier told how it stands meanwhile
                break
        return Step(moved=False, level=False, records=0, left=True, marks=marks)

    # -- what is read --------------------------------------------------------------------------------------------------

    def _starting(self, marks: Marks, before: Mapping[int, Checkpoint]) -> Read:
        """Find where each partition goes on; what cannot be, or is not there any more, is said."""
        self.findings.place_again()
        read = Read()
        for partition, mark in marks.items():
            first, end = self.bounds.get(partition, (0, 0))
            known = before.get(partition)
            if self.findings.misplaced(mark, known, self._topic.id, end):
                continue
            start = known or Checkpoint(partition, mark.topic_id, mark.first_offset, 0, 0, whole=True)
            if first > start.next_offset and mark.next_offset > start.next_offset:
                gone = min(first, mark.next_offset)
                self._report.skip(
                    f"{self._group.id} partition {partition}: offsets {start.next_offset} to {gone - 1}"
                    f" are gone from the log (retention)"
                )
                read.gone += gone - start.next_offset
                start = replace(start, next_offset=gone, whole=False)
            elif not start.whole:
                self._report.skip(f"{self._group.id} partition {partition}: its first records were gone from the log")
            (read.starts if start.next_offset >= first else read.over)[partition] = start
        return read

    def _read(self, read: Read, until: Mapping[int, int]) -> None:
        """Read on to the watermarks at least, or to the size of a piece."""
        if not read.starts:
            return
        records = self._topic.take(PIECE_RECORDS - len(read.places), PIECE_BYTES - read.size, until).frame
        if not len(records):
            return
        judged = self._judge.judge(records)
        self._report.judged_twice = self._judge.judged_twice
        self._piece.add(judged.events)
        read.places = pl.concat([read.places, records.select(_PLACES.names())])
        read.bad += judged.bad
        read.size += int(records["value"].bin.size().sum())
        for partition, offset in judged.disagreed:
            where = f"{self._group.id} partition {partition} offset {offset}"
            self.findings.found["judge", where] = ("the plain judge's verdict", "another in columns")

    # -- what is proven ------------------------------------------------------------------------------------------------

    def _prove(self, read: Read, marks: Marks, *, level: bool) -> Step:
        at = self._topic.positions
        stops = {p: min(at[p], marks[p].next_offset) for p in read.starts if p in marks}
        for partition, stop in stops.items():
            if at[partition] > stop:
                self._piece.drop(partition, stop)
        places = _below(read.places, stops)
        bad = {(p, offset) for p, offset in read.bad if offset < stops.get(p, 0)}
        resets = read_resets(self._connection, self._group.id, self._name, marks)
        dead, foreign = self._dead_letters(read.starts, stops, places, bad, resets)
        starts = {p: replace(read.starts[p], next_offset=stop) for p, stop in stops.items()}
        passed = _passed(starts, places, dead, foreign, resets)
        passed |= {p: one for p, one in read.over.items() if p in marks}
        stops |= {p: one.next_offset for p, one in read.over.items()}
        self.since = since = self._ledger_start()
        if wrong := self._piece.wrong(since):
            self.checkpoints.suspect(wrong, differs=True)
        if since > EARLIEST:
            self.dropped += self._piece.before(since)
        players = self._piece.players()
        left = self._prove_sums(players, since, gap=read.gone > 0, level=level)
        self._leave_unproven(read.gone, since)
        if level:
            self.findings.balance(passed, marks, resets)
        if level and not left and self.findings.due:
            self.findings.totals(passed, marks, self._sums if since <= EARLIEST else None, resets, self._report)
        self.checkpoints.move(passed.values())
        if len(places) or read.gone:
            self.checkpoints.owe_redis(named=not read.gone)
        self._report.compare("records", len(places))
        self._report.compare("dead letters", len(bad))
        return Step(moved=True, level=level, records=len(places), left=left, marks=marks, stops=stops)

    def _leave_unproven(self, gone: int, since: datetime) -> None:
        """Keep how much cannot be recounted, also for whoever proves on after this."""
        standing = self.checkpoints.standing()
        known = standing.unproven if standing is not None else {}
        self.unproven = {"records": known.get("records", 0) + gone, "sums": int(since > EARLIEST)}
        if self.unproven != known:
            self.checkpoints.leave_unproven(self.unproven)

    def _dead_letters(
        self,
        starts: Mapping[int, Checkpoint],
        stops: Mapping[int, int],
        places: pl.DataFrame,
        bad: set[tuple[int, int]],
        resets: Resets,
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Hold dead letters and bad records to each other.

        Returns the places that are, or should be, dead letters; and dead letters of another log, which gave out the
        same offsets to records of other times.
        """
        rows: list[tuple[int, int, int]] = []
        for partition, stop in stops.items():
            rows += self._connection.execute(
                f"SELECT DISTINCT partition, record_offset, {MILLISECONDS} FROM dlq_events"  # noqa: S608 - our own
                " WHERE topic = %s AND partition = %s AND record_offset >= %s AND record_offset < %s"
                " AND consumer_service = %s",
                (self._name, partition, starts[partition].next_offset, stop, self._group.role.service),
            ).fetchall()
        letters = pl.DataFrame(sorted(rows), schema=_PLACES, orient="row")
        records = places.with_columns(pl.col("timestamp").clip(FIRST_TIME, LAST_TIME))
        dead = letters.join(records, on=_PLACES.names(), how="semi")
        foreign = letters.join(dead, on=_PLACES.names(), how="anti")
        if not resets.deleted:
            for partition, offset, _ in foreign.join(records, on=_PLACE, how="anti").iter_rows():
                where = f"partition {partition} offset {offset}"
                what = "a row in dlq_events, but the topic has no such record"
                self.findings.found["dead letter", where] = (None, what)
            foreign = foreign.join(records, on=_PLACE, how="semi")
        buried = set(dead.select(_PLACE).iter_rows())
        unburied = pl.DataFrame(sorted(bad - buried), schema=_OFFSETS, orient="row").join(records, on=_PLACE)
        self.checkpoints.suspect_records(unburied.iter_rows())
        self._piece.drop_places(sorted(buried - bad))
        return pl.DataFrame(sorted(buried | bad), schema=_OFFSETS, orient="row"), foreign

    def _prove_sums(self, players: list[str], since: datetime, *, gap: bool, level: bool) -> bool:
        """Hold sums to the events; returns whether some are left to prove."""
        standing = self.checkpoints.standing()
        if self._rounds is None or standing is None:
            return False
        if since > EARLIEST:
            self._report.skip(
                f"{self._group.id}: statistics and boards, for not all that was counted can be read again"
            )
            return False
        if gap:
            self.checkpoints.sweep_again()
            standing = self.checkpoints.standing() or standing
        if not level:
            self.checkpoints.suspect(swept(players, standing), differs=False)
            return True
        if self._piece.wide:
            self.checkpoints.suspect(swept(players, standing), differs=False)
        elif players:
            self._rounds.touched(list(self._piece.runs()), players, standing)
        self.checkpoints.level(self._seen_at)
        left = self._rounds.go_on(standing, self.roll_pages)
        self.rolled, self.round_ended = self._rounds.rolled, self._rounds.ended
        return left

    # -- reading -------------------------------------------------------------------------------------------------------

    def _marks(self) -> Marks:
        groups = read_groups(self._connection, self._name)
        return next((dict(one.marks) for one in groups if one.id == self._group.id), {})

    def _ledger_start(self) -> datetime:
        row = self._connection.execute(
            "SELECT min(lower_bound) FROM day_partitions WHERE parent = %s::regclass", (self._group.role.ledger,)
        ).fetchone()
        return row[0].astimezone(UTC) if row is not None and row[0] is not None else EARLIEST

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep other verifiers from moving the checkpoints meanwhile."""
        self._connection.execute("SELECT pg_advisory_lock(%s)", (PROOF_LOCK,))
        try:
            yield
        finally:
            if not self._connection.closed:
                self._connection.execute("SELECT pg_advisory_unlock(%s)", (PROOF_LOCK,))

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """See one moment of PostgreSQL, and write what was proven of it."""
        with self._turn(), self._connection.transaction():
            self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            # The statement that takes the snapshot: nothing that is seen here began after this time.
            row = self._connection.execute("SELECT clock_timestamp()").fetchone()
            self._seen_at = row[0] if row is not None else EARLIEST
            yield


def _passed(
    starts: Mapping[int, Checkpoint],
    places: pl.DataFrame,
    dead: pl.DataFrame,
    foreign: pl.DataFrame,
    resets: Resets,
) -> dict[int, Checkpoint]:
    """Add to checkpoints what was read."""
    records, letters, others = (_by_partition(one) for one in (places, dead, foreign))
    records_again, letters_again = resets.count(places), resets.count(dead)
    return {
        p: replace(
            one,
            records=one.records + records.get(p, 0),
            dead_letters=one.dead_letters + letters.get(p, 0),
            records_again=one.records_again + records_again.get(p, 0),
            dead_letters_again=one.dead_letters_again + letters_again.get(p, 0),
            foreign_letters=one.foreign_letters + others.get(p, 0),
        )
        for p, one in starts.items()
    }


def _below(places: pl.DataFrame, stops: Mapping[int, int]) -> pl.DataFrame:
    ends = pl.DataFrame(list(stops.items()), schema={"partition": pl.Int32, "stop": pl.Int64}, orient="row")
    return places.join(ends, on="partition").filter(pl.col("offset") < pl.col("stop")).drop("stop")


def _by_partition(frame: pl.DataFrame) -> dict[int, int]:
    return dict(frame.group_by("partition").len().iter_rows())
