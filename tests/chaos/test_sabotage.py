"""Each protection of the engine switched off in turn: the check that is meant to need it must then fail.

A check that passes with its protection off either does not test it, or shows that something else protects as well; the
table says which, and those rows are asserted too.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from redis.exceptions import ResponseError

from pipeline.engine.consumer import EventConsumer
from pipeline.epoch.epoch import Epoch, plan_for
from pipeline.epoch.roles import ROLES
from pipeline.errors import HaltError, PipelineError
from pipeline.sinks.postgres import PostgresSink, Written
from pipeline.sinks.redis import RedisSink
from tests.chaos import sabotage
from tests.chaos.children import SMALL, child
from tests.chaos.crashing import Crash
from tests.chaos.feeding import Feed
from tests.chaos.proxy import CALL, Proxy
from tests.chaos.test_groups import abort_transactions
from tests.chaos.test_moving_back import move_committed, recreate
from tests.chaos.truth import assert_exact
from tests.conftest import MakePlace
from tests.consuming import assigned, caught_up, consuming, ended
from tests.events import encoded
from tests.place import Place
from tests.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.chaos]

FAST: dict[str, Any] = {**SMALL}
PATIENCE = 30.0
IMPATIENCE = 8.0
"""How long a check waits for the sinks; less where a protection is off and they are not expected to get there."""


SLOW_ROWS = """
    CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END $$;
    CREATE TRIGGER dawdle BEFORE INSERT OR UPDATE ON player_event_counts FOR EACH ROW EXECUTE FUNCTION dawdle();
