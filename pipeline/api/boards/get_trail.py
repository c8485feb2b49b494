"""GET /api/v1/events/{player_id}/{event_id}: what became of one event."""

import uuid
from datetime import datetime

import msgspec

from pipeline.api.access.keyring import Caller
from pipeline.api.access.rights import hide_other_games
from pipeline.api.boards.receipts import AFTER, WAIT, await_receipts
from pipeline.api.context import Context
from pipeline.api.http.connection import Connection
from pipeline.api.http.heads import Head
from pipeline.api.http.replies import JSON, Refusal, encode
from pipeline.api.parameters import parameters, read_segment
from pipeline.contract.event import EARLIEST, LATEST, UUID_RULE, is_uuid, parse_timestamp
from pipeline.errors import UnavailableError
from pipeline.trail.found import Asked


async def get_trail(context: Context, connection: Connection, head: Head, caller: Caller) -> None:
    """Answer GET /api/v1/events/{player_id}/{event_id}: 200 whatever its fate is, unknown too."""
    player_id = read_segment(head, 3, "player_id")
    event_id = _event_id(read_segment(head, 4, "event_id"))
    given = parameters(head, "timestamp", AFTER, WAIT.name)
    timestamp = _timestamp(given.get("timestamp"))
    asked = Asked(player_id, event_id, timestamp, await await_receipts(context, given, "every"))
    try:
        traced = await context.tracer.trace(asked)
    except UnavailableError as error:
        raise Refusal(503, f"what became of the event cannot be said now: {error}", [("Retry-After", "2")]) from None
    hide_other_games(caller, traced.game_id)
    body = msgspec.json.encode(traced.trail) + b"\n"
    connection.reply(200, encode(200, body, JSON, [("Cache-Control", "private, no-cache")]))


def _event_id(text: str) -> uuid.UUID:
    if not is_uuid(text):
        raise Refusal(400, f"event_id: must be {UUID_RULE}")
    return uuid.UUID(text)


def _timestamp(text: str | None) -> datetime | None:
    """Read the event's time. Raises Refusal for what no event's can be."""
    if text is None:
        return None
    try:
        moment = parse_timestamp(text)
    except (ValueError, OverflowError):
        raise Refusal(400, "timestamp: must be an RFC 3339 time with offset, such as 2026-01-15T10:30:00Z") from None
    if not EARLIEST <= moment <= LATEST:
        raise Refusal(400, f"timestamp: no event is of before {EARLIEST.year} or after {LATEST.year}")
    return moment
