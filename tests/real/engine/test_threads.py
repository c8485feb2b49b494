"""Who calls what: what owns a connection or a state is called by one thread alone while the consumer runs."""

import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.contract.offsets import Positions
from pipeline.engine import consumer as engine
from pipeline.engine.intake import Intake
from pipeline.engine.lag import LagMeter
from pipeline.engine.stages import Apply, Prepare, Write
from pipeline.engine.standings import Standings
from pipeline.engine.upkeep import Upkeep
from pipeline.epoch.batch import Batcher
from pipeline.epoch.decode import Decoder
from pipeline.kafka.source import Source
from pipeline.sinks.admission import Admission
from pipeline.sinks.faults import FaultReport
from pipeline.sinks.housekeeping import Housekeeping
from pipeline.sinks.level import Cache
from pipeline.sinks.postgres import PostgresSink
from pipeline.sinks.redis import RedisSink
from pipeline.sinks.registry import Registry
from tests.consuming import assigned, caught_up, consuming
from tests.events import encoded
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real

LOOP = "consumer-all"
OWNERS: dict[type, frozenset[str]] = {
    **dict.fromkeys((Source, Intake, Batcher, Positions, LagMeter, Standings, Upkeep), frozenset({LOOP})),
    Registry: frozenset({"beside"}),
    **dict.fromkeys((Prepare, Decoder), frozenset({"prepare"})),
    **dict.fromkeys((Write, PostgresSink, Admission), frozenset({"postgres"})),
    Apply: frozenset({"redis"}),
    **dict.fromkeys((RedisSink, Cache), frozenset({"beside", "redis"})),
    FaultReport: frozenset({"prepare", "postgres"}),
    Housekeeping: frozenset({"housekeeping"}),
}
"""Which threads the table in the consumer's docstring gives the objects of a class to: each of them to one."""


class Calls:
    """The threads that called each object's public methods; what is closed is closed by the loop at the end."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.objects: dict[int, object] = {}  # kept, so that no other takes its id
        self.threads: dict[int, set[tuple[str, int | None]]] = {}
        for kind in OWNERS:
            for name, function in list(vars(kind).items()):
                public = name == "__call__" or not name.startswith("_")
                if callable(function) and public and name != "close":
                    patch.setattr(kind, name, self._noted(function))

    def _noted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def noted(this: object, *args: Any, **kwargs: Any) -> Any:
            thread = threading.current_thread()
            if thread is threading.main_thread():  # which makes the consumer, and calls nothing of it afterwards
                return function(this, *args, **kwargs)
            self.objects[id(this)] = this
            self.threads.setdefault(id(this), set()).add((thread.name, thread.ident))
            return function(this, *args, **kwargs)

        return noted

    def of(self, kind: type) -> list[set[tuple[str, int | None]]]:
        """The threads of each object of a class."""
        return [self.threads[key] for key, one in self.objects.items() if type(one) is kind]


def test_what_owns_a_connection_is_called_by_one_thread(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while partitions are taken up beside epochs under way, at a refill, and in an audit."""
    monkeypatch.setattr(engine, "AUDIT_SECONDS", 0.3)
    calls = Calls(monkeypatch)
    small: dict[str, Any] = {"batch_max_events": 20, "batch_max_wait_ms": 20, "outbox_keep_seconds": 0}
    with consuming(place, **small) as first:
        with consuming(place, **small) as guest:
            eventually(lambda: fed(place) and bool(assigned(guest)), timeout=60)
        eventually(lambda: fed(place) and len(assigned(first)) == 3, timeout=60)
        with place.redis() as client:
            client.flushdb()
        fed(place)
        caught_up(place)
        with place.pg() as connection:
            eventually(lambda: connection.execute("SELECT count(*) FROM pipeline_outbox").fetchone() == (0,))
    for kind, owners in OWNERS.items():
        found = calls.of(kind)
        assert all(len(threads) == 1 for threads in found), (kind, found)
        names = {name for threads in found for name, _ in threads}
        assert names, f"nobody called a {kind}: nothing was tried"
        assert names <= owners, kind
    assert {name for threads in calls.of(RedisSink) for name, _ in threads} == OWNERS[RedisSink], "one for each"


def fed(place: Place) -> bool:
    place.produce([encoded(player_id=f"p{number % 7}") for number in range(30)])
    return True
