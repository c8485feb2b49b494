"""The console's calls: players, games and days, what is hostile in them, and servers that go away and come back."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings

from pipeline.contract.boards import ALLTIME, board_key
from pipeline.local.server import Server
from tests import texts
from tests.commanding import gamemetrics
from tests.consuming import consume_all
from tests.edges import EVENT, EdgeUnderTest, running_edge
from tests.place import Place
from tests.scans import rows_read
from tests.waiting import eventually
from tests.watchers import watching

pytestmark = pytest.mark.real
CONSOLE = "/api/v1/console"


def ask(edge: EdgeUnderTest, path: str) -> Any:
    """Ask, and hold the reply to what all of them are: kept by nobody, and taken for what they say they are."""
    reply = edge.get(f"{CONSOLE}/{path}")
    assert reply.status == 200, reply.body
    assert (reply.headers["Cache-Control"], reply.headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    return reply.json()


def test_an_event_is_found_at_every_hop(place: Place) -> None:
    place.produce([("k", b"not JSON")], partition=0)
    with running_edge(place) as edge, watching(edge) as stream:
        name, history = stream.next() or ("", {})
        assert (name, history["step_seconds"]) == ("history", 5)
        assert set(history["series"]) == {"accepted", "counted", "lag_records", "freshness_seconds", "dead_letters"}
        for score in range(3):
            assert edge.send({**EVENT, "data": {"score": score}}).status == 200
        before = stream.until(lambda seen: seen["kafka"]["records_total"] == 4)
        assert (before["groups"], before["edge"]["accepted_total"], before["proof"]) == ([], 3, None)
        consume_all(place)
        seen = stream.until(
            lambda seen: seen["groups"] and seen["groups"][0]["lag_records"] == 0 and seen["dead_letters"]["waiting"]
            and all(one["redis"] == one["postgres"] for one in seen["groups"][0]["partitions"])
        )  # fmt: skip
        assert (seen["topic"], seen["kafka"]["partitions"]) == (place.topic, 3)
        (group,) = seen["groups"]
        assert (group["group"], group["admitted"], group["dead_lettered"]) == (place.group, 3, 1)
        assert (group["lag_seconds"], group["freshness_seconds"], seen["redis"]["behind_records"]) == (0, 0, 0)
        assert 1 <= group["epoch"]["events"] <= 4
        assert group["epoch"]["trigger"] == "wait"
        assert sum(one["end"] for one in group["partitions"]) == 4
        assert seen["dead_letters"] == {"waiting": 1, "by_code": {"invalid": 1}, "at_least": False}
        states = {hop: seen[hop]["state"] for hop in ("edge", "kafka", "postgres", "redis")}
        assert set(states.values()) == {"ok"}
        player = ask(edge, f"players/{EVENT['player_id']}")
        assert (player["statistics"]["total_events"], len(player["events"]), player["games"]) == (
            3,
            3,
            [EVENT["game_id"]],
        )
        assert gamemetrics(place, "verify").returncode == 0
        proven = stream.until(lambda seen: seen["proof"])["proof"]
        assert (proven["state"], proven["differences"], proven["behind_records"]) == ("ok", 0, 0)
        assert 0 <= proven["age_seconds"] < 600
        with place.pg() as connection:
            connection.execute("UPDATE player_event_counts SET events = events + 1")
        assert gamemetrics(place, "verify", "--full").returncode == 1
        stream.until(lambda seen: seen["proof"]["state"] == "down" and seen["proof"]["differences"] > 0)
        assert ask(edge, "games") == {"games": [EVENT["game_id"]], "next": None}
        assert ask(edge, f"games/{EVENT['game_id']}/days")["days"] == ["2024-01-15"]


def test_who_is_behind_is_told_by_how_much_and_for_how_long(place: Place) -> None:
    place.produce([("k", b"x")], partition=1)
    consume_all(place)
    with running_edge(place) as edge, watching(edge) as stream:
        stream.until(lambda seen: seen["groups"] and seen["groups"][0]["lag_records"] == 0)
        place.produce([("k", b"x")] * 7, partition=1)
        seen = stream.until(lambda seen: seen["groups"][0]["lag_records"] == 7 and seen["groups"][0]["lag_seconds"] > 1)
        later = stream.until(lambda then: then["groups"][0]["lag_seconds"] > seen["groups"][0]["lag_seconds"] + 1)
        assert later["groups"][0]["freshness_seconds"] == later["groups"][0]["lag_seconds"]
        down = stream.until(lambda seen: seen["groups"][0]["state"] == "down")
        assert "does a consumer run" in down["groups"][0]["reason"]


def test_games_and_days_are_paged_by_their_keys(place: Place, edge: EdgeUnderTest) -> None:
    with place.pg() as connection:
        connection.execute(
            "INSERT INTO leaderboard_daily SELECT 'game-' || game, DATE '2026-01-01' + day, 'p' || player, 1, now()"
            " FROM generate_series(1, 7) AS game, generate_series(0, 9) AS day, generate_series(1, 30) AS player"
        )
        connection.execute("INSERT INTO leaderboard_settled VALUES ('old', 'p', 1, now())")
    first = ask(edge, "games?limit=5")
    assert first == {"games": [f"game-{number}" for number in range(1, 6)], "next": "game-5"}
    assert ask(edge, "games?limit=5&after=game-5") == {"games": ["game-6", "game-7", "old"], "next": None}
    few = ask(edge, "games/game-1/days?limit=6")
    assert few["days"][:3] == ["2026-01-10", "2026-01-09", "2026-01-08"]
    assert [board["first_day"] for board in few["boards"] if board["period"] == "daily"] == few["days"]
    assert [board for board in few["boards"] if board["period"] == "weekly"] == [
        {"period": "weekly", "stamp": "2026-W02", "first_day": "2026-01-05", "last_day": "2026-01-11"}
    ]
    assert len(ask(edge, "games/game-1/days")["days"]) == 10
    assert ask(edge, "games/nobodys/days")["days"] == []


def test_nothing_reads_a_table_through(place: Place, edge: EdgeUnderTest) -> None:
    """A thousand scores of one game and a thousand players' events, of which each call needs a handful."""
    with place.pg() as connection:
        connection.execute(
            "INSERT INTO leaderboard_daily SELECT 'g', DATE '2026-01-01' + number % 5, 'p' || number, 1, now()"
            " FROM generate_series(1, 50000) AS number"
        )
        connection.execute(
            "INSERT INTO events (event_id, event_type, player_id, game_id, event_timestamp, ingested_at, data)"
            " SELECT gen_random_uuid(), 'login', 'p' || number, 'g', now(), now(), '{}'"
            " FROM generate_series(1, 50000) AS number"
        )
        connection.execute("VACUUM ANALYZE")  # which reads, too, and says so later
        read = rows_read(connection, READ)
        for path in ("games", "games/g/days", "players/p77", "dead-letters", "audit"):
            ask(edge, path)
        assert eventually(lambda: rows_read(connection, READ) > read), "the calls were not seen"
        assert rows_read(connection, READ) - read < 500


