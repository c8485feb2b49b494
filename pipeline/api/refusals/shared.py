"""Refusals in Redis, where every replica writes what it refused and reads what all of them did.

A *holder* is an API key's name and its games. Who may read is decided by the games: a key sees the refusals of those
keys that may touch no game that it may not touch itself, and so its own. A key for all games sees all. What a refused
event says of itself, its game_id among it, decides nothing: nobody has checked it. Nor does the name alone: a key
that is made again under an old name, for other games, is not shown what that one sent.
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Final

import msgspec

from pipeline.api.access.keyring import Caller
from pipeline.api.refusals.masks import clean
from pipeline.api.schemas import RefusedEvent
from pipeline.api.valkey import Argument, Valkey
from pipeline.contract.refusals import (
    KEPT_HOLDERS,
    KEPT_OF_A_HOLDER,
    KEPT_SECONDS,
    REFUSALS_INDEX,
    REFUSALS_LISTS,
    refusals_key,
)

_HOLDERS: Final = "return redis.call('ZREVRANGE', KEYS[1], 0, -1)"
_NEWEST: Final = """
local found = {}
for index, list in ipairs(KEYS) do found[index] = redis.call('LRANGE', list, 0, ARGV[1]) end
return found
"""
_MOST_LISTS: Final = 50


class Holder(msgspec.Struct, frozen=True, array_like=True):
    """Whose refusals a list holds: a key's name, and the games that it may touch (None: all)."""

    name: str
    games: tuple[str, ...] | None

    @property
    def text(self) -> str:
        """What stands for it in the index."""
        return msgspec.json.encode(self).decode()


_read_holder = msgspec.json.Decoder(Holder).decode
_read_refusal = msgspec.json.Decoder(RefusedEvent).decode


def holder_of(caller: Caller) -> Holder:
    """Return under whom a key's refusals are kept."""
    games = None if caller.games is None else tuple(sorted(map(clean, caller.games)))
    return Holder(clean(caller.name), games)


def may_see(reader: Caller, holder: Holder) -> bool:
    """Tell whether a key may read a holder's refusals."""
    if reader.games is None:
        return True
    return holder.games is not None and reader.games.issuperset(holder.games)


def newest(found: Iterable[RefusedEvent], limit: int) -> list[RefusedEvent]:
    """Return the newest of some refusals, the newest first."""
    return sorted(found, key=lambda one: one.at, reverse=True)[:limit]


def read_all(texts: Iterable[str | bytes]) -> list[RefusedEvent]:
    """Read refusals; what is none of ours is passed over."""
    found = []
    for text in texts:
        try:
            found.append(_read_refusal(text))
        except (msgspec.MsgspecError, UnicodeError):
            continue
    return found


class SharedRefusals:
    """The lists in Redis."""

    def __init__(self, valkey: Valkey) -> None:
        self._keep = valkey.script((files("pipeline.api.refusals") / "keep.lua").read_text())
        self._holders = valkey.script(_HOLDERS)
        self._newest = valkey.script(_NEWEST)

    async def add(self, refusals: Mapping[Holder, Sequence[bytes]]) -> None:
        """Add refusals, the oldest first. Raises UnavailableError."""
        arguments: list[Argument] = [KEPT_SECONDS, KEPT_OF_A_HOLDER, KEPT_HOLDERS, REFUSALS_LISTS]
        for holder, written in refusals.items():
            arguments += [holder.text, len(written), *written]
        await self._keep([REFUSALS_INDEX], arguments)

    async def newest(self, reader: Caller, name: str | None, limit: int) -> list[RefusedEvent]:
        """Return the newest that a key may see, of the key of a name if one is given. Raises UnavailableError."""
        listed = await self._holders([REFUSALS_INDEX], [])
        lists = []
        for text in listed:
            try:
                holder = _read_holder(text)
            except (msgspec.MsgspecError, UnicodeError):
                continue
            if may_see(reader, holder) and name in {None, holder.name}:
                lists.append(refusals_key(text))
        if not lists:
            return []
        found = await self._newest(lists[:_MOST_LISTS], [limit - 1])
        return newest((one for texts in found for one in read_all(texts)), limit)
