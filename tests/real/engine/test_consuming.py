"""What these tests stand on: a consumer in a thread consumes, and is waited for."""

import uuid

import orjson
import pytest

from tests.consuming import caught_up, consuming
from tests.place import Place

pytestmark = pytest.mark.real


def test_a_consumer_in_a_thread_catches_up(place: Place) -> None:
    event = {
        "event_type": "player_score",
        "player_id": "p",
        "game_id": "g",
        "timestamp": "2026-01-15T10:30:00Z",
        "event_id": str(uuid.uuid4()),
        "data": {"score": 7},
    }
    with consuming(place):
        place.produce([("p", orjson.dumps(event))])
        caught_up(place)
        with place.redis() as client:
            assert client.zscore("leaderboard:g:alltime", "p") == 7
