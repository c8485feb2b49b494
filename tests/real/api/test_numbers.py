"""Numbers that come from a table, a server, or someone's hand: none of them ends a request or a command in a fault."""

import json
import time
from urllib.parse import quote

import pytest

from pipeline.sinks.marks import Standing
from pipeline.sinks.redis import RedisSink
from tests.commanding import gamemetrics
from tests.consuming import consume_all, settings_of
from tests.edges import EVENT, EdgeUnderTest, keys, make_key
from tests.events import encoded
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real


@pytest.mark.parametrize("rate", ["Infinity", "NaN", "1e308", "5e-324", "1e-9"])
def test_a_rate_that_someone_wrote_into_the_table_limits_and_breaks_nothing(
    place: Place, edge: EdgeUnderTest, rate: str
) -> None:
    key = "gm_odd_which-nobody-makes"
    with place.pg() as connection:  # at once: the edge may read the table at any moment
        connection.execute(
            "INSERT INTO api_keys (id, name, secret_sha256, scopes, events_per_second, bytes_per_second)"
            " VALUES ('odd', 'odd', sha256(%s), ARRAY['write'], %s::text::float8, %s::text::float8)",
            (key.encode(), rate, rate),
        )
    headers = {"Authorization": f"Bearer {key}"}
    eventually(lambda: edge.send(EVENT).status == 401, timeout=30)
    replies = [edge.post("/api/v1/events/batch", [EVENT] * 50, headers) for _ in range(4)]
    assert {reply.status for reply in replies} <= {200, 429}
    assert all(int(reply.headers["Retry-After"]) >= 1 for reply in replies if reply.status == 429)
    assert (rate in {"Infinity", "1e308"}) == all(reply.status == 200 for reply in replies)
    assert edge.metric("rate_limits_local") == 0, "Valkey's script did not fail"


@pytest.mark.parametrize("rate", ["inf", "nan", "-1", "1e-9", "2e9"])
def test_a_rate_that_none_can_reckon_with_is_refused(place: Place, rate: str) -> None:
    keys(place, "create", "odd", "--events-per-second", rate, code=2)
    keys(place, "create", "odd", "--bytes-per-second", rate, code=2)


@pytest.mark.parametrize("ahead", [172_800, 10**12])
def test_a_limit_that_valkeys_clock_wrote_ahead_does_not_keep_a_key_out(
    place: Place, edge: EdgeUnderTest, ahead: int
) -> None:
    """What a call two days ahead left behind: full in two days and 0.4 s, written in two days.

    Less than an event is owed, and a call that is refused changes nothing of it: so two are too many, and one is not.
    """
    key = make_key(place, "slow", "--events-per-second", "2")
    headers = {"Authorization": f"Bearer {key}"}
    eventually(lambda: edge.send(EVENT).status == 401, timeout=5)
    then = time.time() + ahead
    with place.redis() as client:
        client.hset("ratelimit:slow", mapping={"events": f"{then + 0.4:.6f}", "bytes": "0", "at": f"{then:.6f}"})
    two = edge.post("/api/v1/events/batch", [EVENT] * 2, headers)
    if two.status != 429:  # on a machine so slow that what was owed is paid
        assert edge.post("/api/v1/events/batch", [EVENT] * 2, headers).status == 429
    eventually(lambda: edge.send(EVENT, headers).status == 200, timeout=5)


def test_what_is_no_number_in_redis_is_read_from_postgresql(place: Place, edge: EdgeUnderTest) -> None:
    place.produce([encoded(player_id="p", game_id="g", data={"score": 7})])
    consume_all(place)
    with place.redis() as client:
        client.zadd("leaderboard:g:alltime", {"p": "inf"})
        client.hset("player_stats:p", "total_events", "many")
    for path in ("/api/v1/leaderboards/g", "/api/v1/leaderboards/g/players/p", "/api/v1/players/p/stats"):
        reply = edge.get(path)
        assert (reply.status, reply.headers["X-Source"]) == (200, "postgresql"), path
    assert edge.get("/api/v1/leaderboards/g").json()["entries"][0]["score"] == 7


