"""Dead letters redriven and dropped through the console: preview, parts, the audit, and who may not."""

import json
import secrets
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.contract.event import MAX_EVENT_BYTES
from tests import texts
from tests.consuming import consume_all, log_ends
from tests.edges import EVENT, EdgeUnderTest, Reply, make_key, running_edge
from tests.events import encoded
from tests.letters import write_letter
from tests.place import Place
from tests.topics import limit_messages
from tests.waiting import eventually

pytestmark = pytest.mark.real
LETTERS = "/api/v1/console/dead-letters"
BY_PAGE = {"X-Requested-By": "console"}


def change(edge: EdgeUnderTest, action: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Reply:
    return edge.post(f"{LETTERS}/{action}", body, {**BY_PAGE, **(headers or {})})


def audit(edge: EdgeUnderTest) -> Any:
    return edge.get("/api/v1/console/audit").json()["entries"]


def test_a_letter_is_found_previewed_sent_again_and_counted(place: Place, edge: EdgeUnderTest) -> None:
    value = encoded(player_id="late")
    with place.pg() as connection:
        (number, *_) = write_letter(connection, place.topic, value, count=2)
    listed = edge.get(f"{LETTERS}?state=waiting&code=invalid&limit=1").json()
    assert (listed["next"], listed["by_code"], listed["letters"][0]["id"]) == (number + 1, {"invalid": 2}, number + 1)
    rest = edge.get(f"{LETTERS}?before={listed['next']}").json()
    assert ([letter["id"] for letter in rest["letters"]], rest["next"]) == ([number], None)
    whole = edge.get(f"{LETTERS}/{number}").json()
    assert (whole["event"].encode(), whole["key"], whole["offset"]) == (value, "k", 1)
    preview = change(edge, "redrive", {"ids": [number], "preview": True}).json()
    assert (preview["count"], [letter["id"] for letter in preview["letters"]]) == (1, [number])
    assert edge.get(f"{LETTERS}/{number}").json()["redriven_at"] is None
    assert audit(edge) == []
    done = change(edge, "redrive", {"ids": [number], "reason": "mended"}).json()
    assert (done["count"], done["done"], done["unfit"]) == (1, True, 0)
    assert done["letters"][0]["redriven_at"]
    (entry,) = audit(edge)
    assert entry == {"at": entry["at"], "actor": "loopback", "action": "redrive", "reason": "mended", "count": 1}
    consume_all(place)
    assert edge.get("/api/v1/players/late/stats").json()["total_events"] == 1
    assert [letter["id"] for letter in edge.get(f"{LETTERS}?state=redriven").json()["letters"]] == [number]


def test_records_of_one_place_in_a_topic_made_anew_are_each_sent_and_marked_alone(
    place: Place, edge: EdgeUnderTest
) -> None:
    with place.pg() as connection:
        (old,) = write_letter(connection, place.topic, encoded(player_id="old"), first=6)
        (new,) = write_letter(connection, place.topic, encoded(player_id="new"), first=6)
        other = write_letter(connection, place.topic, encoded(player_id="older"), first=6)
    assert change(edge, "redrive", {"ids": [new], "reason": "this one"}).json()["count"] == 1
    waiting = edge.get(f"{LETTERS}?state=waiting").json()["letters"]
    assert [letter["id"] for letter in waiting] == [*other, old]
    done = change(edge, "redrive", {"code": "invalid", "reason": "the others"}).json()
    assert (done["count"], [letter["id"] for letter in done["letters"]]) == (2, [old, *other])
    assert [entry["count"] for entry in audit(edge)] == [2, 1]
    consume_all(place)
    with place.pg() as connection:
        players = connection.execute("SELECT player_id FROM events ORDER BY 1").fetchall()
    assert players == [("new",), ("old",), ("older",)]


def test_all_of_a_code_go_part_by_part_and_others_stay(place: Place, edge: EdgeUnderTest) -> None:
    with place.pg() as connection:
        write_letter(connection, place.topic, encoded(), count=1_500)
        write_letter(connection, place.topic, encoded(), code="internal", first=5_000)
    asked = {"code": "invalid", "reason": "mended"}
    assert change(edge, "redrive", {"code": "invalid", "preview": True}).json()["count"] == 1_500
    first, second = change(edge, "redrive", asked).json(), change(edge, "redrive", asked).json()
    assert [(part["count"], part["done"]) for part in (first, second)] == [(1_000, False), (500, True)]
    assert len(first["letters"]) == 20
    assert [entry["count"] for entry in audit(edge)] == [500, 1_000]
    assert change(edge, "redrive", asked).json()["count"] == 0
    assert len(audit(edge)) == 2, "what was not done is not noted"
    dropped = change(edge, "drop", {"code": "internal", "reason": "nobody's"}).json()
    assert (dropped["count"], dropped["done"], bool(dropped["letters"][0]["dropped_at"])) == (1, True, True)
    with place.pg() as connection:
        rows = connection.execute("SELECT actor, what FROM pipeline_audit ORDER BY id DESC LIMIT 1").fetchall()
    assert rows == [("loopback", {"code": "internal"})]


def test_what_can_never_be_sent_is_told_and_holds_up_nothing(place: Place) -> None:
    limit_messages(place, 20_000)
    noise = {"score": 1, "x": secrets.token_hex(25_000)}
    with place.pg() as connection:
        long = write_letter(connection, place.topic, b"x" * (MAX_EVENT_BYTES + 1))
        other = write_letter(connection, "another-topic", encoded())
        large = write_letter(connection, place.topic, encoded(data=noise), first=100, count=1_200)
        small = write_letter(connection, place.topic, encoded(), first=5_000)
    with running_edge(place) as edge:
        asked = {"ids": [*long, *other, *large[:10], *small], "reason": "all"}
        assert change(edge, "redrive", {**asked, "preview": True}).json()["unfit"] == 2
        done = change(edge, "redrive", asked).json()
        assert (done["count"], done["unfit"], done["done"]) == (1, 12, True)
        with place.pg() as connection:
            last = write_letter(connection, place.topic, encoded(), first=6_000)
        of_code = change(edge, "redrive", {"code": "invalid", "reason": "rest"}).json()
        assert ([letter["id"] for letter in of_code["letters"]], of_code["done"]) == (last, True)
        assert change(edge, "drop", asked).json()["count"] == 13


def test_a_topic_that_takes_less_from_now_on_is_learnt_from_its_refusal(place: Place, edge: EdgeUnderTest) -> None:
    with place.pg() as connection:
        ids = write_letter(connection, place.topic, encoded(data={"score": 1, "x": secrets.token_hex(25_000)}))
        ids += write_letter(connection, place.topic, encoded(), first=100)
    limit_messages(place, 20_000)

    def redriven() -> bool:
        reply = change(edge, "redrive", {"ids": ids, "reason": "x"})
        return reply.status == 200 and (reply.json()["count"], reply.json()["unfit"]) == (1, 1)

    eventually(redriven, timeout=60, interval=0.5)


WRONG = [
    (b"not JSON", 400, "body"),
    (b"[]", 400, "body"),
    (b'{"ids":[1],"code":"invalid","reason":"x"}', 400, "not both"),
    (b'{"reason":"x"}', 400, "ids"),
    (b'{"ids":[],"reason":"x"}', 400, "ids"),
    (b'{"ids":[0],"reason":"x"}', 400, "ids"),
    (b'{"ids":[9223372036854775808],"reason":"x"}', 400, "ids"),
    (b'{"ids":[1],"reason":"  "}', 400, "reason: required"),
    (b'{"ids":[1]}', 400, "reason: required"),
    (b'{"ids":[1],"reason":"a\\u0000b"}', 400, "NUL"),
    (b'{"ids":[1],"reason":"x","more":1}', 400, "more"),
    (b'{"code":"bad","reason":"x"}', 400, "code"),
    (b'{"ids":[77],"reason":"x"}', 404, "77"),
    (b'{"ids":["%s"]}' % (b"x" * 65536), 413, "longer"),
]


def test_what_is_asked_wrongly_is_said(edge: EdgeUnderTest) -> None:
    for body, status, says in WRONG:
        for action in ("redrive", "drop"):
            refused = edge.post(f"{LETTERS}/{action}", body, BY_PAGE)
            assert (refused.status, says in refused.json()["error"]) == (status, True), (body, refused.body)


def test_what_was_dropped_is_not_redriven(place: Place, edge: EdgeUnderTest) -> None:
    with place.pg() as connection:
        ids = write_letter(connection, place.topic)
    assert change(edge, "drop", {"ids": ids, "reason": "x"}).json()["count"] == 1
    assert change(edge, "drop", {"ids": ids, "reason": "x"}).json()["count"] == 0
    assert change(edge, "redrive", {"ids": ids, "reason": "x"}).status == 409


FORGED: list[tuple[dict[str, str], int]] = [
    ({"X-Requested-By": ""}, 403),
    ({"X-Requested-By": "another"}, 403),
    ({"Content-Type": "text/plain"}, 415),
    ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ({"Content-Type": "multipart/form-data; boundary=a"}, 415),
    ({"Content-Encoding": "gzip"}, 415),
    ({"Origin": "https://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": "http://127.0.0.1"}, 403),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403),
    ({"Host": "evil.example"}, 403),
    ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
    ({"Host": "localhost.evil.example"}, 403),
]


