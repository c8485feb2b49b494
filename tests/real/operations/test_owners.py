"""A projection has one owner, and a refused start claims nothing."""

import pytest

from pipeline.epoch.roles import ROLES
from pipeline.errors import ConfigurationError
from pipeline.sinks.registry import Registry
from tests.consuming import settings_of
from tests.place import Place

pytestmark = pytest.mark.real


def claim(place: Place, role: str, group: str) -> None:
    registry = Registry(settings_of(place), ROLES[role], group)  # type: ignore[index]  # a RoleName
    try:
        registry.claim()
    finally:
        registry.close()


def owners(place: Place) -> dict[str, str]:
    with place.pg() as connection:
        return dict(connection.execute("SELECT projection, group_id FROM pipeline_owners").fetchall())


def test_a_second_group_is_refused_with_the_owner_s_name(place: Place) -> None:
    claim(place, "stats", "event-one")
    claim(place, "stats", "event-one")
    with pytest.raises(ConfigurationError, match=r"KAFKA_GROUP_ID.*'stats'.*'event-one'.*'event-two'"):
        claim(place, "stats", "event-two")
    assert owners(place) == {"stats": "event-one"}


def test_a_refused_start_claims_nothing(place: Place) -> None:
    claim(place, "stats", "event-one")
    with pytest.raises(ConfigurationError, match="'stats'"):
        claim(place, "all", "event-two")
    assert owners(place) == {"stats": "event-one"}
    claim(place, "logger", "event-three")


def test_two_roles_under_one_group_are_refused(place: Place) -> None:
    """They would share one set of partitions and watermarks, and each would miss what the other was assigned."""
    claim(place, "logger", "event-same")
    with pytest.raises(ConfigurationError, match=r"KAFKA_GROUP_ID.*'event-same'.*events"):
        claim(place, "stats", "event-same")
    assert owners(place) == {"events": "event-same"}