@pytest.mark.parametrize("field", ["total_events", "event_login"])
@pytest.mark.parametrize("text", ["9" * 30, "9" * 5_000, str(2**63), "-1", "1e5", "0x10", "\u0663", ""])
def test_a_count_in_redis_that_none_can_be_is_read_from_postgresql(
    place: Place, edge: EdgeUnderTest, field: str, text: str
) -> None:
    place.produce([encoded(player_id="p", event_type="login")])
    consume_all(place)
    with place.redis() as client:
        client.hset("player_stats:p", field, text)
    reply = edge.get("/api/v1/players/p/stats")
    assert (reply.status, reply.headers["X-Source"]) == (200, "postgresql")
    assert (reply.json()["total_events"], reply.json()["events"]) == (1, {"login": 1})


def test_names_in_redis_that_are_no_text_break_no_read(place: Place, edge: EdgeUnderTest) -> None:
    place.produce([encoded(player_id="p", game_id="g", data={"score": 7})])
    consume_all(place)
    with place.redis() as client:
        client.zadd("leaderboard:g:alltime", {b"\xff\xfe": 9})
        client.hset("player_stats:p", mapping={b"\xff": b"\xfe", b"event_\xff": b"1", b"last_event": b"\xff"})
        client.hset(f"pipeline:watermarks:{place.group}", b"\xff", b"\xfe")
    for path in ("/api/v1/leaderboards/g", "/api/v1/leaderboards/g/players/p", "/api/v1/players/p/stats"):
        reply = edge.get(path)
        assert (reply.status, reply.headers["X-Source"]) == (200, "postgresql"), path
    assert edge.get("/api/v1/console/overview").status == 200


def test_a_watermark_in_redis_that_is_none_is_no_standing(place: Place) -> None:
    settings = settings_of(place)
    sink = RedisSink(settings, place.group)
    try:
        marks = {f"{place.topic}:0": "7:1", f"{place.topic}:1": "²:0", f"{place.topic}:x": "1:0", "\udcff": "1:0"}
        marks |= {f"{place.topic}:2": "9" * 40 + ":0", f"{place.topic}:3": "5", "": ""}
        marks |= {f"{place.topic}:{'9' * 5_000}": "1:0", f"{place.topic}:²": "1:0", f"{place.topic}:4\n": "1:0"}
        for name, mark in marks.items():
            sink.client.hset(
                f"pipeline:watermarks:{place.group}", name.encode("utf-8", "surrogateescape"), mark.encode()
            )
        assert sink.standings() == {0: Standing(7, 1)}
    finally:
        sink.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "99999999999999999999"),
        ("show", "0"),
        ("drop", "--yes", "99999999999999999999"),
        ("redrive", "99999999999999999999"),
        ("list", "--limit", "99999999999999999999"),
        ("list", "--since", "999999d"),
        ("list", "--since", "0001-01-01T00:00:00+14:00"),
    ],
)
def test_numbers_beyond_reason_are_a_matter_of_usage(place: Place, arguments: tuple[str, ...]) -> None:
    done = gamemetrics(place, "dlq", *arguments)
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if "0001-01-01T00:00:00+14:00" in arguments else 2), done.stderr


@pytest.mark.parametrize("number", ["1" * 5_000, "-0", "1e3", "٣", "0x1", " 1", "1_0", "18446744073709551616"])
def test_a_query_takes_whole_numbers_only(edge: EdgeUnderTest, number: str) -> None:
    for name, path in (("limit", ""), ("offset", ""), ("around", "/players/p")):
        reply = edge.get(f"/api/v1/leaderboards/g{path}?{name}={quote(number)}")
        assert reply.status == 400, (name, number)
        assert json.loads(reply.body)["error"].startswith(name)
