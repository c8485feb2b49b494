"""Ticks of the edge's clock at chosen times."""

from pipeline.api.events.stamps import Stamps, Tick


def tick_at(milliseconds: int) -> Tick:
    """Return the tick of a time, in milliseconds since 1970."""
    return Stamps(milliseconds).last()
