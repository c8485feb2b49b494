"""The smallest and the largest value of each numeric setting: what is accepted works."""

from typing import Any

import pytest

from pipeline.config import Settings
from tests.chaos.truth import assert_exact
from tests.consuming import caught_up, consuming
from tests.edges import EVENT, running_edge
from tests.events import encoded
from tests.extremes import extremes
from tests.place import Place

pytestmark = pytest.mark.real

OTHERS = {"port", "metrics_port", "db_port", "redis_port", "redis_db", "batch_max_wait_ms"}
"""What says where something is, and is another number here; and for how long each epoch is waited, up to a minute."""
EXTREMES = dict(zip(("least", "most"), extremes(), strict=True))


@pytest.mark.parametrize("which", EXTREMES)
def test_a_consumer_does_with_every_number_at_its_end(which: str, place: Place) -> None:
    """What the start, an epoch, a refill, the upkeep and the end make of it."""
    changes = chosen(which)
    Settings(**changes)  # they are accepted
    with consuming(place, "all", **changes) as consumer:
        for _ in range(2):
            place.produce([(f"p{n % 5}", encoded(player_id=f"p{n % 5}", data={"score": n})) for n in range(20)])
            caught_up(place)
            with place.redis() as client:
                client.flushdb()
        place.produce([encoded()])
        caught_up(place)
        assert consumer.health.ready()[0], consumer.health.ready()
    assert_exact(place)


@pytest.mark.parametrize("which", EXTREMES)
def test_the_edge_does_with_every_number_at_its_end(which: str, place: Place) -> None:
    numbers = {name.upper(): str(value) for name, value in chosen(which).items()}
    with running_edge(place, ready=True, **numbers) as edge:
        assert edge.send(EVENT).status == 200
        assert edge.get("/api/v1/leaderboards/game-1").status in {200, 404}


def chosen(which: str) -> dict[str, Any]:
    return {name: value for name, value in EXTREMES[which].items() if name not in OTHERS}
