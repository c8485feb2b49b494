"""`gamemetrics verify` goes on from its checkpoint: it finds what is wrong, wherever it was stopped."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pipeline.config import Settings
from pipeline.sinks import session
from pipeline.verify import rounds, steps
from pipeline.verify.columns import ColumnJudge
from pipeline.verify.findings import Findings
from pipeline.verify.groups import read_groups
from pipeline.verify.report import Report
from pipeline.verify.verify import proving, verify
from tests.commanding import told
from tests.consuming import caught_up, consume_all, consuming
from tests.place import Place
from tests.real.verify.test_verify import NONE, TODAY, a_mixed_load, events

pytestmark = pytest.mark.real


def go_on(place: Place, settings: Settings | None = None, *, full: bool = False) -> Report:
    return verify(settings or place.settings, lambda _what, _done, _total: None, full=full)


def a_round(place: Place) -> None:
    """Have a verifier go once through what is old."""
    with place.pg() as connection:
        (group,) = read_groups(connection, place.topic)
    with proving(place.settings, group, Report()) as prover:
        prover.roll_pages = 1
        while not prover.round_ended:
            prover.step()


def found_in(report: Report) -> tuple[bool, set[str], str]:
    found = report.differences
    return bool(found), set(found.totals), "\n".join(f"{one.kind} {one.key}" for one in found.kept)


def test_a_run_reads_what_came_since_the_last_one(place: Place) -> None:
    a_mixed_load(place)
    consume_all(place)
    code, report = told(place, "verify")
    assert (code, report["differences"], report["compared"]["records"]) == (0, [], 457)
    assert told(place, "verify")[1]["compared"]["records"] == 0
    place.produce(events(30, seed=7))
    consume_all(place)
    code, report = told(place, "verify")
    assert (code, report["differences"], report["compared"]["records"]) == (0, [], 30)
    assert report["seed"] != 0
    with place.pg() as connection:
        assert connection.execute("SELECT state, differences, behind_records FROM pipeline_proof_state").fetchall() == [
            ("good", 0, 0)
        ]
    code, report = told(place, "verify", "--full")
    assert (code, report["differences"], report["compared"]["records"]) == (0, [], 487)


@dataclass(frozen=True)
class Alteration:
    """Something done to what the newest records made, how it is undone, and which kind and key must be named."""

    do: Sequence[str]
    undo: Sequence[str]
    kind: str
    key: str


NEW = "player-new"
GAME = "game-0"
BOOKED = "UPDATE pipeline_watermarks SET"
LETTER = "id = (SELECT max(id) FROM dlq_events)"
ALTERATIONS = {
    "an event lost": Alteration(
        [
            "CREATE TABLE kept (LIKE events)",
            f"INSERT INTO kept SELECT * FROM events WHERE player_id = '{NEW}'",
            f"DELETE FROM events WHERE player_id = '{NEW}'",
        ],
        ["INSERT INTO events SELECT * FROM kept", "DROP TABLE kept"],
        "event",
        f"player '{NEW}'",
    ),
    "data altered": Alteration(
        [f"UPDATE events SET data = data || '{{\"note\": 1}}' WHERE player_id = '{NEW}'"],
        [f"UPDATE events SET data = data - 'note' WHERE player_id = '{NEW}'"],
        "event",
        f"player '{NEW}'",
    ),
    "a game altered": Alteration(
        [f"UPDATE events SET game_id = 'elsewhere' WHERE player_id = '{NEW}'"],
        [f"UPDATE events SET game_id = '{GAME}' WHERE player_id = '{NEW}'"],
        "event",
        f"player '{NEW}'",
    ),
    "a count too high: counted twice": Alteration(
        [f"UPDATE player_event_counts SET events = events + 1 WHERE player_id = '{NEW}'"],
        [f"UPDATE player_event_counts SET events = events - 1 WHERE player_id = '{NEW}'"],
        "statistics",
        f"player '{NEW}'",
    ),
    "a count too low: taken for a duplicate": Alteration(
        [f"UPDATE player_event_counts SET events = events - 1 WHERE player_id = '{NEW}'"],
        [f"UPDATE player_event_counts SET events = events + 1 WHERE player_id = '{NEW}'"],
        "statistics",
        f"player '{NEW}'",
    ),
    "a last event moved": Alteration(
        [f"UPDATE player_event_counts SET last_event = last_event - interval '1 s' WHERE player_id = '{NEW}'"],
        [f"UPDATE player_event_counts SET last_event = last_event + interval '1 s' WHERE player_id = '{NEW}'"],
        "statistics",
        f"player '{NEW}'",
    ),
    "a score altered": Alteration(
        [f"UPDATE leaderboard_daily SET score = score + 1 WHERE player_id = '{NEW}'"],
        [f"UPDATE leaderboard_daily SET score = score - 1 WHERE player_id = '{NEW}'"],
        "board",
        f"player '{NEW}'",
    ),
    "a dead letter lost": Alteration(
        [
            f"CREATE TABLE kept AS SELECT * FROM dlq_events WHERE {LETTER}",
            f"DELETE FROM dlq_events WHERE {LETTER}",
        ],
        ["INSERT INTO dlq_events OVERRIDING SYSTEM VALUE SELECT * FROM kept", "DROP TABLE kept"],
        "dead letter",
        "partition",
    ),
    "a record lost between watermarks": Alteration(
        ["UPDATE pipeline_watermarks SET admitted = admitted - 1 WHERE partition = 2"],
        ["UPDATE pipeline_watermarks SET admitted = admitted + 1 WHERE partition = 2"],
        "records",
        "partition 2",
    ),
    "an admitted event booked as a duplicate": Alteration(
        ["UPDATE pipeline_watermarks SET admitted = admitted - 1, duplicates = duplicates + 1 WHERE partition = 1"],
        ["UPDATE pipeline_watermarks SET admitted = admitted + 1, duplicates = duplicates - 1 WHERE partition = 1"],
        "admitted",
        "all partitions",
    ),
    "a dead letter booked as a duplicate": Alteration(
        [f"{BOOKED} dead_lettered = dead_lettered - 1, duplicates = duplicates + 1 WHERE partition = 1"],
        [f"{BOOKED} dead_lettered = dead_lettered + 1, duplicates = duplicates - 1 WHERE partition = 1"],
        "dead-lettered",
        "partition 1",
    ),
    "a watermark past the log's end": Alteration(
        ["UPDATE pipeline_watermarks SET next_offset = next_offset + 1000 WHERE partition = 0"],
        ["UPDATE pipeline_watermarks SET next_offset = next_offset - 1000 WHERE partition = 0"],
        "watermark",
        "partition 0",
    ),
    "a watermark set back": Alteration(
        ["CREATE TABLE kept AS SELECT * FROM pipeline_watermarks", f"{BOOKED} next_offset = 1 WHERE partition = 0"],
        [
            f"{BOOKED} next_offset = (SELECT next_offset FROM kept WHERE kept.partition = 0) WHERE partition = 0",
            "DROP TABLE kept",
        ],
        "checkpoint",
        "partition 0",
    ),
    "a topic that was another": Alteration(
        ["UPDATE pipeline_proofs SET topic_id = 'another'"],
        ["UPDATE pipeline_proofs SET topic_id = (SELECT min(topic_id) FROM pipeline_watermarks)"],
        "checkpoint",
        "partition 0",
    ),
}
REDIS_ALTERATIONS: dict[str, tuple[list[Any], list[Any], str]] = {
    "a hash": (
        ["HINCRBY", f"player_stats:{NEW}", "total_events", 1],
        ["HINCRBY", f"player_stats:{NEW}", "total_events", -1],
        f"player_stats:{NEW} total_events",
    ),
    "a sorted set": (
        ["ZINCRBY", f"leaderboard:{GAME}:alltime", 1, NEW],
        ["ZINCRBY", f"leaderboard:{GAME}:alltime", -1, NEW],
        f"leaderboard:{GAME}:alltime player '{NEW}'",
    ),
    "a day's sorted set": (
        ["ZINCRBY", f"leaderboard:{GAME}:daily:{TODAY:%Y-%m-%d}", 1, NEW],
        ["ZINCRBY", f"leaderboard:{GAME}:daily:{TODAY:%Y-%m-%d}", -1, NEW],
        f"leaderboard:{GAME}:daily:{TODAY:%Y-%m-%d} player '{NEW}'",
    ),
}


def new_records(place: Place, seed: int) -> None:
    """A score of the player whose rows are altered, others, and a bad record in each partition."""
    one = events(60, seed=seed, players=20)
    score = next(value for _, value in one if isinstance(value, bytes) and b"player_score" in value)
    mine = score.replace(b"game-1", GAME.encode())
    player = mine.split(b'"player_id":"')[1].split(b'"')[0]
    at = mine.split(b'"timestamp":"')[1].split(b'"')[0]
    mine = mine.replace(player, NEW.encode()).replace(at, f"{TODAY:%Y-%m-%d}T00:00:01.{seed:06}Z".encode())
    place.produce([*one, (NEW, mine)])
    for partition in range(3):
        place.produce([b"not JSON"], partition=partition)


def test_each_alteration_of_what_is_new_is_found_and_named_until_it_is_undone(place: Place) -> None:
    a_mixed_load(place)
    for seed, (name, alteration) in enumerate(ALTERATIONS.items()):
        new_records(place, 100 + seed)
        consume_all(place)
        with place.pg() as connection:
            for statement in alteration.do:
                connection.execute(statement.encode())
            for again in ("at once", "and at the next run"):
                found, kinds, keys = found_in(go_on(place))
                assert found, (name, again)
                assert alteration.kind in kinds, (name, again, keys)
                assert alteration.key in keys, (name, again, keys)
            for statement in alteration.undo:
                connection.execute(statement.encode())
        assert found_in(go_on(place)) == NONE, name


def test_each_alteration_of_redis_is_found_and_named_until_it_is_undone(place: Place) -> None:
    a_mixed_load(place)
    with consuming(place), place.redis() as client:
        for seed, (name, (do, undo, key)) in enumerate(REDIS_ALTERATIONS.items()):
            new_records(place, 200 + seed)
            caught_up(place)
            client.execute_command(*do)
            for again in ("at once", "and at the next run"):
                found, kinds, keys = found_in(go_on(place))
                assert found, (name, again)
                assert key in keys, (name, again, kinds, keys)
            client.execute_command(*undo)
            assert found_in(go_on(place)) == NONE, name


def test_events_again_are_duplicates_whenever_they_come(place: Place) -> None:
    load = events(300)
    with consuming(place, batch_max_events=50):
        for records in (load, load[:100], [*events(100, seed=9), *load[50:80]], load):
            place.produce(records)
            caught_up(place)
            assert found_in(go_on(place)) == NONE
        report = go_on(place, full=True)
    assert (found_in(report), report.compared["events"]) == (NONE, 400)


def test_an_empty_piece_and_a_piece_of_nothing_but_bad_records(place: Place) -> None:
    place.produce([b"not JSON"] * 20)
    consume_all(place, dlq_halt_count=1_000)
    report = go_on(place)
    assert (found_in(report), report.compared["dead letters"]) == (NONE, 20)
    assert found_in(go_on(place)) == NONE


# -- in pieces ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 40 records, pages of 100 events and 50 places."""
    monkeypatch.setattr(steps, "PIECE_RECORDS", 40)
    monkeypatch.setattr(rounds, "PAGE_EVENTS", 100)
    monkeypatch.setattr(rounds, "PAGE_PLACES", 50)


