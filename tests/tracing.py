"""Asking for the trail of an event, as a client and at a prompt."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from tests.edges import EdgeUnderTest, Reply

RECEIPT = "X-Event-Position"


def path_of(player_id: str, event_id: str, **parameters: str) -> str:
    query = f"?{urlencode(parameters)}" if parameters else ""
    return f"/api/v1/events/{quote(player_id, safe='')}/{event_id}{query}"


def trail(edge: EdgeUnderTest, player_id: str, event_id: str, **parameters: str) -> Any:
    """Return an event's trail."""
    reply = edge.get(path_of(player_id, event_id, **parameters))
    assert reply.status == 200, reply.body
    return reply.json()


def place_of(reply: Reply) -> tuple[int, int]:
    """Return where the topic has the event of a POST's reply."""
    partition, _, offset = reply.headers[RECEIPT].partition(":")
    return int(partition), int(offset)


def hops(told: Mapping[str, Any]) -> dict[str, str]:
    """Return the state of each step."""
    return {hop["hop"]: hop["state"] for hop in told["hops"]}
