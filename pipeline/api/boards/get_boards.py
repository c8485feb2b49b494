"""GET: a player's statistics, a page of a board, a player's place on it."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import Any, Final

import orjson

from pipeline.api.access.keyring import Caller
from pipeline.api.boards.reads import Entry
from pipeline.api.context import Context
from pipeline.api.http.connection import Connection
from pipeline.api.http.heads import Head
from pipeline.api.http.replies import JSON, Refusal, encode
from pipeline.contract.event import ID_PATTERN
from pipeline.errors import UnavailableError

MAX_LIMIT: Final = 1000
MAX_OFFSET: Final = 10_000_000
MAX_AROUND: Final = 100
_identifier = re.compile(ID_PATTERN.replace("$", r"\Z"))
_day = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)


async def get_statistics(context: Context, connection: Connection, head: Head, _caller: Caller) -> None:
    """Answer GET /api/v1/players/{player_id}/stats."""
    player_id = read_segment(head, 3, "player_id")
    _parameters(head)
    try:
        found, source = await context.boards.statistics(player_id)
    except UnavailableError as error:
        raise _away(error) from None
    if found is None:
        raise Refusal(404, "player_id: no event of this player has been counted yet")
    content = {
        "player_id": player_id,
        "total_events": found.total_events,
        "events": found.events,
        "last_event": found.last_event,
    }
    connection.reply(*_tagged(head, content, source))


async def get_board(context: Context, connection: Connection, head: Head, _caller: Caller) -> None:
    """Answer GET /api/v1/leaderboards/{game_id}."""
    game_id = read_segment(head, 3, "game_id")
    asked = _parameters(head, "period", "date", "limit", "offset")
    limit = _integer(asked, "limit", 10, 1, MAX_LIMIT)
    offset = _integer(asked, "offset", 0, 0, MAX_OFFSET)
    period = _period(asked)
    try:
        page, source = await context.boards.page(game_id, period, offset, limit)
    except UnavailableError as error:
        raise _away(error) from None
    total = page.total if page is not None else 0
    content = {
        "game_id": game_id,
        "period": period,
        "total": total,
        "entries": [_entry(entry) for entry in page.entries] if page is not None else [],
        "next_offset": offset + limit if offset + limit < total else None,
    }
    connection.reply(*_tagged(head, content, source))


async def get_place(context: Context, connection: Connection, head: Head, _caller: Caller) -> None:
    """Answer GET /api/v1/leaderboards/{game_id}/players/{player_id}."""
    game_id = read_segment(head, 3, "game_id")
    player_id = read_segment(head, 5, "player_id")
    asked = _parameters(head, "period", "date", "around")
    around = _integer(asked, "around", 5, 0, MAX_AROUND)
    period = _period(asked)
    try:
        page, source = await context.boards.around(game_id, period, player_id, around)
    except UnavailableError as error:
        raise _away(error) from None
    place = next((entry for entry in page.entries if entry.player_id == player_id), None) if page is not None else None
    if page is None or place is None:
        raise Refusal(404, "player_id: this player is not on this board")
    content = {
        "game_id": game_id,
        "period": period,
        "player_id": player_id,
        "rank": place.rank,
        "score": place.score,
        "total": page.total,
        "neighbours": [_entry(entry) for entry in page.entries],
    }
    connection.reply(*_tagged(head, content, source))


def _entry(entry: Entry) -> dict[str, Any]:
    return {"rank": entry.rank, "player_id": entry.player_id, "score": entry.score}


def read_segment(head: Head, index: int, name: str) -> str:
    """Return the path's segment of an index, an identifier. Raises Refusal."""
    try:
        value = head.segments()[index]
    except UnicodeDecodeError:
        raise Refusal(400, f"{name}: must be UTF-8") from None
    if not _identifier.match(value):
        raise Refusal(400, f"{name}: must be 1-255 characters, no control characters")
    return value


def _parameters(head: Head, *known: str) -> dict[str, str]:
    """Return the query's parameters. Raises Refusal for one that is unknown or stands there twice."""
    try:
        pairs = head.parameters()
    except ValueError:
        raise Refusal(400, "query: must be UTF-8, and at most 20 parameters") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise Refusal(400, f"{name[:100]}: unknown parameter; known are {', '.join(known) or 'none'}")
        if name in found:
            raise Refusal(400, f"{name}: stands there twice")
        found[name] = value
    return found


def _integer(asked: Mapping[str, str], name: str, missing: int, least: int, most: int) -> int:
    text = asked.get(name)
    if text is None:
        return missing
    if not text.isascii() or not text.isdigit() or len(text) > len(str(most)) or not least <= int(text) <= most:
        raise Refusal(400, f"{name}: must be a whole number from {least} to {most}")
    return int(text)


def _period(asked: Mapping[str, str]) -> str:
    """Return the board's name: the period with the day, or the ISO week that the day is in."""
    period = asked.get("period", "alltime")
    if period not in {"alltime", "daily", "weekly"}:
        raise Refusal(400, "period: must be alltime, daily or weekly")
    text = asked.get("date")
    day = _date(text) if text is not None else datetime.now(UTC).date()
    if period == "alltime":
        return period
    if period == "daily":
        return f"daily:{day.isoformat()}"
    year, week, _ = day.isocalendar()
    return f"weekly:{year:04d}-W{week:02d}"


def _date(text: str) -> date:
    try:
        if _day.match(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise Refusal(400, "date: must be a day such as 2026-01-15")


def _away(error: UnavailableError) -> Refusal:
    return Refusal(503, f"neither Redis nor PostgreSQL answers: {error}", [("Retry-After", "2")])


def _tagged(head: Head, content: dict[str, Any], source: str) -> tuple[int, bytes]:
    """Answer with an ETag, and 304 to a client that already has this."""
    body = orjson.dumps(content) + b"\n"
    tag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
    headers = [("ETag", tag), ("Cache-Control", "private, max-age=1"), ("X-Source", source)]
    if head.headers.get(b"if-none-match", b"").decode("latin-1").strip() == tag:
        return 304, encode(304, b"", JSON, headers)
    return 200, encode(200, body, JSON, headers)
