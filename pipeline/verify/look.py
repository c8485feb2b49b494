"""The close look: some players' records counted again one by one, by the plain judge; it names each row that differs.

It reads the topic from its start, so it is for those whom a step could not clear; or for all players of a group whose
ledger keeps identities only, which no sum can be recounted from.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import psycopg

from pipeline.config import Settings
from pipeline.contract.event import load_scoring
from pipeline.kafka.topic import Bounds, Topic
from pipeline.sinks.connection import connect, translated
from pipeline.sinks.refill import snapshot
from pipeline.verify.beside import Beside
from pipeline.verify.groups import Group, read_groups
from pipeline.verify.projection_checks import GroupCheck, RecountedTopic
from pipeline.verify.projections import ProjectionReader
from pipeline.verify.recount import Names, Recount
from pipeline.verify.report import Advance, Report
from pipeline.verify.resets import read_resets

_READER: Final = "event-verify"


@dataclass(frozen=True, slots=True)
class Look:
    """What a close look came to: of whom something differs, and whether the log still has all that was counted."""

    differing: set[str]
    whole: bool


def look_closely(
    settings: Settings, group_id: str, players: Sequence[str] | None, report: Report, advance: Advance
) -> Look:
    """Compare everything of these players (None: of all) that a group keeps in PostgreSQL with the whole topic."""
    names, scoring = Names(), load_scoring(settings.scoring_file)
    with translated(), connect(settings, "gamemetrics-verify") as connection, snapshot(connection):
        group = next(one for one in read_groups(connection, settings.kafka_topic) if one.id == group_id)
        with closing(Beside(settings, connection, group.role.ledger)) as beside:
            reader = ProjectionReader(connection, beside, names, scoring, players)
            stored = reader.read(settings.kafka_topic, group.role)
        others = other_topics(connection, settings)
        resets = read_resets(connection, group.id, settings.kafka_topic, group.marks)
    with closing(Topic(settings, _READER)) as topic:
        # The log's end is asked after the snapshot was taken: no watermark may lie above it.
        bounds = topic.bounds()
        chosen = frozenset(players) if players is not None else None
        recount = Recount(settings.kafka_topic, scoring, names, chosen)
        ranges = _ranges(group, bounds)
        total, done = sum(stop - start for start, stop in ranges.values()), 0
        for records in topic.read(ranges):
            recount.add(records)
            done += len(records)
            advance("recounting the topic", done, total)
        source = RecountedTopic(recount.good(), recount.bad(), bounds, topic.id, others, resets)
    check = GroupCheck(group, source, stored, names, report)
    if players is None:
        check.check()
    else:
        check.check_players()
    differing = {names.name(code) for code in report.differences.players}
    report.differences.players.clear()
    return Look(differing, check.whole)


def other_topics(connection: psycopg.Connection, settings: Settings) -> list[str]:
    """Return the topics that were counted into the same tables besides the one asked about."""
    statement = "SELECT DISTINCT topic FROM pipeline_watermarks WHERE topic <> %s AND next_offset > first_offset"
    return [row[0] for row in connection.execute(statement, (settings.kafka_topic,))]


def _ranges(group: Group, bounds: Bounds) -> dict[int, tuple[int, int]]:
    """Return what of the log the group has passed."""
    ranges = {}
    for partition, (first, end) in bounds.items():
        if (mark := group.marks.get(partition)) is not None:
            start = max(first, mark.first_offset)
            ranges[partition] = (start, max(start, min(end, mark.next_offset)))
    return ranges
