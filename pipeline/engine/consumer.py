"""The consumer: poll, decode, aggregate, write (admit, merge, owe, advance), apply, commit.

The loop polls and commits. The stages between run in threads of their own (`engine.flight`), so that an epoch is
decoded and aggregated while the one before it is written and the one before that is applied. Nothing here decides what
is counted: that is the watermark's, in the one transaction of `sinks.postgres`, and the gate's, in `sinks/apply.lua`.

    thread    owns                                            is given               gives
    loop      Intake (Source, Batcher, Positions), LagMeter   spans that landed      spans and records
    beside    Registry, RedisSink, Cache of Standings         work of the loop's     what it returns
                                         (the loop waits and turns: they may hang with their server)
    prepare   Prepare (Decoder)                               spans and records      an Epoch
    postgres  Write (PostgresSink, Admission)                 an Epoch               a Written
                                         (between two epochs) what Redis has applied
    redis     Apply (RedisSink, Cache)                        a Written              spans
    housekeeping  Housekeeping of Upkeep, and its             a round to do          the schedules back; nobody waits
                  schedules while a round is under way
    health    nothing                                         ConsumerHealth to read answers to probes

What is given goes through a thread's queue or its future, and is changed by nobody afterwards. What owns a connection
is called by its own thread alone, and closed by the loop once the others have ended; so the threads beside and redis
each have a RedisSink and a Cache of their own. Shared are only the event that `stop` sets, ConsumerHealth, the
registry of metrics, and what Settings last read of a secret's file (any thread may replace it: both are right). The
threads are daemons: one that hangs with a server is left to it at the end, and so is what it owns.
"""

import gc
import threading
from concurrent.futures import CancelledError
from contextlib import ExitStack
from typing import Final

import structlog

from pipeline.config import Settings
from pipeline.engine.flight import Flights, Stages
from pipeline.engine.health import ConsumerHealth
from pipeline.engine.intake import IDLE_SECONDS, LANDING_SECONDS, Intake
from pipeline.engine.lag import LagMeter
from pipeline.engine.stages import Apply, Prepare, Write
from pipeline.engine.standings import Standings
from pipeline.engine.upkeep import Upkeep
from pipeline.engine.waiting import STOPPING_SECONDS, Deadline, LoopRetry, Retry
from pipeline.epoch.epoch import plan_for
from pipeline.epoch.roles import Role
from pipeline.errors import PipelineError, RewindError, StoppedError, UnavailableError
from pipeline.kafka.source import Assignment, Source

FLIGHTS: Final = 3
HANDOVER_SECONDS: Final = 15.0
"""How long partitions that go to a peer wait for their epochs to land."""
LAST_LANDING_SECONDS: Final = 20.0
"""How long the end waits for the epochs under way: a server may hang that they wait for."""
REFRESH_SECONDS: Final = 10.0
AUDIT_SECONDS: Final = 30.0
AUDIT_AGAIN_SECONDS: Final = 5.0
"""After an audit that met a server which was away: one that restarts may have fallen back."""

log = structlog.get_logger()


