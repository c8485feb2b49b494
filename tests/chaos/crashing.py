"""The engine's steps, and a death at one of them.

The engine knows nothing of this: a child process replaces one function by one that kills the process at its nth call.
There is no hook in production to cost anything or to be tripped.
"""

import functools
import itertools
import os
import signal
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import psycopg
import redis
from psycopg.transaction import BaseTransaction
from psycopg.waiting import Wait

from pipeline.engine.flight import Flights
from pipeline.engine.stages import Apply, Prepare
from pipeline.kafka.source import Source
from pipeline.sinks import postgres
from pipeline.sinks.admission import Admission
from pipeline.sinks.postgres import PostgresSink
from pipeline.sinks.redis import RedisSink

Moment = Literal["before", "after"]

STEPS: dict[str, tuple[type | ModuleType, str]] = {
    "polled": (Flights, "launch"),
    "decoded": (Prepare, "__call__"),
    "written": (PostgresSink, "write"),
    "watermarks locked": (PostgresSink, "fence"),
    "half a COPY": (psycopg.Copy, "write"),
    "copied": (Admission, "admit"),
    "one table upserted": (postgres, "merge_table"),
    "upserted": (PostgresSink, "merge"),
    "dead letters": (PostgresSink, "bury"),
    "outbox": (PostgresSink, "owe"),
    "watermarks moved": (PostgresSink, "advance"),
    "Redis chunk": (RedisSink, "call"),
    "Redis done": (Apply, "__call__"),
    "offsets committed": (Source, "commit"),
}
"""Every boundary between two effects of an epoch, by the function whose call it is."""

SENT = ("commit sent", "Redis sent")
"""The bytes have left, and the answer is never read: whether the server did it is not known."""


@dataclass(frozen=True, slots=True)
class Crash:
    """Die before or after the nth time of a step."""

    step: str
    moment: Moment = "before"
    nth: int = 1


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def freeze() -> None:
    """Stop the process right here: a signal to the process as a whole would let this thread run on a little."""
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def arm(crash: Crash, act: Callable[[], None] = die) -> None:
    """Replace the step's function in this process."""
    if crash.step == "commit sent":
        _arm_commit(crash.nth, act)
    elif crash.step == "Redis sent":
        _arm_redis(crash.nth, act)
    else:
        _arm_call(*STEPS[crash.step], crash, act)


def _arm_call(owner: type | ModuleType, name: str, crash: Crash, act: Callable[[], None]) -> None:
    original = getattr(owner, name)
    calls = itertools.count(1)

    @functools.wraps(original)
    def replaced(*args: Any, **kwargs: Any) -> Any:
        if crash.moment == "before" and next(calls) == crash.nth:
            act()
        result = original(*args, **kwargs)
        # A call that raised is not counted: it has no "after", and the engine makes it again.
        if crash.moment == "after" and next(calls) == crash.nth:
            act()
        return result

    setattr(owner, name, replaced)


def _arm_commit(nth: int, act: Callable[[], None]) -> None:
    """Act when the client waits for the answer to an epoch's COMMIT: psycopg flushes before it first waits to read."""
    original = BaseTransaction._commit_gen
    calls = itertools.count(1)

    def replaced(self: Any) -> Generator[int, int, None]:
        steps = original(self)
        of_epoch = self._outer_transaction and self._conn.info.parameter_status("application_name") == "event-consumer"
        due = of_epoch and next(calls) == nth
        try:
            wanted = next(steps)
            while True:
                if due and wanted == Wait.R:
                    act()
                wanted = steps.send((yield wanted))
        except StopIteration:
            return

    BaseTransaction._commit_gen = replaced  # type: ignore[method-assign,assignment]


def _arm_redis(nth: int, act: Callable[[], None]) -> None:
    """Act when the client is about to read the answer to a call of the function."""
    original = redis.Redis.parse_response
    calls = itertools.count(0)  # the first asks for the account's rights, at the start

    def replaced(self: Any, connection: Any, command_name: Any, **options: Any) -> Any:
        if command_name == "FCALL" and next(calls) == nth:
            act()
        return original(self, connection, command_name, **options)  # type: ignore[no-untyped-call]

    redis.Redis.parse_response = replaced  # type: ignore[method-assign]
