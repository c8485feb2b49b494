"""GET: a player's statistics, a page of a board, a player's place on it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final

import msgspec

from pipeline.api.access.keyring import Caller
from pipeline.api.boards.receipts import AFTER, WAIT, await_receipts
from pipeline.api.context import Context
from pipeline.api.http.connection import Connection
from pipeline.api.http.heads import Head
from pipeline.api.http.replies import JSON, Refusal, encode
from pipeline.api.parameters import Whole, day, parameters, read_segment, whole
from pipeline.api.schemas import Board, Place
from pipeline.contract.boards import ALLTIME, PERIODS
from pipeline.errors import UnavailableError

LIMIT: Final = Whole("limit", 10, 1, 1000, "How many places")
OFFSET: Final = Whole("offset", 0, 0, 10_000_000, "How many places to pass over")
AROUND: Final = Whole("around", 5, 0, 100, "How many neighbours on either side")
_WAITING: Final = (AFTER, WAIT.name)


async def get_statistics(context: Context, connection: Connection, head: Head, _caller: Caller) -> None:
    """Answer GET /api/v1/players/{player_id}/stats."""
    player_id = read_segment(head, 3, "player_id")
    await await_receipts(context, parameters(head, *_WAITING), "stats")
    try:
        found, source = await context.boards.statistics(player_id)
    except UnavailableError as error:
        raise _away(error) from None
    if found is None:
        raise Refusal(404, "player_id: no event of this player has been counted yet")
    connection.reply(*_tagged(head, found, source))


async def get_board(context: Context, connection: Connection, head: Head, _caller: Caller) -> None:
    """Answer GET /api/v1/leaderboards/{game_id}."""
    game_id = read_segment(head, 3, "game_id")
    asked = parameters(head, "period", "date", LIMIT.name, OFFSET.name, *_WAITING)
    limit = whole(asked, LIMIT)
    offset = whole(asked, OFFSET)
    period = _period(asked)
    await await_receipts(context, asked, "leaderboard")
    try:
        page, source = await context.boards.page(game_id, period, offset, limit)
    except UnavailableError as error:
        raise _away(error) from None
    total = page.total if page is not None else 0
    content = Board(
        game_id=game_id,
        period=period,
        total=total,
        entries=page.entries if page is not None else [],
        next_offset=offset + limit if offset + limit < total else None,
    )
    connection.reply(*_tagged(head, content, source))


async def get_place(context: Context, connection: Connection, head: Head, _caller: Caller) -> None:
    """Answer GET /api/v1/leaderboards/{game_id}/players/{player_id}."""
    game_id = read_segment(head, 3, "game_id")
    player_id = read_segment(head, 5, "player_id")
    asked = parameters(head, "period", "date", AROUND.name, *_WAITING)
    around = whole(asked, AROUND)
    period = _period(asked)
    await await_receipts(context, asked, "leaderboard")
    try:
        page, source = await context.boards.around(game_id, period, player_id, around)
    except UnavailableError as error:
        raise _away(error) from None
    place = next((entry for entry in page.entries if entry.player_id == player_id), None) if page is not None else None
    if page is None or place is None:
        raise Refusal(404, "player_id: this player is not on this board")
    content = Place(
        game_id=game_id,
        period=period,
        player_id=player_id,
        rank=place.rank,
        score=place.score,
        total=page.total,
        neighbours=page.entries,
    )
    connection.reply(*_tagged(head, content, source))


def _period(asked: Mapping[str, str]) -> str:
    """Return the board's name: the period with the day, or the ISO week that the day is in."""
    period = PERIODS.get(asked.get("period", ALLTIME.name))
    if period is None:
        *others, last = PERIODS
        raise Refusal(400, f"period: must be {', '.join(others)} or {last}")
    text = asked.get("date")
    return period.label(day(text) if text is not None else datetime.now(UTC).date())


def _away(error: UnavailableError) -> Refusal:
    return Refusal(503, f"neither Redis nor PostgreSQL answers: {error}", [("Retry-After", "2")])


def _tagged(head: Head, content: msgspec.Struct, source: str) -> tuple[int, bytes]:
    """Answer with an ETag, and 304 to a client that already has this."""
    body = msgspec.json.encode(content) + b"\n"  # orjson refuses a sum beyond 2^64
    tag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
    headers = [("ETag", tag), ("Cache-Control", "private, max-age=1"), ("X-Source", source)]
    if head.headers.get(b"if-none-match", b"").decode("latin-1").strip() == tag:
        return 304, encode(304, b"", JSON, headers)
    return 200, encode(200, body, JSON, headers)
