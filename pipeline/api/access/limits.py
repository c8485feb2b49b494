"""Rate limits per key, in events and in bytes, shared by every replica through Valkey.

A request is charged against a lease that this process holds; the lease is refilled by one atomic call (`limits.lua`).
While a key is quiet a lease is exactly what one request needs, so that a limit of 10 lets 10 through, wherever they
arrive. As a key gets busy its leases grow, to at most a twentieth of a second's rate, and most requests cost no call.
While Valkey is away each process holds the line with a bucket of its own.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Final

import structlog

from pipeline.api.access.bucket import Bucket
from pipeline.api.access.keyring import ANYONE, Caller
from pipeline.api.http.replies import Header, Refusal
from pipeline.api.valkey import Argument, Valkey
from pipeline.errors import UnavailableError

_LEASE_SECONDS: Final = 0.5
_LARGEST_SHARE: Final = 0.05
_BUSY_SECONDS: Final = 0.1
_REFUSED_SECONDS: Final = 1.0
"""How long a refusal holds unasked: the wait was told by another clock, which may have been wrong."""
_SLOWEST: Final = 0.001
_FASTEST: Final = 1e9
_REMEMBERED: Final = 10_000

_log = structlog.get_logger("limits")


class Allowance:
    """One caller's limits, and what is left of its lease."""

    __slots__ = (
        "_asking", "_bytes", "_events", "_left", "_lines", "_refused", "_remaining", "_share", "_until", "_waiting",
        "name",
    )  # fmt: skip

    def __init__(self, name: str, events: float, size: float, now: float) -> None:
        self.name = name
        self._events = Bucket(events, max(1.0, events)) if events else None
        self._bytes = Bucket(size, max(65536.0, size)) if size else None
        self._left = [0.0, 0.0]
        self._until = now
        self._share = 0.0
        self._remaining = max(1.0, events)
        self._lines = b""
        self._refused = (0.0, 0)  # until when, and from how many events on
        self._asking: asyncio.Event | None = None
        self._waiting = [0, 0]  # events and bytes

    def take(self, events: int, size: int, now: float) -> bool:
        """Charge the lease; False when it does not hold as much. Raises Refusal while a refusal holds."""
        until, least = self._refused
        if now < until and events >= least:
            raise self.refusal(until - now)
        if now > self._until or self._left[0] < events or self._left[1] < size:
            return False
        self._left[0] -= events
        self._left[1] -= size
        self._remaining -= events
        return True

    def headers(self) -> list[Header]:
        """Return the usual headers: the limit a second, and what is left of it as far as this replica knows."""
        if self._events is None:
            return []
        left = max(0, math.floor(self._remaining))
        reset = math.ceil((self._events.burst - left) / self._events.rate)
        return [
            ("RateLimit-Limit", f"{math.floor(self._events.burst)}"),
            ("RateLimit-Remaining", f"{left}"),
            ("RateLimit-Reset", f"{reset}"),
        ]

    def header_lines(self) -> bytes:
        """Return the same, encoded, as of the last lease: within one, what is left changes by less than that."""
        if not self._lines:
            self._lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers()).encode("ascii")
        return self._lines

    def refusal(self, wait: float) -> Refusal:
        """Return the 429 for what must wait so long."""
        retry = [("Retry-After", str(max(1, math.ceil(wait))))]
        return Refusal(429, "over the rate limit of this key; nothing was accepted", [*retry, *self.headers()])

    async def refill(self, events: int, size: int, ask: "Ask") -> None:
        """Charge after a fresh lease. Raises Refusal when the limit is met.

        One caller asks at a time, for what all that wait here need; then all of them go on at once. Taking turns, each
        would wait for a round of the loop: two hundred connections of a busy key stood still for 0.2 s, twice a second.
        """
        self._waiting[0] += events
        self._waiting[1] += size
        try:
            while not self.take(events, size, time.monotonic()):
                if self._asking is None:
                    await self._lease(events, size, ask)
                    return
                await self._asking.wait()
        finally:
            self._waiting[0] -= events
            self._waiting[1] -= size

    async def _lease(self, events: int, size: int, ask: "Ask") -> None:
        """Ask for a lease, and charge it. Raises Refusal when the limit is met."""
        answered = self._asking = asyncio.Event()
        try:
            self._adapt(time.monotonic())
            wants = [self._want(self._events, self._waiting[0]), self._want(self._bytes, self._waiting[1])]
            passes, granted, wait, left = await ask(self, [events, size], wants)
        finally:
            self._asking = None
            answered.set()
        now = time.monotonic()
        self._remaining = left
        self._lines = b""
        if not passes:
            self._refused = (now + min(wait, _REFUSED_SECONDS), events)
            raise self.refusal(wait)
        self._left = [granted[0] - events, granted[1] - size]
        self._until = now + _LEASE_SECONDS

    def arguments(self, needs: list[int], wants: list[float]) -> list[Argument]:
        """Return the script's arguments."""
        found: list[Argument] = []
        for bucket, need, want in zip((self._events, self._bytes), needs, wants, strict=True):
            found += [bucket.rate, bucket.burst, need, want] if bucket else [0, 0, need, want]
        return found

    def charge_locally(self, needs: list[int], now: float) -> "_Answer":
        """Do what the script does, for this process alone."""
        pairs = [(bucket, need) for bucket, need in zip((self._events, self._bytes), needs, strict=True) if bucket]
        wait = max((bucket.wait(need, now) for bucket, need in pairs), default=0.0)
        if wait <= 0:
            for bucket, need in pairs:
                bucket.take(need, now)
        left = self._events.available(now) if self._events else 0.0
        return wait <= 0, [float(need) for need in needs], wait, left

    def _adapt(self, now: float) -> None:
        """Lease more when the last lease was gone at once, and exactly what is needed after a pause."""
        busy = now < self._until - _LEASE_SECONDS + _BUSY_SECONDS
        self._share = min(_LARGEST_SHARE, max(0.001, self._share * 2)) if busy else 0.0

    def _want(self, bucket: Bucket | None, need: int) -> float:
        return max(need, math.floor(bucket.rate * self._share)) if bucket else 1e15


