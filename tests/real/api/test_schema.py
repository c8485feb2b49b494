"""The OpenAPI document that the edge serves: schemathesis against it, and the replies by the types it is made of."""

import json
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from pipeline.api import schemas
from pipeline.api.console import schemas as console
from pipeline.contract.boards import ALLTIME, board_key, stats_fields, stats_key
from tests.edges import EVENT, EdgeUnderTest, Reply, running_edge
from tests.letters import write_letter
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real
T = TypeVar("T", bound=msgspec.Struct)
CONSOLE = "/api/v1/console/"
BATCH_JUDGES_EACH = """
[[operations]]
include-name = "POST /api/v1/events/batch"
checks.negative_data_rejection.enabled = false
"""


def test_schemathesis_finds_nothing(place: Place, tmp_path: Path) -> None:
    with running_edge(place) as edge:
        document = edge.get("/openapi.json").json()
        # It can't write NDJSON, and no JSON Schema says "at most 24 hours ahead", that 1.0 is no integer, or that a
        # text has no NUL. A batch with a bad event is a 200 that says so. All of these have tests of their own.
        del document["paths"]["/api/v1/events/batch"]["post"]["requestBody"]["content"]["application/x-ndjson"]
        event = document["components"]["schemas"]["Event"]
        event["properties"]["timestamp"]["enum"] = ["2024-01-15T10:35:00Z"]
        for rule in event["allOf"]:
            for score in rule["then"]["properties"]["data"]["properties"].values():
                score["enum"] = [0, 1500, -(2**53)]
        document["paths"] = {path: one for path, one in document["paths"].items() if not path.startswith(CONSOLE)}
        for path in document["paths"].values():
            for parameter in (parameters := path.get("get", {}).get("parameters", [])).copy():
                if parameter["name"] == "timestamp":
                    parameter["schema"]["enum"] = ["2024-01-15T10:35:00Z"]
                # Nor does it say where the topic ends, and what is of use only beside another parameter.
                elif parameter["name"] in {"after", "wait_ms"}:
                    parameters.remove(parameter)
        explore(edge, document, tmp_path, BATCH_JUDGES_EACH, examples=30)


def test_schemathesis_finds_nothing_in_the_console(place: Place, tmp_path: Path) -> None:
    with place.pg() as connection:
        write_letter(connection, place.topic, count=3)
    place.produce([("k", b"x")] * 3)
    with running_edge(place) as edge:
        document = edge.get("/openapi.json").json()
        paths = {path: one for path, one in document["paths"].items() if path.startswith(CONSOLE)}
        del paths[f"{CONSOLE}stream"]  # it has no end
        # No schema of parameters says that one excludes another.
        asked = paths[f"{CONSOLE}topic/{{partition}}"]["get"]["parameters"]
        paths[f"{CONSOLE}topic/{{partition}}"]["get"]["parameters"] = [
            one for one in asked if one["name"] not in {"offset", "since"}
        ]
        document["components"]["schemas"]["Asked"]["properties"]["ids"]["items"]["enum"] = [
            1,
            2,
            3,
        ]  # 1.0 is no integer
        explore(edge, {**document, "paths": paths}, tmp_path, "", examples=8)


def explore(edge: EdgeUnderTest, document: dict[str, Any], directory: Path, settings: str, *, examples: int) -> None:
    """Let schemathesis look for what the document does not say."""
    (directory / "schemathesis.toml").write_text(settings)
    (directory / "openapi.json").write_text(json.dumps(document))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", str(directory / "openapi.json")),
            *("--url", f"http://127.0.0.1:{edge.port}", "--max-examples", str(examples), "--seed", "7", "--no-color"),
            *("--phases", "examples,coverage,fuzzing", "--generation-allow-x00", "false"),
        ],
        cwd=directory, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-16000:]
    assert edge.get("/health/ready").status == 200


def read_as(reply: Reply, kind: type[T]) -> T:
    """Read a reply as its type, which must lose nothing of it."""
    found = msgspec.json.decode(reply.body, type=kind)
    assert msgspec.to_builtins(found) == reply.json()
    return found


def test_replies_are_what_their_types_say(place: Place) -> None:
    """Those of a POST are made as bytes, and refusals as dictionaries: nothing else holds them to the types."""
    with place.redis() as client:
        client.zadd(board_key("g", ALLTIME.name), {"p": 1, "q": 2})
        client.hset(stats_key("p"), mapping=stats_fields(1, {"login": 1}, datetime.now(UTC)))
    with running_edge(place) as edge:
        assert read_as(edge.send(EVENT), schemas.Accepted)
        assert read_as(edge.post("/api/v1/events/batch", [EVENT, {}]), schemas.BatchResult)
        assert read_as(edge.post("/api/v1/events/batch", [{}]), schemas.BatchResult)
        assert read_as(edge.send({}), schemas.Error)
        assert read_as(edge.get("/api/v1/players/nobody/stats"), schemas.Error)
        assert read_as(edge.get("/api/v1/players/p/stats"), schemas.Statistics)
        assert read_as(edge.get("/api/v1/leaderboards/g"), schemas.Board)
        assert read_as(edge.get("/api/v1/leaderboards/nothing"), schemas.Board)
        assert read_as(edge.get("/api/v1/leaderboards/g/players/p"), schemas.Place)
        assert read_as(edge.get(f"{CONSOLE}overview"), console.Overview)
        assert read_as(edge.get(f"{CONSOLE}history"), console.History)
        assert read_as(edge.get(f"/api/v1/events/p/{uuid.uuid4()}"), schemas.Trail)
        assert read_as(edge.get("/api/v1/leaderboards/g?after=0:1000000&wait_ms=0"), schemas.Error)
        for path in ("/health/live", "/health/ready"):
            assert read_as(edge.get(path), schemas.Status)
        place.stack.kafka.pause()
        try:
            with ThreadPoolExecutor(2) as pool:
                posts = pool.submit(edge.send, EVENT), pool.submit(edge.post, "/api/v1/events/batch", [EVENT, {}])
            lost = read_as(posts[0].result(), schemas.Error)
            assert lost.event_id
            batch = read_as(posts[1].result(), schemas.BatchResult)
            assert batch.unconfirmed
            eventually(lambda: edge.get("/health/ready").status == 503)
            assert read_as(edge.get("/health/ready"), schemas.Status)
        finally:
            place.stack.kafka.resume()


@pytest.mark.parametrize("score", [2**63, 2**64, -(2**70)])
def test_a_sum_that_no_64_bits_hold_can_be_read(place: Place, score: int) -> None:
    with place.redis() as client, place.pg() as connection:
        client.zadd(board_key("redis", ALLTIME.name), {"p": score})
        connection.execute("INSERT INTO leaderboard_settled VALUES ('postgresql', 'p', %s, now())", (score,))
    with running_edge(place) as edge:
        for store in ("redis", "postgresql"):
            page = edge.get(f"/api/v1/leaderboards/{store}")
            assert (page.status, page.headers["X-Source"]) == (200, store)
            assert page.json()["entries"] == [{"rank": 1, "player_id": "p", "score": score}]
            assert edge.get(f"/api/v1/leaderboards/{store}/players/p").json()["score"] == score
