"""Which groups write what, and where each stands: the owners and the watermarks, read together."""

from dataclasses import dataclass

import psycopg

from pipeline.epoch.roles import ROLES, Role
from pipeline.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Mark:
    """One partition's watermark: where the group began, where it stands, and what became of the records between."""

    partition: int
    topic_id: str
    first: int
    next: int
    admitted: int
    duplicates: int
    dead_lettered: int


@dataclass(frozen=True, slots=True)
class Group:
    """A group that owns projections, its role, and its watermarks in one topic by partition."""

    id: str
    role: Role
    marks: dict[int, Mark]


def read_groups(connection: psycopg.Connection, topic: str) -> list[Group]:
    """Return the owners of projections. Raises ConfigurationError where a group's projections are no role's."""
    owned: dict[str, set[str]] = {}
    for projection, group_id in connection.execute("SELECT projection, group_id FROM pipeline_owners"):
        owned.setdefault(group_id, set()).add(projection)
    marks: dict[str, dict[int, Mark]] = {}
    statement = (
        "SELECT group_id, partition, topic_id, first_offset, next_offset, admitted, duplicates, dead_lettered"
        " FROM pipeline_watermarks WHERE topic = %s ORDER BY partition"
    )
    for group_id, *values in connection.execute(statement, (topic,)):
        mark = Mark(*values)
        marks.setdefault(group_id, {})[mark.partition] = mark
    return [Group(one, _role_of(one, owned[one]), marks.get(one, {})) for one in sorted(owned)]


def _role_of(group_id: str, projections: set[str]) -> Role:
    for role in ROLES.values():
        if role.projections == projections:
            return role
    raise ConfigurationError(
        f"pipeline_owners: the group {group_id!r} owns {', '.join(sorted(projections))}, which is what no role writes"
    )
