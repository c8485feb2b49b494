"""Statistics and boards from PostgreSQL: slower than Redis, and complete."""

from datetime import UTC
from typing import Any, Final

from msgspec import UNSET

from pipeline.api.boards.reads import Page
from pipeline.api.database import Database
from pipeline.api.schemas import MOST_EVENT_TYPES, Entry, Statistics
from pipeline.contract.event import format_timestamp

_STATISTICS: Final = """
SELECT total_events, last_event, (SELECT count(*) FROM jsonb_object_keys(event_breakdown)),
       (SELECT jsonb_object_agg(key, value) FROM (SELECT * FROM jsonb_each(event_breakdown)
                                                  ORDER BY key COLLATE "C" LIMIT %s) AS first_types)
FROM player_statistics WHERE player_id = %s
"""
_PAGE: Final = """
SELECT rank, player_id, score FROM leaderboards
WHERE game_id = %s AND period = %s AND rank > %s AND rank <= %s ORDER BY rank
"""
_TOTAL: Final = "SELECT count(*) FROM leaderboards WHERE game_id = %s AND period = %s"
_RANK: Final = "SELECT rank FROM leaderboards WHERE game_id = %s AND period = %s AND player_id = %s"


class PostgresBoards:
    """Reads the views that answer for the guide's tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def statistics(self, player_id: str) -> Statistics | None:
        """Return a player's statistics."""
        rows = await self._database.rows(_STATISTICS, [MOST_EVENT_TYPES, player_id])
        if not rows:
            return None
        total, last, types, events = rows[0]
        moment = format_timestamp(last.astimezone(UTC)) if last else None
        return Statistics(player_id, total, dict(sorted(events.items())), moment, types - len(events) or UNSET)

    async def page(self, game_id: str, period: str, offset: int, limit: int) -> Page | None:
        """Return the places from `offset` on."""
        board = [game_id, period]
        total, rows = await self._database.transaction((_TOTAL, board), (_PAGE, [*board, offset, offset + limit]))
        return _page(total, rows)

    async def around(self, game_id: str, period: str, player_id: str, around: int) -> Page | None:
        """Return the player's place and its neighbours."""
        board = [game_id, period]
        near = _PAGE.replace("rank > %s AND rank <= %s", f"rank BETWEEN ({_RANK}) - %s AND ({_RANK}) + %s")
        place = [*board, player_id]
        total, rows = await self._database.transaction(
            (_TOTAL, board), (near, [*board, *place, around, *place, around])
        )
        return _page(total, rows) if rows else None


def _page(total: list[tuple[Any, ...]], rows: list[tuple[Any, ...]]) -> Page | None:
    if not total[0][0]:
        return None
    return Page(total[0][0], [Entry(rank, player_id, int(score)) for rank, player_id, score in rows])
