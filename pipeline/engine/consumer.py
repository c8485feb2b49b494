"""The consumer: poll, decode, admit, aggregate, write, apply, commit.

One thread polls and commits; the stages between run in threads of their own (`engine.flight`), so that an epoch is
decoded while the one before it is written and the one before that is applied. Nothing here decides what is counted:
that is the watermark's, in the one transaction of `sinks.postgres`, and the gate's, in `sinks/apply.lua`.
"""

import gc
import random
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from contextlib import ExitStack
from time import monotonic
from typing import Final, TypeVar

import structlog
from confluent_kafka.admin import AclOperation

from pipeline import metrics
from pipeline.config import Settings
from pipeline.contract.event import load_scoring
from pipeline.contract.offsets import Positions, Spans
from pipeline.engine.flight import Flights, Stages
from pipeline.engine.health import ConsumerHealth
from pipeline.engine.lag import MEASURE_SECONDS, LagMeter
from pipeline.epoch.batch import Batcher, BatchPolicy, Records
from pipeline.epoch.decode import Decoder
from pipeline.epoch.epoch import Epoch, plan_for, prepare
from pipeline.epoch.roles import Role
from pipeline.errors import ConfigurationError, FencedError, HaltError, PipelineError, RefusedError, UnavailableError
from pipeline.kafka.client import topic_id
from pipeline.kafka.source import Assignment, Source
from pipeline.sinks.faults import FaultReport
from pipeline.sinks.level import Cache
from pipeline.sinks.postgres import PostgresSink, RewindError, Written
from pipeline.sinks.redis import RedisSink
from pipeline.sinks.registry import Registry
from pipeline.sinks.schema import check_rights, check_schema

_POLL_RECORDS: Final = 1_000
_POLL_BYTES: Final = 4 << 20
"""What is polled at once is Python's objects, whose memory nothing else can use later: by the size of the records
before, and for the case that the next ones are larger never more than a thousand."""
_IDLE_SECONDS: Final = 0.5
_LANDING_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 5.0
_HANDOVER_SECONDS: Final = 15.0
_MIN_BACKOFF_SECONDS: Final = 0.05
_MAX_BACKOFF_SECONDS: Final = 5.0
_MAINTAIN_SECONDS: Final = 10.0
_FLIGHTS: Final = 3
_AUDIT_SECONDS: Final = 30.0

T = TypeVar("T")
log = structlog.get_logger()


class StoppedError(FencedError):
    """The consumer was asked to stop while it waited for a server; the epoch is abandoned and will be read again."""


