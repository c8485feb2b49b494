"""Refusals that their sender did not see: every replica tells whom they concern, and nothing waits for that."""

import gzip
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.contract.refusals import KEPT_HOLDERS, KEPT_OF_A_HOLDER, KEPT_SECONDS, REFUSALS_INDEX, REFUSALS_LISTS
from tests.chaos.proxy import Proxy
from tests.commanding import gamemetrics, told
from tests.debian import flavour, redis_server
from tests.deploy.tools import ROOT
from tests.edges import EVENT, EdgeUnderTest, make_key, running_edge
from tests.place import Place
from tests.texts import AWKWARD
from tests.topics import limit_messages
from tests.waiting import eventually

pytestmark = pytest.mark.real

NEEDED = (
    "~player_stats:* ~leaderboard:* ~ratelimit:* ~refusals:* resetchannels -@all +select +time +hgetall +hlen +hscan"
    " +hmget +hset +expire +zcard +zrevrank +zrevrange +evalsha +script|load +lpush +ltrim +lrange +zadd +zrange +zrem"
    " +zremrangebyscore +unlink"
)
"""What docs/deploy.md says the API's account may do."""
PATH = "/api/v1/refusals"
BATCH = "/api/v1/events/batch"


def refused(edge: EdgeUnderTest, key: str = "", query: str = "") -> list[dict[str, Any]]:
    """The refusals that a key is shown, the oldest first."""
    reply = edge.get(f"{PATH}{query}", {"X-API-Key": key} if key else {})
    assert reply.status == 200, reply.body
    found: list[dict[str, Any]] = reply.json()["refusals"]
    return found[::-1]


def reasons(edge: EdgeUnderTest, key: str = "") -> list[str]:
    return [one["reason"] for one in refused(edge, key)]


@contextmanager
def replicas(place: Place) -> Iterator[tuple[EdgeUnderTest, EdgeUnderTest]]:
    with running_edge(place) as one, running_edge(place) as other:
        yield one, other


def test_a_replica_tells_what_another_refused(place: Place) -> None:
    with replicas(place) as (one, other):
        assert one.send({**EVENT, "player_id": "", "data": {"score": 1, "mail": "zoë@example.com"}}).status == 400
        (found,) = eventually(lambda: refused(other))
        assert found == {
            "at": found["at"],
            "key": "anyone",
            "reason": "player_id: must be 1-255 characters, no control characters",
            "field": "player_id",
            "event_type": "player_score",
            "player_id": "",
            "event_id": None,
            "game_id": "game-test-001",
            "data": {"score": "number", "mail": "string(15)"},
        }
        assert other.get(PATH).headers["X-Source"] == "redis"
        assert other.send({}).status == 400
        eventually(lambda: reasons(one) == [found["reason"], "event_type: required"])
        code, listed = told(place, "refused")
        assert (code, [row["reason"] for row in listed["refusals"]]) == (0, reasons(one)[::-1])


def test_every_refusal_is_there_with_what_is_known_of_it(place: Place) -> None:
    limit_messages(place, 20_000)
    with running_edge(place) as edge:
        key = make_key(place, "server", "--game", str(EVENT["game_id"]))
        headers = {"X-API-Key": key}
        eventually(lambda: edge.send(EVENT).status == 401 and edge.send(EVENT, headers).status == 200)
        expected = []

        def sent(status: int, path: str, content: Any, field: str, player: str | None, **more: str) -> None:
            reply = edge.post(path, content, {**headers, **more})
            assert reply.status == status, reply.body
            expected.append((reply.json()["error"], field, player))
            eventually(lambda: len(refused(edge, key)) == len(expected))

        single, player = "/api/v1/events", str(EVENT["player_id"])
        sent(400, single, {**EVENT, "colour": 1}, "colour", player)
        sent(400, single, b"nonsense", "", None)
        sent(403, single, {**EVENT, "game_id": "another"}, "game_id", player)
        sent(413, single, {**EVENT, "data": {"score": 1, "x": secrets.token_urlsafe(20_000)}}, "", player)
        sent(413, single, b" " * 70_000, "", None)
        sent(413, BATCH, b"x" * (5 << 20), "", None)
        sent(413, single, gzip.compress(bytes(70_000)), "", None, **{"Content-Encoding": "gzip"})
        sent(400, single, b"no gzip", "", None, **{"Content-Encoding": "gzip"})
        sent(415, single, b"<event/>", "", None, **{"Content-Type": "application/xml"})
        sent(400, BATCH, {}, "", None)
        sent(400, single, gzip.compress(json.dumps({**EVENT, "data": 1}).encode()), "data", player,
             **{"Content-Encoding": "gzip"})  # fmt: skip
        assert [(one["reason"], one["field"], one["player_id"]) for one in refused(edge, key)] == expected
        assert {one["key"] for one in refused(edge, key)} == {"server"}

        mixed = [EVENT, {**EVENT, "event_type": "?"}, EVENT, {**EVENT, "player_id": "p", "game_id": "another"}, 7]
        rejected = edge.post(BATCH, mixed, headers).json()["rejected"]
        assert [one["index"] for one in rejected] == [1, 3, 4]
        eventually(lambda: reasons(edge, key)[len(expected) :] == [one["error"] for one in rejected])
        assert [one["player_id"] for one in refused(edge, key)[-3:]] == [player, "p", None]


