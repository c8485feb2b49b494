"""The port of health and metrics among clients that say nothing, little, or do not read."""

import contextlib
import http.client
import json
import os
import resource
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from pipeline.engine import health
from pipeline.engine.health import MOST_CONNECTIONS, ConsumerHealth, serve_health
from tests.edges import free_port
from tests.waiting import eventually

Dial = Callable[[], socket.socket]


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(health, "SILENT_SECONDS", 1.0)
    found = free_port()
    server = serve_health(ConsumerHealth(), found, "127.0.0.1")
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        eventually(lambda: not threads())


@pytest.fixture
def dial(port: int) -> Iterator[Dial]:
    with ExitStack() as opened:
        yield lambda: opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))


def threads() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def live(port: int) -> bool:
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(asking):
        asking.request("GET", "/health/live")
        reply = asking.getresponse()
        return reply.status == 200 and json.loads(reply.read())["status"] == "ok"


@pytest.mark.parametrize("clients", [50, 5 * MOST_CONNECTIONS])
def test_clients_that_say_nothing_are_bounded_and_left(clients: int, port: int, dial: Dial) -> None:
    for _ in range(clients):
        dial()
    assert live(port)
    eventually(lambda: threads() <= MOST_CONNECTIONS, timeout=0.5)
    assert live(port)
    eventually(lambda: threads() == 0, timeout=5)
    assert live(port)


def test_clients_that_say_little_and_never_end_give_way_to_a_probe(port: int, dial: Dial) -> None:
    """Each byte begins their time anew."""
    dripping = [dial() for _ in range(2 * MOST_CONNECTIONS)]
    for _ in range(20):
        for one in dripping:
            with contextlib.suppress(OSError):
                one.send(b"G")
        assert live(port)
    assert threads() <= MOST_CONNECTIONS + 1


def test_a_client_that_does_not_read_is_left(
    port: int, dial: Dial, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(health, "generate_latest", lambda: bytes(16 << 20))
    for _ in range(3):
        dial().sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    eventually(lambda: threads() == 3)
    assert live(port)
    eventually(lambda: threads() == 0)
    assert "Traceback" not in capfd.readouterr().err


def test_without_a_descriptor_left_it_waits(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not ask again at once, without end: that is a core."""
    asked = list[object]()
    original = socketserver.TCPServer.get_request

    def counted(server: socketserver.TCPServer) -> object:
        asked.append(server)
        return original(server)

    monkeypatch.setattr(socketserver.TCPServer, "get_request", counted)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as opened:
        client = opened.enter_context(socket.socket())
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 20, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    opened.enter_context(open(os.devnull, "rb"))  # noqa: PTH123
            client.connect(("127.0.0.1", port))
            client.settimeout(1.0)
            with pytest.raises(TimeoutError):
                client.recv(1)
            assert 1 <= len(asked) <= 12
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert live(port)
