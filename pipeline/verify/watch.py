"""`gamemetrics verify --watch`: the steps for ever, and what they come to as metrics.

A turn proves what came since the last one, compares Redis in what that touched, and goes on with the rounds over what
is old: in PostgreSQL and in Redis so many players an hour. While consumers lag, turns are rarer and rounds stand still:
proof must not keep from counting.
"""

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Final

import structlog

from pipeline.config import Settings
from pipeline.contract.event import EARLIEST
from pipeline.engine.health import ConsumerHealth
from pipeline.errors import UnavailableError
from pipeline.kafka.client import topic_id
from pipeline.sinks.connection import connect, translated
from pipeline.verify import metrics
from pipeline.verify.checkpoints import forget_others
from pipeline.verify.groups import Group, read_groups
from pipeline.verify.look import look_closely
from pipeline.verify.redis import RedisComparison, comparing
from pipeline.verify.report import KINDS, Report
from pipeline.verify.steps import PIECE_RECORDS, Prover, Step
from pipeline.verify.verify import Proof, proving, redis_differed, telling

_TOPIC_SECONDS: Final = 60.0
"""How often it is asked whether the topic, and the groups, are still the same."""

_LOOK_SECONDS: Final = 60.0
_LOOK_SHARE: Final = 0.1
"""A close look reads the whole log: it is made again after a minute, and takes a tenth of the time at most."""

_CONFIRM_SECONDS: Final = 30.0
"""How often epochs may be held off for keys of Redis that differ whenever they are read."""

_WHOLE_SECONDS: Final = 3_600.0
"""How often a group that keeps identities only is counted again as a whole."""

_ROUND_SHARE: Final = 0.25
"""How much of a turn's time may go to each of the two rounds; a page at least."""

_NAMED: Final = 10

_ENDED: Final = object()

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a turn begins, how many players are looked at again in an hour, and how short a round may be."""

    turn_seconds: float = 10.0
    players_an_hour: float = 1_000_000.0
    least_round_seconds: float = 60.0


class WatchHealth(ConsumerHealth):
    """Live while turns go on; ready while the last one ended well."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble = "no turn has ended yet"

    def ready(self) -> tuple[bool, dict[str, object]]:
        """Say why the last turn failed, if it did."""
        return not self.trouble, {"trouble": self.trouble}


class Watch:
    """Takes turns until it is stopped. One thread."""

    def __init__(self, settings: Settings, pace: Pace, health: WatchHealth) -> None:
        self._settings = settings
        self._pace = pace
        self._health = health
        self._stop = threading.Event()
        self._watched: dict[str, Watched] = {}

    def stop(self) -> None:
        """End after the step that is under way."""
        self._stop.set()

    def run(self) -> None:
        """Take turns. Raises ConfigurationError if nothing that passes is wrong."""
        while not self._stop.is_set():
            try:
                self._while_the_same()
            except UnavailableError as error:
                self._health.trouble = str(error)
                log.warning("waiting", reason=str(error))
                self._stop.wait(self._pace.turn_seconds)

    def _while_the_same(self) -> None:
        """Take turns while the topic and its groups are the same, over the same connections."""
        topic, groups = topic_id(self._settings), self._groups()
        with ExitStack() as open_now:
            for group in groups:
                known = self._watched.setdefault(group.id, Watched(self._settings, self._pace, group))
                known.open(open_now, group, self._health)
            asked_at = monotonic()
            while not self._stop.is_set():
                for group in groups:
                    self._watched[group.id].turn()
                self._health.trouble = ""
                self._health.turn()
                if monotonic() - asked_at > _TOPIC_SECONDS or not groups:
                    asked_at = monotonic()
                    if topic_id(self._settings) != topic or {one.id for one in self._groups()} != {
                        one.id for one in groups
                    }:
                        return
                self._stop.wait(self._pace.turn_seconds)

    def _groups(self) -> list[Group]:
        with translated(), connect(self._settings, "gamemetrics-verify") as connection:
            groups = read_groups(connection, self._settings.kafka_topic)
            forget_others(connection, self._settings.kafka_topic, [group.id for group in groups])
            return groups


