"""The pipeline on a distributed PostgreSQL: from an empty database to settled boards, and what happens on the way."""

import functools
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipeline.errors import UnavailableError
from pipeline.sinks.dialect import DISTRIBUTED, SHARDED, await_workers, dialect_of
from pipeline.sinks.postgres import SETTLING_LOCK
from tests.chaos.children import SMALL, child
from tests.chaos.crashing import Crash
from tests.chaos.feeding import Feed
from tests.chaos.test_settled_boards import scores, settle, settled
from tests.chaos.test_verifier import ONWARD, ROUND, alter, begun, kinds, kinds_of_a_round
from tests.chaos.truth import assert_exact
from tests.citus.conftest import Cluster
from tests.commanding import gamemetrics
from tests.consuming import consume_all
from tests.place import Place
from tests.real.verify.test_steps import new_records
from tests.waiting import eventually

ONE_EPOCH: dict[str, Any] = {"batch_max_wait_ms": 1_000}
IN_PROCESS: dict[str, Any] = {**SMALL}


def run(place: Place, *arguments: str) -> tuple[int, str]:
    """Run a command at the coordinator."""
    found = place.settings
    environment = {
        "DB_HOST": found.db_host,
        "DB_PORT": str(found.db_port),
        "DB_USER": found.db_user,
        "DB_PASSWORD": found.db_password.get_secret_value(),
        "DB_SSLMODE": found.db_sslmode,
        "DB_NAME": found.db_name,
    }
    done = gamemetrics(place, *arguments, **environment)
    return done.returncode, done.stdout + done.stderr


def add_workers(place: Place, cluster: Cluster) -> None:
    with place.pg() as connection:
        for host, port in cluster.workers:
            connection.execute("SELECT citus_add_node(%s, %s)", (host, port))


def spread_out(place: Place, cluster: Cluster) -> None:
    """Make the schema in an empty database, and distribute it."""
    add_workers(place, cluster)
    code, said = run(place, "migrate", "--distribute", "--json")
    assert code == 0, said
    assert json.loads(said)["distributed"] == list(SHARDED)


@pytest.fixture
def distributed(place: Place, cluster: Cluster) -> Place:
    spread_out(place, cluster)
    return place


def test_a_database_without_workers_says_what_to_do_and_one_with_them_is_spread(place: Place, cluster: Cluster) -> None:
    with place.pg() as connection:
        connection.execute("DROP EXTENSION citus CASCADE")
    code, said = run(place, "migrate", "--distribute")
    assert (code, "CREATE EXTENSION citus" in said) == (2, True), said
    with place.pg() as connection:
        connection.execute("CREATE EXTENSION citus")
    code, said = run(place, "migrate", "--distribute")
    assert (code, "no workers" in said) == (2, True), said
    spread_out(place, cluster)
    code, said = run(place, "migrate", "--distribute")
    assert code == 0, said
    assert "distributed" not in said, "a second time there is nothing to do"
    with place.pg() as connection:
        assert dialect_of(connection) is DISTRIBUTED
        nodes = connection.execute("SELECT count(DISTINCT nodeport) FROM citus_shards").fetchone()
    assert nodes == (len(cluster.workers),)


def test_rows_of_a_plain_past_are_spread_too(place: Place, cluster: Cluster) -> None:
    """A consumer that ran on the tables before goes on after."""
    add_workers(place, cluster)
    code, said = run(place, "migrate")
    assert code == 0, said
    with Feed(place, 1) as feed:
        feed.send(200)
        consume_all(place, **IN_PROCESS)
        code, said = run(place, "migrate", "--distribute", "--json")
        assert (code, json.loads(said)["distributed"]) == (0, list(SHARDED))
        feed.send_these(feed.sent)
        feed.send(100)
        consume_all(place, **IN_PROCESS)
    assert_exact(place)


def test_duplicates_dead_letters_and_late_events_count_once(distributed: Place) -> None:
    place = distributed
    with place.pg() as connection:  # rows that PostgreSQL refuses and the judge does not
        connection.execute("ALTER TABLE events ADD CONSTRAINT no_p3 CHECK (player_id <> 'bot')")
    with Feed(place, 2) as feed:
        feed.send(400)
        consume_all(place, **IN_PROCESS)
        feed.send_these(feed.sent[::-1])
        feed.send(2_000)
        consume_all(place, **ONE_EPOCH)
        feed.send_these([value for value in feed.sent[::2] for _ in range(2)])
        consume_all(place, **ONE_EPOCH)
    assert_exact(place)
    bots = [scores(0)[0].replace(b'"p1"', b'"bot"') for _ in range(3)]
    place.produce([*bots, *scores(0, 4, 40), *feed.sent[:50]], partition=0)
    consume_all(place, **ONE_EPOCH)
    with place.pg() as connection:
        dead = connection.execute("SELECT count(*) FROM dlq_events WHERE code = 'refused'").fetchone()
        assert dead == (3,)
        row = connection.execute("SELECT count(*), sum(total_events)::bigint FROM player_statistics").fetchone()
        events = connection.execute("SELECT count(*) FROM events").fetchone()
    assert row is not None
    assert events == (row[1],)
    code, said = run(place, "verify")
    assert code == 0, said