READ = "^(events|leaderboard_(daily|settled)|dlq_events|pipeline_audit)"


HOSTILE = ["<img onerror=alert(1)>", "a/b?c#d%", *texts.AWKWARD[:8]]


def test_a_hostile_name_is_only_a_name(place: Place, edge: EdgeUnderTest) -> None:
    for name in HOSTILE:
        event = {**EVENT, "player_id": name, "game_id": name, "data": {"score": 7, name: [name]}}
        assert edge.send(event).status == 200
    consume_all(place)
    for name in HOSTILE:
        player = ask(edge, f"players/{quote(name, safe='')}")
        assert (player["player_id"], player["games"], player["events"][0]["data"][name]) == (name, [name], [name])
        assert ask(edge, f"games/{quote(name, safe='')}/days")["days"] == ["2024-01-15"]
        found = [ask(edge, f"topic/{number}?player_id={quote(name, safe='')}")["records"] for number in range(3)]
        ((record,),) = [records for records in found if records]
        assert (record["key"], json.loads(record["value"])["game_id"]) == (name, name)
    assert ask(edge, "games")["games"] == sorted(HOSTILE, key=str.encode)


def test_any_name_is_answered(edge: EdgeUnderTest) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(texts.names)
    def asked(name: str) -> None:
        path = quote(name.encode(), safe="")
        assert ask(edge, f"players/{path}") == {"player_id": name, "statistics": None, "events": [], "games": []}
        assert ask(edge, f"games/{path}/days") == {"game_id": name, "days": [], "boards": []}
        assert ask(edge, f"games?after={path}")["games"] == []

    asked()