@pytest.mark.usefixtures("small_pieces")
def test_stopped_after_any_step_it_goes_on(place: Place) -> None:
    a_mixed_load(place)
    consume_all(place)
    with place.pg() as connection:
        (group,) = read_groups(connection, place.topic)
    proven = []
    for number in range(8):
        with proving(place.settings, group, Report()) as prover:
            if number == 0:
                prover.begin()
            for _ in range(number % 3):
                prover.step()
            proven.append(sum(one.next_offset for one in prover.checkpoints.read().values()))
    assert proven == sorted(proven)
    assert 0 < proven[3] < 457
    assert found_in(go_on(place)) == NONE
    with place.pg() as connection:
        assert connection.execute("SELECT sum(events) FROM proven_counts").fetchone() == (403,)
        assert connection.execute("SELECT count(*) FROM pipeline_suspects").fetchone() == (0,)


@pytest.mark.usefixtures("small_pieces")
def test_a_step_that_dies_before_its_commit_did_not_happen(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    a_mixed_load(place)
    consume_all(place)
    balance = Findings.balance  # nearly the last work of a level step

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Findings, "balance", die)
    with pytest.raises(KeyboardInterrupt):
        go_on(place)
    monkeypatch.setattr(Findings, "balance", balance)
    assert found_in(go_on(place)) == NONE
    with place.pg() as connection:
        assert connection.execute("SELECT sum(events) FROM proven_counts").fetchone() == (403,)


