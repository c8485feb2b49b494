"""Bringing Redis level with PostgreSQL: replay what is owed, or refill while no transaction of an epoch is open.

Redis may stand behind (a crash between the two sinks, an older snapshot), nowhere (emptied), or ahead (PostgreSQL was
restored). Behind is mended from the outbox; anything else, and an outbox that no longer reaches back, by filling the
counters from PostgreSQL under the exclusive form of the lock that every epoch's transaction shares.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
import structlog
from psycopg import sql

from pipeline.config import Settings
from pipeline.contract.boards import is_counter
from pipeline.contract.offsets import Watermark
from pipeline.epoch.epoch import Plan
from pipeline.epoch.outbox import Call
from pipeline.sinks.connection import Held, unblocking
from pipeline.sinks.dialect import await_workers
from pipeline.sinks.marks import Standing
from pipeline.sinks.postgres import CACHE_LOCK
from pipeline.sinks.redis import RedisSink
from pipeline.sinks.refill import Target, refill, refill_key, snapshot
from pipeline.sinks.registry import read_watermarks

_FROZEN_MS: Final = 60_000
"""How long the session that holds every epoch off may say nothing before the server ends it."""

log = structlog.get_logger()


class Cache:
    """Levels one group's counters in Redis with PostgreSQL. One thread, with the sink it is given.

    Several may level the same counters, in this process and in others: a replay passes the gate of `apply.lua`, which
    takes a call once, and a refill holds the lock.
    """

    def __init__(self, settings: Settings, plan: Plan, group_id: str, sink: RedisSink) -> None:
        self._settings = settings
        self._plan = plan
        self._group = group_id
        self._sink = sink
        self._held = Held(settings, f"{plan.role.service}-cache")

    def close(self) -> None:
        """Close the connection; a lock that it held is freed."""
        self._held.close()

    def level(self, partitions: Iterable[int]) -> None:
        """Bring the partitions in Redis to where PostgreSQL stands, from the outbox, otherwise by a rebuild.

        Raises UnavailableError; calling again goes on where it stopped.
        """
        wanted = frozenset(partitions)
        if not self.replay(wanted):
            with self.exclusively():
                # Another consumer may have refilled the counters while this one waited for the lock.
                if not self.replay(wanted):
                    self.rebuild_locked()
        if refused := self._sink.refused():
            self.repair(refused)

    def rebuild(self) -> int:
        """Refill the group's counters from PostgreSQL; returns how many keys were written."""
        with self.exclusively():
            return self.rebuild_locked()

    def repair(self, keys: Iterable[str]) -> None:
        """Refill single keys that refused an increment (someone stored another type under the name)."""
        with self.exclusively():
            if not self.replay():
                self.rebuild_locked()
                return
            for key in sorted(set(keys)):
                if not is_counter(key):  # whoever wrote it there: it may be the name of a key that is his
                    self._sink.mended(key)
                    log.warning("key forgotten", key=ascii(key), reason="it names no counter, and cannot be refilled")
                    continue
                with self._held.use() as connection:
                    refill_key(connection, self._sink.client, key, self._plan, self._sink.boards)
                self._sink.mended(key)
                log.warning("key refilled", key=key, reason="it held another type, so an increment was refused")

    @contextmanager
    def exclusively(self) -> Iterator[psycopg.Connection]:
        """Hold off every epoch's transaction; what was committed before stands in PostgreSQL and in the outbox."""
        with self._held.use() as connection:
            with unblocking(connection):
                connection.execute("SELECT pg_advisory_lock(%s)", (CACHE_LOCK,))
            # Should this process freeze here, the server frees the lock; all consumers wait for it.
            connection.execute(sql.SQL("SET idle_session_timeout = {}").format(_FROZEN_MS))
        try:
            with self._held.use():
                await_workers(connection)
            yield connection
        finally:
            if not connection.closed:
                with self._held.use():
                    connection.execute("SET idle_session_timeout = 0")
                    connection.execute("SELECT pg_advisory_unlock(%s)", (CACHE_LOCK,))

    def rebuild_locked(self) -> int:
        """Refill while `exclusively` is held.

        The watermarks go first and come back last: a call that is still under way is refused as `behind` meanwhile,
        and a rebuild that was cut off leaves no watermark, so the next one starts again. They are read in the snapshot
        that the counters are read in: whatever became of the lock (it is gone with its connection, and holds nobody at
        another server), marks and counters are of one moment, and the outbox has what came after it.
        """
        log.warning("refilling Redis from PostgreSQL", group=self._group)
        with self._held.use() as connection, snapshot(connection):
            marks = {mark.partition: mark.next_offset for mark in self._marks(None)}
            token = self._sink.forget(marks)
            target = Target(self._sink.client, lambda: self._sink.while_held(marks, token), self._sink.boards)
            keys = refill(connection, target, self._plan)
        self._sink.restore(marks, token)
        log.info("Redis refilled", group=self._group, keys=keys)
        return keys

    # -- replay ----------------------------------------------------------------------------------------------------

    def replay(self, wanted: frozenset[int] | None = None) -> bool:
        """Apply what the outbox holds for partitions that lag (None: all); False if that does not reach."""
        standings = self._sink.standings()  # read first: a healthy Redis is never ahead of a PostgreSQL read later
        return all(self._replay_partition(mark, standings.get(mark.partition)) for mark in self._marks(wanted))

    def _replay_partition(self, mark: Watermark, standing: Standing | None) -> bool:
        if standing is None:
            if mark.next_offset > mark.first_offset:
                return False
            self._sink.start(mark.partition, mark.first_offset)
            return True
        if standing.offset > mark.next_offset:
            return False
        while standing.offset < mark.next_offset:
            calls = self._owed(mark.partition, standing.offset)
            if not calls or calls[0].from_offset != standing.offset:
                return False
            if self._sink.apply(calls).verdict == "behind":
                return False
            standing = Standing(calls[-1].next_offset, 0)
        return True

    def _owed(self, partition: int, offset: int) -> list[Call]:
        """Read the calls of the first epoch after an offset."""
        place = (self._group, self._settings.kafka_topic, partition)
        with self._held.use() as connection:
            rows = connection.execute(
                "SELECT partition, from_offset, next_offset, chunk, chunks, payload FROM pipeline_outbox"
                " WHERE group_id = %s AND topic = %s AND partition = %s AND next_offset ="
                " (SELECT min(next_offset) FROM pipeline_outbox"
                " WHERE group_id = %s AND topic = %s AND partition = %s AND next_offset > %s) ORDER BY chunk",
                (*place, *place, offset),
            ).fetchall()
        return [Call(*row) for row in rows]

    def _marks(self, wanted: frozenset[int] | None) -> list[Watermark]:
        with self._held.use() as connection:
            marks = read_watermarks(connection, self._settings.kafka_topic).get(self._group, {})
        return [mark for mark in marks.values() if wanted is None or mark.partition in wanted]
