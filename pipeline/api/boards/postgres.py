"""Statistics and boards from PostgreSQL: slower than Redis, and complete."""

from datetime import UTC
from typing import Any, Final

from pipeline.api.boards.reads import Page
from pipeline.api.database import Database
from pipeline.api.schemas import Entry, Statistics
from pipeline.contract.event import format_timestamp

_STATISTICS: Final = """
SELECT total_events, event_breakdown, last_event FROM player_statistics WHERE player_id = %s
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
        rows = await self._database.rows(_STATISTICS, [player_id])
        if not rows:
            return None
        total, events, last = rows[0]
        moment = format_timestamp(last.astimezone(UTC)) if last else None
        return Statistics(player_id, total, dict(sorted(events.items())), moment)

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
