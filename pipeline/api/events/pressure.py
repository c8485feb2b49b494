"""The bytes that may be in flight to Kafka; past them the edge says so at once instead of growing."""

from pipeline.api.http.replies import Refusal


class Pressure:
    """A budget of bytes."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def enter(self, size: int) -> None:
        """Take `size` bytes. Raises Refusal when the budget is spent."""
        if self.used + size > self.limit:
            raise Refusal(503, "too much is in flight; nothing was accepted", [("Retry-After", "1")])
        self.used += size

    def leave(self, size: int) -> None:
        """Give `size` bytes back."""
        self.used -= size
