"""The console's stream: bounded in watchers and in what waits for them, ended where it must end, and cheap."""

import contextlib
import os
import selectors
import signal
import socket
from pathlib import Path

import pytest

from pipeline.api.console.watchers import MOST_WATCHERS
from tests.edges import EVENT, EdgeUnderTest, keys, make_key, running_edge
from tests.place import Place
from tests.waiting import eventually
from tests.watchers import PATH, watching

pytestmark = pytest.mark.real
REQUEST = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def crowd(edge: EdgeUnderTest, stack: contextlib.ExitStack, count: int) -> list[socket.socket]:
    """Open so many watchers, each past its first event."""
    clients = []
    for _ in range(count):
        client = stack.enter_context(edge.dial())
        client.sendall(REQUEST)
        assert b" 200 OK" in client.recv(65536)
        clients.append(client)
    return clients


def cpu_seconds(pid: int) -> float:
    """Read how much CPU a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_while(edge: EdgeUnderTest, clients: list[socket.socket], updates: int) -> float:
    """Return the CPU seconds of the edge for an update, over so many updates; each watcher is held to get them all."""
    with watching(edge) as clock, selectors.DefaultSelector() as selector:
        for client in clients:
            client.settimeout(0)
            selector.register(client, selectors.EVENT_READ)
        clock.overview()
        clock.overview()
        drained(selector)
        before, got = cpu_seconds(edge.pid), 0
        for _ in range(updates):
            clock.overview()
            got += drained(selector)
        spent = cpu_seconds(edge.pid) - before
        eventually(lambda: owed(selector, got, len(clients) * (updates - 1)))
    return spent / updates


def drained(selector: selectors.BaseSelector) -> int:
    """Read what is there; return how many events."""
    events = 0
    for key, _ in selector.select(0):
        assert isinstance(key.fileobj, socket.socket)
        with contextlib.suppress(BlockingIOError):
            events += key.fileobj.recv(1 << 20).count(b"event: overview")
    return events


def owed(selector: selectors.BaseSelector, got: int, least: int) -> bool:
    return got + drained(selector) >= least


def test_two_hundred_watchers_cost_next_to_nothing(place: Place) -> None:
    """Each update is encoded once. The figures are printed; what is held is that a watcher costs less than 1 ms."""
    with running_edge(place) as edge, contextlib.ExitStack() as stack:
        before = cpu_seconds(edge.pid)
        idle = stack.enter_context(edge.dial())
        eventually(lambda: edge.get("/api/v1/console/history").json()["series"]["accepted"][3:], timeout=60)
        asleep = (cpu_seconds(edge.pid) - before) / 15
        idle.close()
        one = cpu_while(edge, [], 10)
        many = cpu_while(edge, crowd(edge, stack, 200), 10)
        print(f"CPU of the API, of a core: nobody {asleep:.1%}, one {one:.1%}, two hundred {many:.1%}")  # noqa: T201
        assert (many - one) / 200 < 0.001
        assert edge.send(EVENT).status == 200


def test_watchers_are_bounded_in_number_and_make_room_when_they_go(edge: EdgeUnderTest) -> None:
    with contextlib.ExitStack() as stack:
        clients = crowd(edge, stack, MOST_WATCHERS)
        with watching(edge) as refused:
            assert refused.status == 503
            assert refused.headers["retry-after"] == "5"
        assert edge.send(EVENT).status == 200
        clients[0].close()
        eventually(lambda: enters(edge))


def enters(edge: EdgeUnderTest) -> bool:
    with watching(edge) as stream:
        return stream.status == 200


def test_who_does_not_read_holds_up_nobody_and_is_cut(place: Place) -> None:
    """The overview is made long (a topic of many groups), and read by one of two."""
    with place.pg() as connection:
        connection.execute(
            "INSERT INTO pipeline_watermarks (group_id, topic, topic_id, partition, first_offset, next_offset)"
            " SELECT 'group-' || number, %s, 'id', partition, 0, 0 FROM generate_series(1, 200) AS number,"
            " generate_series(0, 2) AS partition",
            (place.topic,),
        )
    with running_edge(place) as edge, edge.dial() as lazy, watching(edge) as stream:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.sendall(REQUEST)
        stream.until(lambda seen: len(seen["groups"]) == 200)
        memory = edge.resident_bytes()
        connections = edge.metric("http_connections")
        for _ in range(40):  # 20 s of patience with a client that is stuck, and what the system's buffers hold
            stream.overview()
            if edge.metric("http_connections") < connections:
                break
        else:
            pytest.fail("it was not cut")
        assert edge.resident_bytes() - memory < 32 << 20


def test_a_head_is_answered_by_a_head_and_http10_reads_to_the_end(edge: EdgeUnderTest) -> None:
    head = edge.say(REQUEST.replace(b"GET", b"HEAD", 1))
    assert (b"text/event-stream" in head, head.endswith(b"\r\n\r\n")) == (True, True)
    with edge.dial() as client:
        client.sendall(f"GET {PATH} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        received = b""
        while received.count(b"event: overview") < 2:
            received += client.recv(65536)
        assert b"chunked" not in received
        client.sendall(b"GET / HTTP/1.1\r\n" * 1000)  # thrown away
        client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            pass
    assert edge.get("/health/live").status == 200


def test_a_stream_ends_with_its_key(place: Place, edge: EdgeUnderTest) -> None:
    reader = make_key(place, "reader", "--scope", "read")
    headers = {"Authorization": f"Bearer {reader}"}
    eventually(
        lambda: (
            edge.get("/api/v1/console/audit", headers).status == 200 and edge.get("/api/v1/console/audit").status == 401
        )
    )
    with watching(edge, headers) as stream:
        assert stream.overview()
        keys(place, "revoke", "reader")
        while stream.next() is not None:
            pass
    with watching(edge, headers) as stream:
        assert stream.status == 401


def test_a_stream_that_began_before_the_first_key_ends_with_it(place: Place, edge: EdgeUnderTest) -> None:
    with watching(edge) as stream:
        assert stream.overview()
        make_key(place, "first")
        while stream.next() is not None:
            pass


def test_a_stop_ends_the_streams_at_once_and_answers_what_is_under_way(place: Place) -> None:
    with running_edge(place) as edge, edge.dial() as lazy, watching(edge) as stream:
        lazy.sendall(REQUEST)
        stream.overview()
        os.kill(edge.pid, signal.SIGTERM)
        while stream.next() is not None:
            pass
        code, logged = edge.stop(signal.SIGCONT)  # it is told already, and may be past hearing a second time
        assert (code, "left unconfirmed" in logged) == (0, False)
