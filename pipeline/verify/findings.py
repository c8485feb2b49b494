"""What is found of a group as a whole: watermarks, checkpoints, the log and the totals against each other.

What is found stays found until it is looked for again and is not there.
"""

from collections.abc import Mapping
from time import monotonic
from typing import Final

import psycopg

from pipeline.contract.offsets import Watermark
from pipeline.verify.checkpoints import Checkpoint, Checkpoints
from pipeline.verify.groups import Group
from pipeline.verify.report import Report
from pipeline.verify.resets import Resets
from pipeline.verify.sums import Sums

TOTALS_SECONDS: Final = 60.0
"""How long the totals of the tables are believed: they cost what is old."""

Marks = Mapping[int, Watermark]


class Findings:
    """Keeps what was found, by kind and key: what should be, and what is."""

    def __init__(self, connection: psycopg.Connection, checkpoints: Checkpoints, group: Group, name: str) -> None:
        self._connection = connection
        self._checkpoints = checkpoints
        self._group = group
        self._name = name
        self._due = 0.0
        self.found: dict[tuple[str, str], tuple[object, object]] = {}

    @property
    def due(self) -> bool:
        """Whether the totals should be compared again."""
        return monotonic() > self._due

    def total_again(self) -> None:
        """Let the totals be compared again, however lately that was done."""
        self._due = 0.0

    def place_again(self) -> None:
        """Forget what was found of places in the log: it is looked for again."""
        self.found = {key: found for key, found in self.found.items() if key[0] not in _PLACED}

    def misplaced(self, mark: Watermark, known: Checkpoint | None, topic_id: str, end: int) -> bool:
        """Note what is impossible about a partition's watermark or checkpoint; returns whether something is."""
        wrong = self._wrong_place(mark, known, topic_id, end)
        if wrong is not None:
            self.found[wrong[0], f"{self._group.id} partition {mark.partition}"] = wrong[1:]
        return wrong is not None

    @staticmethod
    def _wrong_place(mark: Watermark, known: Checkpoint | None, topic_id: str, end: int) -> tuple[str, str, str] | None:
        """Say what is impossible about a partition's watermark or checkpoint: kind, what should be, what is."""
        if mark.topic_id != topic_id:
            return "watermark", f"topic id {topic_id}", mark.topic_id
        if mark.next_offset > end:
            return "watermark", f"at most {end}, the log's end", str(mark.next_offset)
        if known is not None and known.topic_id != topic_id:
            was = f"proven of topic id {known.topic_id}, which was deleted since; run gamemetrics verify --full"
            return "checkpoint", f"topic id {topic_id}", was
        if known is not None and known.next_offset > mark.next_offset:
            was = f"{known.next_offset}: the watermark was set back since; run gamemetrics verify --full"
            return "checkpoint", f"at most {mark.next_offset}, the watermark", was
        return None

    def balance(self, passed: Mapping[int, Checkpoint], marks: Marks, resets: Resets) -> None:
        """Per partition: as many records as the watermark has booked, and as many dead letters."""
        for key in [key for key in self.found if key[0] in {"records", "dead-lettered"}]:
            del self.found[key]
        for partition, one in passed.items():
            mark, where = marks[partition], f"{self._group.id} partition {partition}"
            if not one.whole or resets.under_way(mark):
                continue
            booked, records = mark.admitted + mark.duplicates + mark.dead_lettered, one.records + one.records_again
            if records != booked:
                self.found["records", where] = (records, f"{booked} booked by the watermark")
            letters = one.dead_letters + one.dead_letters_again
            if letters != mark.dead_lettered:
                self.found["dead-lettered", where] = (letters, mark.dead_lettered)

    def totals(
        self, passed: Mapping[int, Checkpoint], marks: Marks, sums: Sums | None, resets: Resets, report: Report
    ) -> None:
        """Hold the account to the tables: as many events and dead letters as were booked, none of a fault of ours."""
        self._due = monotonic() + TOTALS_SECONDS
        for key in [key for key in self.found if key[0] in _TOTALLED]:
            del self.found[key]
        whole = set(passed) == set(marks) and all(one.whole for one in passed.values())
        whole = whole and not self._checkpoints.count_suspects(differing=True)  # who differs was not kept as proven
        if sums is not None and whole and not self._others():
            total, booked = sums.total(), sum(mark.admitted for mark in marks.values()) + resets.before
            report.compared["events"] = total
            if total != booked:
                self.found["admitted", f"{self._group.id} all partitions"] = (total, booked)
        for partition, one in passed.items():
            letters, known = self._letters(marks[partition]), one.dead_letters + one.foreign_letters
            if one.whole and letters != known:
                where = f"{self._group.id} partition {partition}"
                self.found["rows in dlq_events", where] = (known, letters)
        for number, partition, offset, reason in self._connection.execute(
            "SELECT id, partition, record_offset, error_message FROM dlq_events WHERE topic = %s AND code = 'internal'"
            " AND consumer_service = %s AND redriven_at IS NULL AND dropped_at IS NULL ORDER BY id",
            (self._name, self._group.role.service),
        ):
            where = f"{self._group.id} partition {partition} offset {offset}"
            self.found["internal dead letter", where] = ("counted", f"dead letter {number}: {reason}")

    def _others(self) -> bool:
        """Whether other topics were counted into the same tables."""
        statement = "SELECT FROM pipeline_watermarks WHERE topic <> %s AND next_offset > first_offset LIMIT 1"
        return self._connection.execute(statement, (self._name,)).fetchone() is not None

    def _letters(self, mark: Watermark) -> int:
        row = self._connection.execute(
            "SELECT count(DISTINCT (record_offset, record_timestamp)) FROM dlq_events WHERE topic = %s"
            " AND partition = %s AND record_offset >= %s AND record_offset < %s AND consumer_service = %s",
            (self._name, mark.partition, mark.first_offset, mark.next_offset, self._group.role.service),
        ).fetchone()
        return int(row[0]) if row is not None else 0


_TOTALLED: Final = frozenset({"admitted", "rows in dlq_events", "internal dead letter"})
_PLACED: Final = frozenset({"watermark", "checkpoint"})