class EventConsumer:
    """Consumes one topic as one role until stopped."""

    def __init__(self, settings: Settings, role: Role) -> None:
        self._settings = settings
        self._role = role
        group_id = settings.kafka_group_id or role.group_id
        self._plan = plan_for(role, settings)
        self._decoder = Decoder(settings.kafka_topic, load_scoring(settings.scoring_file))
        self._report = FaultReport()
        self._registry = Registry(settings, role, group_id)
        self._postgres = PostgresSink(settings, self._plan, group_id)
        self._redis = RedisSink(settings, group_id)
        self._cache = Cache(settings, self._plan, group_id, self._redis)
        max_wait = settings.batch_max_wait_ms / 1000
        self._batcher = Batcher(BatchPolicy(settings.batch_max_events, settings.batch_max_bytes, max_wait))
        self._flights = Flights(Stages(self._prepare, self._write, self._apply), _FLIGHTS)
        self._positions = Positions()
        self._source = Source(settings, group_id, role.service, Assignment(self._start, self._finish))
        self._stop = threading.Event()
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="beside")
        self._health = ConsumerHealth()
        self._lag = LagMeter()
        self._landed_at = self._maintained_at = self._measured_at = self._audited_at = monotonic()
        self._applied: dict[int, int] = {}

    @property
    def health(self) -> "ConsumerHealth":
        """What the probes ask."""
        return self._health

    def stop(self) -> None:
        """Ask `run` to return once the epochs under way have landed; callable from a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Consume until stopped. Raises ConfigurationError and HaltError; waits for servers that are away."""
        spare_the_collector()
        try:
            self._open()
            self._source.subscribe()
            while not self._stop.is_set():
                try:
                    self._turn()
                except RewindError as error:
                    self._rewind(error)
        except StoppedError as stopped:
            log.info("stopping", reason=str(stopped))
        finally:
            self._close()

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._health.turn()
        records = self._poll()
        if records is not None and (spans := self._positions.advance(records.stops())):
            self._lag.departed(spans, records)
            self._flights.launch(spans, records)
        self._land(_IDLE_SECONDS if self._flights.full and not self._batcher.room() else 0)
        if monotonic() - self._audited_at > _AUDIT_SECONDS and not (len(self._flights) or self._batcher.armed):
            self._audit()
        if monotonic() - self._measured_at > MEASURE_SECONDS:
            self._measured_at = monotonic()
            self._lag.measure(self._source.ends)

    def _poll(self) -> Records | None:
        """Collect records; return them once an epoch is due and there is a flight for it.

        While every flight is out the epoch goes on filling, whatever its age: under backlog epochs are full, and the
        larger they are the less an event costs.
        """
        if self._flights.full and not self._batcher.room():
            self._hold()
            return None
        self._source.resume()
        self._collect(*self._appetite())
        trigger = self._batcher.due(monotonic())
        if trigger is None or self._flights.full:
            return None
        metrics.epochs.labels(trigger).inc()
        return self._batcher.take()

    def _collect(self, limit: int, timeout: float) -> None:
        records = self._source.poll(limit, timeout)
        self._health.refused("kafka", self._source.refusal)
        news = self._positions.beyond(records.ends)  # an end that is no news must not arm the clock
        self._batcher.add(Records(records.frame, news), monotonic())

    def _appetite(self) -> tuple[int, float]:
        """Say how many records to ask for, and how long to wait for them.

        The first record of an epoch is asked for alone, so that it arms the clock when it comes.
        """
        if not self._batcher.armed:
            return 1, _LANDING_SECONDS if len(self._flights) else _IDLE_SECONDS
        patience = _LANDING_SECONDS if self._flights.full else self._batcher.remaining(monotonic())
        return min(self._batcher.room(_POLL_BYTES), _POLL_RECORDS), patience

    def _hold(self) -> None:
        """Stay in the group while the sinks are behind: poll without fetching once it takes longer than usual.

        Not at once, for a pause throws away what was prefetched.
        """
        if monotonic() - self._landed_at > _PATIENCE_SECONDS:
            self._source.pause()
            self._collect(1, 0)

    def _land(self, timeout: float) -> None:
        """Commit what both sinks have."""
        for spans in self._flights.land(timeout):
            self._source.commit(spans)
            self._landed_at = monotonic()
            for span in spans:
                self._applied[span.partition] = span.stop
            self._lag.landed(spans)

    # -- the stages, each in its thread --------------------------------------------------------------------------------

    def _prepare(self, spans: Spans, records: Records) -> Epoch:
        metrics.epoch_events.observe(len(records))
        decoded = self._decoder.decode(records)
        self._report.of_lanes(decoded.lane_faults)
        epoch = prepare(spans, decoded, self._plan)
        self._report.of_records(epoch.faults)
        return epoch

    def _write(self, epoch: Epoch) -> Written:
        if monotonic() - self._maintained_at > _MAINTAIN_SECONDS:
            self._retry("postgres", self._maintain)
        written = self._retry("postgres", lambda: self._postgres.write(epoch))
        metrics.events.labels("admitted").inc(written.admitted)
        metrics.events.labels("duplicate").inc(written.duplicates)
        metrics.events.labels("dead_lettered").inc(written.dead_lettered)
        return written

    def _apply(self, spans: Spans, written: Written) -> None:
        if self._role.uses_redis:
            self._retry("redis", lambda: self._settle(spans, written))

    def _settle(self, spans: Spans, written: Written) -> None:
        """Pay Redis what it is owed for an epoch: from memory when all is as expected, else from the outbox."""
        if written.calls is None:
            self._cache.level(span.partition for span in spans)
            return
        applied = self._redis.apply(written.calls)
        if applied.verdict == "behind":
            self._cache.level(span.partition for span in spans)
        elif applied.refused:
            metrics.refused_keys.inc(len(applied.refused))
            self._cache.repair(applied.refused)

    def _maintain(self) -> None:
        self._postgres.maintain()
        self._postgres.prune_outbox(dict(self._applied))
        self._maintained_at = monotonic()

    def _retry(self, sink: str, work: Callable[[], T]) -> T:
        """Do the work, waiting as long as its server is away. Raises StoppedError when asked to stop meanwhile."""
        delay = _MIN_BACKOFF_SECONDS
        while True:
            try:
                with self._health.at_work(sink):
                    result = work()
            except UnavailableError as error:
                log.warning("waiting", sink=sink, error=str(error))
                metrics.retries.labels(sink).inc()
                self._health.down(sink, error)
                if self._stop.wait(random.uniform(delay / 2, delay)):  # noqa: S311 - jitter is no secret
                    raise StoppedError(f"stopped while waiting for {sink}") from error
                delay = min(2 * delay, _MAX_BACKOFF_SECONDS)
            else:
                self._health.up(sink)
                return result

    def _audit(self) -> None:
        """See to both sinks while nothing flows: one that was emptied or restored is else not noticed before an event.

        What epochs do beside their work is done here too, for no stage is under way. Raises RewindError where
        PostgreSQL fell back, HaltError where the topic is another.
        """
        self._audited_at = monotonic()
        assigned = sorted(self._positions.assigned)
        server = "kafka"
        try:
            if lost := self._positions.ahead_of(self._standings(assigned)):
                raise RewindError(f"the watermarks of partitions {lost} fell back")
            self._source.refusal = ""  # it answered as whom it gives records
            self._health.up(server)
            server = "redis"
            if self._role.uses_redis:
                self._attended(lambda: self._cache.level(assigned))
                self._health.up(server)
            server = "postgres"
            self._attended(self._maintain)
            self._health.up(server)
        except UnavailableError as error:
            log.warning("not audited", error=str(error))
            self._health.down(server, error)
            # Again in a few seconds: a server that restarts is one whose state may have fallen back.
            self._audited_at -= _AUDIT_SECONDS - _MAX_BACKOFF_SECONDS

    def _await(self, server: str, work: Callable[[], T]) -> T:
        """Retry from the loop itself: each attempt is a turn, for a restart would not bring the server back."""

        def attempt() -> T:
            self._health.turn()
            return work()

        return self._retry(server, attempt)

    def _attended(self, work: Callable[[], T]) -> T:
        """Do work of the loop in a thread beside it: a server that hangs must not let the loop seem to stand still.

        Nothing that calls the source: while it polls, it waits for any other thread's call, and that one for the poll.
        """
        doing = self._beside.submit(work)
        while not wait([doing], _IDLE_SECONDS).done:
            self._health.turn()
        self._health.turn()
        return doing.result()

    # -- assignments -------------------------------------------------------------------------------------------------

    def _start(self, partitions: list[int]) -> dict[int, int]:
        """Say where to read partitions from: PostgreSQL's watermarks, once Redis stands level with them.

        Raises HaltError where the log no longer has what comes next.
        """
        offsets = self._await("kafka", lambda: self._standings(partitions))
        if self._role.uses_redis:
            self._await("redis", lambda: self._attended(lambda: self._cache.level(partitions)))
        for partition, offset in offsets.items():
            self._positions.assign(partition, offset)
        self._lag.start(offsets)
        self._health.assigned(self._positions.assigned)
        log.info("partitions assigned", offsets=offsets)
        return offsets

    def _standings(self, partitions: list[int]) -> dict[int, int]:
        ranges = self._source.ranges(partitions)
        starts = {partition: first for partition, (first, _) in ranges.items()}
        marks = self._attended(lambda: self._registry.watermarks(starts, topic_id(self._settings, AclOperation.READ)))
        for partition, (first, end) in ranges.items():
            offset = marks[partition].next_offset
            if not first <= offset <= end:
                gone = f"offsets {offset} to {first} are gone" if offset < first else f"the log ends at {end}"
                raise HaltError(
                    f"topic {self._settings.kafka_topic} partition {partition}: the watermark is {offset}, but {gone}: "
                    f"retention passed the consumer, or Kafka was restored from a copy"
                )
        return {partition: mark.next_offset for partition, mark in marks.items()}

    def _finish(self, partitions: list[int]) -> None:
        """Land what is under way before partitions go to a peer; what does not land in time is fenced there."""
        deadline = monotonic() + _HANDOVER_SECONDS
        try:
            while len(self._flights) and monotonic() < deadline and not self._stop.is_set():
                self._land(_LANDING_SECONDS)
        finally:
            self._forsake(partitions)

    def _forsake(self, partitions: list[int]) -> None:
        """Know nothing more of partitions, whichever way their last epochs went."""
        self._batcher.drop(frozenset(partitions))
        self._positions.revoke(partitions)
        self._lag.stop(partitions)
        self._health.assigned(self._positions.assigned)
        for partition in partitions:
            self._applied.pop(partition, None)
        log.info("partitions revoked", partitions=partitions)

    def _rewind(self, error: RewindError) -> None:
        """Read again from the watermarks; the epochs under way write nothing, for they start above them."""
        log.warning("reading again from the watermarks", reason=str(error))
        while not self._flights.abandon(_IDLE_SECONDS):
            self._health.turn()  # they wait for a server that is away
        self._lag.abandoned()
        self._batcher.clear()
        offsets = self._start(sorted(self._positions.assigned))
        self._await("kafka", lambda: self._source.seek(offsets))

    # -- beginning and end -------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._begin("kafka", lambda: topic_id(self._settings, AclOperation.READ))
        self._begin("postgres", lambda: check_schema(self._settings))
        self._begin("postgres", lambda: check_rights(self._settings, self._role))
        self._begin("postgres", self._registry.claim)
        self._begin("postgres", self._maintain)
        if self._role.uses_redis:
            self._begin("redis", self._redis.open)
        log.info("consuming", role=self._role.name, topic=self._settings.kafka_topic)

    def _begin(self, server: str, work: Callable[[], object]) -> None:
        """Do what the start needs of a server. Raises ConfigurationError where the account lacks a right for it."""

        def attempt() -> object:
            try:
                return self._attended(work)
            except RefusedError as error:
                raise ConfigurationError(str(error)) from error

        self._await(server, attempt)

    def _close(self) -> None:
        self._stop.set()
        with ExitStack() as closing:
            closing.callback(self._beside.shutdown)
            for part in (self._redis, self._cache, self._postgres, self._registry, self._source, self._flights):
                closing.callback(part.close)  # the last first, and all of them whatever one of them raises
            try:
                while len(self._flights):
                    self._land(_IDLE_SECONDS)
            except (PipelineError, CancelledError) as error:
                log.warning("epochs abandoned; they will be read again", reason=str(error))
        self._health.running = False
        log.info("stopped")


def spare_the_collector() -> None:
    """Make the cyclic collector rare: records are no cycles, and decoding ran three times slower under its defaults."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 100, 100)