def test_no_other_site_can_forge_a_change(place: Place, edge: EdgeUnderTest) -> None:
    with place.pg() as connection:
        ids = write_letter(connection, place.topic)
    for headers, status in FORGED:
        assert change(edge, "drop", {"ids": ids, "reason": "forged"}, headers).status == status, headers
    assert audit(edge) == []
    own = {"Origin": f"http://127.0.0.1:{edge.port}", "Sec-Fetch-Site": "same-origin"}
    assert change(edge, "drop", {"ids": ids, "reason": "own"}, own).status == 200


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Host": "evil.example", "Origin": "http://evil.example"},
    {"Host": "evil.example:8080", "Origin": "http://evil.example:8080", "Sec-Fetch-Site": "same-origin"},
]


def test_no_other_site_can_send_events_that_need_no_key(place: Place, edge: EdgeUnderTest) -> None:
    """As a browser posts a Blob without a type: it asks nobody for permission."""
    own = {"Origin": f"http://127.0.0.1:{edge.port}", "Sec-Fetch-Site": "same-origin"}
    for path, content in (("/api/v1/events", EVENT), ("/api/v1/events/batch", [EVENT])):
        for headers in FOREIGN:
            assert edge.request("POST", path, json.dumps(content).encode(), headers).status == 403, headers
        assert edge.post(path, content, own).status == 200
        assert edge.request("POST", path, json.dumps(content).encode()).status == 200
    key = make_key(place, "of-a-game")
    eventually(lambda: edge.send(EVENT).status == 401, timeout=5)
    assert edge.send(EVENT, {"X-API-Key": key, **FOREIGN[0]}).status == 200


