"""The overview: what the sources last said, put together into the state of each hop. No waiting, no server."""

import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from pipeline.api.console.ages import LogClock, Rate
from pipeline.api.console.schemas import (
    Counters,
    DeadLetters,
    Edge,
    Epoch,
    Group,
    Log,
    Overview,
    Partition,
    Proof,
    Server,
    State,
)
from pipeline.api.console.sources import MOST_COUNTED, Question, Reading, Waiting
from pipeline.contract.event import format_timestamp
from pipeline.kafka.ends import Bounds
from pipeline.sinks.marks import Mark

_STALE_SECONDS: Final = 12.0
"""An answer this old says little of now; those who are asked every five seconds have had two chances."""
_BEHIND_SECONDS: Final = 10.0
_SILENT_SECONDS: Final = 15.0

Standings = Mapping[str, Mapping[int, int]]


class Composer:
    """Puts overviews together, and remembers what a rate needs."""

    def __init__(
        self,
        topic: str,
        fault: Callable[[], str],
        counted: Callable[[], tuple[int, int]],
        sources: tuple[Question[Bounds], Question[list[Mark]], Question[dict[str, dict[int, int]]], Question[Waiting]],
        proof: Question[Proof | None],
    ) -> None:
        """Take where to ask the edge for its fault, and for how many events it accepted and refused."""
        self._topic = topic
        self._fault = fault
        self._counted = counted
        self.bounds, self.marks, self.standings, self.letters = sources
        self.proof = proof
        self._clock = LogClock()
        self._rates: dict[str, Rate] = {}
        self._replica = socket.gethostname()
        self._since: float | None = None

    @property
    def complete(self) -> bool:
        """Whether each server was asked, whatever it said."""
        return all(source.asked for source in (self.bounds, self.marks, self.standings, self.letters, self.proof))

    def compose(self, now: float) -> Overview:
        """Return the overview of now, by the loop's time."""
        if self._since is None:
            self._since = now
        if (ends := self.bounds.reading) is not None:
            for partition, (_, end) in ends.value.items():
                self._clock.saw(partition, end, ends.at)
        groups = self._groups(now)
        return Overview(
            at=format_timestamp(datetime.now(UTC)),
            uptime_seconds=round(now - self._since, 1),
            topic=self._topic,
            edge=self._edge(now),
            kafka=self._kafka(now),
            groups=groups,
            postgres=Server(*_state(self.marks, "PostgreSQL", now)),
            redis=self._redis(groups, now),
            dead_letters=self._dead_letters(),
            proof=self.proof.reading.value if self.proof.reading is not None else None,
        )

    # -- hops --------------------------------------------------------------------------------------------------------

    def _edge(self, now: float) -> Edge:
        accepted, refused = self._counted()
        fault = self._fault()
        return Edge(
            "down" if fault else "ok",
            fault,
            self._replica,
            self._rate("accepted", accepted, now),
            self._rate("refused", refused, now),
            accepted,
            refused,
        )

    def _kafka(self, now: float) -> Log:
        state, reason = _state(self.bounds, "Kafka", now)
        ends = self.bounds.reading
        total = sum(end for _, end in ends.value.values()) if ends is not None else None
        rate = self._rate("log", None if reason else total, ends.at if ends is not None else now)
        return Log(state, reason, rate, total, len(ends.value) if ends is not None else None)

    def _redis(self, groups: Sequence[Group], now: float) -> Counters:
        state, reason = _state(self.standings, "Redis", now)
        behind = [
            max(0, one.postgres - one.redis) for group in groups for one in group.partitions if one.redis is not None
        ]
        return Counters(state, reason, sum(behind) if behind and not reason else None)

    def _dead_letters(self) -> DeadLetters:
        if (waiting := self.letters.reading) is None:
            return DeadLetters(None, {}, at_least=False)
        by_code = waiting.value.by_code
        return DeadLetters(waiting.value.total, by_code, at_least=MOST_COUNTED in by_code.values())

    # -- groups ------------------------------------------------------------------------------------------------------

    def _groups(self, now: float) -> list[Group]:
        marks = self.marks.reading
        if marks is None:
            return []
        return [self._group(name, list(found), marks, now) for name, found in groupby(marks.value, attrgetter("group"))]

    def _group(self, name: str, marks: list[Mark], reading: Reading[list[Mark]], now: float) -> Group:
        partitions = [self._partition(mark) for mark in marks]
        lags = [one.lag_records for one in partitions if one.lag_records is not None]
        lag = sum(lags) if lags else None
        behind = self._age(marks, {one.partition: one.postgres for one in partitions}, now) if lags else None
        both = {
            one.partition: min(one.postgres, one.postgres if one.redis is None else one.redis) for one in partitions
        }
        stale = f"as of {now - reading.at:.0f} s ago: {self.marks.fault}" if self.marks.fault else ""
        silent = min(mark.idle_seconds for mark in marks) + now - reading.at
        state, reason = _verdict(stale, lag or 0, behind or 0.0, silent)
        return Group(
            group=name,
            state=state,
            reason=reason,
            records_per_second=self._rate(
                f"group {name}", None if stale else sum(mark.watermark.next_offset for mark in marks), reading.at
            ),
            lag_records=lag,
            lag_seconds=behind,
            freshness_seconds=self._age(marks, both, now) if lags else None,
            epoch=_epoch(marks),
            admitted=sum(mark.watermark.admitted for mark in marks),
            duplicates=sum(mark.watermark.duplicates for mark in marks),
            dead_lettered=sum(mark.watermark.dead_lettered for mark in marks),
            partitions=partitions,
        )

    def _partition(self, mark: Mark) -> Partition:
        ends, standings, own = self.bounds.reading, self.standings.reading, mark.watermark
        end = ends.value[own.partition][1] if ends is not None and own.partition in ends.value else None
        return Partition(
            partition=own.partition,
            first=own.first_offset,
            end=end,
            postgres=own.next_offset,
            redis=standings.value.get(mark.group, {}).get(own.partition) if standings is not None else None,
            committed=None,
            lag_records=max(0, end - own.next_offset) if end is not None else None,
            updated_at=format_timestamp(mark.updated_at.astimezone(UTC)),
        )

    def _age(self, marks: Sequence[Mark], offsets: Mapping[int, int], now: float) -> float:
        """Return the age of the oldest record at or past these offsets.

        If the log had it before this process looked, no record came to be written since the mark moved last: it is
        about as old as that, if that is longer ago.
        """
        oldest = 0.0
        for mark in marks:
            age, exact = self._clock.age(mark.watermark.partition, offsets[mark.watermark.partition], now)
            oldest = max(oldest, age if exact else max(age, mark.idle_seconds))
        return round(oldest, 2)

    # -- parts -------------------------------------------------------------------------------------------------------

    def _rate(self, name: str, value: int | None, at: float) -> float | None:
        return self._rates.setdefault(name, Rate()).note(value, at)


def _state(source: Question[Any], server: str, now: float) -> tuple[State, str]:
    if source.fault:
        return "degraded" if source.refused else "down", source.fault
    if source.reading is not None and now - source.reading.at > _STALE_SECONDS:
        return "degraded", f"{server} takes long to answer: {now - source.reading.at:.0f} s by now"
    return "ok", ""


def _verdict(stale: str, lag: int, behind: float, silent: float) -> tuple[State, str]:
    if stale:
        return "degraded", stale
    if lag and silent > _SILENT_SECONDS:
        return "down", f"{lag} records wait, and nothing was written for {silent:.0f} s: does a consumer run?"
    if behind > _BEHIND_SECONDS:
        return "degraded", f"{lag} records wait, the oldest for {behind:.0f} s"
    return "ok", ""


def _epoch(marks: Sequence[Mark]) -> Epoch | None:
    newest = max(marks, key=attrgetter("updated_at"))
    if newest.epoch_events is None:
        return None
    return Epoch(newest.epoch_events, newest.epoch_trigger, format_timestamp(newest.updated_at.astimezone(UTC)))
