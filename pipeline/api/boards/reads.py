"""Statistics and boards to read: what is asked, what is answered, and Redis with PostgreSQL behind it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from pipeline.api.schemas import Entry, Statistics
from pipeline.errors import UnavailableError

_Found = TypeVar("_Found")
_log = structlog.get_logger("reads")


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a board, and how many players are on it in all."""

    total: int
    entries: list[Entry]


class Store(Protocol):
    """Somewhere to read. Each call returns None when the store has nothing, and raises UnavailableError."""

    async def statistics(self, player_id: str) -> Statistics | None:
        """Return a player's statistics."""

    async def page(self, game_id: str, period: str, offset: int, limit: int) -> Page | None:
        """Return the places from `offset` on; both stores break ties by player_id, descending in byte order."""

    async def around(self, game_id: str, period: str, player_id: str, around: int) -> Page | None:
        """Return the player's place with up to `around` places on either side, or None if it is not on the board."""


class Boards:
    """Asks Redis first, and PostgreSQL when Redis is away or does not have it: the key expired, or never was."""

    def __init__(self, first: Store, behind: Store) -> None:
        self._first = first
        self._behind = behind
        self.fell_back = 0

    async def statistics(self, player_id: str) -> tuple[Statistics | None, str]:
        """Return a player's statistics and which store they came from. Raises UnavailableError."""
        return await self._ask(lambda store: store.statistics(player_id))

    async def page(self, game_id: str, period: str, offset: int, limit: int) -> tuple[Page | None, str]:
        """Return a page of a board and which store it came from. Raises UnavailableError."""
        return await self._ask(lambda store: store.page(game_id, period, offset, limit))

    async def around(self, game_id: str, period: str, player_id: str, around: int) -> tuple[Page | None, str]:
        """Return a player's neighbourhood and which store it came from. Raises UnavailableError."""
        return await self._ask(lambda store: store.around(game_id, period, player_id, around))

    async def _ask(self, question: Callable[[Store], Awaitable[_Found | None]]) -> tuple[_Found | None, str]:
        try:
            found = await question(self._first)
        except UnavailableError as error:
            _log.debug("reading from PostgreSQL", reason=str(error))
            found = None
        if found is not None:
            return found, "redis"
        self.fell_back += 1
        return await question(self._behind), "postgresql"
