"""Every call of the API, by keys that may not: a key of another game, and a key of another scope."""

import re
import uuid

import pytest

from pipeline.api.edge import CALLS, Route
from tests.edges import EVENT, EdgeUnderTest, Reply, keys, make_key, running_edge
from tests.letters import write_letter
from tests.place import Place
from tests.waiting import eventually
from tests.watchers import watching

pytestmark = pytest.mark.real

MINE, OTHER = EVENT["game_id"], "another-game"
LIMITED = "gm_limited_to-a-game"
MY_EVENT, OTHERS_EVENT = str(uuid.uuid4()), str(uuid.uuid4())


def call(edge: EdgeUnderTest, route: Route, key: str, game: str) -> Reply:
    """Make the route's call about a game, of a player, a board and a dead letter that exist."""
    event_id = MY_EVENT if game == MINE else OTHERS_EVENT
    known = {"game_id": game, "player_id": "p", "event_id": event_id, "id": "1", "partition": "0"}
    path = re.sub(r"\{(\w+)\}", lambda part: known[part[1]], route.template)
    headers = {"Authorization": f"Bearer {key}", "X-Requested-By": "console"}
    if route.scope == "admin":
        return edge.post(path, {"ids": [1], "preview": True}, headers)
    if path.endswith("/stream"):
        with watching(edge, headers) as stream:
            return Reply(stream.status, {}, stream.refusal)
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
        write_letter(connection, place.topic)
        connection.execute(
            "INSERT INTO api_keys (id, name, secret_sha256, scopes, games)"
            " VALUES ('limited', 'limited', sha256(%s), ARRAY['write', 'read', 'admin'], ARRAY[%s])",
            (LIMITED.encode(), MINE),
        )
    limited, free = LIMITED, make_key(place, "free", "--scope", "read", "--scope", "write", "--scope", "admin")
    eventually(
        lambda: edge.send(EVENT).status == 401 and edge.send(EVENT, {"X-API-Key": free}).status == 200, timeout=5
    )
    for route in CALLS:
        assert call(edge, route, free, OTHER).status == 200, route.template
        if route.right is not None and route.right.about == "the games of the key":
            continue  # whose answer holds no other's: test_refusals.py
        refused = call(edge, route, limited, OTHER)
        hidden = route.right is not None and route.right.about == "the game of the event"
        assert refused.status == 404 if hidden else refused.status in {400, 403}, route.template
        assert "limited" in refused.json()["error"], route.template
        whole = route.right is not None and route.right.about == "every game"
        assert call(edge, route, limited, str(MINE)).status == (403 if whole else 200), route.template


def test_no_call_passes_the_scopes_of_a_key(place: Place, edge: EdgeUnderTest) -> None:
    reader, writer = (make_key(place, scope, "--scope", scope) for scope in ("read", "write"))
    both = make_key(place, "both", "--scope", "read", "--scope", "write")
    with place.pg() as connection:
        write_letter(connection, place.topic)
    for key, status in ((writer, 403), (both, 200)):
        eventually(lambda: edge.get("/api/v1/leaderboards/g", {"X-API-Key": key}).status == status)  # noqa: B023
    for route in CALLS:
        assert call(edge, route, "", str(MINE)).status == 401, route.template
        without = {"read": writer, "write": reader, "admin": both}[route.scope]
        assert call(edge, route, without, str(MINE)).status == 403, route.template


def test_a_key_that_may_change_things_may_look_at_them(place: Place, edge: EdgeUnderTest) -> None:
    admin = make_key(place, "admin", "--scope", "admin")
    eventually(lambda: edge.send(EVENT, {"X-API-Key": admin}).status == 403, timeout=10)
    assert edge.get("/api/v1/console/audit", {"X-API-Key": admin}).status == 200
    assert "all games" in keys(place, "create", "of-a-game", "--scope", "admin", "--game", "g", code=2, said=True)


def test_where_everybody_is_let_in_only_loopback_may_change_things(place: Place) -> None:
    change = {"ids": [1], "preview": True}
    with place.pg() as connection:
        write_letter(connection, place.topic)
    path, headers = "/api/v1/console/dead-letters/drop", {"X-Requested-By": "console"}
    with running_edge(place) as edge:
        assert edge.post(path, change, headers).status == 200
    with running_edge(place, HOST="0.0.0.0", API_OPEN="true") as edge:
        assert edge.get("/api/v1/console/audit").status == 200
        refused = edge.post(path, change, headers)
        assert (refused.status, "scope admin" in refused.json()["error"]) == (401, True)


def test_the_keys_of_the_environment_change_nothing(place: Place) -> None:
    secret = "of-the-environment-1"
    with running_edge(place, API_KEYS=f"ops:{secret}") as edge:
        headers = {"X-API-Key": secret, "X-Requested-By": "console"}
        assert edge.get("/api/v1/console/audit", headers).status == 200
        assert edge.post("/api/v1/console/dead-letters/drop", {"ids": [1], "preview": True}, headers).status == 403


def test_a_game_that_is_no_name_is_refused_before_its_right(place: Place, edge: EdgeUnderTest) -> None:
    limited = make_key(place, "limited", "--scope", "read", "--game", str(MINE))
    eventually(lambda: edge.send(EVENT).status == 401, timeout=5)
    for game in ("%FF", "%00", "x" * 256):
        assert edge.get(f"/api/v1/leaderboards/{game}", {"X-API-Key": limited}).status == 400, game
    escaped = "".join(f"%{byte:02x}" for byte in str(MINE).encode())
    assert edge.get(f"/api/v1/leaderboards/{escaped}", {"X-API-Key": limited}).status == 200
