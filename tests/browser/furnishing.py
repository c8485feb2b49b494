"""What is in the pipeline when pages are looked at: games, past days, copies, dead letters, names of every alphabet."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pipeline.contract.event import is_identifier
from tests.browser.site import Site
from tests.consuming import caught_up
from tests.texts import AWKWARD

GAME: Final = "game-test-001"
HOSTILE: Final = "<img src=x onerror=\"document.title='taken'\">"
SCRIPT: Final = "</script><script>document.title='taken'</script>"
NAMES: Final = [
    HOSTILE,
    SCRIPT,
    "javascript:document.title='taken'",
    "${document.title='taken'}",
    "Ærøskøbing ő",
    "Ольга Ёжикова",
    "Ωμέγα",
    "中文玩家",
    "プレイヤー",
    "משחק",
    "لاعب",
    "ผู้เล่น",
    "खिलाड़ी",
    "a/b?c=d&e#f%2e%25 +g",
    "  ",
    "x" * 255,
    *(text for text in AWKWARD if is_identifier(text)),
]
"""Names that a page must show as they are, ask for as they are, and be neither taken over nor pushed apart by."""


def event(player: str, score: int, **changes: Any) -> dict[str, Any]:
    """An event as a client sends it, with its identity."""
    return {
        "event_type": "player_score",
        "player_id": player,
        "game_id": GAME,
        "event_id": str(uuid.uuid4()),
        "timestamp": ago(timedelta()),
        "data": {"score": score},
        **changes,
    }


def ago(span: timedelta) -> str:
    return (datetime.now(UTC) - span).isoformat()


def post(site: Site, *events: dict[str, Any]) -> None:
    """Send events, and wait until they are counted and shown."""
    reply = site.edge.post("/api/v1/events/batch", list(events))
    assert reply.json()["accepted"] == len(events), reply.body
    caught_up(site.place)


def furnish(site: Site) -> None:
    """Have something of everything."""
    copy = event("player-test-001", 1_500)
    days = [event("player-test-001", 100 + n, timestamp=ago(timedelta(days=n))) for n in (1, 2, 8, 15)]
    crowd = [event(f"player-{n:03}", 10 * n) for n in range(1, 60)]
    named = [event(name, 2_000 + n) for n, name in enumerate(NAMES)]
    other = [event("player-test-001", 7, game_id=name) for name in ("game-2", HOSTILE)]
    quests = [event("player-test-001", 0, event_type="quest_completed", data={"reward_points": n}) for n in range(3)]
    site.place.produce(
        [
            ("player-bad", b"not JSON"),
            ("player-bad", b"\xff\xfe\x00"),
            (HOSTILE, json.dumps({**event(HOSTILE, 1), "game_id": None}).encode()),
            ("player-bad", None),
        ]
    )
    assert site.edge.send({"event_type": "player_score", "game_id": GAME}).status == 400
    post(site, copy, *days, *crowd, *named, *other, *quests)
    post(site, copy)