_Answer = tuple[bool, list[float], float, float]
Ask = Callable[[Allowance, list[int], list[float]], Awaitable[_Answer]]
"""Asks for a lease: what is needed now, and what is wanted if it is there, in events and bytes.

The answer: whether it passes, the events and bytes granted, the seconds to wait, and the events left.
"""


class _Lessor:
    """Asks Valkey for a lease, or the allowance's own buckets while Valkey is away."""

    def __init__(self, valkey: Valkey) -> None:
        self._script = valkey.script((files("pipeline.api.access") / "limits.lua").read_text())
        self.local = False

    async def __call__(self, allowance: Allowance, needs: list[int], wants: list[float]) -> _Answer:
        try:
            answer = await self._script([f"ratelimit:{allowance.name}"], allowance.arguments(needs, wants))
        except UnavailableError as error:
            self._note(local=True, reason=str(error))
            return allowance.charge_locally(needs, time.monotonic())
        self._note(local=False, reason="")
        passes, events, size, wait, left = answer
        return bool(passes), [float(events), float(size)], wait / 1000, float(left)

    def _note(self, *, local: bool, reason: str) -> None:
        if local != self.local:
            self.local = local
            _log.warning("rate limits are local" if local else "rate limits are shared again", reason=reason)


def bounded(rate: float) -> float:
    """Return a rate with which one can reckon, 0 for none; the table of keys takes any double, infinity and NaN too."""
    if rate == 0:
        return 0.0
    return min(max(rate, _SLOWEST), _FASTEST) if rate > 0 else _SLOWEST


class Limits:
    """The allowances of all callers."""

    def __init__(self, valkey: Valkey, events_per_second: float, bytes_per_second: float) -> None:
        self._events = events_per_second
        self._bytes = bytes_per_second
        self._limited = events_per_second > 0 or bytes_per_second > 0
        self._allowances: dict[str, tuple[Caller, Allowance | None]] = {}
        self._ask = _Lessor(valkey)

    @property
    def local(self) -> bool:
        """Whether Valkey was away when last asked."""
        return self._ask.local

    def allowance(self, caller: Caller, peer: str) -> Allowance | None:
        """Return the allowance to charge, or None if there is no limit. Who has no key is known by address."""
        name = caller.name if caller is not ANYONE else f"{ANYONE.name}:{peer}" if self._limited else ANYONE.name
        known = self._allowances.get(name)
        if known is not None and known[0] is caller:
            return known[1]
        return self._open(name, caller)

    def _open(self, name: str, caller: Caller) -> Allowance | None:
        known = self._allowances.get(name)
        if known is not None and known[0] == caller:
            allowance = known[1]  # read again, and unchanged: what it has used counts on
        else:
            events = bounded(self._events if caller.events_per_second is None else caller.events_per_second)
            size = bounded(self._bytes if caller.bytes_per_second is None else caller.bytes_per_second)
            allowance = Allowance(name, events, size, time.monotonic()) if events or size else None
        if len(self._allowances) >= _REMEMBERED:
            self._allowances.clear()
        self._allowances[name] = (caller, allowance)
        return allowance

    async def charge(self, allowance: Allowance, events: int, size: int) -> None:
        """Charge an allowance whose lease does not suffice. Raises Refusal."""
        await allowance.refill(events, size, self._ask)
