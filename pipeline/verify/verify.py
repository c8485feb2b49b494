"""`gamemetrics verify`: that every record of the topic is accounted for, and every sum is that of what was admitted.

The topic is counted again by the plain judge and compared with one snapshot of PostgreSQL, in which each group's
watermarks and effects belong together; so consumers may go on meanwhile. Redis is compared with PostgreSQL after that
(`verify_redis`).
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

import psycopg

from pipeline.config import Settings
from pipeline.contract.event import load_scoring
from pipeline.kafka.topic import Bounds, Topic
from pipeline.sinks.connection import connect, translated
from pipeline.verify.groups import Group, read_groups
from pipeline.verify.projection_checks import GroupCheck, Source
from pipeline.verify.recount import Names, Recount
from pipeline.verify.redis import compare_redis
from pipeline.verify.report import Advance, PartitionLine, Report
from pipeline.verify.stored import Stored

_READER: Final = "event-verify"


def verify(settings: Settings, advance: Advance) -> Report:
    """Compare the topic, PostgreSQL and Redis. Raises ConfigurationError and UnavailableError."""
    report = Report()
    scoring = load_scoring(settings.scoring_file)
    names = Names()
    with _snapshot(settings) as connection, closing(Topic(settings, _READER)) as topic:
        groups = read_groups(connection, settings.kafka_topic)
        # The log's end is asked after the snapshot was taken: no watermark may lie above it.
        bounds = topic.bounds()
        recount = Recount(settings.kafka_topic, scoring, names)
        _read(topic, _ranges(groups, bounds), recount, advance)
        source = Source(recount.good(), recount.bad(), bounds, topic.id, _other_topics(connection, settings))
        stored = Stored(connection, names, scoring)
        for number, group in enumerate(groups):
            advance("comparing PostgreSQL", number, len(groups))
            report.groups[group.id] = _lines(group, bounds)
            GroupCheck(group, source, stored, names, report).check(settings.kafka_topic)
        advance("comparing PostgreSQL", len(groups), len(groups))
    for group in groups:
        if group.role.uses_redis:
            compare_redis(settings, group, report, advance)
    if not groups:
        report.not_recounted.append("anything: no consumer has started here yet")
    return report


@contextmanager
def _snapshot(settings: Settings) -> Iterator[psycopg.Connection]:
    """Open a connection whose every read sees the moment of the first."""
    with translated(), connect(settings, "gamemetrics-verify") as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield connection


def _ranges(groups: list[Group], bounds: Bounds) -> dict[int, tuple[int, int]]:
    """Return what of the log some group has passed."""
    ranges = {}
    for partition, (first, end) in bounds.items():
        marks = [group.marks[partition] for group in groups if partition in group.marks]
        if marks:
            start = max(first, min(mark.first_offset for mark in marks))
            ranges[partition] = (start, max(start, min(end, max(mark.next_offset for mark in marks))))
    return ranges


def _read(topic: Topic, ranges: Bounds, recount: Recount, advance: Advance) -> None:
    total = sum(stop - start for start, stop in ranges.values())
    done = 0
    advance("recounting the topic", 0, total)
    for records in topic.read(ranges):
        recount.add(records)
        done += len(records)
        advance("recounting the topic", done, total)


def _lines(group: Group, bounds: Bounds) -> list[PartitionLine]:
    return [
        PartitionLine(
            mark.partition,
            mark.admitted + mark.duplicates + mark.dead_lettered,
            mark.admitted,
            mark.duplicates,
            mark.dead_lettered,
            bounds.get(mark.partition, (0, 0))[1] - mark.next_offset,
        )
        for mark in group.marks.values()
    ]


def _other_topics(connection: psycopg.Connection, settings: Settings) -> list[str]:
    """Return the topics that were counted into the same tables besides the one asked about."""
    statement = "SELECT DISTINCT topic FROM pipeline_watermarks WHERE topic <> %s AND next_offset > first_offset"
    return [row[0] for row in connection.execute(statement, (settings.kafka_topic,))]
