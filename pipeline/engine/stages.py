"""The stages between poll and commit: prepare (decode, aggregate), write, apply.

Each is a callable that owns its connection and its state, and is called by one thread (`engine.flight`); what one
returns is all that the next one knows of an epoch. A server that is away is waited for here, so that an epoch leaves a
stage done or not at all; what a stage raises ends the flight.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

from pipeline import metrics
from pipeline.config import Settings
from pipeline.contract.event import load_scoring
from pipeline.contract.offsets import Spans
from pipeline.engine.waiting import Retry
from pipeline.epoch.batch import Records
from pipeline.epoch.decode import Decoder
from pipeline.epoch.epoch import Epoch, Plan, prepare
from pipeline.sinks.faults import FaultReport
from pipeline.sinks.level import Cache
from pipeline.sinks.postgres import PostgresSink, Written
from pipeline.sinks.redis import RedisSink


class Prepare:
    """Decodes, sorts, aggregates and encodes, on the guess that every event is new."""

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self._plan = plan
        self._decoder = Decoder(settings.kafka_topic, load_scoring(settings.scoring_file))
        self._report = FaultReport()

    def __call__(self, spans: Spans, records: Records) -> Epoch:
        """Make the epoch of the records in these spans. Raises HaltError."""
        metrics.epoch_events.observe(len(records))
        decoded = self._decoder.decode(records)
        self._report.of_lanes(decoded.lane_faults)
        epoch = replace(prepare(spans, decoded, self._plan), trigger=records.trigger)
        self._report.of_records(epoch.faults)
        return epoch


class Write:
    """Writes epochs to PostgreSQL, each in one transaction (admit, merge, owe, advance), and maintains its tables."""

    def __init__(self, settings: Settings, plan: Plan, group_id: str, retry: Retry) -> None:
        self._postgres = PostgresSink(settings, plan, group_id)
        self._retry = retry

    def __call__(self, epoch: Epoch) -> Written:
        """Write an epoch, waiting as long as PostgreSQL is away. Raises RewindError, HaltError, StoppedError."""
        written = self._retry("postgres", lambda: self._postgres.write(epoch))
        fates = written.fates
        metrics.events.labels("admitted").inc(sum(one.admitted for one in fates))
        metrics.events.labels("duplicate").inc(sum(one.duplicates for one in fates))
        metrics.events.labels("dead_lettered").inc(sum(one.dead_lettered for one in fates))
        return written

    def maintain(self, applied: Mapping[int, int]) -> None:
        """See to the tables between two epochs; `applied` is up to where Redis has each partition."""
        self._retry("postgres", self._postgres.maintain)
        self._retry("postgres", lambda: self._postgres.prune_outbox(applied))

    def close(self) -> None:
        """Close the connection."""
        self._postgres.close()


class Apply:
    """Pays Redis what epochs owe it: from memory if all is as expected, otherwise from the outbox."""

    def __init__(self, settings: Settings, plan: Plan, group_id: str, retry: Retry) -> None:
        self._uses_redis = plan.role.uses_redis
        self._redis = RedisSink(settings, group_id)
        self._cache = Cache(settings, plan, group_id, self._redis)
        self._retry = retry

    def __call__(self, written: Written) -> Spans:
        """Apply what is owed, waiting as long as Redis is away; returns the spans that both sinks have now."""
        if self._uses_redis:
            self._retry("redis", lambda: self._pay(written))
        return written.spans

    def _pay(self, written: Written) -> None:
        if not written.complete:
            self._level(written.spans)
            return
        applied = self._redis.apply(written.calls)
        if applied.verdict == "behind":
            self._level(written.spans)
        elif applied.refused:
            metrics.refused_keys.inc(len(applied.refused))
            self._cache.repair(applied.refused)

    def _level(self, spans: Spans) -> None:
        self._cache.level(span.partition for span in spans)

    def close(self) -> None:
        """Close the connections."""
        with ExitStack() as closing:
            closing.callback(self._redis.close)
            closing.callback(self._cache.close)
