"""A name that leads to a standby of PostgreSQL for a while: the API answers nothing from it, and goes on after it."""

import tempfile
from pathlib import Path

import pytest

from tests.chaos.proxy import Proxy
from tests.edges import running_edge
from tests.place import Place
from tests.standby import standby
from tests.waiting import eventually

pytestmark = pytest.mark.real

READ = "/api/v1/players/p1/stats"


def count(place: Place, events: int) -> None:
    with place.pg() as connection:
        connection.execute(
            "INSERT INTO player_event_counts VALUES ('p1', 'a', %s, now())"
            " ON CONFLICT (player_id, event_type) DO UPDATE SET events = excluded.events",
            (events,),
        )


def test_the_api_answers_nothing_from_a_standby(place: Place) -> None:
    """It lags, without end perhaps, and a read that waited for a receipt would find less than it waited for."""
    count(place, 1)
    with tempfile.TemporaryDirectory(prefix="gamemetrics-standby-") as directory, Proxy(place.settings.db_port) as name:
        Path(directory).chmod(0o711)
        with (
            standby(place.stack, Path(directory)) as port,
            running_edge(place, DB_PORT=str(name.port), REDIS_PORT="1") as edge,
        ):
            assert edge.get(READ).json()["total_events"] == 1
            count(place, 2)
            name.redirect(port)
            name.reset()
            for _ in range(10):
                assert edge.get(READ).status == 503, "it is what the standby has"
            assert edge.get("/health/ready").status == 200, "events are taken all the same"
            name.redirect(place.settings.db_port)
            name.reset()
            eventually(lambda: edge.get(READ).status == 200, timeout=30)
            assert edge.get(READ).json()["total_events"] == 2
