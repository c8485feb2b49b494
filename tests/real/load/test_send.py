"""`gamemetrics load` through the edge to the stores, and the guide's two scripts."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.verify.verify import verify
from tests.commanding import gamemetrics, told
from tests.consuming import caught_up, consume_all, consuming
from tests.edges import EdgeUnderTest, free_port
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parents[3]


def sums(place: Place) -> list[tuple[object, ...]]:
    with place.pg() as connection:
        return connection.execute(
            "SELECT 'events', count(*)::numeric FROM events UNION ALL"
            " SELECT 'counted', sum(events) FROM player_event_counts UNION ALL"
            " SELECT 'scored', sum(score) FROM leaderboard_alltime"
        ).fetchall()


def test_the_guide_s_load_test_prints_what_the_guide_says(place: Place, edge: EdgeUnderTest) -> None:
    with consuming(place):
        done = gamemetrics(place, "load", "1000", "--rate", "2000", PORT=str(edge.port))
        caught_up(place)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "🔥 Starting load test..."
    assert lines[1].startswith("[1")
    assert lines[-6].startswith("[1000/1000] Success: 1000, Failed: 0")
    assert lines[-5] == "✅ Load test completed!"
    assert [line.split(":")[0].strip() for line in lines[-4:]] == ["Duration", "Success", "Failed", "Rate"]
    with place.pg() as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (1000,)
        assert connection.execute("SELECT count(*) FROM player_statistics").fetchone() == (5,)


def test_a_seed_twice_sends_the_same_events_and_sums_stay(place: Place, edge: EdgeUnderTest) -> None:
    command = (
        "load",
        "2000",
        "--seed",
        "7",
        "--batch",
        "500",
        "--players",
        "50",
        "--url",
        f"http://127.0.0.1:{edge.port}",
    )
    with consuming(place):
        code, first = told(place, *command)
        assert (code, first["success"], first["failed"]) == (0, 2000, 0)
        caught_up(place)
        once = sums(place)
        assert told(place, *command)[0] == 0
        single = ("load", "300", "--seed", "7", "--players", "50", "--url", f"http://127.0.0.1:{edge.port}")
        assert told(place, *single)[0] == 0
        caught_up(place)
        assert sums(place) == once
    report = verify(place.settings, lambda _what, _done, _total: None)
    assert report.differences.kept == []
    assert sum(line.duplicates for line in report.groups[place.group]) == 2300


def test_what_is_limited_is_sent_again_after_the_time_told(place: Place) -> None:
    edge = EdgeUnderTest(place, RATE_LIMIT_RPS="20")
    edge.start()
    try:
        code, report = told(place, "load", "100", "--url", f"http://127.0.0.1:{edge.port}")
    finally:
        edge.kill_if_running()
    assert (code, report["success"], report["failed"]) == (0, 100, 0)
    assert report["retries"] > 0


def test_events_that_are_refused_are_exit_1_with_the_reason(place: Place) -> None:
    edge = EdgeUnderTest(place, API_KEYS="a-key-of-sixteen-characters-or-more")
    edge.start()
    try:
        done = gamemetrics(place, "load", "20", "--url", f"http://127.0.0.1:{edge.port}")
        assert done.returncode == 1
        assert "❌ Load test completed, with failures." in done.stdout
        assert "Failed: 20" in done.stdout
        assert "First error: HTTP 401" in done.stdout
        url = ("--url", f"http://127.0.0.1:{edge.port}")
        keyed = gamemetrics(place, "load", "20", *url, API_KEY="a-key-of-sixteen-characters-or-more")
        assert keyed.returncode == 0, keyed.stdout
    finally:
        edge.kill_if_running()


def test_nobody_there_is_said_at_once(place: Place) -> None:
    done = gamemetrics(place, "load", "10", PORT=str(free_port()))
    assert done.returncode == 1
    assert "is `gamemetrics serve` running?" in done.stderr
    wrong = gamemetrics(place, "load", "10", "--url", "localhost")
    assert (wrong.returncode, "--url" in wrong.stderr) == (2, True)


def test_a_server_that_hangs_up_once_is_asked_again(place: Place, edge: EdgeUnderTest) -> None:
    with _hanging_up_first(edge.port) as port:
        code, report = told(place, "load", "50", "--url", f"http://127.0.0.1:{port}")
    assert (code, report["success"]) == (0, 50)
    assert report["retries"] > 0
    consume_all(place)
    assert sums(place)[0][1] == 50


def test_a_load_that_is_broken_off_ends(place: Place, edge: EdgeUnderTest) -> None:
    """Ctrl-C: the threads that wait for requests are told that there are no more."""
    command = [sys.executable, "-m", "pipeline", "load", "100000", "--rate", "50"]
    with subprocess.Popen(command, env={**place.environment(), "PORT": str(edge.port)}) as loading:
        eventually(lambda: edge.metric("events_published_total") > 0, timeout=30)
        loading.send_signal(signal.SIGINT)
        try:
            assert loading.wait(timeout=30) != 0
        finally:
            loading.kill()
    assert edge.metric("events_received_total") < 100_000


class _hanging_up_first:  # noqa: N801 - used as a function
    """A relay to a port that closes its first five connections after their first bytes."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._left = 5
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> int:
        self._start(self._accept)
        return int(self._listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._sockets:
            one.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            if self._left:
                self._left -= 1
                client.recv(10)
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._port))
            self._sockets.append(server)
            self._start(_relay, client, server)
            self._start(_relay, server, client)


def _relay(source: socket.socket, sink: socket.socket) -> None:
    try:
        while piece := source.recv(65_536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def test_the_guide_s_scripts_do_what_the_guide_says(place: Place, edge: EdgeUnderTest) -> None:
    migrated = subprocess.run(
        [sys.executable, ROOT / "scripts" / "migrate_db.py"],
        env=place.environment(), cwd="/", capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert migrated.returncode == 0, migrated.stderr
    assert migrated.stdout.splitlines()[-4:] == [
        "✓ Table 'events': exists",
        "✓ Table 'player_statistics': exists",
        "✓ Table 'leaderboards': exists",
        "✓ Table 'dlq_events': exists",
    ]
    loaded = subprocess.run(
        [ROOT / "scripts" / "load_test_events.sh", "100", "500"],
        env={**place.environment(), "PORT": str(edge.port)},
        cwd="/", capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert loaded.returncode == 0, loaded.stderr
    assert "[100/100] Success: 100, Failed: 0\n✅ Load test completed!" in loaded.stdout
    asked = subprocess.run(
        [ROOT / "scripts" / "load_test_events.sh"], env=os.environ, capture_output=True, timeout=60, check=False
    )
    assert asked.returncode == 2
