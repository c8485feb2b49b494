"""How Kubernetes' HorizontalPodAutoscaler turns a metric into a number of consumers, as KEDA sets it up for us.

A model of the controller's algorithm (autoscaling/v2: tolerance, stabilisation windows, policies), pure and timed by
its caller, so that the numbers of deploy/k8s can be tried on any load.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

TOLERANCE: Final = 0.1
DRAIN_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Direction:
    """How fast the number may go one way: `pods` in `period` seconds, and only as all of `window` seconds agree."""

    window: float
    pods: int
    period: float

    @classmethod
    def of(cls, behavior: Mapping[str, Any], speed: float) -> "Direction":
        """Read scaleUp or scaleDown, with time running `speed` times faster."""
        (policy,) = behavior["policies"]
        return cls(behavior["stabilizationWindowSeconds"] / speed, policy["value"], policy["periodSeconds"] / speed)


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds and speeds of one autoscaler."""

    least: int
    most: int
    up: Direction
    down: Direction

    @classmethod
    def of(cls, scaled_object: Mapping[str, Any], speed: float = 1.0) -> "Limits":
        """Read a ScaledObject."""
        spec = scaled_object["spec"]
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        up, down = Direction.of(behavior["scaleUp"], speed), Direction.of(behavior["scaleDown"], speed)
        return cls(spec["minReplicaCount"], spec["maxReplicaCount"], up, down)


@dataclass(frozen=True, slots=True)
class Demand:
    """Records that wait, and records that arrive a second."""

    lag: float
    arriving: float


@dataclass(slots=True)
class Autoscaler:
    """Decides from time to time; remembers what it recommended and did."""

    limits: Limits
    _recommended: deque[tuple[float, int]] = field(default_factory=deque)
    _changes: deque[tuple[float, int]] = field(default_factory=deque)

    def decide(self, now: float, wanted: float, running: int) -> int:
        """Return how many consumers there shall be, of `wanted` by the metric while `running` run."""
        desired = running if abs(wanted / max(running, 1) - 1) <= TOLERANCE else math.ceil(wanted)
        desired = min(max(desired, self.limits.least), self.limits.most)
        self._recommended.append((now, desired))
        calm = self._stabilised(now, running)
        decided = min(max(self._within_policy(now, calm, running), self.limits.least), self.limits.most)
        if decided != running:
            self._changes.append((now, decided - running))
        return decided

    def _stabilised(self, now: float, running: int) -> int:
        """Go up no further than all recommendations of the window agree on; likewise down."""
        up, down = self.limits.up, self.limits.down
        while self._recommended and self._recommended[0][0] < now - max(up.window, down.window):
            self._recommended.popleft()
        lowest = min(number for at, number in self._recommended if at >= now - up.window)
        highest = max(number for at, number in self._recommended if at >= now - down.window)
        return max(lowest, min(running, highest)) if running < lowest else min(running, highest)

    def _within_policy(self, now: float, wanted: int, running: int) -> int:
        up, down = self.limits.up, self.limits.down
        added = sum(change for at, change in self._changes if change > 0 and at > now - up.period)
        taken = -sum(change for at, change in self._changes if change < 0 and at > now - down.period)
        return min(max(wanted, running - max(0, down.pods - taken)), running + max(0, up.pods - added))


def wanted(demand: Demand, pace: float, *, saturated: bool, running: int) -> float:
    """The ScaledObject's formula: what keeps up with the arrivals and drains the backlog in 30 s, at a consumer's pace.

    While a sink is saturated no more than run.
    """
    number = (demand.arriving + demand.lag / DRAIN_SECONDS) / pace
    return min(number, running) if saturated else number