def test_a_name_that_leads_here_from_elsewhere_reads_nothing(edge: EdgeUnderTest) -> None:
    for path in ("overview", "stream", "games", "players/p", "dead-letters", "audit", "topic", "topic/0"):
        refused = edge.get(f"/api/v1/console/{path}", {"Host": f"evil.example:{edge.port}"})
        assert (refused.status, "CONSOLE_HOSTS" in refused.json()["error"]) == (403, True), path


READS = [
    "players/player-test-001/stats",
    "leaderboards/game-test-001",
    "leaderboards/game-test-001/players/player-test-001",
    "refusals",
    "events/player-test-001/0199b0c4-6d1e-7c53-9a51-3f0e8a4b7d21",
]


@pytest.mark.parametrize("path", READS)
def test_reads_that_need_no_key_are_for_known_names_on_loopback(edge: EdgeUnderTest, path: str) -> None:
    """A page that was pointed here reads by GETs that tell of no page."""
    reads = f"/api/v1/{path}"
    for method in ("GET", "HEAD"):
        for host in ("evil.example", f"evil.example:{edge.port}", "localhost.evil.example", "127.0.0.1.evil.example"):
            assert edge.request(method, reads, headers={"Host": host}).status == 403, host
        for host in ("localhost", f"LOCALHOST:{edge.port}", f"127.0.0.1:{edge.port}", f"[::1]:{edge.port}", "10.1.2.3"):
            assert edge.request(method, reads, headers={"Host": host}).status in {200, 404}, host
    assert "CONSOLE_HOSTS" in edge.get(reads, {"Host": "evil.example"}).json()["error"]
    assert edge.get("/health/ready", {"Host": "pod.of.a.cluster"}).status == 200
    assert edge.get("/metrics", {"Host": "pod.of.a.cluster"}).status == 200


def test_a_key_and_an_open_port_are_for_any_name(place: Place) -> None:
    """In a cluster a service has names of its own: whoever sets API_OPEN lets in who reaches it by any."""
    named = {"Host": "event-ingestion.games.svc:8080"}
    event = json.dumps(EVENT).encode()
    with running_edge(place, HOST="0.0.0.0", API_OPEN="true") as edge:
        assert edge.get("/api/v1/leaderboards/game-test-001", named).status == 200
        assert edge.request("POST", "/api/v1/events", event, named).status == 200
    with running_edge(place, CONSOLE_HOSTS="api.example") as edge:
        assert edge.get("/api/v1/leaderboards/game-test-001", {"Host": "api.example"}).status == 200
        assert edge.request("POST", "/api/v1/events", event, named).status == 200, "a program, and no page"
        key = make_key(place, "reader")
        eventually(lambda: edge.send(EVENT).status == 401, timeout=5)
        assert edge.get("/api/v1/leaderboards/game-test-001", {**named, "X-API-Key": key}).status == 200


