"""The autoscaler's numbers, tried on series of lag: bounded, calm, quick enough, and held while a sink is the limit."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import yaml

from scripts.write_rules import SOURCE
from tests.deploy.autoscaler import DRAIN_SECONDS, Autoscaler, Demand, Limits, wanted
from tests.deploy.rendering import of_kind, rendered

SYNC = 15
PACE = 20_000
"""Records that one consumer is counted on to write a second."""

(SCALED,) = of_kind(rendered("overlays/prod"), "ScaledObject")
LIMITS = Limits.of(SCALED)
PARTITIONS = SCALED["spec"]["maxReplicaCount"]


@dataclass(frozen=True)
class Moment:
    """What was decided at one sync, on how much lag."""

    consumers: int
    lag: float


def played(minutes: int, arriving: Callable[[int], float], capacity: float = float("inf")) -> list[Moment]:
    """Play a load. `capacity` is what the sink takes a second in all, whoever writes."""
    autoscaler, running, lag, moments = Autoscaler(LIMITS), LIMITS.least, 0.0, []
    for second in range(0, minutes * 60, SYNC):
        arrivals = arriving(second)
        lag = max(0.0, lag + (arrivals - min(running * PACE, capacity)) * SYNC)
        saturated = lag > 0 and running * PACE > 2 * capacity
        number = wanted(Demand(lag, arrivals), PACE, saturated=saturated, running=running)
        running = autoscaler.decide(second, number, running)
        moments.append(Moment(running, lag))
    return moments


def changes(moments: list[Moment]) -> int:
    return sum(one.consumers != other.consumers for one, other in pairwise(moments))


def test_the_manifests_say_the_same() -> None:
    need = f"(arriving + lag / {DRAIN_SECONDS}) / {PACE}"
    formula = SCALED["spec"]["advanced"]["scalingModifiers"]["formula"]
    assert formula == f"saturated > 0 ? min({need}, running) : {need}"
    triggers = {one["name"]: one["metadata"] for one in SCALED["spec"]["triggers"]}
    assert float(triggers["lag"]["lagThreshold"]) == PACE * DRAIN_SECONDS
    (wanted,) = [
        rule["expr"]
        for group in yaml.safe_load(SOURCE.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
        if rule.get("record") == "pipeline:consumers_wanted:unbounded"
    ]
    assert wanted == f"(pipeline:arriving:rate2m + on (job) pipeline:lag_records / {DRAIN_SECONDS}) / {PACE}"


def test_load_is_met_drained_and_the_consumers_given_back() -> None:
    moments = played(90, lambda second: 150_000 if 600 <= second < 2400 else 10_000)
    numbers = [one.consumers for one in moments]
    assert 8 <= max(numbers) <= PARTITIONS, "150,000 a second need eight"
    assert max(one.lag for one in moments) < 150_000 * 300, "never more than five minutes behind"
    assert moments[-1] == Moment(LIMITS.least, 0)
    assert changes(moments) <= 20, "each change is a rebalance: up by two, down one by one, and no way back"


def test_a_steady_load_is_met_by_a_steady_number() -> None:
    moments = played(120, lambda _: 90_000)
    settled = moments[len(moments) // 4 :]
    assert {one.consumers for one in settled} == {5}
    assert changes(moments) <= 4


def test_a_burst_that_passes_in_half_a_minute_changes_nothing() -> None:
    assert changes(played(30, lambda second: 100_000 if second == 600 else 10_000)) == 0


def test_load_that_swings_does_not_swing_the_consumers() -> None:
    moments = played(120, lambda second: 70_000 if second // 120 % 2 else 10_000)
    assert changes(moments[80:]) <= 4


def test_a_saturated_sink_is_given_no_more_consumers() -> None:
    free, full = played(60, lambda _: 100_000), played(60, lambda _: 100_000, capacity=35_000)
    assert max(one.consumers for one in free) > 5
    assert max(one.consumers for one in full) <= 4, "beyond what the sink takes nobody is added, however long the queue"