class EventConsumer:
    """Consumes one topic as one role until stopped."""

    def __init__(self, settings: Settings, role: Role) -> None:
        self._stop = threading.Event()
        self._health = ConsumerHealth()
        group_id, plan = settings.kafka_group_id or role.group_id, plan_for(role, settings)
        patient = Retry(self._stop, self._health)
        self._write = Write(settings, plan, group_id, patient)
        self._apply = Apply(settings, plan, group_id, patient)
        self._flights = Flights(Stages(Prepare(settings, plan), self._write, self._apply), FLIGHTS)
        self._source = Source(settings, group_id, role.service, Assignment(self._start, self._finish))
        self._intake = Intake(settings, self._source)
        self._retry = LoopRetry(self._stop, self._health)
        self._standings = Standings(settings, plan, group_id, self._source.ranges, self._retry)
        self._upkeep = Upkeep(settings, role, self._stop)
        self._lag = LagMeter()
        self._applied: dict[int, int] = {}
        self._refresh_at = Deadline(REFRESH_SECONDS)
        self._audit_at = Deadline(AUDIT_SECONDS)

    @property
    def health(self) -> ConsumerHealth:
        """What the probes ask."""
        return self._health

    def stop(self) -> None:
        """Ask `run` to return once the epochs under way have landed; callable from a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Consume until stopped. Raises ConfigurationError and HaltError; waits for servers that are away."""
        spare_the_collector()
        try:
            self._standings.open()
            self._refresh()
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
        """Poll; launch the epoch that is due; commit those that landed.

        While every flight is out the next epoch goes on filling, whatever its age: under backlog epochs are full, and
        the larger they are the less an event costs. Once it is full too, the loop holds back until one has landed.
        """
        self._health.turn()
        self._upkeep.turn()
        held_back = self._flights.full and self._intake.full
        if held_back:
            self._intake.hold()
        else:
            self._intake.poll(self._flights)
            self._launch()
        self._health.refused("kafka", self._source.refusal)
        self._land(IDLE_SECONDS if held_back else 0)
        if self._audit_at.passed and not len(self._flights) and self._intake.empty:
            self._audit()
        self._lag.measure(self._source.ends)

    def _launch(self) -> None:
        """Send the epoch that is due on its way: decode, aggregate, write, apply."""
        if self._flights.full or (due := self._intake.due()) is None:
            return
        if self._refresh_at.passed:
            self._refresh()
        self._lag.departed(*due)
        self._flights.launch(*due)

    def _land(self, timeout: float) -> None:
        """Commit what both sinks have. No offset is committed anywhere else."""
        for spans in self._flights.land(timeout):
            self._source.commit(spans)
            self._applied |= {span.partition: span.stop for span in spans}
            self._lag.landed(spans)

    def _refresh(self) -> None:
        """Have the writer look at the days and forget what Redis has, before the next epoch that it writes."""
        self._refresh_at.set(REFRESH_SECONDS)
        self._flights.errand("postgres", self._write.refresh, dict(self._applied))

    def _audit(self) -> None:
        """See to both sinks while nothing flows: one that was emptied or restored is not noticed before an event.

        Raises RewindError if PostgreSQL fell back, HaltError if the topic is another.
        """
        self._audit_at.set(AUDIT_SECONDS)
        assigned = sorted(self._intake.assigned)
        try:
            marks = self._standings.watermarks(assigned)
            self._source.refusal = ""  # it answered as whom it gives records
            if lost := self._intake.ahead_of(marks):
                raise RewindError(f"the watermarks of partitions {lost} fell back")
            self._standings.level(assigned)
        except UnavailableError as error:
            log.warning("not audited", error=str(error))
            self._audit_at.set(AUDIT_AGAIN_SECONDS)
        else:
            self._refresh()

    # -- assignments -------------------------------------------------------------------------------------------------

    def _start(self, partitions: list[int]) -> dict[int, int]:
        """Take partitions up; returns where to read them from. Raises HaltError, StoppedError."""
        offsets = self._standings.take_up(partitions)
        self._applied |= offsets  # Redis stands there, too: what it has paid is forgotten though no epoch comes
        self._intake.start(offsets)
        self._lag.start(offsets)
        self._health.assigned(self._intake.assigned)
        log.info("partitions assigned", offsets=offsets)
        return offsets

    def _finish(self, partitions: list[int]) -> None:
        """Land what is under way before partitions go to a peer; what does not land in time is fenced there."""
        deadline = Deadline(HANDOVER_SECONDS)
        try:
            while len(self._flights) and not deadline.passed and not self._stop.is_set():
                self._land(LANDING_SECONDS)
        finally:
            self._forsake(partitions)

    def _forsake(self, partitions: list[int]) -> None:
        """Know nothing more of partitions, whichever way their last epochs went."""
        self._intake.stop(partitions)
        self._lag.stop(partitions)
        self._health.assigned(self._intake.assigned)
        for partition in partitions:
            self._applied.pop(partition, None)
        log.info("partitions revoked", partitions=partitions)

    def _rewind(self, error: RewindError) -> None:
        """Read again from the watermarks; the epochs under way write nothing, for they start above them."""
        log.warning("reading again from the watermarks", reason=str(error))
        while not self._flights.abandon(IDLE_SECONDS):
            self._health.turn()  # they wait for a server that is away
            if self._stop.is_set():
                raise StoppedError("stopped while epochs are under way that write nothing")
        self._lag.abandoned()
        self._intake.clear()
        offsets = self._start(sorted(self._intake.assigned))
        self._retry("kafka", lambda: self._source.seek(offsets))

    # -- the end -----------------------------------------------------------------------------------------------------

    def _close(self) -> None:
        """Land what is under way, end the threads, and then close what they owned."""
        self._stop.set()
        deadline = Deadline(LAST_LANDING_SECONDS)
        with ExitStack() as closing:
            closing.callback(self._source.close)
            closing.callback(self._upkeep.close)
            closing.callback(self._end_threads)  # the last first, and all of them whatever one of them raises
            try:
                while len(self._flights) and not deadline.passed:
                    self._land(IDLE_SECONDS)
            except (PipelineError, CancelledError) as error:
                log.warning("epochs abandoned; they will be read again", reason=str(error))
        log.info("stopped")

    def _end_threads(self) -> None:
        """End the threads, and close what those owned that have ended; what hangs goes with the process."""
        with ExitStack() as closing:
            if self._flights.close(STOPPING_SECONDS):
                closing.callback(self._apply.close)
                closing.callback(self._write.close)
            else:
                log.warning("epochs abandoned; they will be read again", reason="a server hangs")
            if self._retry.close():
                closing.callback(self._standings.close)


def spare_the_collector() -> None:
    """Make the cyclic collector rare: records are no cycles, and decoding ran three times slower under its defaults."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 100, 100)