def test_what_is_altered_is_found_in_what_is_new_and_by_a_round(distributed: Place) -> None:
    place = distributed
    begun(place)
    for number, row in enumerate(ONWARD):
        new_records(place, 10 + number)
        consume_all(place)
        alter(place, row.do)
        assert row.kind in kinds(place), row.check
        alter(place, row.undo)
        assert kinds(place) == set(), row.check
    for row in ROUND:
        alter(place, row.do)
        assert row.kind in kinds_of_a_round(place), row.check
        alter(place, row.undo)
        assert kinds(place) == set(), row.check


def test_days_are_settled_once_and_late_events_are_added(distributed: Place) -> None:
    place = distributed
    place.produce(scores(0, 1, 2, 3, 5, 40), partition=0)
    consume_all(place)
    with place.pg() as connection:
        assert settle(connection) == [2, 2, 2]
        assert settle(connection) == []
    place.produce(scores(0, 2, 5, 60), partition=1)
    consume_all(place)
    assert settled(place) == {"p1": 13 + 15 + 50 + 15 + 70, "p2": 13 + 15 + 50 + 15 + 70}
    assert_exact(place)


@pytest.mark.parametrize("step", ["half a COPY", "one table upserted", "upserted", "watermarks moved", "written"])
def test_a_death_at_a_step_loses_nothing(distributed: Place, tmp_path: Path, step: str) -> None:
    place = distributed
    with Feed(place, 3, again=0.3) as feed:
        feed.send(60)
        for nth in (1, 3):
            with child(place, tmp_path, crash=Crash(step, "before", nth)) as victim:
                eventually(functools.partial(victim.dead, feed), timeout=200)
                assert victim.exit_code == -9, victim.said
        feed.send(60)
        consume_all(place, **ONE_EPOCH)  # what was fed until it died may be much
    assert_exact(place)


def test_a_commit_whose_answer_was_lost_is_found(distributed: Place, tmp_path: Path) -> None:
    place = distributed
    with Feed(place, 4) as feed:
        feed.send(60)
        with child(place, tmp_path, crash=Crash("commit sent", "before", 2)) as victim:
            eventually(functools.partial(victim.dead, feed), timeout=200)
            assert victim.exit_code == -9, victim.said
        consume_all(place, **ONE_EPOCH)  # what was fed until it died may be much
    assert_exact(place)


def test_redis_emptied_is_refilled(distributed: Place) -> None:
    place = distributed
    with Feed(place, 5) as feed:
        feed.send(200)
        consume_all(place, **IN_PROCESS)
        with place.redis() as client:
            client.flushdb()
        feed.send(50)
        consume_all(place, **IN_PROCESS)
    assert_exact(place)


def test_what_a_worker_has_not_committed_holds_off_refills_and_settling(distributed: Place, cluster: Cluster) -> None:
    """As after a worker that was away when its second phase was due; another group's, which nobody here recovers."""
    place = distributed
    place.produce(scores(0, 5), partition=0)
    consume_all(place)
    with cluster.at(cluster.workers[0]) as worker, place.pg() as connection:
        worker.execute("BEGIN")
        worker.execute("CREATE TABLE IF NOT EXISTS left_behind ()")
        worker.execute("PREPARE TRANSACTION 'citus_99999_1_1_1'")
        try:
            with pytest.raises(UnavailableError, match="1 transactions are prepared and not committed"):
                await_workers(connection)
            assert settle(connection) == []
            code, said = run(place, "cache", "rebuild")
            assert (code, "prepared and not committed" in said) == (1, True), said
        finally:
            worker.execute("ROLLBACK PREPARED 'citus_99999_1_1_1'")
        await_workers(connection)
        assert settle(connection) == [2]
        code, said = run(place, "cache", "rebuild")
        assert code == 0, said
    assert_exact(place)


def test_another_session_settles_nothing_while_an_epoch_adds(distributed: Place) -> None:
    place = distributed
    place.produce(scores(5), partition=0)
    consume_all(place)
    with place.pg() as adding, place.pg() as settling:
        settling.execute("SET lock_timeout = '500ms'")
        with adding.transaction():
            adding.execute("SELECT pg_advisory_xact_lock_shared(%s)", (SETTLING_LOCK,))
            with pytest.raises(psycopg.errors.LockNotAvailable):
                settle(settling)
        assert settle(settling) == [2]
    assert_exact(place)
