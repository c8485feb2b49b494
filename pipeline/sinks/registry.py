"""Who writes which projection, and where each group stands: read and claimed before the first epoch."""

import psycopg

from pipeline.config import Settings
from pipeline.contract.offsets import Watermark
from pipeline.epoch.roles import Role
from pipeline.errors import ConfigurationError, HaltError
from pipeline.sinks.connection import Held
from pipeline.sinks.marks import WATERMARKS, watermarks_in


def read_watermarks(connection: psycopg.Connection, topic: str) -> dict[str, dict[int, Watermark]]:
    """Return where each group stands in a topic: by group, then by partition in their order."""
    return watermarks_in(connection.execute(WATERMARKS, (topic,)))


class Registry:
    """The rows of pipeline_owners and pipeline_watermarks of one group. One thread."""

    def __init__(self, settings: Settings, role: Role, group_id: str) -> None:
        self._role = role
        self._group = group_id
        self._topic = settings.kafka_topic
        self._held = Held(settings, f"{role.service}-registry")

    def close(self) -> None:
        """Close the connection."""
        self._held.close()

    def claim(self) -> None:
        """Own the role's projections, all of them or none.

        Raises ConfigurationError naming a group that owns one already, or what else this group owns: two roles under
        one group would share its partitions and watermarks, and each would miss what the other was assigned.
        """
        statement = (
            "INSERT INTO pipeline_owners AS kept (projection, group_id) VALUES (%s, %s)"
            " ON CONFLICT (projection) DO UPDATE SET group_id = kept.group_id RETURNING group_id"
        )
        with self._held.use() as connection, connection.transaction():
            # Two that start at once must each see what the other claims.
            connection.execute("LOCK TABLE pipeline_owners IN SHARE ROW EXCLUSIVE MODE")
            for projection in sorted(self._role.projections):
                row = connection.execute(statement, (projection, self._group)).fetchone()
                self._refuse_stranger(projection, row[0] if row is not None else None)
            owned = {
                projection
                for (projection,) in connection.execute(
                    "SELECT projection FROM pipeline_owners WHERE group_id = %s", (self._group,)
                )
            }
            if others := owned - self._role.projections:
                raise ConfigurationError(
                    f"KAFKA_GROUP_ID: the group {self._group!r} also writes {', '.join(sorted(others))}, which the "
                    f"role {self._role.name!r} does not; give each role a group of its own"
                )

    def _refuse_stranger(self, projection: str, owner: str | None) -> None:
        if owner != self._group:
            raise ConfigurationError(
                f"KAFKA_GROUP_ID: the projection {projection!r} is written by the group {owner!r}; a second group "
                f"({self._group!r}) would count every event twice"
            )

    def watermarks(self, starts: dict[int, int], topic_id: str) -> dict[int, Watermark]:
        """Return where each partition stands, starting those never seen at `starts` (the log's first offset).

        Raises HaltError when the topic is not the one the watermark was taken on.
        """
        with self._held.use() as connection, connection.transaction(), connection.cursor() as cursor:
            # It waits for a peer that has moved one of them and not committed yet; a frozen one PostgreSQL ends.
            cursor.execute(
                "INSERT INTO pipeline_watermarks (group_id, topic, topic_id, partition, first_offset, next_offset)"
                " SELECT %s, %s, %s, partition, start, start"
                " FROM unnest(%s::int[], %s::bigint[]) AS seen(partition, start) ORDER BY partition"
                " ON CONFLICT DO NOTHING",
                (self._group, self._topic, topic_id, list(starts), list(starts.values())),
            )
            # Debts above the watermark are another past's: somebody set the watermark back to replay the topic.
            cursor.execute(
                "DELETE FROM pipeline_outbox AS owed USING pipeline_watermarks AS mark WHERE"
                " (owed.group_id, owed.topic, owed.partition) = (mark.group_id, mark.topic, mark.partition)"
                " AND owed.next_offset > mark.next_offset"
                " AND mark.group_id = %s AND mark.topic = %s AND mark.partition = ANY(%s)",
                (self._group, self._topic, list(starts)),
            )
            found = read_watermarks(connection, self._topic).get(self._group, {})
        marks = {partition: mark for partition, mark in found.items() if partition in starts}
        for mark in marks.values():
            if mark.topic_id != topic_id:
                raise HaltError(
                    f"topic {self._topic} was deleted and created again: partition {mark.partition} stands at offset "
                    f"{mark.next_offset} of topic id {mark.topic_id}, the topic's id is now {topic_id}. If what the "
                    f"new topic holds shall be counted too, delete the group's rows from pipeline_watermarks"
                )
        return marks
