"""Keys, rate limits and reads, with PostgreSQL and Valkey there and away."""

import time
from typing import Any

import pytest

from tests.edges import EVENT, EdgeUnderTest, keys, make_key, running_edge
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_keys_act_within_seconds_and_only_their_hash_is_kept(place: Place, edge: EdgeUnderTest) -> None:
    assert edge.send(EVENT).status == 200
    writer = make_key(place, "server", "--scope", "write", "--game", "game-test-001")
    eventually(lambda: edge.send(EVENT).status == 401, timeout=5)
    assert edge.send(EVENT).headers["WWW-Authenticate"].startswith("Bearer")
    assert edge.send(EVENT, bearer(writer)).status == 200
    assert edge.send(EVENT, {"X-API-Key": writer}).status == 200
    assert edge.send(EVENT, bearer(writer[:-1] + "!")).status == 401
    assert edge.send({**EVENT, "game_id": "other"}, bearer(writer)).status == 403
    mixed = edge.post("/api/v1/events/batch", [EVENT, {**EVENT, "game_id": "other"}], bearer(writer)).json()
    assert (mixed["accepted"], [one["index"] for one in mixed["rejected"]]) == (1, [1])
    assert edge.get("/api/v1/leaderboards/game-test-001", bearer(writer)).status == 403
    assert edge.get("/health/ready").status == 200
    with place.pg() as connection:
        stored = connection.execute("SELECT * FROM api_keys").fetchall()
    assert writer.removeprefix("gm_") not in str(stored)
    assert writer not in keys(place, "list")
    keys(place, "revoke", "server")
    eventually(lambda: edge.send(EVENT, bearer(writer)).status == 401, timeout=5)
    assert edge.send(EVENT).status == 401
    assert "server" in keys(place, "list", "--json")
    _, logged = edge.stop()
    assert "a wrong API key" in logged
    assert writer not in logged


def test_a_name_is_taken_once(place: Place) -> None:
    make_key(place, "one")
    keys(place, "create", "one", "--json", code=1)
    keys(place, "create", "two", "--scope", "owner", code=2)
    keys(place, "create", "bad name", code=2)
    keys(place, "revoke", "nobody", code=1)
    keys(place, "revoke", "one")
    assert make_key(place, "one").startswith("gm_")


def test_a_key_for_reading_may_not_write(place: Place, edge: EdgeUnderTest) -> None:
    reader = make_key(place, "dashboard", "--scope", "read", "--game", "game-test-001")
    eventually(lambda: edge.send(EVENT).status == 401, timeout=5)
    assert edge.send(EVENT, bearer(reader)).status == 403
    assert edge.get("/api/v1/leaderboards/game-test-001", bearer(reader)).status == 200
    assert edge.get("/api/v1/leaderboards/other", bearer(reader)).status == 403


def test_known_keys_hold_while_postgresql_is_away(place: Place, edge: EdgeUnderTest) -> None:
    key = make_key(place, "server")
    eventually(lambda: edge.send(EVENT).status == 401, timeout=5)
    place.stack.postgres.pause()
    try:
        for _ in range(5):
            assert edge.send(EVENT, bearer(key)).status == 200
            assert edge.send(EVENT).status == 401
    finally:
        place.stack.postgres.resume()


def test_static_keys_need_no_database(place: Place) -> None:
    with running_edge(place, API_KEYS="ops:0123456789abcdef-static", HOST="0.0.0.0", DB_PORT="1") as edge:
        assert edge.send(EVENT).status == 401
        assert edge.send(EVENT, bearer("0123456789abcdef-static")).status == 200


def test_open_elsewhere_only_when_told(place: Place) -> None:
    with running_edge(place, HOST="0.0.0.0", API_OPEN="true") as edge:
        assert edge.send(EVENT).status == 200