@dataclass(slots=True)
class Watched:
    """One group, and what is remembered of it between turns: when what was done, and what differed then."""

    settings: Settings
    pace: Pace
    group: Group
    proof: Proof | None = None
    redis: RedisComparison | None = None
    seen: dict[str, dict[str, int]] = field(default_factory=dict)
    due: dict[str, float] = field(default_factory=dict)
    _level_at: float = 0.0
    _round: Iterator[None] | None = None
    _round_began: float = 0.0
    _round_owed: bool = False
    _health: WatchHealth | None = None
    _shown: frozenset[str] = frozenset()
    _logged: frozenset[tuple[str, str]] = frozenset()
    _confirming: tuple[Report, Iterator[None]] | None = None
    _differing: dict[str, int] = field(default_factory=dict)
    _waiting: dict[str, int] = field(default_factory=dict)
    _unproven: Mapping[str, int] = field(default_factory=dict)

    def open(self, open_now: ExitStack, group: Group, health: WatchHealth) -> None:
        """Open connections until the stack is closed."""
        self.group, self._health, self._round, self._confirming = group, health, None, None
        report = Report(seed=secrets.randbits(32))
        if group.role.uses_redis:
            self.redis = open_now.enter_context(comparing(self.settings, group, self._advance))
        if group.role.ledger == "events":
            prover = open_now.enter_context(proving(self.settings, group, report))
            self.proof = Proof(self.settings, prover, group, report, self._advance, self.redis)
            standing = prover.checkpoints.standing()
            if standing is None:
                prover.begin()
            if standing is None or standing.redis_owed is not None:
                prover.checkpoints.owe_redis(named=False)
            if standing is not None and standing.level_at is not None and not self._level_at:
                self._level_at = standing.level_at.timestamp()
            if self.redis is not None and (redis_differed(standing) or self.seen.get("redis")):
                for _ in self.redis.everything(proven=False):
                    self._advance("", 0, 0)
        self._level_at = self._level_at or time()
        metrics.age.labels(self.group.id).set_function(lambda: max(0.0, time() - self._level_at))
        for kind in KINDS:
            metrics.differences.labels(self.group.id, kind)

    def turn(self) -> None:
        """Take one turn."""
        if self.proof is None:
            self._count_again()
            return
        prover = self.proof.prover
        step = self._prove(self.proof)
        self._look(prover)
        if step.level and not step.left and not self._waiting["players"]:
            self._level_at = time()
        if not _lags(prover, step):
            if not prover.unproven.get("sums"):
                self._roll(self.proof)
            self._roll_redis(prover, step)
        confirmed = self._confirm()
        self._tell(prover, step)
        if self.redis is None or (confirmed and not self._round_owed and not prover.checkpoints.redis_owed):
            prover.checkpoints.redis_compared()

    # -- a turn --------------------------------------------------------------------------------------------------------

    def _prove(self, proof: Proof) -> Step:
        """Take steps until one was level, or consumers prove to be ahead."""
        prover = proof.prover
        while True:
            step = prover.step()
            self._advance("", 0, 0)
            metrics.records.labels(self.group.id).inc(step.records)
            for partition, stop in step.stops.items():
                metrics.offset.labels(self.group.id, partition).set(stop)
            proof.compare_touched(step)
            if step.level or step.records < PIECE_RECORDS or _lags(prover, step):
                return step

    def _look(self, prover: Prover) -> None:
        """Look closely at who differs, unless that was done lately: who waits for it may be found to be well."""
        suspects = prover.checkpoints.count_suspects(differing=True)
        if not suspects:
            self.seen.pop("players", None)
            self._differing["players"] = 0
        elif self._is_due("look") and self.proof is not None:
            began, report = monotonic(), Report()
            self._differing["players"] = len(self.proof.look_at_suspects(report))
            self._note("players", report)
            self.due["look"] = monotonic() + max(_LOOK_SECONDS, (monotonic() - began) / _LOOK_SHARE)
            suspects = prover.checkpoints.count_suspects(differing=True)
        self._waiting["players"] = max(0, suspects - self._differing.get("players", 0))
        if self._waiting["players"]:
            named = prover.checkpoints.suspects(_NAMED, differing=True)
            log.warning("players seem to differ, and are looked at soon", players=self._waiting["players"], some=named)

    def _roll(self, proof: Proof) -> None:
        """Go on with the round over what is old in PostgreSQL, for a while."""
        prover = proof.prover
        until = monotonic() + self.pace.turn_seconds * _ROUND_SHARE
        while self._is_due("roll"):
            prover.roll_pages = 1
            self._prove(proof)
            prover.roll_pages = 0
            self._after_page("roll", prover.rolled, ended=prover.round_ended)
            if monotonic() > until:
                return

    def _roll_redis(self, prover: Prover, step: Step) -> None:
        """Go on with the round over the keys of Redis, for a while."""
        until = monotonic() + self.pace.turn_seconds * _ROUND_SHARE
        while self.redis is not None and self._is_due("redis"):
            if self._round is None:
                proven = step.level and not step.left and prover.since <= EARLIEST
                self._round, self._round_began = self.redis.everything(proven=proven), monotonic()
                # A round has all that was owed when it began; what is owed from now on, the next one has.
                self._round_owed, prover.checkpoints.redis_owed = prover.checkpoints.redis_owed, False
            before = self.redis.compared
            ended = next(self._round, _ENDED) is _ENDED
            if ended:
                metrics.rounds.labels(self.group.id, "redis").set(monotonic() - self._round_began)
                self._round, self._round_owed = None, False
            self._after_page("redis", self.redis.compared - before, ended=ended)
            if monotonic() > until:
                return

    def _after_page(self, which: str, players: int, *, ended: bool) -> None:
        seconds = players / self.pace.players_an_hour * 3_600
        self.due[which] = monotonic() + (max(seconds, self.pace.least_round_seconds) if ended else seconds)

    def _confirm(self) -> bool:
        """Look once more at the keys of Redis that differed, and hold the epochs off if that does not clear them.

        For a moment a turn, until all are read: epochs go on between. Returns whether each key that was compared is
        known to differ, or not to.
        """
        self._waiting["keys"] = 0
        if self.redis is None:
            return True
        if self._confirming is None:
            if not self.redis.recheck_some():
                self.seen.pop("redis", None)
                self._differing["keys"] = 0
                return True
            if self._is_due("confirm"):
                report = Report()
                self._confirming = report, self.redis.confirming(report)
        if self._confirming is not None and self._hold(*self._confirming):
            self._confirming = None
            self._differing["keys"] = self.redis.suspects
            self.due["confirm"] = monotonic() + _CONFIRM_SECONDS
            return True
        self._waiting["keys"] = max(0, self.redis.suspects - self._differing.get("keys", 0))
        return False

    def _hold(self, report: Report, confirming: Iterator[None]) -> bool:
        """Hold the epochs off once, and note what was found, also if that ends badly; returns whether all was read."""
        ended, known = False, len(report.differences.kept)
        try:
            ended = next(confirming, _ENDED) is _ENDED
        finally:
            self._note("redis", report, known, ended=ended)
        return ended

    def _note(self, which: str, report: Report, known: int = 0, *, ended: bool = True) -> None:
        """Log what differs and was not known; until a check has ended, what the one before found still counts."""
        for one in report.differences.kept[known:]:
            log.error("differs", kind=one.kind, key=one.key, expected=one.expected, found=one.found)
        totals = dict(report.differences.totals)
        if ended or sum(totals.values()) > sum(self.seen.get(which, {}).values()):
            self.seen[which] = totals

    def _count_again(self) -> None:
        """Count everything of a group whose ledger keeps identities only, once in a while."""
        if not self._is_due("whole"):
            return

        report = Report()
        with telling(self.settings, self.group, report):
            look_closely(self.settings, self.group.id, None, report, self._advance)
            if self.redis is not None:
                for _ in self.redis.everything(proven=False):
                    self._advance("", 0, 0)
                if self.redis.recheck_some():
                    self.redis.confirm(report)
        self._note("whole", report)
        self.due["whole"] = monotonic() + _WHOLE_SECONDS
        self._level_at = time()
        self._show(self.seen["whole"])

    def _tell(self, prover: Prover, step: Step) -> None:
        kinds: dict[str, int] = {}
        for totals in self.seen.values():
            for kind, number in totals.items():
                kinds[kind] = kinds.get(kind, 0) + number
        found = prover.findings.found
        for (kind, key), (expected, is_there) in found.items():
            kinds[kind] = kinds.get(kind, 0) + 1
            if (kind, key) not in self._logged:
                log.error("differs", kind=kind, key=key, expected=str(expected), found=str(is_there))
        self._logged = frozenset(found)
        if unburied := len(prover.checkpoints.unburied(self.group.role.service)):
            kinds["dead letter"] = kinds.get("dead letter", 0) + unburied
        left = sum(mark.next_offset - step.stops.get(p, 0) for p, mark in step.marks.items())
        metrics.behind.labels(self.group.id).set(left)
        for what, number in self._waiting.items():
            metrics.waiting.labels(self.group.id, what).set(number)
        for reason, number in prover.unproven.items():
            metrics.unproven.labels(self.group.id, reason).set(number)
        if prover.unproven != self._unproven and any(prover.unproven.values()):
            log.warning("cannot be proven any more", **prover.unproven)
        self._unproven = dict(prover.unproven)
        prover.checkpoints.tell(kinds, left)
        standing = prover.checkpoints.standing()
        if standing is not None and standing.round_seconds is not None:
            metrics.rounds.labels(self.group.id, "postgres").set(standing.round_seconds)
        self._show(kinds)

    def _show(self, kinds: Mapping[str, int]) -> None:
        for kind in {*KINDS, *self._shown, *kinds}:
            metrics.differences.labels(self.group.id, kind).set(kinds.get(kind, 0))
        self._shown = frozenset(kinds)

    def _is_due(self, what: str) -> bool:
        return monotonic() >= self.due.get(what, 0.0)

    def _advance(self, _what: str, _done: int, _total: int) -> None:
        if self._health is not None:
            self._health.turn()


def _ids(groups: list[Group]) -> set[str]:
    return {group.id for group in groups}


def _lags(prover: Prover, step: Step) -> bool:
    """Whether consumers have more to do than a piece."""
    ends = prover.bounds
    return sum(ends.get(p, (0, 0))[1] - mark.next_offset for p, mark in step.marks.items()) > PIECE_RECORDS
