"""GET: the games that have boards, the days of one, a player with the newest events. All by an index, within limits."""

from collections.abc import Sequence
from datetime import date
from typing import Any, Final, cast

import msgspec

from pipeline.api.access.keyring import Caller
from pipeline.api.console.answers import answer, asking, written
from pipeline.api.console.schemas import Counted, Dated, Days, Games, Player
from pipeline.api.context import Context
from pipeline.api.http.connection import Connection
from pipeline.api.http.heads import Head
from pipeline.api.parameters import Whole, identifier, parameters, read_segment, whole
from pipeline.contract.boards import PERIODS

GAMES: Final = Whole("limit", 100, 1, 500, "How many games")
DAYS: Final = Whole("limit", 31, 1, 366, "How many days")
EVENTS: Final = Whole("limit", 50, 1, 200, "How many events")
_MOST_DATA_BYTES: Final = 1 << 20
"""Of the events of one page; those that follow would be left out. One is at most 64 KiB."""


async def get_games(context: Context, connection: Connection, head: Head, _caller: Caller) -> None:
    """Answer GET /api/v1/console/games."""
    asked = parameters(head, GAMES.name, "after")
    limit, after = whole(asked, GAMES), identifier(asked, "after") or ""
    with asking():
        rows = await context.console.database.rows(_GAMES, [after, limit + 1])
    games = [game for (game,) in rows]
    answer(connection, Games(games[:limit], games[limit - 1] if len(games) > limit else None))


async def get_days(context: Context, connection: Connection, head: Head, _caller: Caller) -> None:
    """Answer GET /api/v1/console/games/{game_id}/days."""
    game_id = read_segment(head, 4, "game_id")
    limit = whole(parameters(head, DAYS.name), DAYS)
    with asking():
        rows = await context.console.database.rows(_DAYS, [game_id, game_id, limit])
    answer(connection, days_of(game_id, [day for (day,) in rows]))


def days_of(game_id: str, days: Sequence[date]) -> Days:
    """Tell the days of a game's scores, and their boards in the same order."""
    found = dict.fromkeys(
        (period, period.first_day(day)) for period in PERIODS.values() if period.dated for day in days
    )
    boards = [
        Dated(period.name, period.stamp_of(first), first.isoformat(), period.last_day(first).isoformat())
        for period, first in found
    ]
    return Days(game_id, [day.isoformat() for day in days], boards)


async def get_player(context: Context, connection: Connection, head: Head, _caller: Caller) -> None:
    """Answer GET /api/v1/console/players/{player_id}."""
    player_id = read_segment(head, 4, "player_id")
    limit = whole(parameters(head, EVENTS.name), EVENTS)
    with asking():
        statistics, _ = await context.boards.statistics(player_id)
        rows = await context.console.database.rows(_EVENTS, [player_id, limit])
    events: list[Counted] = []
    size = 0
    for event_id, event_type, game_id, timestamp, ingested_at, counted_at, data in rows:
        raw = data.encode()
        size += len(raw)
        if events and size > _MOST_DATA_BYTES:
            break
        times = written(timestamp), written(ingested_at), written(counted_at)
        kept = cast("dict[str, Any]", msgspec.Raw(raw))  # its numbers as they are: JSON has more than Python's floats
        events.append(Counted(str(event_id), event_type, game_id, *times, kept))
    games = list(dict.fromkeys(one.game_id for one in events))
    answer(connection, Player(player_id, statistics, events, games))


# A step for each game, or day, that is found, through the keys of the tables: a scan that skips. DISTINCT would read
# every score of every player.
_NEXT_GAME: Final = """
LEAST((SELECT game_id FROM leaderboard_daily WHERE game_id > {after} ORDER BY game_id LIMIT 1),
      (SELECT game_id FROM leaderboard_settled WHERE game_id > {after} ORDER BY game_id LIMIT 1))::text
"""
_GAMES: Final = f"""
WITH RECURSIVE asked(after) AS (SELECT %s::text COLLATE "C"), found(game_id) AS (
    SELECT {_NEXT_GAME.format(after="asked.after")} FROM asked
    UNION ALL
    SELECT {_NEXT_GAME.format(after="found.game_id")} FROM found WHERE found.game_id IS NOT NULL)
SELECT game_id FROM found WHERE game_id IS NOT NULL LIMIT %s
"""  # noqa: S608 - constants of ours
_DAYS: Final = """
WITH RECURSIVE found(day) AS (
    (SELECT day FROM leaderboard_daily WHERE game_id = %s ORDER BY day DESC LIMIT 1)
    UNION ALL
    SELECT (SELECT day FROM leaderboard_daily AS older WHERE older.game_id = %s AND older.day < found.day
            ORDER BY older.day DESC LIMIT 1)
    FROM found WHERE found.day IS NOT NULL)
SELECT day FROM found WHERE day IS NOT NULL LIMIT %s
"""
_EVENTS: Final = """
SELECT event_id, event_type, game_id, event_timestamp, ingested_at, created_at, data::text FROM events
WHERE player_id = %s ORDER BY event_timestamp DESC, event_id DESC LIMIT %s
"""
