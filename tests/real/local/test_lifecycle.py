"""The embedded servers die, freeze, start empty and come back, and keep what they should."""

import json
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

from pipeline.errors import ConfigurationError, UnavailableError
from pipeline.local.account import unprivileged_account
from pipeline.local.kafka_access import TOPIC
from pipeline.local.stack import Stack
from tests.consuming import log_ends
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    """A second stack, for what the shared one should not suffer."""
    with tempfile.TemporaryDirectory(prefix="gamemetrics-own-") as directory:
        Path(directory).chmod(0o711)
        stack = Stack(Path(directory))
        with stack.supervised():
            stack.start()
            yield stack
            stack.wipe()


def test_kill_9_of_every_server_loses_nothing_acknowledged(place: Place) -> None:
    with place.pg() as connection, place.redis() as client:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept SELECT generate_series(1, 1000)")
        client.set("kept", "yes")
        client.save()  # what a kill leaves of Valkey is its last snapshot
    placed = place.produce([b"%d" % n for n in range(100)], partition=0)
    ports = [server.port for server in place.stack.servers]
    for server in place.stack.servers:
        server.kill()
        assert server.pid is None
    assert place.stack.status() == {"kafka": False, "postgres": False, "valkey": False}
    place.stack.start()
    assert [server.port for server in place.stack.servers] == ports
    with place.pg() as connection, place.redis() as client:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1000,)
        assert client.get("kept") == b"yes"
    assert log_ends(place)[0] == len(placed)


def test_a_killed_postmaster_whose_pid_a_stranger_got_starts_again(stack: Stack) -> None:
    lock = stack.postgres.data / "postmaster.pid"
    stack.postgres.kill()
    account = unprivileged_account()
    with subprocess.Popen(["sleep", "600"], user=account.uid if account else None) as stranger:
        try:
            lines = lock.read_text("utf-8").splitlines()
            lock.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n", encoding="utf-8")
            stack.postgres.start()
            assert stranger.poll() is None
        finally:
            stranger.kill()
    assert stack.postgres.ready


def test_back_ends_that_outlive_their_postmaster_do_not_block_a_start(place: Place) -> None:
    postgres = place.stack.postgres
    with psycopg.connect(place.dsn(), autocommit=True) as connection:
        pid = postgres.pid
        assert pid is not None
        back_end = psutil.Process(connection.info.backend_pid)
        back_end.suspend()
        psutil.Process(pid).kill()
        eventually(lambda: not postgres.running)
        postgres.start()
        # Dead, though nobody may have collected it: its parent is gone, and not every init does.
        assert not back_end.is_running() or back_end.status() == psutil.STATUS_ZOMBIE
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert postgres.ready


@pytest.mark.parametrize("name", ["kafka", "postgres", "valkey"])
def test_a_paused_server_answers_nobody_until_it_is_resumed(stack: Stack, name: str) -> None:
    server = getattr(stack, name)
    server.pause()
    try:
        assert not server.ready
        assert server.running
    finally:
        server.resume()
    eventually(lambda: server.ready, timeout=30)


def test_a_paused_server_can_be_stopped(stack: Stack) -> None:
    stack.valkey.pause()
    stack.valkey.stop()
    assert not stack.valkey.running
    stack.valkey.start()
    assert stack.valkey.ready


def test_a_pid_that_a_stranger_got_since_is_not_signalled(own: Stack) -> None:
    own.valkey.stop()
    record = own.valkey.directory / "server.json"
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            recorded = json.loads(record.read_text("utf-8"))
            record.write_text(json.dumps({**recorded, "pid": stranger.pid}), encoding="utf-8")
            valkey = Stack(own.directory.parent).valkey
            assert not valkey.running
            valkey.stop()
            valkey.kill()
            assert stranger.poll() is None
        finally:
            stranger.kill()
    own.valkey.start()


def test_two_stacks_run_side_by_side(stack: Stack, own: Stack) -> None:
    ports = {server.port for one in (stack, own) for server in one.servers}
    assert len(ports) == 6
    assert own.environment()["KAFKA_PASSWORD"] != stack.environment()["KAFKA_PASSWORD"]
    assert all(stack.status().values())
    assert all(own.status().values())


def test_a_second_process_finds_the_running_servers(own: Stack) -> None:
    found = Stack(own.directory.parent)
    assert [server.pid for server in found.servers] == [server.pid for server in own.servers]
    found.start()
    assert [server.pid for server in found.servers] == [server.pid for server in own.servers]


def test_a_wiped_server_starts_empty_handed_at_the_same_address(own: Stack) -> None:
    before, topic = own.environment(), _topic_id(own)
    with own.valkey.client() as client:
        client.set("key", "value")
    with psycopg.connect(own.postgres.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE gone ()")
    for server in own.servers:
        server.wipe()
    own.start()
    # At once: the rights of the account are in force when a start returns.
    assert TOPIC in AdminClient(own.kafka.config()).list_topics(timeout=10).topics
    assert own.environment() == before
    with own.valkey.client() as client:
        assert client.get("key") is None
    with psycopg.connect(own.postgres.dsn()) as connection:
        assert connection.execute("SELECT to_regclass('gone')").fetchone() == (None,)
    assert _topic_id(own) != topic


def test_a_base_backup_brings_back_the_past(own: Stack, tmp_path: Path) -> None:
    with psycopg.connect(own.postgres.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE past ()")
        own.postgres.base_backup(tmp_path / "backup")
        connection.execute("CREATE TABLE future ()")
    own.postgres.restore(tmp_path / "backup")
    own.postgres.start()
    with psycopg.connect(own.postgres.dsn()) as connection:
        query = "SELECT to_regclass('past') IS NULL, to_regclass('future') IS NULL"
        assert connection.execute(query).fetchone() == (False, True)


def test_a_port_that_a_stranger_took_is_replaced_only_by_a_start_of_the_stack(own: Stack) -> None:
    own.valkey.stop()
    taken = own.valkey.port
    with socket.create_server(("127.0.0.1", taken)):
        with pytest.raises(UnavailableError, match=f"port {taken} is taken"):
            own.valkey.start()
        own.start()
    assert own.valkey.port != taken
    assert Stack(own.directory.parent).valkey.port == own.valkey.port
    assert own.valkey.ready


def test_a_start_that_fails_shows_the_log_and_stops_the_others(own: Stack) -> None:
    own.stop()
    snapshot = own.valkey.directory / "data" / "dump.rdb"
    kept = snapshot.read_bytes()
    snapshot.write_text("nonsense\n", encoding="utf-8")
    with pytest.raises(UnavailableError, match=r"(?s)valkey did not start; the end of .*loading the DB"):
        own.start()
    assert own.status() == {"kafka": False, "postgres": False, "valkey": False}
    snapshot.write_bytes(kept)
    own.start()
    assert all(own.status().values())


def test_before_the_first_start_nothing_is_written_and_nothing_is_up(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    assert not any(stack.status().values())
    stack.stop()
    with pytest.raises(ConfigurationError, match="run `gamemetrics local up` first"):
        stack.environment()
    assert list(tmp_path.iterdir()) == []


def _topic_id(stack: Stack) -> str:
    admin = AdminClient(stack.kafka.admin_config())
    found = admin.describe_topics(TopicCollection([TOPIC]))[TOPIC].result(10)
    return str(found.topic_id)