def test_numbers_come_as_they_were_sent(place: Place, edge: EdgeUnderTest) -> None:
    exact = b'{"score":1,"gold":1.50,"big":123456789012345678901234,"small":1e-30}'
    body = json.dumps({**EVENT, "data": "DATA"}).encode().replace(b'"DATA"', exact)
    assert edge.post("/api/v1/events", body).status == 200
    consume_all(place)
    reply = edge.get(f"{CONSOLE}/players/{EVENT['player_id']}").body
    assert b"1.50" in reply
    assert b"123456789012345678901234" in reply


WRONG = [
    ("games?limit=0", "limit"),
    ("games?limit=501", "limit"),
    ("games?after=%00", "after"),
    ("games?other=1", "unknown parameter"),
    ("games/%FF/days", "game_id"),
    ("players/%0A", "player_id"),
    (f"players/{'x' * 256}", "player_id"),
    ("dead-letters?code=bad", "code: must be one of invalid"),
    ("dead-letters?state=open", "state: must be one of waiting"),
    ("dead-letters?before=0", "before"),
    ("dead-letters/0", "id"),
    ("dead-letters/%FF", "id"),
    ("dead-letters/9223372036854775808", "id"),
    ("audit?limit=x", "limit"),
    ("topic/x", "partition"),
    ("topic/-1", "partition"),
    ("topic/0?limit=201", "limit"),
    ("topic/0?player_id=%C2%9B", "player_id"),
    ("games?after=", "after"),
    ("topic/0?offset=1&before=2", "offset: only one of"),
    ("topic/0?since=yesterday", "since"),
    ("topic/0?since=0001-01-01T00:00:00%2B23:00", "since"),
    ("overview?a=1", "unknown parameter"),
]


def test_what_is_asked_wrongly_is_said(edge: EdgeUnderTest) -> None:
    for path, says in WRONG:
        refused = edge.get(f"{CONSOLE}/{path}")
        assert (refused.status, says in refused.json()["error"]) == (400, True), (path, refused.body)


def test_each_server_may_go_and_come_back(place: Place) -> None:
    """The stream goes on, each second, and says which one is away; what the others know is still shown."""
    place.produce([("k", b"x")])
    consume_all(place)
    stack = place.stack
    with running_edge(place) as edge, watching(edge) as stream:
        stream.until(lambda seen: all(seen[hop]["state"] == "ok" for hop in ("kafka", "postgres", "redis")))
        for hop, server in (("redis", stack.valkey), ("postgres", stack.postgres), ("kafka", stack.kafka)):
            try:
                down = stream.until(lambda seen: frozen(server) and seen[hop]["state"] == "down")  # noqa: B023
                assert down[hop]["reason"]
                assert down["groups"], "what was known before is kept"
                assert edge.get("/health/live").status == 200
            finally:
                server.resume()
            stream.until(lambda seen: seen[hop]["state"] == "ok" and seen["groups"][0]["state"] == "ok")  # noqa: B023


def frozen(server: Server) -> bool:
    server.pause()
    return True


def refusal(edge: EdgeUnderTest, place: Place, path: str) -> str:
    """Freeze PostgreSQL and ask; again and again, for a session that begins in the moment of it would escape."""

    def refused() -> str:
        frozen(place.stack.postgres)
        reply = edge.get(f"{CONSOLE}/{path}")
        return str(reply.json()["error"]) if reply.status == 503 else ""

    return eventually(refused, timeout=60)


def test_without_postgresql_each_call_says_so_in_time(place: Place, edge: EdgeUnderTest) -> None:
    with place.redis() as client:
        client.zadd(board_key("g", ALLTIME.name), {"p": 1})
    try:
        for path in ("games", "games/g/days", "dead-letters", "dead-letters/1", "audit"):
            assert "PostgreSQL" in refusal(edge, place, path), path
        assert edge.get("/api/v1/leaderboards/g").status == 200
        change = {"ids": [1], "reason": "x"}
        assert edge.post(f"{CONSOLE}/dead-letters/drop", change, {"X-Requested-By": "console"}).status == 503
    finally:
        place.stack.postgres.resume()
