"""A state machine of everything that happens to a pipeline, against a model of the truth that fits in ten lines."""

import contextlib
import json
import random
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.chaos.children import SESSION_MS, Child, child
from tests.chaos.crashing import SENT, STEPS, Crash
from tests.chaos.feeding import Feed
from tests.chaos.truth import assert_exact
from tests.consuming import caught_up
from tests.place import Place
from tests.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.chaos]


SNAPSHOT = """
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  found[#found + 1] = {key, math.max(redis.call('PTTL', key), 0), redis.call('DUMP', key)}
end
return found
"""
"""All keys at one moment, as a snapshot on disk holds them."""


class Model:
    """The truth: an identity seen for the first time counts once."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str, str]] = set()
        self.totals: Counter[str] = Counter()

    def deliver(self, value: bytes) -> None:
        event = json.loads(value)
        identity = (event["player_id"], event["timestamp"], event["event_id"])
        self.totals[event["player_id"]] += identity not in self.seen
        self.seen.add(identity)


class Pipeline(RuleBasedStateMachine):
    """Its sequences go on where the one before ended, as a pipeline's life does; a subclass says where."""

    place: Place
    directory: Path
    model: Model
    feed: Feed

    def __init__(self) -> None:
        super().__init__()
        self.consumers: list[tuple[contextlib.ExitStack, Child]] = []
        self.snapshot: list[tuple[bytes, int, bytes]] = []

    @rule(count=st.integers(1, 60), seed=st.integers(0, 2**16))
    def deliver(self, count: int, seed: int) -> None:
        self.feed.random = random.Random(seed * 1_000_003 + len(self.feed.sent))
        self.send([self.feed.event() for _ in range(count)])

    @rule(count=st.integers(1, 40))
    def duplicate(self, count: int) -> None:
        self.send(self.feed.sent[-count:])

    @precondition(lambda self: len(self.consumers) < 2)
    @rule()
    def join(self) -> None:
        self.run(None)

    @precondition(lambda self: len(self.consumers) < 2)
    @rule(step=st.sampled_from([*STEPS, *SENT]), nth=st.integers(1, 3), after=st.booleans())
    def join_and_die_at(self, step: str, nth: int, after: bool) -> None:  # noqa: FBT001
        self.run(Crash(step, "after" if after and step not in SENT else "before", nth))

    @precondition(lambda self: self.consumers)
    @rule(orderly=st.booleans())
    def leave(self, orderly: bool) -> None:  # noqa: FBT001
        stack, consumer = self.consumers.pop(0)
        with stack:
            if orderly and consumer.exit_code is None:
                assert consumer.stop() in {0, -9, -15}  # -15: it was not yet up

    @rule()
    def lose_redis(self) -> None:
        with self.place.redis() as client:
            client.flushdb()

    @rule()
    def save_redis(self) -> None:
        with self.place.redis() as client:
            self.snapshot = client.eval(SNAPSHOT, 0)

    @precondition(lambda self: self.snapshot)
    @rule()
    def restore_redis(self) -> None:
        with self.place.redis() as client, client.pipeline(transaction=True) as pipe:
            pipe.flushdb()
            for key, milliseconds, value in self.snapshot:
                pipe.restore(key, milliseconds, value)
            pipe.execute()

    def run(self, crash: Crash | None) -> None:
        stack = contextlib.ExitStack()
        self.consumers.append((stack, stack.enter_context(child(self.place, self.directory, crash=crash))))

    def send(self, values: list[bytes]) -> None:
        self.feed.send_these(values)
        self.feed.sent.extend(values)
        for value in values:
            self.model.deliver(value)

    def teardown(self) -> None:
        for stack, _ in self.consumers:
            stack.close()
        self.send([self.feed.event()])
        with child(self.place, self.directory) as last:
            caught_up(self.place)
            eventually(lambda: totals(self.place) == (dict(self.model.totals), dict(self.model.totals)), timeout=20)
            assert last.stop() == 0


def totals(place: Place) -> tuple[dict[str, int], dict[str, int]]:
    stored: dict[str, int]
    with place.pg() as connection:
        stored = dict(connection.execute("SELECT player_id, total_events FROM player_statistics").fetchall())
    with place.redis() as client:
        kept = {
            key.decode().removeprefix("player_stats:"): int(client.hget(key, "total_events") or 0)
            for key in client.keys("player_stats:*")
        }
    return stored, kept


def drive(place: Place, directory: Path, sequences: int) -> None:
    run_state_machine_as_test(
        type("Here", (Pipeline,), {"place": place, "directory": directory, "model": Model(), "feed": Feed(place, 1)}),
        settings=settings(
            max_examples=sequences,
            stateful_step_count=8,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert SESSION_MS < 6_000
    truth = assert_exact(place)
    assert len(truth.events) > sequences


def test_a_few_lives_of_a_pipeline_agree_with_the_model(place: Place, tmp_path: Path) -> None:
    drive(place, tmp_path, 5)


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_two_hundred_lives_of_a_pipeline_agree_with_the_model(place: Place, tmp_path: Path) -> None:
    drive(place, tmp_path, 200)