"""


class Here(NamedTuple):
    """Where a check runs."""

    place: Place
    directory: Path
    patch: pytest.MonkeyPatch
    patience: float


@contextlib.contextmanager
def fed(here: Here, seed: int, count: int = 60, **changes: Any) -> Iterator[tuple[Feed, EventConsumer]]:
    """Run a consumer that has caught up with some records."""
    with Feed(here.place, seed) as feed, consuming(here.place, **(FAST | changes)) as consumer:
        feed.send(count)
        caught_up(here.place, timeout=here.patience)
        yield feed, consumer


def zombie(here: Here) -> None:
    """An epoch that a peer has written is written again by the one that was frozen with it in memory."""
    original, written = PostgresSink.write, []

    def write(self: PostgresSink, epoch: Epoch) -> Written:
        written.append(epoch)
        return original(self, epoch)

    with here.patch.context() as watching:
        watching.setattr(PostgresSink, "write", write)
        with fed(here, 1):
            pass
    settings, group = here.place.settings, here.place.group
    sink = PostgresSink(settings, plan_for(ROLES["all"], settings), group)
    with contextlib.closing(sink), contextlib.closing(RedisSink(settings, group)) as redis:
        for epoch in written:
            again = sink.write(epoch)
            if again.complete:
                redis.apply(again.calls)
    assert_exact(here.place)


def lost_answer(here: Here) -> None:
    """Redis did as it was told, and the answer is lost."""
    with Proxy(here.place.settings.redis_port) as proxy, fed(here, 2, redis_port=proxy.port) as (feed, _):
        rule = proxy.rule("lose the answer", CALL, 3)
        eventually(lambda: exhausted(rule.left, feed), timeout=here.patience)
        caught_up(here.place, timeout=here.patience)
    assert_exact(here.place)


def exhausted(left: int, feed: Feed) -> bool:
    if left:
        feed.send(10)
    return left == 0


def lost_refusal(here: Here) -> None:
    """The answer that names a refused key is lost."""
    with Proxy(here.place.settings.redis_port) as proxy, Feed(here.place, 3, bad=0) as feed:
        with here.place.redis() as client:
            client.set("player_stats:p1", "in the way")
        feed.send_these([feed.event() for _ in range(60)], partition=0)
        proxy.rule("lose the answer", CALL, 3)
        with consuming(here.place, redis_port=proxy.port, batch_max_events=60, batch_max_wait_ms=2_000):
            caught_up(here.place, timeout=here.patience)
    assert_exact(here.place)


def duplicates(here: Here) -> None:
    with fed(here, 4) as (feed, _):
        feed.send_these(feed.sent[:30])
        caught_up(here.place, timeout=here.patience)
    assert_exact(here.place)


def twins(here: Here) -> None:
    """Twice the same event in one epoch."""
    with Feed(here.place, 5) as feed, consuming(here.place, batch_max_events=40, batch_max_wait_ms=1_000):
        feed.send_these([feed.event()] * 2 + [feed.event()], partition=0)
        caught_up(here.place, timeout=here.patience)
    assert_exact(here.place)


def death_between_the_sinks(here: Here) -> None:
    with Feed(here.place, 6) as feed:
        with child(here.place, here.directory, crash=Crash("Redis chunk", "before", 2)) as victim:
            eventually(lambda: victim.dead(feed), timeout=40)
        with consuming(here.place, **FAST):
            caught_up(here.place, timeout=here.patience)
    assert_exact(here.place)


def committed_offset_ahead(here: Here) -> None:
    with fed(here, 7, 150):
        pass
    with Feed(here.place, 8) as feed:
        feed.send(150)
        move_committed(here.place, 20)
        with consuming(here.place, **FAST):
            caught_up(here.place, timeout=here.patience)
    assert_exact(here.place)


def aborted_transactions(here: Here) -> None:
    with fed(here, 9) as (feed, _):
        abort_transactions(here.place, feed, 4)
        caught_up(here.place, timeout=here.patience)
    assert_exact(here.place)


def recreated_topic(here: Here) -> None:
    with fed(here, 10):
        pass
    recreate(here.place)
    with Feed(here.place, 11) as feed:
        for partition in range(3):  # longer than before, each: the id alone tells that it is another topic
            feed.send_these([feed.event() for _ in range(100)], partition=partition)
    with pytest.raises(HaltError), consuming(here.place, **FAST) as consumer:
        eventually(lambda: ended(consumer), timeout=here.patience)


def mostly_bad(here: Here) -> None:
    here.place.produce([b"junk"] * 30, partition=0)
    with pytest.raises(HaltError), consuming(here.place, dlq_halt_count=20) as consumer:
        eventually(lambda: ended(consumer), timeout=here.patience)


def members_come_and_go(here: Here) -> None:
    with fed(here, 12) as (feed, _):
        for _ in range(4):
            with consuming(here.place, **FAST) as guest:
                eventually(lambda guest=guest: has_partitions(guest, feed), timeout=30)  # type: ignore[misc]
        caught_up(here.place, timeout=here.patience)
    assert_exact(here.place)


def has_partitions(consumer: EventConsumer, feed: Feed) -> bool:
    feed.send(3)
    return bool(assigned(consumer))


def crossing_keys(here: Here) -> None:
    """Two writers meet the same keys at the same time, and never deadlock.

    A row takes 5 ms to write here, so that two transactions of 40 rows each that begin together do meet.
    """
    players = [f"p{number:02}" for number in range(40)]
    larger = FAST | {"batch_max_events": len(players), "batch_max_wait_ms": 2_000}
    with here.place.pg() as connection:
        connection.execute(SLOW_ROWS)
    with (
        Feed(here.place, 13) as feed,
        consuming(here.place, **larger) as first,
        consuming(here.place, **larger) as second,
    ):
        eventually(lambda: bool(assigned(first) and assigned(second)))
        for _ in range(4):
            for partition in range(3):  # of which either has one at least
                batch = [encoded(player_id=player, game_id="g") for player in players]
                feed.send_these(batch, partition=partition)
        caught_up(here.place, timeout=2 * here.patience)
    with here.place.pg() as connection:
        found = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert found.fetchone() == (0,)
    assert_exact(here.place)


Check = Callable[[Here], None]


class Row(NamedTuple):
    """A protection, what switches it off, the check meant to need it, and what protects as well where that passes."""

    protection: str
    switch_off: Callable[[Here], None]
    check: Check
    covered_by: str = ""


ROWS = [
    Row("watermark check (fence of zombies)", lambda here: sabotage.no_watermark_check(here.patch), zombie),
    Row("Redis gate", lambda here: sabotage.library(here.patch, here.directory, *sabotage.GATE), lost_answer),
    Row("ledger of identities", lambda here: sabotage.no_ledger(here.patch), duplicates),
    Row("duplicates within an epoch", lambda here: sabotage.no_unique_within_an_epoch(here.patch), twins),
    Row("outbox replay", lambda here: sabotage.no_replay(here.patch), death_between_the_sinks),
    Row(
        "positions from PostgreSQL",
        lambda here: sabotage.start_where_kafka_says(here.patch, here.place),
        committed_offset_ahead,
    ),
    Row("read_committed", lambda here: sabotage.read_uncommitted(here.patch), aborted_transactions),
    Row("topic id", lambda here: sabotage.any_topic_will_do(here.patch), recreated_topic),
    Row("halt when most is bad", lambda here: sabotage.no_bad_ratio(here.patch), mostly_bad),
    Row("sorted keys", lambda here: sabotage.unsorted_keys(here.patch), crossing_keys),
    Row(
        "refused keys kept until refilled",
        lambda here: sabotage.refused_keys_forgotten(here.patch, here.directory),
        lost_refusal,
    ),
    Row("client retries off", lambda here: sabotage.client_retries(here.patch), lost_answer, "the Redis gate"),
    Row(
        "offsets committed after both sinks",
        lambda here: sabotage.commit_first(here.patch),
        death_between_the_sinks,
        "positions from PostgreSQL: Kafka's offset decides nothing",
    ),
    Row(
        "landing on revoke",
        lambda here: sabotage.no_landing_on_revoke(here.patch),
        members_come_and_go,
        "the watermark check: landing saves work, not sums",
    ),
]

CHECKS: dict[str, Check] = {row.check.__name__: row.check for row in ROWS}


@pytest.mark.long
@pytest.mark.parametrize("name", CHECKS)
def test_a_check_passes_with_every_protection_on(
    name: str, make_place: MakePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CHECKS[name](here(make_place, tmp_path, monkeypatch))  # it asserts


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.protection)
def test_a_protection_switched_off_is_missed(
    row: Row,
    make_place: MakePlace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = here(make_place, tmp_path, monkeypatch, PATIENCE if row.covered_by else IMPATIENCE)
    row.switch_off(where)
    failure = ""
    try:
        row.check(where)
    except (AssertionError, pytest.fail.Exception, PipelineError, ResponseError) as error:
        failure = str(error).partition("\n")[0] or type(error).__name__
    with capsys.disabled():
        print(f"\n{row.protection:36} {row.check.__name__:24} {failure[:90] or 'passes: ' + row.covered_by}")  # noqa: T201
    assert bool(failure) != bool(row.covered_by)


def here(make_place: MakePlace, directory: Path, patch: pytest.MonkeyPatch, patience: float = PATIENCE) -> Here:
    logs = directory / "logs"
    logs.mkdir()
    return Here(make_place(), logs, patch, patience)