def test_a_limit_is_exact_and_shared_by_replicas(place: Place) -> None:
    key = make_key(place, "slow", "--events-per-second", "2")
    with running_edge(place) as one, running_edge(place) as two:
        for edge in (one, two):
            eventually(lambda edge=edge: edge.send(EVENT).status == 401, timeout=5)  # type: ignore[misc]
        started = time.monotonic()
        replies = [edge.send(EVENT, bearer(key)) for _ in range(15) for edge in (one, two)]
        most = 2 + 2 * (time.monotonic() - started)
        passed = [reply for reply in replies if reply.status == 200]
        assert 2 <= len(passed) <= most
        assert passed[0].headers["RateLimit-Limit"] == "2"
        refused = next(reply for reply in replies if reply.status == 429)
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.headers["RateLimit-Remaining"] == "0"
        eventually(lambda: one.send(EVENT, bearer(key)).status == 200, timeout=10)


def test_a_batch_is_charged_for_each_event_and_the_next_waits(place: Place) -> None:
    with running_edge(place, RATE_LIMIT_RPS="50") as edge:
        batch = edge.post("/api/v1/events/batch", [EVENT] * 200)
        assert batch.status == 200
        after = edge.send(EVENT)
        assert after.status == 429
        assert 2 <= int(after.headers["Retry-After"]) <= 4
        assert edge.metric("events_failed_total") == 1


def test_bytes_are_limited_too(place: Place) -> None:
    with running_edge(place, RATE_LIMIT_BYTES_PER_SECOND="65536") as edge:
        big = {**EVENT, "data": {"score": 1, "x": "y" * 60_000}}
        statuses = [edge.send(big).status for _ in range(3)]
        assert statuses[0] == 200
        assert 429 in statuses


def test_a_local_limiter_holds_the_line_while_valkey_is_away(place: Place) -> None:
    with running_edge(place, RATE_LIMIT_RPS="10", REDIS_PORT="1") as edge:
        started, statuses = time.monotonic(), list[int]()
        while statuses.count(429) < 10:
            statuses.append(edge.send(EVENT).status)
            assert time.monotonic() < started + 60
        assert 10 <= statuses.count(200) <= 11 + 10 * (time.monotonic() - started)
        assert edge.metric("rate_limits_local") == 1


def test_a_busy_key_is_held_to_its_rate(place: Place) -> None:
    """Leases make most requests cost no call to Valkey; together they still must not pass more than the limit."""
    with running_edge(place, RATE_LIMIT_RPS="1000") as edge:
        accepted, refused = 0, 0
        started = time.monotonic()
        while refused < 20:
            reply = edge.post("/api/v1/events/batch", [EVENT] * 100)
            accepted += reply.json().get("accepted", 0)
            refused += reply.status == 429
            assert time.monotonic() < started + 60
        assert 1000 <= accepted <= 1000 + 1000 * (time.monotonic() - started)


