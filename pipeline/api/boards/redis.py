"""Statistics and boards from Redis."""

from typing import Final, cast

from redis.asyncio import Redis

from pipeline.api.boards.reads import Entry, Page, Statistics
from pipeline.api.valkey import answering
from pipeline.contract.event import board_key, stats_key

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

    def __init__(self, valkey: Redis) -> None:
        self._valkey = valkey
        self._page = valkey.register_script(_PAGE)

    async def statistics(self, player_id: str) -> Statistics | None:
        """Return a player's statistics."""
        async with answering():
            fields = cast("dict[str, str]", await self._valkey.hgetall(stats_key(player_id)))
        if "total_events" not in fields:
            return None
        events = {
            name.removeprefix("event_"): int(count) for name, count in fields.items() if name.startswith("event_")
        }
        return Statistics(int(fields["total_events"]), dict(sorted(events.items())), fields.get("last_event"))

    async def page(self, game_id: str, period: str, offset: int, limit: int) -> Page | None:
        """Return the places from `offset` on."""
        return await self._read(board_key(game_id, period), offset, offset + limit - 1)

    async def around(self, game_id: str, period: str, player_id: str, around: int) -> Page | None:
        """Return the player's place and its neighbours."""
        return await self._read(board_key(game_id, period), around, around, player_id)

    async def _read(self, key: str, *arguments: int | str) -> Page | None:
        async with answering():
            total, first, flat = await self._page([key], arguments)
        if not total:
            return None
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return Page(
            total, [Entry(rank, player, int(float(score))) for rank, (player, score) in enumerate(pairs, first + 1)]
        )
