"""Which groups write what, and where each stands: the owners and the watermarks, read together."""

from dataclasses import dataclass

import psycopg

from pipeline.contract.offsets import Watermark
from pipeline.epoch.roles import ROLES, Role
from pipeline.errors import ConfigurationError
from pipeline.sinks.registry import read_watermarks


@dataclass(frozen=True, slots=True)
class Group:
    """A group that owns projections, its role, and its watermarks in one topic by partition."""

    id: str
    role: Role
    marks: dict[int, Watermark]


def read_groups(connection: psycopg.Connection, topic: str) -> list[Group]:
    """Return the owners of projections. Raises ConfigurationError if a group's projections are no role's."""
    owned: dict[str, set[str]] = {}
    for projection, group_id in connection.execute("SELECT projection, group_id FROM pipeline_owners"):
        owned.setdefault(group_id, set()).add(projection)
    marks = read_watermarks(connection, topic)
    return [Group(one, _role_of(one, owned[one]), marks.get(one, {})) for one in sorted(owned)]


def _role_of(group_id: str, projections: set[str]) -> Role:
    for role in ROLES.values():
        if role.projections == projections:
            return role
    raise ConfigurationError(
        f"pipeline_owners: the group {group_id!r} owns {', '.join(sorted(projections))}, which is what no role writes"
    )
