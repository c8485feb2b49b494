"""The intake: what is polled, how much at once, and when it leaves as an epoch."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from time import monotonic
from typing import Final

from pipeline import metrics
from pipeline.config import Settings
from pipeline.contract.offsets import Positions, Spans
from pipeline.engine.flight import Flights
from pipeline.engine.waiting import Deadline
from pipeline.epoch.batch import Batcher, BatchPolicy, Records
from pipeline.kafka.source import Source

POLL_RECORDS: Final = 5_000
POLL_BYTES: Final = 4 << 20
"""What is polled at once is Python's objects, whose memory nothing else can use later: so many bytes of it, by the size
of the records before."""
POLL_SECONDS: Final = 0.05
"""If the next ones are larger, a poll ends all the same: with what the broker sends meanwhile, not with so many. (One
of 1,000 at most did that too, held up to 900 MB of large headers, and cost 4 % of the consumer's CPU.)"""
IDLE_SECONDS: Final = 0.5
"""How long the loop waits if nothing can be due sooner."""
LANDING_SECONDS: Final = 0.05
"""How long it waits while epochs are under way, whose landing it must not be late for."""
PAUSE_AFTER_SECONDS: Final = 5.0


class Intake:
    """Reads the source into the epoch that grows. One thread, the source's."""

    def __init__(self, settings: Settings, source: Source) -> None:
        self._source = source
        self._batcher = Batcher(
            BatchPolicy(settings.batch_max_events, settings.batch_max_bytes, settings.batch_max_wait_ms / 1000)
        )
        self._positions = Positions()
        self._pause_at = Deadline(PAUSE_AFTER_SECONDS)

    @property
    def full(self) -> bool:
        """Whether the epoch takes no more records."""
        return not self._batcher.room()

    @property
    def empty(self) -> bool:
        """Whether nothing waits for its epoch to be due."""
        return not self._batcher.armed

    @property
    def assigned(self) -> frozenset[int]:
        """The partitions that are read here."""
        return self._positions.assigned

    def poll(self, flights: Flights) -> None:
        """Let the epoch grow, until it is due or a landing may be.

        The first record of an epoch is asked for alone, so that it arms the clock when it comes.
        """
        self._pause_at.set(PAUSE_AFTER_SECONDS)
        self._source.resume()
        if self.empty:
            self._collect(1, LANDING_SECONDS if len(flights) else IDLE_SECONDS)
        else:
            timeout = LANDING_SECONDS if flights.full else min(self._batcher.remaining(monotonic()), POLL_SECONDS)
            self._collect(min(self._batcher.room(POLL_BYTES), POLL_RECORDS), timeout)

    def hold(self) -> None:
        """Stay in the group while the epoch must not grow: poll without fetching once that takes longer than usual.

        Not at once, for a pause throws away what was prefetched.
        """
        if self._pause_at.passed:
            self._source.pause()
            self._collect(1, 0)

    def due(self) -> tuple[Spans, Records] | None:
        """Give an epoch's records and the spans that they cover once it is due."""
        trigger = self._batcher.due(monotonic())
        if trigger is None:
            return None
        metrics.epochs.labels(trigger).inc()
        records = replace(self._batcher.take(), trigger=trigger)
        spans = self._positions.advance(records.stops())
        return (spans, records) if spans else None

    def start(self, offsets: Mapping[int, int]) -> None:
        """Read partitions from these offsets on."""
        for partition, offset in offsets.items():
            self._positions.assign(partition, offset)

    def stop(self, partitions: Iterable[int]) -> None:
        """Forget partitions that a peer reads now."""
        gone = frozenset(partitions)
        self._batcher.drop(gone)
        self._positions.revoke(gone)

    def clear(self) -> None:
        """Forget what was read; it will be read again."""
        self._batcher.clear()

    def ahead_of(self, offsets: dict[int, int]) -> list[int]:
        """Return the partitions that are read further on than at these offsets."""
        return self._positions.ahead_of(offsets)

    def _collect(self, limit: int, timeout: float) -> None:
        records = self._source.poll(limit, timeout)
        news = self._positions.beyond(records.ends)  # an end that is no news must not arm the clock
        self._batcher.add(replace(records, ends=news), monotonic())
