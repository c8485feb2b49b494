"""What the edge accepts the consumer counts, whatever text is in it; posted and read back."""

import itertools
import json
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.contract.event import Origin, load_scoring, parse_edge
from pipeline.errors import EventError
from pipeline.verify.verify import verify
from tests.consuming import consume_all
from tests.edges import EdgeUnderTest
from tests.events import now
from tests.place import Place
from tests.texts import AWKWARD, names, objects, spelled

pytestmark = pytest.mark.real

SCORING = load_scoring()
KINDS = st.sampled_from([*SCORING, "login", "match:finished"])
SCORES = st.sampled_from([rule.field for rule in SCORING.values()])
_numbers = itertools.count(1)


def exact(text: str | bytes) -> Any:
    """Read JSON with every number as it was written, so that 1.50 is 1.5 and 2^53 + 1 is not 2^53."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


@st.composite
def bodies(draw: st.DrawFn) -> str:
    """Draw an event as some JSON writer spells it."""
    fields = [
        ("event_type", json.dumps(draw(KINDS))),
        ("player_id", draw(spelled(names))),
        ("game_id", draw(spelled(names))),
        ("event_id", json.dumps(str(uuid.UUID(int=next(_numbers))))),
        ("timestamp", json.dumps(now())),
        ("data", draw(objects(SCORES))),
    ]
    return "{" + ",".join(f'"{name}":{text}' for name, text in draw(st.permutations(fields))) + "}"


def valid(body: str) -> bool:
    try:
        parse_edge(body.encode(), Origin(uuid.UUID(int=0), datetime.now(UTC)), SCORING)
    except EventError:
        return False
    return True


def assert_read_back(place: Place, edge: EdgeUnderTest, sent: list[str]) -> None:
    """Each event is a row with the values it was sent with, and the API answers for its player and its board."""
    for body in sent:
        event = exact(body)
        with place.pg() as connection:
            row = connection.execute(
                "SELECT event_type, player_id, game_id, data::text FROM events WHERE event_id = %s",
                (event["event_id"],),
            ).fetchone()
        assert row is not None, body
        assert row[:3] == (event["event_type"], event["player_id"], event["game_id"])
        assert exact(row[3]) == event["data"]
        player, game = quote(event["player_id"], safe=""), quote(event["game_id"], safe="")
        stats = edge.get(f"/api/v1/players/{player}/stats").json()
        assert stats["player_id"] == event["player_id"]
        assert stats["events"][event["event_type"]] >= 1
        if event["event_type"] in SCORING:
            path = f"/api/v1/leaderboards/{game}/players/{player}"
            assert edge.get(path).json()["player_id"] == event["player_id"]


def test_whatever_the_edge_accepts_is_counted_and_read_back(place: Place, edge: EdgeUnderTest) -> None:
    posted: list[str] = []

    @given(st.lists(bodies(), min_size=1, max_size=12))
    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def post(drawn: list[str]) -> None:
        reply = edge.post("/api/v1/events/batch", f"[{','.join(drawn)}]".encode()).json()
        refused = {one["index"] for one in reply["rejected"]}
        assert [number not in refused for number in range(len(drawn))] == [valid(body) for body in drawn]
        posted.extend(body for number, body in enumerate(drawn) if number not in refused)

    post()
    assert len(posted) > 40
    consume_all(place)
    assert_read_back(place, edge, posted)
    report = verify(place.settings, lambda _what, _done, _total: None)
    assert report.differences.kept == []
    assert report.compared["events"] == len(posted)


def test_every_awkward_text_beside_a_score_is_counted(place: Place, edge: EdgeUnderTest) -> None:
    """Raw and escaped, at every place of the forty bytes behind a score."""
    sent: list[str] = []
    for text, places, ascii_only in itertools.product(AWKWARD, range(0, 48, 3), (False, True)):
        event = {
            "event_type": "player_score",
            "player_id": f"player {len(sent) % 50}",
            "game_id": "g\u00e4me",
            "event_id": str(uuid.uuid4()),
            "timestamp": now(),
            "data": {"score": 1, "name": "x" * places + text},
        }
        sent.append(json.dumps(event, ensure_ascii=ascii_only, separators=(",", ":")))
    reply = edge.post("/api/v1/events/batch", "\n".join(sent).encode(), {"Content-Type": "application/x-ndjson"}).json()
    assert (reply["accepted"], reply["rejected"]) == (len(sent), [])
    consume_all(place)
    assert_read_back(place, edge, sent[::7])
    with place.pg() as connection:
        total = connection.execute("SELECT sum(score) FROM leaderboards WHERE period = 'alltime'").fetchone()
    assert total == (len(sent),)
    assert verify(place.settings, lambda _what, _done, _total: None).differences.kept == []
