"""`gamemetrics verify`: that every record of the topic is accounted for, and every sum is that of what was admitted.

A group that writes the events table is proven in steps (`steps`), from its checkpoint to the watermarks that it stands
at now. Of a group that keeps identities only everything is counted again (`look`), as are the players that a step could
not clear. Redis is compared with PostgreSQL after that (`redis`).
"""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from time import monotonic
from typing import Final

import psycopg

from pipeline.config import Settings
from pipeline.contract.event import EARLIEST
from pipeline.kafka.topic import Bounds, Topic
from pipeline.sinks.connection import connect, translated
from pipeline.verify.checkpoints import Checkpoints, ProofState, forget_others
from pipeline.verify.groups import Group, read_groups
from pipeline.verify.look import look_closely
from pipeline.verify.redis import RedisComparison, comparing
from pipeline.verify.report import Advance, PartitionLine, Report
from pipeline.verify.steps import Prover, Step

_READER: Final = "event-verify"
_LOOKED_AT: Final = 1_000
_MOST_SUSPECTS: Final = 5_000
_CHANGED: Final = "changed since; not all records are in the log any more (verify --full takes it as it is)"
_LEVEL_SECONDS: Final = 60.0
"""How long consumers may stay ahead of a verifier that has reached its goal, before the sums are left owed."""


def verify(settings: Settings, advance: Advance, *, full: bool = False) -> Report:
    """Prove what came since the checkpoints, or all of the log. Raises ConfigurationError and UnavailableError."""
    report = Report(seed=secrets.randbits(32))
    with _connection(settings) as connection:
        groups = read_groups(connection, settings.kafka_topic)
        forget_others(connection, settings.kafka_topic, [group.id for group in groups])
    for group in groups:
        redis = comparing(settings, group, advance) if group.role.uses_redis else nullcontext()
        with redis as comparison:
            if group.role.ledger == "events":
                with proving(settings, group, report) as prover:
                    Proof(settings, prover, group, report, advance, comparison).run(full=full)
            else:
                with telling(settings, group, report):
                    look_closely(settings, group.id, None, report, advance)
                    if comparison is not None:
                        for _ in comparison.everything(proven=False):
                            pass
                        comparison.confirm(report)
                report.groups[group.id] = _lines(group, _bounds(settings))
    if not groups:
        report.skip("anything: no consumer has started here yet")
    return report


@contextmanager
def proving(settings: Settings, group: Group, report: Report) -> Iterator[Prover]:
    """Have a prover of one group for the time of a with statement."""
    with (
        _connection(settings) as connection,
        closing(Topic(settings, _READER)) as topic,
        closing(Prover(connection, topic, group, settings, report)) as prover,
    ):
        yield prover


@contextmanager
def telling(settings: Settings, group: Group, report: Report) -> Iterator[None]:
    """Count everything of a group that leaves no checkpoints again, in the block, and note what it came to."""
    began, before = monotonic(), dict(report.differences.totals)
    yield
    with _connection(settings) as connection:
        checkpoints = Checkpoints(connection, group.id, settings.kafka_topic)
        checkpoints.tell_whole(report.differences.since(before), monotonic() - began)


