"""Statistics and boards from Redis."""

import contextlib
from collections.abc import Iterator
from typing import Final

from pipeline.api.boards.reads import Page
from pipeline.api.schemas import Entry, Statistics
from pipeline.api.valkey import Argument, Valkey
from pipeline.contract.boards import LAST_EVENT, TOTAL_EVENTS, board_key, counts_in, stats_key
from pipeline.errors import UnavailableError

# One call, so that a page is of one moment: the places move while they are read.
_PAGE: Final = """
local total = redis.call('ZCARD', KEYS[1])
local first, last = tonumber(ARGV[1]), tonumber(ARGV[2])
if ARGV[3] then
  local rank = redis.call('ZREVRANK', KEYS[1], ARGV[3])
  if not rank then return {0, 0, {}} end
  last = rank + last
  first = math.max(0, rank - first)
end
return {total, first, redis.call('ZREVRANGE', KEYS[1], first, last, 'WITHSCORES')}
"""


class RedisBoards:
    """Reads the keys that the consumer writes."""

    def __init__(self, valkey: Valkey) -> None:
        self._valkey = valkey
        self._page = valkey.script(_PAGE)

    async def statistics(self, player_id: str) -> Statistics | None:
        """Return a player's statistics."""
        flat: list[str] = await self._valkey.call("HGETALL", stats_key(player_id))
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        if TOTAL_EVENTS not in fields:
            return None
        with _numbers():
            events = dict(sorted(counts_in(fields).items()))
            return Statistics(player_id, int(fields[TOTAL_EVENTS]), events, fields.get(LAST_EVENT))

    async def page(self, game_id: str, period: str, offset: int, limit: int) -> Page | None:
        """Return the places from `offset` on."""
        return await self._read(board_key(game_id, period), offset, offset + limit - 1)

    async def around(self, game_id: str, period: str, player_id: str, around: int) -> Page | None:
        """Return the player's place and its neighbours."""
        return await self._read(board_key(game_id, period), around, around, player_id)

    async def _read(self, key: str, *arguments: Argument) -> Page | None:
        total, first, flat = await self._page([key], list(arguments))
        if not total:
            return None
        pairs = zip(flat[::2], flat[1::2], strict=True)
        with _numbers():
            return Page(
                total, [Entry(rank, player, int(float(score))) for rank, (player, score) in enumerate(pairs, first + 1)]
            )


@contextlib.contextmanager
def _numbers() -> Iterator[None]:
    """Take what is no number, or an infinite one, for a key that is not the consumer's: PostgreSQL knows better."""
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise UnavailableError(f"Valkey: not what the consumer writes: {error}") from error
