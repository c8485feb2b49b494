"""A player's statistics, of however many types the events are."""

import pytest

from pipeline.api.schemas import MOST_EVENT_TYPES
from pipeline.contract.boards import stats_fields, stats_key
from pipeline.contract.event import parse_timestamp
from tests.edges import EdgeUnderTest
from tests.place import Place

pytestmark = pytest.mark.real

LAST = "2026-01-15T10:35:00.000000Z"


def write(place: Place, player: str, types: int, *, redis: bool) -> None:
    """Have a player's events counted, of so many types: the n-th of them n + 1 times."""
    with place.pg() as connection:
        connection.execute(
            "INSERT INTO player_event_counts"
            " SELECT %s, 'type-' || lpad(number::text, 6, '0'), number + 1, %s"
            " FROM generate_series(0, %s - 1) AS number",
            (player, LAST, types),
        )
    if redis:
        counts = {f"type-{number:06}": number + 1 for number in range(types)}
        with place.redis() as client:
            client.hset(
                stats_key(player), mapping=dict(stats_fields(sum(counts.values()), counts, parse_timestamp(LAST)))
            )


@pytest.mark.parametrize("source", ["redis", "postgresql"])
@pytest.mark.parametrize("types", [1, MOST_EVENT_TYPES, MOST_EVENT_TYPES + 1, 20_000])
def test_a_reply_holds_so_many_types_and_says_how_many_it_leaves_out(
    place: Place, edge: EdgeUnderTest, types: int, source: str
) -> None:
    write(place, "p", types, redis=source == "redis")
    reply = edge.get("/api/v1/players/p/stats")
    assert reply.headers["X-Source"] == source
    found = reply.json()
    assert (found["total_events"], found["last_event"]) == (types * (types + 1) // 2, LAST)
    assert len(found["events"]) == min(types, MOST_EVENT_TYPES)
    assert found.get("types_left_out", 0) == max(0, types - MOST_EVENT_TYPES)
    assert all(count == int(name.removeprefix("type-")) + 1 for name, count in found["events"].items())
    assert list(found["events"]) == sorted(found["events"])
    assert len(reply.body) < 100_000