@pytest.mark.usefixtures("small_pieces")
def test_two_at_once_take_turns(place: Place) -> None:
    a_mixed_load(place)
    consume_all(place)
    found: list[tuple[bool, set[str], str]] = []

    def run(full: bool) -> None:  # noqa: FBT001 - called by a thread
        found.append(found_in(go_on(place, full=full)))

    threads = [threading.Thread(target=run, args=(full,)) for full in (True, False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == [NONE] * 3


@pytest.mark.usefixtures("small_pieces")
def test_no_transaction_stands_idle_however_long_it_takes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends what stands idle for half a second; each piece takes longer to judge."""
    a_mixed_load(place)
    consume_all(place)
    monkeypatch.setattr(session, "sinks", lambda: {"idle_in_transaction_session_timeout": "500ms", "jit": "off"})
    judge, pause = ColumnJudge.judge, threading.Event()

    def slowly(self: ColumnJudge, records: Any) -> Any:
        pause.wait(0.7)
        return judge(self, records)

    monkeypatch.setattr(ColumnJudge, "judge", slowly)
    assert found_in(go_on(place, full=True)) == NONE


def test_what_was_proven_and_is_altered_later_is_found_within_a_round(place: Place) -> None:
    a_mixed_load(place)
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    altered = {
        "UPDATE events SET data = data || '{\"note\": 1}' WHERE player_id = 'player-3'": "player-3",
        "DELETE FROM events WHERE player_id = 'player-4' AND event_type = 'login'": "player-4",
        "UPDATE player_event_counts SET events = events + 1 WHERE player_id = 'player-5'": "player-5",
        "UPDATE leaderboard_daily SET score = score + 1 WHERE player_id = 'player-6'": "player-6",
        "INSERT INTO leaderboard_settled VALUES ('game-0', 'player-7', 1, now())": "player-7",
        "INSERT INTO events VALUES (gen_random_uuid(), 'login', 'a-ghost', 'game-0', now(), now(), '{}')": "a-ghost",
        "INSERT INTO player_event_counts VALUES ('a-shade', 'login', 1, now())": "a-shade",
        "INSERT INTO leaderboard_daily VALUES ('game-0', current_date, 'a-wraith', 1, now())": "a-wraith",
    }
    with place.pg() as connection:
        for statement in altered:
            connection.execute(statement.encode())
        (group,) = read_groups(connection, place.topic)
        with proving(place.settings, group, Report()) as prover:
            prover.roll_pages = 1
            rounds = 0
            while rounds < 1:
                prover.step()
                rounds += prover.round_ended
            assert set(prover.checkpoints.suspects(100, differing=True)) == set(altered.values())
        _, kinds, keys = found_in(go_on(place))
    assert {"event", "statistics", "board"} <= kinds
    for player in altered.values():
        assert f"player '{player}'" in keys


# -- another past ----------------------------------------------------------------------------------------------------


def test_a_database_restored_to_before_its_checkpoint_is_proven_again(place: Place) -> None:
    a_mixed_load(place)
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    earlier = f"{place.settings.db_name}_earlier"
    place_admin = place.stack.postgres.admin_dsn()
    with psycopg.connect(place_admin, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*map(sql.Identifier, (earlier, place.settings.db_name)))
        )
    place.produce(events(200, seed=11))
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    restored = Place(place.stack, place.settings.model_copy(update={"db_name": earlier}))
    try:
        assert found_in(go_on(restored))[1] <= {"Redis watermark", "Redis statistics", "Redis board"}
        consume_all(restored)
        report = go_on(restored)
        assert (found_in(report), report.compared["records"]) == (NONE, 200)
    finally:
        with psycopg.connect(place_admin, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(earlier)))
