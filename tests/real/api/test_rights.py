"""Every call of the API, by keys that may not: a key of another game, and a key of another scope."""

import re
import uuid

import pytest

from pipeline.api.edge import CALLS, Route
from tests.edges import EVENT, EdgeUnderTest, Reply, make_key
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real

MINE, OTHER = EVENT["game_id"], "another-game"
MY_EVENT, OTHERS_EVENT = str(uuid.uuid4()), str(uuid.uuid4())


def call(edge: EdgeUnderTest, route: Route, key: str, game: str) -> Reply:
    """Make the route's call about a game, of a player and a board that exist."""
    path = re.sub(r"\{game_id\}", game, re.sub(r"\{player_id\}", "p", route.template))
    path = path.replace("{event_id}", MY_EVENT if game == MINE else OTHERS_EVENT)
    headers = {"Authorization": f"Bearer {key}"}
    if route.post is None:
        return edge.get(path, headers)
    event = {**EVENT, "game_id": game}
    return edge.post(path, [event] if path.endswith("/batch") else event, headers)


def test_no_call_passes_the_games_of_a_key(place: Place, edge: EdgeUnderTest) -> None:
    with place.redis() as client, place.pg() as connection:
        connection.execute("SELECT make_day_partitions('events', 2)")
        for game in (MINE, OTHER):
            client.zadd(f"leaderboard:{game}:alltime", {"p": 1})
            connection.execute("INSERT INTO leaderboard_settled VALUES (%s, 'p', 1, now())", (game,))
        for game, event_id in ((MINE, MY_EVENT), (OTHER, OTHERS_EVENT)):
            connection.execute("INSERT INTO events VALUES (%s, 'login', 'p', %s, now(), now(), '{}')", (event_id, game))
        client.hset("player_stats:p", mapping={"total_events": 3, "event_a": 3})
    limited = make_key(place, "limited", "--scope", "read", "--scope", "write", "--game", str(MINE))
    free = make_key(place, "free", "--scope", "read", "--scope", "write")
    eventually(
        lambda: edge.send(EVENT).status == 401 and edge.send(EVENT, {"X-API-Key": free}).status == 200, timeout=5
    )
    for route in CALLS:
        assert call(edge, route, free, OTHER).status == 200, route.template
        refused = call(edge, route, limited, OTHER)
        hidden = route.right is not None and route.right.about == "the game of the event"
        assert refused.status == 404 if hidden else refused.status in {400, 403}, route.template
        assert "limited" in refused.json()["error"], route.template
        whole = route.right is not None and route.right.about == "every game"
        assert call(edge, route, limited, str(MINE)).status == (403 if whole else 200), route.template


def test_no_call_passes_the_scopes_of_a_key(place: Place, edge: EdgeUnderTest) -> None:
    reader, writer = (make_key(place, scope, "--scope", scope) for scope in ("read", "write"))
    eventually(lambda: edge.get("/api/v1/leaderboards/g", {"X-API-Key": writer}).status == 403, timeout=5)
    for route in CALLS:
        assert call(edge, route, "", str(MINE)).status == 401, route.template
        assert call(edge, route, writer if route.scope == "read" else reader, str(MINE)).status == 403, route.template


def test_a_game_that_is_no_name_is_refused_before_its_right(place: Place, edge: EdgeUnderTest) -> None:
    limited = make_key(place, "limited", "--scope", "read", "--game", str(MINE))
    eventually(lambda: edge.send(EVENT).status == 401, timeout=5)
    for game in ("%FF", "%00", "x" * 256):
        assert edge.get(f"/api/v1/leaderboards/{game}", {"X-API-Key": limited}).status == 400, game
    escaped = "".join(f"%{byte:02x}" for byte in str(MINE).encode())
    assert edge.get(f"/api/v1/leaderboards/{escaped}", {"X-API-Key": limited}).status == 200