def test_a_body_that_is_announced_too_long_is_its_keys_and_not_a_strangers(place: Place) -> None:
    with running_edge(place) as edge:
        key, reader = make_key(place, "server"), make_key(place, "reader", "--scope", "read")
        eventually(lambda: edge.send(EVENT, {"X-API-Key": key}).status == 200 and edge.send(EVENT).status == 401)
        eventually(lambda: edge.get(PATH, {"X-API-Key": reader}).status == 200)
        head = "POST /api/v1/events HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 99999\r\n"
        for presented, status in ((key, b" 413 "), ("wrong", b" 401 "), ("", b" 401 ")):
            assert status in edge.say(f"{head}X-API-Key: {presented}\r\n\r\n".encode())
        assert edge.send({}, {"X-API-Key": key}).status == 400
        eventually(lambda: len(refused(edge, reader)) == 2)
        assert reasons(edge, reader) == ["the body is longer than 65536 bytes", "event_type: required"]


def test_each_key_is_shown_what_its_games_concern(place: Place) -> None:
    with running_edge(place) as edge:
        made = {
            name: make_key(place, name, *options)
            for name, options in {
                "server-a": ("--scope", "write", "--game", "a"),
                "server-b": ("--scope", "write", "--game", "b"),
                "server-all": ("--scope", "write"),
                "reader-a": ("--scope", "read", "--game", "a"),
                "reader-ab": ("--scope", "read", "--game", "a", "--game", "b"),
                "reader-all": ("--scope", "read"),
                "both-b": ("--game", "b"),
            }.items()
        }
        senders = ("server-a", "server-b", "server-all", "both-b")
        eventually(lambda: all(edge.send({}, {"X-API-Key": made[name]}).status == 400 for name in senders))
        eventually(lambda: {one["key"] for one in refused(edge, made["reader-all"])} == set(senders))
        shown = {name: {one["key"] for one in refused(edge, made[name])} for name in made if "server" not in name}
        assert shown == {
            "reader-a": {"server-a"},
            "reader-ab": {"server-a", "server-b", "both-b"},
            "reader-all": set(senders),
            "both-b": {"server-b", "both-b"},
        }
        assert {one["key"] for one in refused(edge, made["reader-all"], "?key=server-b")} == {"server-b"}
        assert refused(edge, made["reader-a"], "?key=server-b") == []
        assert len(refused(edge, made["reader-all"], "?limit=2")) == 2
        assert edge.get(PATH, {"X-API-Key": made["server-a"]}).status == 403
        assert edge.get(PATH).status == 401
        for query in ("?limit=0", "?limit=501", "?limit=x", "?colour=red", "?key=a&key=b"):
            assert edge.get(f"{PATH}{query}", {"X-API-Key": made["reader-all"]}).status == 400
        code, listed = told(place, "refused", "--key", "both-b")
        assert (code, {one["key"] for one in listed["refusals"]}) == (0, {"both-b"})


def test_hostile_events_are_bounded_and_do_nothing_to_a_terminal(place: Place) -> None:
    with running_edge(place) as edge:
        before = edge.resident_bytes()
        for text in AWKWARD:
            naughty = {**EVENT, "player_id": text * 40, "colour" + text: {text: [text] * 9}, "data": {text: text}}
            assert edge.post(BATCH, [naughty, text, [naughty]]).status == 400
        events = [{**EVENT, "timestamp": "x" * 2_000, "data": {f"{n}" * 300: n for n in range(9)}} for _ in range(700)]
        for _ in range(20):
            assert edge.post(BATCH, events).status == 400
        assert edge.send(EVENT).status == 200
        eventually(lambda: edge.metric("refusals_passed_over") > 10_000)
        assert edge.metric("refusals_bytes") <= 1 << 20
        assert edge.resident_bytes() - before < 150 << 20
        eventually(lambda: len(refused(edge, query="?limit=500")) >= 100)
        with place.redis() as client:
            (name,) = client.keys(f"{REFUSALS_LISTS}*")
            assert client.llen(name) <= KEPT_OF_A_HOLDER
            assert int(client.memory_usage(name) or 0) < 1 << 20
            assert 0 < client.ttl(name) <= KEPT_SECONDS
            assert 0 < client.ttl(REFUSALS_INDEX) <= KEPT_SECONDS
    done = gamemetrics(place, "refused", "--limit", "500")
    assert done.returncode == 0, done.stderr
    assert all(line.isprintable() for line in done.stdout.split("\n"))


