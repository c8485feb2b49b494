"""What this replica refused: noted at once, for almost nothing, and looked at, kept and shared a moment later.

However much is refused, only so much is kept: a key has a hundred at once and ten a second, all of them together twice
and four times that, and of their bytes no more than MAX_RAW_BYTES wait to be looked at. What is past that is counted.
"""

import asyncio
import time
from collections import deque
from itertools import islice
from typing import Final

import structlog

from pipeline.api.access.keyring import Caller
from pipeline.api.http.replies import Refusal
from pipeline.api.refusals.masks import Note, masked
from pipeline.api.refusals.shared import Holder, SharedRefusals, holder_of, may_see, newest, read_all
from pipeline.api.schemas import RefusedEvent
from pipeline.contract.event import MAX_EVENT_BYTES
from pipeline.contract.refusals import KEPT_OF_A_HOLDER
from pipeline.errors import UnavailableError

EVERY_SECONDS: Final = 0.5
A_KEY: Final = 100
ALL_KEYS: Final = 200
_A_KEY_EACH: Final = 5
_ALL_KEYS_EACH: Final = 20
MAX_RAW_BYTES: Final = 2 << 20
MAX_KEPT_BYTES: Final = 1 << 20
_AT_ONCE: Final = 10
"""How many are looked at before the loop has its turn: each may be an event's 64 KiB."""

NOTED: Final = frozenset({400, 403, 413, 415})
"""What a request is refused with for what it holds; not for who sends it, how often, or when."""

_log = structlog.get_logger("refusals")


class Recent:
    """The last refusals of this replica, in MAX_KEPT_BYTES: for as long as Redis is away, all that is known."""

    def __init__(self) -> None:
        self._kept: dict[Holder, deque[bytes]] = {}
        self._bytes = 0

    def add(self, holder: Holder, written: bytes) -> None:
        """Keep one, and let go of the oldest: of a key that has too many, or of the one that has the most."""
        kept = self._kept.setdefault(holder, deque())
        kept.append(written)
        self._bytes += len(written)
        if len(kept) > KEPT_OF_A_HOLDER:
            self._bytes -= len(kept.popleft())
        while self._bytes > MAX_KEPT_BYTES:
            longest = max(self._kept, key=lambda one: len(self._kept[one]))
            self._bytes -= len(self._kept[longest].popleft())
            if not self._kept[longest]:
                del self._kept[longest]

    def newest(self, reader: Caller, name: str | None, limit: int) -> list[RefusedEvent]:
        """Return the newest that a key may see."""
        found = [kept for holder, kept in self._kept.items() if may_see(reader, holder) and name in {None, holder.name}]
        return newest((one for kept in found for one in read_all(reversed(kept))), limit)

    def __len__(self) -> int:
        return self._bytes


class Refusals:
    """Notes refusals, and keeps them. One loop's."""

    def __init__(self, shared: SharedRefusals) -> None:
        self._shared = shared
        self._recent = Recent()
        self._noted: list[Note] = []
        self._raw_bytes = 0
        self._spent: dict[str, int] = {}  # by each key of what it may have at once
        self._spent_by_all = 0
        self._any = asyncio.Event()
        self.passed_over = 0
        self.unshared = 0

    def note(self, caller: Caller, raw: bytes, reason: str, field: str) -> None:
        """Note that an event was refused; `raw` are its bytes, or empty if there are none."""
        spent = self._spent.get(caller.name, 0)
        size = len(raw) if len(raw) <= MAX_EVENT_BYTES else 0
        if spent >= A_KEY or self._spent_by_all >= ALL_KEYS or self._raw_bytes + size > MAX_RAW_BYTES:
            self.passed_over += 1
            return
        self._spent[caller.name] = spent + 1
        self._spent_by_all += 1
        self._raw_bytes += size
        self._noted.append(Note(caller, time.time_ns() // 1_000_000, reason, field, raw if size else b""))
        self._any.set()

    def note_refusal(self, caller: Caller, raw: bytes, refusal: Refusal) -> None:
        """Note a refusal of a request, if it is for what that holds."""
        if refusal.status in NOTED:
            self.note(caller, raw, refusal.error, refusal.field)

    async def keep(self) -> None:
        """Keep what was noted, again and again."""
        while True:
            await self._any.wait()
            await asyncio.sleep(EVERY_SECONDS)
            await self.flush()
            self._give_back()

    async def flush(self) -> None:
        """Keep what was noted until now, here and in Redis; without Redis it stays here."""
        noted, self._noted, self._raw_bytes = self._noted, [], 0
        holders: dict[Caller, Holder] = {}
        shared: dict[Holder, list[bytes]] = {}
        pending = iter(noted)
        while some := list(islice(pending, _AT_ONCE)):
            for one in some:
                holder = holders.get(one.caller) or holders.setdefault(one.caller, holder_of(one.caller))
                written = masked(one)
                self._recent.add(holder, written)
                shared.setdefault(holder, []).append(written)
            await asyncio.sleep(0)
        if not shared:
            return
        try:
            await self._shared.add(shared)
        except UnavailableError as error:
            self.unshared += len(noted)
            _log.debug("refusals are not shared", reason=str(error))

    async def newest(self, reader: Caller, name: str | None, limit: int) -> tuple[list[RefusedEvent], str]:
        """Return the newest refusals that a key may see, and where they were found: of all replicas, or of this one."""
        try:
            return await self._shared.newest(reader, name, limit), "redis"
        except UnavailableError:
            return self._recent.newest(reader, name, limit), "memory"

    def gauges(self) -> list[tuple[str, str, float]]:
        """Return what was counted, for the metrics."""
        return [
            ("refusals_passed_over", "Refusals past the bound of what is kept, since the start", self.passed_over),
            ("refusals_unshared", "Refusals that Redis did not take, since the start", self.unshared),
            ("refusals_bytes", "Refusals in this replica's memory", len(self._recent)),
        ]

    def _give_back(self) -> None:
        """Let each key have what it may have by the time that has passed; wait again once nothing is spent."""
        self._spent = {name: left for name, spent in self._spent.items() if (left := spent - _A_KEY_EACH) > 0}
        self._spent_by_all = max(0, self._spent_by_all - _ALL_KEYS_EACH)
        if not (self._noted or self._spent or self._spent_by_all):
            self._any.clear()
