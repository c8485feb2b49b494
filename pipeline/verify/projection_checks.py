"""One group's projections in PostgreSQL against the recount: its account of records, its ledger, its sums."""

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from pipeline.contract.boards import ALLTIME
from pipeline.contract.event import EARLIEST, format_timestamp
from pipeline.contract.offsets import Watermark
from pipeline.kafka.topic import Bounds
from pipeline.verify.differences import differing
from pipeline.verify.groups import Group
from pipeline.verify.projections import Projections
from pipeline.verify.recount import (
    CONTENT,
    IDENTITY,
    ORIGIN,
    PLACE,
    Admissible,
    Names,
    admissible,
    counts_of,
    days_of,
    identity_name,
    moment_of,
    totals_of,
    weeks_of,
    within,
)
from pipeline.verify.report import Report
from pipeline.verify.resets import Resets


@dataclass(frozen=True, slots=True)
class RecountedTopic:
    """The topic as recounted: valid records, bad ones, what the log still holds, and what else was counted."""

    good: pl.DataFrame
    bad: pl.DataFrame
    bounds: Bounds
    topic_id: str
    other_topics: list[str]
    resets: Resets


@dataclass(slots=True)
class GroupCheck:
    """Compares one group; what it finds goes into the report."""

    group: Group
    source: RecountedTopic
    stored: Projections
    names: Names
    report: Report
    _whole: bool = field(default=True, init=False)

    @property
    def whole(self) -> bool:
        """Whether all that the group counted is in the log, and nothing else was counted; known after a check."""
        return self._whole

    def check(self) -> None:
        """Compare everything that the group writes to PostgreSQL."""
        self._bound()
        good, bad = within(self.source.good, self.group.marks), within(self.source.bad, self.group.marks)
        dead = self._dead_letters(good, bad, within(self.stored.dead_letters, self._recounted_marks()))
        self._unmended()
        expected = admissible(good.join(dead, on=PLACE, how="anti"))
        self._account(len_by_partition(good), len_by_partition(bad), len_by_partition(dead), expected)
        self._ledger(expected, self.stored.ledger, self.stored.ledger_start)
        self._sums(expected, self.stored.ledger, self.stored.ledger_start)

    def check_players(self) -> None:
        """Compare only events and sums, where the source and what is stored are of the same few players."""
        self._bound()
        good = within(self.source.good, self.group.marks)
        expected = admissible(good.join(self.stored.dead_letters, on=PLACE, how="anti"))
        self._ledger(expected, self.stored.ledger, self.stored.ledger_start)
        self._sums(expected, self.stored.ledger, self.stored.ledger_start)

    # -- what can be recounted -----------------------------------------------------------------------------------------

    def _bound(self) -> None:
        """Say what of the group's past the log no longer holds."""
        for mark in self.group.marks.values():
            first, end = self.source.bounds.get(mark.partition, (0, 0))
            where = f"{self.group.id} partition {mark.partition}"
            if mark.topic_id != self.source.topic_id:
                self._differ("watermark", where, f"topic id {self.source.topic_id}", mark.topic_id)
                self._whole = False
            elif mark.next_offset > end:
                self._differ("watermark", where, f"at most {end}, the log's end", mark.next_offset)
            if first > mark.first_offset and mark.next_offset > mark.first_offset:
                gone = min(first, mark.next_offset)
                self._skip(f"{where}: offsets {mark.first_offset} to {gone - 1} are gone from the log (retention)")
                self._whole = False
        if self.source.other_topics:
            self._skip(f"{self.group.id}: the tables also count the topics {', '.join(self.source.other_topics)}")
            self._whole = False
        if self.source.resets.deleted:
            self._skip(f"{self.group.id}: the tables also count what came before its watermarks were deleted")
            self._whole = False

    def _recounted_marks(self) -> dict[int, Watermark]:
        """Return the watermarks as if the group had begun where the log begins."""
        marks = {}
        for partition, mark in self.group.marks.items():
            first = max(mark.first_offset, self.source.bounds.get(partition, (0, 0))[0])
            marks[partition] = Watermark(partition, mark.topic_id, first, mark.next_offset, 0, 0, 0)
        return marks

    # -- records -------------------------------------------------------------------------------------------------------

    def _dead_letters(self, good: pl.DataFrame, bad: pl.DataFrame, dead: pl.DataFrame) -> pl.DataFrame:
        """Every bad record has its dead letter, and every dead letter its record; a valid one PostgreSQL refused.

        Returns the letters of these records, without those of a log that was here before.
        """
        for row in bad.join(dead, on=PLACE, how="anti").iter_rows(named=True):
            self._differ("dead letter", _place(row), "a row in dlq_events: the record is bad", None)
        records = pl.concat([good.select(PLACE), bad])
        if not self.source.resets.deleted:
            for row in dead.join(records, on=["partition", "offset"], how="anti").iter_rows(named=True):
                self._differ("dead letter", _place(row), None, "a row in dlq_events, but the topic has no such record")
        self.report.compare("dead letters", len(bad))
        return dead.join(records, on=PLACE, how="semi")

    def _unmended(self) -> None:
        """Name the records that a fault of ours met: none is counted, until it is redriven or given up."""
        for partition, offset, number, reason in self.stored.unmended:
            place = f"{self.group.id} partition {partition} offset {offset}"
            self._differ("internal dead letter", place, "counted", f"dead letter {number}: {reason}")

    def _account(self, good: dict[int, int], bad: dict[int, int], dead: dict[int, int], expected: Admissible) -> None:
        """Per partition: records = admitted + duplicates + dead_lettered, each as recounted."""
        counted = 0
        for partition, mark in self.group.marks.items():
            where = f"{self.group.id} partition {partition}"
            records = good.get(partition, 0) + bad.get(partition, 0)
            counted += records
            self.report.compare("records", records)
            if (
                self.source.bounds.get(partition, (0, 0))[0] > mark.first_offset
                or mark.topic_id != self.source.topic_id
            ):
                continue
            if self.source.resets.deleted or mark.partition in self.source.resets.again:
                self._skip(f"{where}: what was booked, for its watermark was set back or deleted once")
                continue
            booked = mark.admitted + mark.duplicates + mark.dead_lettered
            if records != booked:
                self._differ("records", where, records, f"{booked} booked by the watermark")
            if dead.get(partition, 0) != mark.dead_lettered:
                self._differ("dead-lettered", where, dead.get(partition, 0), mark.dead_lettered)
            shares = expected.shares.get(partition)
            least, most = (shares.least, shares.most) if shares is not None else (0, 0)
            if not least <= mark.admitted <= most:
                self._differ("admitted", where, least if least == most else f"{least} to {most}", mark.admitted)
            rest = records - dead.get(partition, 0)
            if not rest - most <= mark.duplicates <= rest - least:
                self._differ("duplicates", where, rest - least, mark.duplicates)
        admitted = sum(mark.admitted for mark in self.group.marks.values())
        if self._whole and admitted != len(expected.events):
            self._differ("admitted", f"{self.group.id} all partitions", len(expected.events), admitted)

    # -- the ledger ----------------------------------------------------------------------------------------------------

    def _ledger(self, expected: Admissible, ledger: pl.DataFrame, start: int) -> None:
        """Every identity is in the ledger as it was sent, and nothing else is."""
        table = self.group.role.ledger
        kept = expected.events.filter(pl.col("at") >= start)
        if dropped := len(expected.events) - len(kept):
            self._skip(f"{table}: {dropped} events before {moment_of(start):%Y-%m-%d}, whose partitions were dropped")
        self.report.compare(table, len(ledger))
        differences = self.report.differences
        kind = "event" if table == "events" else table
        missing = kept.join(ledger, on=IDENTITY, how="anti").sort(IDENTITY)
        differences.add_frame(kind, missing, lambda row: (identity_name(self.names, row), "a row", None))
        if self._whole:
            extra = ledger.join(kept, on=IDENTITY, how="anti").sort(IDENTITY)
            differences.add_frame(kind, extra, lambda row: (identity_name(self.names, row), None, "a row"))
        if table == "events":
            changed = differing(kept.select(*IDENTITY, *CONTENT), ledger.select(*IDENTITY, *CONTENT), IDENTITY)
            changed = changed.filter(pl.col("type").is_not_null() & pl.col("type_found").is_not_null())
            found = ledger.join(changed, on=IDENTITY, how="semi")
            if not self._whole:  # of an event whose record is gone the log may hold a copy, with other contents
                found = found.join(expected.copies, on=[*IDENTITY, *ORIGIN], how="semi")
            like_no_copy = found.join(expected.copies, on=[*IDENTITY, *CONTENT], how="anti", nulls_equal=True)
            differences.add_frame(kind, changed.join(like_no_copy, on=IDENTITY, how="semi"), self._contents)

    def _contents(self, row: dict[str, Any]) -> tuple[str, object, object]:
        other = "" if row["data"] == row["data_found"] else ", other data"
        shown = [
            f"{self.names.name(row['type' + end])} in {self.names.name(row['game' + end])}, score {row['score' + end]}"
            for end in ("", "_found")
        ]
        return identity_name(self.names, row), shown[0], shown[1] + other

    # -- the sums ------------------------------------------------------------------------------------------------------

    def _sums(self, expected: Admissible, ledger: pl.DataFrame, start: int) -> None:
        """Statistics and boards are the sums of what was admitted."""
        events = expected.events
        projections = self.group.role.projections
        if not projections & {"stats", "leaderboard"}:
            return
        if not self._whole:
            if "events" not in projections or moment_of(start) > EARLIEST:
                self._skip(f"{self.group.id}: statistics and boards, for not all that was counted can be read again")
                return
            self._skip(f"{self.group.id}: statistics and boards from the topic; compared with the events table instead")
            events = ledger
        if "stats" in projections:
            self._statistics(events, expected.ambiguous)
        if "leaderboard" in projections:
            self._boards(events, expected.ambiguous)

    def _statistics(self, events: pl.DataFrame, ambiguous: frozenset[int]) -> None:
        found = self.stored.counts
        self.report.compare("statistics", len(found))
        rows = self._judgeable(differing(counts_of(events), found, ["player", "type"]), ambiguous)
        self.report.differences.add_frame("statistics", rows, self._counter)

    def _counter(self, row: dict[str, Any]) -> tuple[str, object, object]:
        shown = [
            None
            if row["events" + end] is None
            else f"{row['events' + end]} events, the last at {format_timestamp(moment_of(row['last_event' + end]))}"
            for end in ("", "_found")
        ]
        key = f"player {self.names.name(row['player'])!r} type {self.names.name(row['type'])}"
        return key, shown[0], shown[1]

    def _boards(self, events: pl.DataFrame, ambiguous: frozenset[int]) -> None:
        alltime = pl.lit(ALLTIME.name).alias("period")
        keys = ["game", "period", "player"]
        for kind, expected, found in (
            ("board", totals_of(events).with_columns(alltime), self.stored.totals.with_columns(alltime)),
            ("board", days_of(events), self.stored.days),
            ("weekly view", weeks_of(events), self.stored.weeks),
        ):
            self.report.compare("board places", len(found))
            rows = self._judgeable(differing(expected.select(*keys, "score"), found, keys), ambiguous)
            self.report.differences.add_frame(kind, rows, self._place_on_board)

    def _place_on_board(self, row: dict[str, Any]) -> tuple[str, object, object]:
        key = f"{self.names.name(row['game'])} {row['period']} player {self.names.name(row['player'])!r}"
        return key, row["score"], row["score_found"]

    def _judgeable(self, rows: pl.DataFrame, ambiguous: frozenset[int]) -> pl.DataFrame:
        """Leave out players of whom it cannot be known which of two contents was counted."""
        if not ambiguous:
            return rows
        unknown = pl.col("player").is_in(pl.Series(sorted(ambiguous), dtype=pl.UInt32).implode())
        if len(rows.filter(unknown)):
            self._skip("players of whom one event came twice with different contents, over two partitions")
        return rows.filter(~unknown)

    def _differ(self, kind: str, key: str, expected: object, found: object) -> None:
        self.report.differences.add(kind, key, expected, found)

    def _skip(self, what: str) -> None:
        self.report.skip(what)


def len_by_partition(frame: pl.DataFrame) -> dict[int, int]:
    """Count rows by partition."""
    return dict(frame.group_by("partition").len().iter_rows())


def _place(row: dict[str, Any]) -> str:
    return f"partition {row['partition']} offset {row['offset']}"
