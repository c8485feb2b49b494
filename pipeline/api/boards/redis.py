"""Statistics and boards from Redis."""

import contextlib
from collections.abc import Iterator
from typing import Final

from msgspec import UNSET

from pipeline.api.boards.reads import Page
from pipeline.api.schemas import MOST_EVENT_TYPES, Entry, Statistics
from pipeline.api.valkey import Argument, Valkey
from pipeline.contract.boards import LAST_EVENT, TOTAL_EVENTS, board_key, count_of, counts_in, stats_key
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
_TOTALS: Final = (TOTAL_EVENTS, LAST_EVENT)
# A client chooses how many types its events have, and with them what a reply would hold.
_STATISTICS: Final = """
local count = redis.call('HLEN', KEYS[1])
if count <= tonumber(ARGV[1]) then return {count, redis.call('HGETALL', KEYS[1])} end
local fields = redis.call('HSCAN', KEYS[1], 0, 'COUNT', ARGV[1])[2]
local totals = redis.call('HMGET', KEYS[1], ARGV[2], ARGV[3])
for number, total in ipairs(totals) do
  fields[#fields + 1] = ARGV[1 + number]
  fields[#fields + 1] = total or ''
end
return {count, fields}
"""


class RedisBoards:
    """Reads the keys that the consumer writes."""

    def __init__(self, valkey: Valkey) -> None:
        self._valkey = valkey
        self._page = valkey.script(_PAGE)
        self._statistics = valkey.script(_STATISTICS)

    async def statistics(self, player_id: str) -> Statistics | None:
        """Return a player's statistics; of very many types, those that come first as Redis keeps them."""
        most = MOST_EVENT_TYPES + len(_TOTALS)
        held, flat = await self._statistics([stats_key(player_id)], [most, *_TOTALS])
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        if not fields.get(TOTAL_EVENTS):
            return None
        with _ours(flat):
            events = counts_in(fields)
            kept = dict(sorted(events.items())[:MOST_EVENT_TYPES])
            left = held - len(fields) + len(events) - len(kept)
            total, last = count_of(fields[TOTAL_EVENTS]), fields.get(LAST_EVENT) or None
            return Statistics(player_id, total, kept, last, left or UNSET)

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
        with _ours(flat):
            return Page(
                total, [Entry(rank, player, int(float(score))) for rank, (player, score) in enumerate(pairs, first + 1)]
            )


@contextlib.contextmanager
def _ours(read: list[str]) -> Iterator[None]:
    """Take what is no number, an infinite one, or no text, for what the consumer did not write: PostgreSQL knows."""
    try:
        "".join(read).encode()
        yield
    except (ValueError, OverflowError) as error:
        raise UnavailableError(f"Valkey: not what the consumer writes: {error}") from error
