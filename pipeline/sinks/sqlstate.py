"""Under which SQLSTATE PostgreSQL turned a connection away. libpq hands on its text only, in the server's language."""

import os
import re
import select
from functools import lru_cache
from time import monotonic
from typing import Final

import psycopg
from psycopg import pq

_SECONDS: Final = 3.0
_SPOKE: Final = ":  "  # libpq writes "FATAL:  password ..." of a server, and one space in all that it says itself
_REFUSAL: Final = re.compile(r'ErrorResponse\t S ".*?" (?:V "\w+" )?C "(\w{5})" M "(.+?)(?:" [A-Z] "|" \\x00|\n)')
_EVENTS: Final = {pq.PollingStatus.READING: select.POLLIN, pq.PollingStatus.WRITING: select.POLLOUT}


def codes(said: str, conninfo: str) -> frozenset[str]:
    """Return the codes of what a server said, as psycopg tells it of a connection that failed. May block.

    To learn them the server is asked once more, while libpq writes down the messages that pass. None are known if it
    says something else now, if it said nothing, or if libpq writes nothing down: before its version 17, or beyond
    Linux.
    """
    try:
        return _asked_again(said, conninfo) if _SPOKE in said else frozenset()
    except (LookupError, OSError, psycopg.Error):
        return frozenset()


# Cached: each time that libpq writes down costs 4 KiB that nobody frees, and what is refused is tried for ever.
@lru_cache(maxsize=64)
def _asked_again(said: str, conninfo: str) -> frozenset[str]:
    """Ask, and raise LookupError if that is not said again."""
    with os.fdopen(os.memfd_create("libpq"), "rb") as written:
        wire = pq.PGconn.connect_start(conninfo.encode())
        try:
            wire.trace(written.fileno())
            _try(wire)
            wire.untrace()
        finally:
            wire.finish()
        written.seek(0)
        passed = written.read().decode("utf-8", "replace")
    found = frozenset(code for code, text in _REFUSAL.findall(passed) if text in said)
    if not found:
        raise LookupError
    return found


def _try(wire: pq.abc.PGconn) -> None:
    deadline = monotonic() + _SECONDS
    while (state := wire.connect_poll()) in _EVENTS:
        ready = select.poll()
        ready.register(wire.socket, _EVENTS[pq.PollingStatus(state)])
        if not ready.poll(max(0.0, deadline - monotonic()) * 1000):
            return
