"""A token bucket in the form of GCRA: one number, the time at which the bucket would be full again."""

from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """Lets `rate` units a second through, and `burst` at once.

    What needs more than a whole burst passes when the bucket is full, and leaves a debt: a large batch waits, but it
    is not refused for ever. `limits.lua` does the same arithmetic on Valkey.
    """

    rate: float
    burst: float
    full_at: float = 0.0

    def available(self, now: float) -> float:
        """Return how much would pass at `now`; below 0 in debt."""
        return self.burst - max(0.0, self.full_at - now) * self.rate

    def wait(self, need: float, now: float) -> float:
        """Return in how many seconds `need` would pass; 0 when it does."""
        return max(0.0, (min(need, self.burst) - self.available(now)) / self.rate)

    def take(self, amount: float, now: float) -> None:
        """Take `amount`, into debt if need be."""
        self.full_at = max(self.full_at, now) + amount / self.rate
