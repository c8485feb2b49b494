"""A watch in a thread, as fast as it goes, and what it tells."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from prometheus_client import REGISTRY

from pipeline.errors import PipelineError
from pipeline.verify import watch
from pipeline.verify.watch import Pace, Watch, Watched, WatchHealth
from tests.place import Place


@dataclass
class Watching:
    """What a watch found, at any time since it began."""

    place: Place
    health: WatchHealth
    alarms: list[dict[str, int]] = field(default_factory=list)

    def told(self, name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(f"pipeline_proof_{name}", {"group": self.place.group, **labels}) or 0.0

    def differing(self) -> set[str]:
        """The kinds of what differs now."""
        return {
            sample.labels["kind"]
            for family in REGISTRY.collect()
            if family.name == "pipeline_proof_differences"
            for sample in family.samples
            if sample.labels["group"] == self.place.group and sample.value
        }


AT_ONCE = Pace(0.05, 1e9, 0.0)


@contextmanager
def watching(place: Place, patch: pytest.MonkeyPatch, pace: Pace = AT_ONCE) -> Iterator[Watching]:
    """Run a watch until the block ends.

    What is rare in production, because it reads the whole log or holds epochs off, it does at each turn.
    """
    patch.setattr(watch, "_LOOK_SECONDS", 0.1)
    patch.setattr(watch, "_CONFIRM_SECONDS", 0.1)
    seen = Watching(place, WatchHealth())
    show = Watched._show  # noqa: SLF001 - every alarm, however short

    def noting(self: Watched, kinds: dict[str, int]) -> None:
        if any(kinds.values()):
            seen.alarms.append(dict(kinds))
        show(self, kinds)

    patch.setattr(Watched, "_show", noting)
    watcher = Watch(place.settings, pace, seen.health)
    raised: list[PipelineError] = []

    def run() -> None:
        try:
            watcher.run()
        except PipelineError as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="watch")
    thread.start()
    try:
        yield seen
    finally:
        watcher.stop()
        thread.join(120)
        assert not thread.is_alive()
        if raised:
            raise raised[0]