def test_names_that_are_configured_are_known_and_a_proxy_s_user_is_the_author(place: Place) -> None:
    with place.pg() as connection:
        first, second, third = write_letter(connection, place.topic, count=3)
    with running_edge(
        place,
        CONSOLE_HOSTS="console.example, other.example",
        CONSOLE_IDENTITY_HEADER="X-Forwarded-User",
        CONSOLE_TRUSTED_PROXIES="127.0.0.0/8, ::1",
    ) as edge:
        proxied = {"Host": "console.example", "Origin": "https://console.example", "X-Forwarded-User": "Zo\xeb\t"}
        assert change(edge, "drop", {"ids": [first], "reason": "x"}, proxied).status == 200
        admin = make_key(place, "ops", "--scope", "admin")
        eventually(lambda: edge.get("/api/v1/console/audit").status == 401)
        keyed = {"X-API-Key": admin, **proxied}
        eventually(lambda: change(edge, "drop", {"ids": [second], "reason": "x"}, keyed).status == 200)
        actors = [entry["actor"] for entry in edge.get("/api/v1/console/audit", {"X-API-Key": admin}).json()["entries"]]
        assert [actor.rpartition(" by ")[2] for actor in actors] == ["ops", "loopback"]
        assert all(actor.startswith("Zo") for actor in actors)
    with running_edge(place, CONSOLE_IDENTITY_HEADER="X-Forwarded-User", CONSOLE_TRUSTED_PROXIES="192.0.2.1") as edge:
        keyed = {"X-API-Key": admin, "X-Forwarded-User": "root"}
        eventually(lambda: change(edge, "drop", {"ids": [third], "reason": "x"}, keyed).status == 200)
        (newest, *_) = edge.get("/api/v1/console/audit", {"X-API-Key": admin}).json()["entries"]
        assert newest["actor"] == "ops", "who is no trusted proxy names nobody"


def test_while_kafka_is_away_nothing_is_marked_and_the_loop_goes_on(place: Place, edge: EdgeUnderTest) -> None:
    with place.pg() as connection:
        ids = write_letter(connection, place.topic, encoded())
    place.stack.kafka.pause()
    try:
        refused = change(edge, "redrive", {"ids": ids, "reason": "x"})
        assert (refused.status, "no others" in refused.json()["error"] or "nothing" in refused.json()["error"]) == (
            503,
            True,
        )
        assert edge.get("/health/live").status == 200
        assert edge.get(f"{LETTERS}/{ids[0]}").json()["redriven_at"] is None
    finally:
        place.stack.kafka.resume()
    assert audit(edge) == []
    eventually(lambda: change(edge, "redrive", {"ids": ids, "reason": "x"}).status == 200, timeout=60)


DYING = (
    "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;"
    " CREATE TRIGGER dying BEFORE INSERT ON pipeline_audit FOR EACH ROW EXECUTE FUNCTION die()"
)


@pytest.mark.parametrize("postgres", ["dies", "hangs"])
def test_what_was_sent_and_could_not_be_marked_is_said_and_counts_once(
    place: Place, edge: EdgeUnderTest, postgres: str
) -> None:
    """PostgreSQL fails between Kafka's word and the statement that marks and notes."""
    with place.pg() as connection:
        ids = write_letter(connection, place.topic, encoded(player_id="p"))
    asked = {"ids": ids, "reason": "x"}
    with place.pg() as connection:
        if postgres == "dies":
            connection.execute(DYING)
            refused = change(edge, "redrive", asked)
            connection.execute("DROP TRIGGER dying ON pipeline_audit")
        else:
            with connection.transaction():
                connection.execute("LOCK TABLE pipeline_audit")
                refused = change(edge, "redrive", asked)
    assert refused.status == 503
    assert "1 records were sent again and could not be marked" in refused.json()["error"]
    assert (sum(log_ends(place).values()), audit(edge)) == (1, [])
    assert edge.get(f"{LETTERS}/{ids[0]}").json()["redriven_at"] is None
    assert change(edge, "redrive", asked).json()["count"] == 1
    assert (sum(log_ends(place).values()), len(audit(edge))) == (2, 1)
    consume_all(place)
    assert edge.get("/api/v1/players/p/stats").json()["total_events"] == 1


def test_any_text_is_kept_as_it_is(place: Place, edge: EdgeUnderTest) -> None:
    """In the reason, which the audit shows, and in the letter itself."""

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(texts.texts.filter(lambda text: text.strip() and "\0" not in text), st.binary(max_size=30))
    def kept(text: str, value: bytes) -> None:
        with place.pg() as connection:
            (number,) = write_letter(connection, place.topic, text.encode() + value, first=next(offsets), error=text)
        letter = edge.get(f"{LETTERS}/{number}").json()
        assert letter["error"] == text
        body = json.dumps({"ids": [number], "reason": text}).encode()
        assert edge.post(f"{LETTERS}/drop", body, BY_PAGE).json()["count"] == 1
        assert audit(edge)[0]["reason"] == text.strip()

    offsets = iter(range(1_000_000))
    kept()
