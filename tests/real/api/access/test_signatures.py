"""Signed requests on a running edge, by the docs' own examples."""

import gzip
import hashlib
import hmac
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.edges import EVENT, EdgeUnderTest, keys
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real
DOCS = (Path(__file__).resolve().parents[4] / "docs" / "api.md").read_text(encoding="utf-8")
EVENTS, BATCH = "/api/v1/events", "/api/v1/events/batch"


def make_signer(place: Place, edge: EdgeUnderTest, *options: str) -> tuple[str, str]:
    """Make a key that signs, wait until it is in force, and return its id and secret."""
    made = json.loads(keys(place, "create", "game", "--signing", *options, "--json"))
    identity, secret = str(made["id"]), str(made["key"])
    assert secret.split("_")[:2] == ["gms", identity]
    eventually(lambda: edge.send(EVENT).status == 401, timeout=5)
    return identity, secret


def signed(identity: str, secret: str, body: bytes, off: int = 0) -> dict[str, str]:
    now = int(time.time()) + off
    mac = hmac.new(secret.encode(), b"%d." % now + body, hashlib.sha256).hexdigest()
    return {"Authorization": f"HMAC-SHA256 key={identity}, t={now}, v1={mac}"}


def example(language: str) -> str:
    """The example of signing in docs/api.md."""
    blocks = re.findall(rf"```{language}\n(.*?)```", DOCS, re.DOTALL)
    (found,) = [block for block in blocks if re.search(r"hmac\.new|-hmac", block)]
    return str(found)


def test_a_signature_lets_in_its_body_only(place: Place, edge: EdgeUnderTest) -> None:
    identity, secret = make_signer(place, edge, "--game", "game-test-001")
    body = json.dumps(EVENT).encode()
    headers = signed(identity, secret, body)
    assert edge.post(EVENTS, body, headers).status == 200
    assert edge.post(EVENTS, body, headers).status == 200  # a retry, as it was
    forged = edge.post(EVENTS, body.replace(b"1500", b"9999"), headers)
    assert (forged.status, forged.headers["WWW-Authenticate"].split()[0]) == (401, "HMAC-SHA256")
    for off, word in ((-400, "behind"), (400, "ahead")):
        late = edge.post(EVENTS, body, signed(identity, secret, body, off))
        assert (late.status, word in late.json()["error"]) == (401, True)
    other = json.dumps({**EVENT, "game_id": "other"}).encode()
    assert edge.post(EVENTS, other, signed(identity, secret, other)).status == 403
    assert edge.post(EVENTS, body, {"Authorization": f"Bearer {secret}"}).status == 401
    assert edge.post(EVENTS, body, {"X-API-Key": secret}).status == 401
    assert edge.get("/api/v1/leaderboards/game-test-001", signed(identity, secret, b"")).status == 403
    assert edge.metric("requests_wrong_key_total") >= 5
    keys(place, "revoke", "game")
    eventually(lambda: edge.post(EVENTS, body, signed(identity, secret, body)).status == 401, timeout=5)
    _, logged = edge.stop()
    assert "not of this body" in logged
    assert secret not in logged


def test_what_is_signed_is_the_body_as_sent(place: Place, edge: EdgeUnderTest) -> None:
    """Compressed, chunked, or larger than arrives at once."""
    identity, secret = make_signer(place, edge)
    events = json.dumps([{**EVENT, "data": {"score": 1, "x": "y" * 1000}}] * 2000).encode()
    packed = gzip.compress(events)
    zipped = {"Content-Encoding": "gzip"}
    for body, more in ((events, {}), (packed, zipped)):
        sent = edge.post(BATCH, body, {**signed(identity, secret, body), **more})
        assert (sent.status, sent.json()["accepted"]) == (200, 2000)
    assert edge.post(BATCH, packed, {**signed(identity, secret, events), **zipped}).status == 401
    body = json.dumps(EVENT).encode()
    lines = "".join(f"{name}: {value}\r\n" for name, value in signed(identity, secret, body).items())
    head = f"POST {EVENTS} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\n{lines}"
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    assert edge.say(head.encode() + chunked).startswith(b"HTTP/1.1 200 ")


def test_a_large_body_is_refused_before_it_is_read(place: Place, edge: EdgeUnderTest) -> None:
    identity, secret = make_signer(place, edge)
    for headers in (signed("00000000", secret, b""), signed(identity, secret, b"", -400)):
        wire = (
            f"POST {BATCH} HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n"
            f"Authorization: {headers['Authorization']}\r\n\r\n"
        )
        assert edge.say(wire.encode()).startswith(b"HTTP/1.1 401 ")


def test_tries_at_a_signature_are_limited(place: Place, edge: EdgeUnderTest) -> None:
    identity, secret = make_signer(place, edge)
    body = json.dumps(EVENT).encode()
    wrong = signed(identity, secret + "x", body)
    statuses = [edge.post(EVENTS, body, wrong).status for _ in range(40)]
    assert statuses == [401] * statuses.count(401) + [429] * statuses.count(429)
    assert 10 <= statuses.count(429) <= 11
    assert edge.metric("requests_rate_limited_total") == statuses.count(429)
    assert edge.metric("requests_wrong_key_total") == 40
    assert edge.post(EVENTS, body, signed(identity, secret, body)).status == 200


def test_the_secret_is_in_its_table_alone(place: Place, edge: EdgeUnderTest) -> None:
    _, secret = make_signer(place, edge)
    bearer = str(json.loads(keys(place, "create", "server", "--json"))["key"])
    with place.pg() as connection:
        rows: dict[str, bytes | None] = dict(connection.execute("SELECT name, signing_secret FROM api_keys").fetchall())
    assert rows == {"game": secret.encode(), "server": None}
    assert secret not in keys(place, "list") + keys(place, "list", "--json")
    assert "write, signs" in keys(place, "list")
    assert [one["signing"] for one in json.loads(keys(place, "list", "--json"))] == [True, False]
    assert bearer.startswith("gm_")
    keys(place, "create", "both", "--signing", "--scope", "read", code=2)


def test_the_examples_of_the_docs(place: Place, edge: EdgeUnderTest) -> None:
    _, secret = make_signer(place, edge, "--game", "game-test-001")
    url = f"http://127.0.0.1:{edge.port}"
    curl = subprocess.run(
        ["bash", "-euc", example("sh")],
        env={**place.environment(), "SECRET": secret, "URL": url},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert json.loads(curl.stdout)["status"] == "success", curl.stdout
    python: dict[str, Any] = {}
    exec(example("python"), python)
    events = [python["event"]("p1", "game-test-001", "player_score", score=number) for number in range(3)]
    assert python["send_signed"](events, secret, url)["accepted"] == 3