def fill(place: Place) -> None:
    """Two stores that agree, with ties, on a board and a player."""
    players = [(f"p{number}", number // 3) for number in range(30)]
    with place.redis() as client, place.pg() as connection:
        for player, score in players:
            client.zadd("leaderboard:g 1/x:alltime", {player: score})
            connection.execute("INSERT INTO leaderboard_settled VALUES (%s, %s, %s, now())", ("g 1/x", player, score))
        client.hset(
            "player_stats:é/1",
            mapping={"total_events": 3, "event_a": 2, "event_event_b": 1, "last_event": "2024-01-15T10:35:00.000000Z"},
        )
        for kind, count in (("a", 2), ("event_b", 1)):
            connection.execute(
                "INSERT INTO player_event_counts VALUES (%s, %s, %s, '2024-01-15T10:35:00Z')", ("é/1", kind, count)
            )


READS = [
    "/api/v1/players/%C3%A9%2F1/stats",
    "/api/v1/leaderboards/g%201%2Fx?limit=7&offset=3",
    "/api/v1/leaderboards/g%201%2Fx?limit=7&offset=28",
    "/api/v1/leaderboards/g%201%2Fx?limit=7&offset=100",
    "/api/v1/leaderboards/g%201%2Fx/players/p7?around=4",
    "/api/v1/leaderboards/g%201%2Fx/players/p29?around=2",
    "/api/v1/leaderboards/g%201%2Fx/players/p0?around=0",
]


def test_redis_and_postgresql_answer_alike(place: Place, edge: EdgeUnderTest) -> None:
    fill(place)
    from_redis = [edge.get(path) for path in READS]
    assert [(reply.status, reply.headers["X-Source"]) for reply in from_redis] == [(200, "redis")] * len(READS)
    with place.redis() as client:
        client.flushdb()
    from_postgres = [edge.get(path) for path in READS]
    assert [reply.headers["X-Source"] for reply in from_postgres] == ["postgresql"] * len(READS)
    assert [reply.json() for reply in from_redis] == [reply.json() for reply in from_postgres]
    assert from_redis[0].json() == {
        "player_id": "é/1",
        "total_events": 3,
        "events": {"a": 2, "event_b": 1},
        "last_event": "2024-01-15T10:35:00.000000Z",
    }
    assert [one["rank"] for one in from_redis[4].json()["neighbours"]] == list(range(19, 28))


def test_pages_cover_a_board_without_gap_or_repeat(place: Place, edge: EdgeUnderTest) -> None:
    fill(place)
    for store in ("redis", "postgresql"):
        seen: list[dict[str, Any]] = []
        offset: int | None = 0
        while offset is not None:
            page = edge.get(f"/api/v1/leaderboards/g%201%2Fx?limit=4&offset={offset}")
            assert page.headers["X-Source"] == store
            seen += page.json()["entries"]
            offset = page.json()["next_offset"]
        assert [one["rank"] for one in seen] == list(range(1, 31))
        assert sorted(((one["score"], one["player_id"]) for one in seen), reverse=True) == [
            (one["score"], one["player_id"]) for one in seen
        ]
        with place.redis() as client:
            client.flushdb()


def test_reads_survive_valkey_and_say_when_both_are_away(place: Place) -> None:
    fill(place)
    with running_edge(place, REDIS_PORT="1") as edge:
        assert edge.get(READS[0]).headers["X-Source"] == "postgresql"
    with running_edge(place, REDIS_PASSWORD="wrong") as edge:
        assert edge.get(READS[0]).headers["X-Source"] == "postgresql"
    with running_edge(place, REDIS_PORT="1", DB_PORT="1") as edge:
        assert edge.get(READS[0]).status == 503
        assert edge.send(EVENT).status == 200


def test_unknown_players_boards_and_bad_parameters(edge: EdgeUnderTest) -> None:
    assert edge.get("/api/v1/players/nobody/stats").status == 404
    assert edge.get("/api/v1/leaderboards/nothing/players/nobody").status == 404
    empty = edge.get("/api/v1/leaderboards/nothing").json()
    assert (empty["entries"], empty["total"], empty["next_offset"]) == ([], 0, None)
    for query, name in (
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        ("limit=1&limit=2", "limit"),
        ("offset=-1", "offset"),
        ("offset=99999999999", "offset"),
        ("period=hourly", "period"),
        ("period=daily&date=2024-13-01", "date"),
        ("period=daily&date=20240101", "date"),
        ("date=today", "date"),
        ("colour=red", "colour"),
        ("limit=%FF", "query"),
    ):
        reply = edge.get(f"/api/v1/leaderboards/g?{query}")
        assert reply.status == 400, query
        assert reply.json()["error"].startswith(f"{name}:"), query
    assert edge.get("/api/v1/players/%FF/stats").status == 400
    assert edge.get("/api/v1/players/%00/stats").status == 400
    assert edge.get(f"/api/v1/players/{'x' * 256}/stats").status == 400


def test_periods_name_their_boards(place: Place, edge: EdgeUnderTest) -> None:
    with place.redis() as client:
        client.zadd("leaderboard:g:daily:2024-12-30", {"day": 1})
        client.zadd("leaderboard:g:weekly:2025-W01", {"week": 2})
    daily = edge.get("/api/v1/leaderboards/g?period=daily&date=2024-12-30").json()
    weekly = edge.get("/api/v1/leaderboards/g?period=weekly&date=2024-12-30").json()
    assert (daily["period"], daily["entries"][0]["player_id"]) == ("daily:2024-12-30", "day")
    assert (weekly["period"], weekly["entries"][0]["player_id"]) == ("weekly:2025-W01", "week")


def test_an_etag_saves_the_body(place: Place, edge: EdgeUnderTest) -> None:
    fill(place)
    first = edge.get(READS[1])
    again = edge.get(READS[1], {"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    head = edge.request("HEAD", READS[1])
    assert (head.status, head.body, head.headers["ETag"]) == (200, b"", first.headers["ETag"])