def test_holders_are_bounded_and_what_is_not_ours_is_passed_over(place: Place) -> None:
    with place.redis() as client, running_edge(place) as edge:
        client.zadd(REFUSALS_INDEX, {f'["k{number}",null]': 2e9 + number for number in range(KEPT_HOLDERS + 50)})
        client.zadd(REFUSALS_INDEX, {b"\xff\0": 3e9, "nonsense": 3e9, "[1,2]": 3e9, '["old",null]': 5})
        assert edge.send({}).status == 400
        eventually(lambda: edge.metric("refusals_bytes") > 0 and client.zcard(REFUSALS_INDEX) == KEPT_HOLDERS)
        assert client.zscore(REFUSALS_INDEX, '["old",null]') is None
        (name,) = client.keys(f"{REFUSALS_LISTS}*") or [b""]
        assert not name, "of the holders that were given up, the one that was refused something least lately"
        client.delete(REFUSALS_INDEX)
        assert edge.send({}).status == 400
        (name,) = eventually(lambda: client.keys(f"{REFUSALS_LISTS}*"))
        client.lpush(name, "nonsense", b"\xff", "{}", "[]")
        assert reasons(edge) == ["event_type: required"]
        client.delete(name, REFUSALS_INDEX)
        client.set(REFUSALS_INDEX, "of a wrong type")
        assert edge.send({}).status == 400
        eventually(lambda: edge.metric("refusals_unshared") >= 1)
        reply = edge.get(PATH)
        assert (reply.status, reply.headers["X-Source"]) == (200, "memory")


@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_an_account_with_the_least_rights_does(kind: str, place: Place, tmp_path: Path) -> None:
    with redis_server(flavour(kind), tmp_path) as server:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "gm", "reset", "on", ">gm", *NEEDED.split())
        account = {"REDIS_USERNAME": "gm", "REDIS_PASSWORD": "gm", "REDIS_DB": "0"}
        with running_edge(place, ready=True, RATE_LIMIT_RPS="1000", REDIS_PORT=str(server.port), **account) as edge:
            assert edge.send({}).status == 400
            eventually(lambda: edge.metric("refusals_bytes") > 0)
            eventually(lambda: (edge.get(PATH).headers["X-Source"], len(refused(edge))) == ("redis", 1))
            assert edge.metric("refusals_unshared") == 0
            assert edge.metric("rate_limits_local") == 0
            eventually(lambda: edge.get("/api/v1/leaderboards/g").status == 200)
        text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8").replace("\\|", "|")
        assert f"`{NEEDED.replace('resetchannels ', '')}`" in text


def test_without_redis_a_post_is_as_quick_and_this_replica_tells_what_it_knows(place: Place) -> None:
    def seconds(edge: EdgeUnderTest) -> float:
        started = time.monotonic()
        for _ in range(100):
            assert edge.send({}).status == 400
        return time.monotonic() - started

    with (
        Proxy(place.settings.redis_port) as wire,
        running_edge(place) as with_redis,
        running_edge(place, REDIS_PORT=str(wire.port)) as without,
    ):
        assert without.send({}).status == 400
        eventually(lambda: reasons(with_redis))
        wire.vanish()
        seconds(with_redis), seconds(without)
        rounds = [(seconds(with_redis), seconds(without)) for _ in range(5)]
        assert min(away for _, away in rounds) < 2 * min(there for there, _ in rounds)
        eventually(lambda: without.metric("refusals_unshared") > 0)
        reply = without.get(PATH)
        assert (reply.status, reply.headers["X-Source"]) == (200, "memory")
        assert {one["reason"] for one in reply.json()["refusals"]} == {"event_type: required"}
        assert without.metric("refusals_bytes") <= 1 << 20
        wire.reappear()
        wire.reset()
        shared = without.metric("refusals_unshared")

        def late() -> bool:
            """Again and again, for this key has had more than its share of notes and gets ten a second."""
            assert without.send({**EVENT, "event_type": "late?"}).status == 400
            return any(one["event_type"] == "late?" for one in refused(with_redis))

        eventually(late, timeout=30)
        assert without.metric("refusals_unshared") >= shared


def test_what_was_refused_last_is_there_after_the_end(place: Place) -> None:
    with running_edge(place) as edge:
        assert edge.send({**EVENT, "event_type": "last?"}).status == 400
        code, said = edge.stop()
        assert code == 0, said
    _, listed = told(place, "refused")
    assert [one["event_type"] for one in listed["refusals"]] == ["last?"]


def test_the_command_says_what_is_wrong_in_a_line(place: Place) -> None:
    done = gamemetrics(place, "refused")
    assert (done.returncode, done.stdout) == (0, "No refusals.\n")
    with running_edge(place) as edge:
        assert edge.send({**EVENT, "player_id": "a\x1b[2Jb"}).status == 400
        line = eventually(lambda: gamemetrics(place, "refused").stdout.splitlines()[0].partition("anyone")[2])
    assert line.split("  ", 1)[1].strip() == (
        r"player_id: must be 1-255 characters, no control characters"
        r"  type=player_score player=a\x1b[2Jb game=game-test-001"
    )
    away = gamemetrics(place, "refused", REDIS_PORT="1")
    assert away.returncode == 1
    assert "Valkey" in away.stderr