@dataclass(frozen=True, slots=True)
class Proof:
    """One run of a prover: to where the watermarks stand, and a close look at who could not be cleared."""

    settings: Settings
    prover: Prover
    group: Group
    report: Report
    advance: Advance
    redis: RedisComparison | None

    def run(self, *, full: bool) -> None:
        """Prove what came since the checkpoints, or all of the log, and say what came out."""
        checkpoints, before = self.prover.checkpoints, dict(self.report.differences.totals)
        standing = checkpoints.standing()
        whole = full or standing is None
        if whole:
            self.prover.begin()
        elif standing is not None and standing.redis_owed is not None:  # whoever owes it may have died
            checkpoints.owe_redis(named=False)
        step = self.reach({p: mark.next_offset for p, mark in self.group.marks.items()}, touched=not whole)
        differing = self.look_at_suspects(self.report)
        if more := checkpoints.count_suspects(differing=True) - len(differing):
            self.report.differences.count("players not looked at yet", max(0, more))
        if checkpoints.count_suspects(differing=False):
            self.prover.findings.total_again()
            step = self.reach({})
        others = set(checkpoints.suspects(_MOST_SUSPECTS, differing=True)) - differing
        changed = checkpoints.changed(others)
        self._name_changed(changed, self.report)
        for player in sorted(others - changed):
            self.report.differences.add("undecided", f"player {player!r}", "its events' sums", "others, twice")
        if self.redis is not None:
            if whole or checkpoints.redis_owed or redis_differed(standing):
                for _ in self.redis.everything(proven=self.prover.since <= EARLIEST and not step.left):
                    pass
            self.redis.recheck_some()
            self.redis.confirm(self.report)
        self.say(step, before)
        checkpoints.redis_compared()

    def reach(self, goal: Mapping[int, int], *, touched: bool = False) -> Step:
        """Take steps until the goal is proven and no sum is owed.

        With `touched`, Redis is compared with PostgreSQL in what each step's records are about.
        """
        proven = sum(one.next_offset for one in self.prover.checkpoints.read().values())
        done, total = 0, max(0, sum(goal.values()) - proven)
        patient_until: float | None = None
        while True:
            step = self.prover.step()
            done += step.records
            self.advance("proving records", done, max(total, done))
            if touched:
                self.compare_touched(step)
            if not step.moved or any(stop < goal.get(p, 0) for p, stop in step.stops.items()):
                continue
            if step.level and not step.left:
                return step
            if not step.level:
                patient_until = patient_until or monotonic() + _LEVEL_SECONDS
                if monotonic() > patient_until:
                    self.report.skip("sums of the players last counted: consumers stay ahead of this verifier")
                    return step

    def compare_touched(self, step: Step) -> None:
        """Compare Redis with PostgreSQL in what a step's records are about.

        Boards are compared with what was proven. Of a step that left sums to prove that is not all of it: it is owed.
        """
        if self.redis is not None and step.moved:
            self.redis.touched(*self.prover.touched(), level=step.level)
            if step.records and (step.left or not step.level):
                self.prover.checkpoints.redis_owed = True

    def look_at_suspects(self, report: Report) -> set[str]:
        """Look closely at the players that differ; returns those that do, and owes the others a recount.

        Of whom what was proven is not there any more, the topic clears only while it has all that was counted.
        """
        checkpoints = self.prover.checkpoints
        suspects = checkpoints.suspects(_MOST_SUSPECTS, differing=True)
        found: set[str] = set()
        for start in range(0, len(suspects), _LOOKED_AT):
            chosen = suspects[start : start + _LOOKED_AT]
            look = look_closely(self.settings, self.group.id, chosen, report, self.advance)
            found |= look.differing
            changed = checkpoints.changed(set(chosen) - look.differing)
            if look.whole:
                checkpoints.prove_anew(changed)
            elif changed:
                altered = self.prover.altered(sorted(changed))
                self._name_changed(altered, report)
                found |= altered
            checkpoints.owe(set(chosen) - found)
            checkpoints.redis_owed |= not found.issuperset(chosen)  # on which boards the others are was not asked
        return found

    @staticmethod
    def _name_changed(players: set[str], report: Report) -> None:
        for player in sorted(players):
            report.differences.add("event", f"player {player!r}", "what was proven of its events", _CHANGED)

    def say(self, step: Step, before: Mapping[str, int]) -> None:
        """Put what the steps found into the report, and keep beside the checkpoints what came to the totals before."""
        prover, report = self.prover, self.report
        for place in prover.checkpoints.unburied(self.group.role.service):
            where = f"partition {place[0]} offset {place[1]}"
            report.differences.add("dead letter", where, "a row in dlq_events: the record is bad", None)
        for (kind, key), (expected, found) in sorted(prover.findings.found.items()):
            report.differences.add(kind, key, expected, found)
        if prover.dropped:
            days = f"{prover.dropped} events before {prover.since:%Y-%m-%d}, whose partitions were dropped"
            report.skip(f"{self.group.role.ledger}: {days}")
        report.groups[self.group.id] = _lines(replace(self.group, marks=dict(step.marks)), prover.bounds)
        behind = sum(mark.next_offset - step.stops.get(p, mark.next_offset) for p, mark in step.marks.items())
        prover.checkpoints.tell(report.differences.since(before), behind)


def redis_differed(standing: ProofState | None) -> bool:
    """Whether Redis differed when a proof was last told: in which keys is not kept, so all are compared again."""
    return standing is not None and any(kind.startswith("Redis") for kind in standing.kinds)


@contextmanager
def _connection(settings: Settings) -> Iterator[psycopg.Connection]:
    with translated(), connect(settings, "gamemetrics-verify") as connection:
        yield connection


def _bounds(settings: Settings) -> Bounds:
    with closing(Topic(settings, _READER)) as topic:
        return topic.bounds()


def _lines(group: Group, bounds: Bounds) -> list[PartitionLine]:
    return [
        PartitionLine(
            mark.partition,
            mark.admitted + mark.duplicates + mark.dead_lettered,
            mark.admitted,
            mark.duplicates,
            mark.dead_lettered,
            bounds.get(mark.partition, (0, 0))[1] - mark.next_offset,
        )
        for mark in group.marks.values()
    ]
