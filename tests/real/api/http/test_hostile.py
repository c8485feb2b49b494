"""Clients that are broken, slow or hostile: each gets its answer, and the memory stays bounded."""

import contextlib
import gzip
import json
import re
import resource
import select
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.edges import EVENT, EdgeUnderTest, read_all, running_edge
from tests.place import Place
from tests.waiting import eventually

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.real
BODY = json.dumps(EVENT).encode()
HEAD = b"POST /api/v1/events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
REQUEST = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
LIVE = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
MIB = 1 << 20


def statuses(wire: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", wire)]


def test_odd_requests_get_one_answer_and_the_connection_ends(edge: EdgeUnderTest) -> None:
    for wire, expected in (
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Content-Length: -5\r\n\r\nhello", 400),
        (HEAD + b"Content-Length: 99999999\r\n\r\n", 413),
        (HEAD + b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n", 413),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n", 413),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 3_000_000, 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ):
        assert statuses(edge.say(wire)) == [expected], wire[:80]
    assert edge.send(EVENT).status == 200


def test_chunks_and_continue_are_understood(edge: EdgeUnderTest) -> None:
    chunked = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(piece), piece) for piece in (BODY[:7], BODY[7:])) + b"0\r\n\r\n"
    wire = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked
    assert statuses(edge.say(wire + CLOSE)) == [200, 200]
    with edge.dial() as client:
        client.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert client.recv(100).startswith(b"HTTP/1.1 100 ")
        client.sendall(BODY + CLOSE)
        assert statuses(read_all(client)) == [200, 200]


def test_pipelined_requests_are_answered_in_order(edge: EdgeUnderTest) -> None:
    bad = HEAD + b"Content-Length: 2\r\n\r\n{}"
    wire = b"\r\n".join([REQUEST, bad, LIVE]) * 200 + CLOSE
    assert statuses(edge.say(wire)) == [200, 400, 200] * 200 + [200]


def test_a_request_in_single_bytes_is_a_request(edge: EdgeUnderTest) -> None:
    with edge.dial() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(len(REQUEST)):
            client.sendall(REQUEST[number : number + 1])
        client.sendall(CLOSE)
        assert statuses(read_all(client)) == [200, 200]


def test_a_half_closed_client_gets_its_answer(edge: EdgeUnderTest) -> None:
    with edge.dial() as client:
        client.sendall(REQUEST)
        client.shutdown(socket.SHUT_WR)
        assert statuses(read_all(client)) == [200]
    with edge.dial() as client:
        client.sendall(REQUEST[:-5])
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""


def test_a_client_that_goes_before_its_answer_harms_nobody(edge: EdgeUnderTest) -> None:
    for _ in range(200):
        with edge.dial() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            client.sendall(REQUEST)
    assert edge.send(EVENT).status == 200
    eventually(lambda: edge.metric("ingest_in_flight_bytes") == 0)
    assert edge.metric("events_published_total") >= 1
    assert edge.metric("http_connections") == 1


def trickle(client: socket.socket, first: bytes, piece: bytes) -> tuple[bytes, float]:
    """Send `first`, then `piece` again and again until the server answers or closes; return that, and when it came."""
    client.sendall(first)
    started = time.monotonic()

    def answered() -> bool:
        with contextlib.suppress(OSError):
            client.send(piece)
        return bool(select.select([client], [], [], 0)[0])

    eventually(answered, timeout=15, interval=0.1)
    after = time.monotonic() - started
    return read_all(client), after


def given_up(edge: EdgeUnderTest, first: bytes, piece: bytes, expected: list[int]) -> tuple[list[int], float]:
    """Do so on a connection of its own; a first answer that comes at once is read before the time counts."""
    with edge.dial() as client:
        early = b""
        if expected[:1] in ([200], [100]):
            client.sendall(first)
            while len(statuses(early)) < expected.count(200) + expected.count(100):
                early += client.recv(4096)
            first = b""
        last, after = trickle(client, first, piece)
        return statuses(early + last), after


def test_slow_heads_and_bodies_and_idle_connections_are_given_up(place: Place) -> None:
    """However they are slow: by nothing more, by a trickle, in chunks, or after a good request."""
    batch = b"POST /api/v1/events/batch HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    body = batch + b"Content-Length: 4000\r\n\r\n"
    cases = [
        (REQUEST[:30], b"", [408], 2),
        (REQUEST[:30], b"x", [408], 2),
        (LIVE + REQUEST[:30], b"x", [200, 408], 2),
        (body, b"", [408], 4),
        (body, b" ", [408], 4),
        (batch + b"Expect: 100-continue\r\nContent-Length: 4000\r\n\r\n", b"", [100, 408], 4),
        (batch + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", [408], 4),
        (b"", b"", [], 6),
        (LIVE, b"", [200], 6),
        (REQUEST * 3, b"", [200] * 3, 6),
    ]
    with (
        running_edge(
            place, HTTP_HEAD_TIMEOUT_SECONDS="2", HTTP_BODY_TIMEOUT_SECONDS="4", HTTP_IDLE_TIMEOUT_SECONDS="6"
        ) as edge,
        ThreadPoolExecutor(len(cases)) as threads,
    ):
        found = [threads.submit(given_up, edge, first, piece, expected) for first, piece, expected, _ in cases]
        for (first, piece, expected, bound), one in zip(cases, found, strict=True):
            answers, after = one.result()
            assert answers == expected, (first, piece)
            assert bound - 1.5 <= after <= bound + 2, (first, piece, after)  # its clock is told once a second
        assert edge.metric("http_connections") == 1
        assert edge.send(EVENT).status == 200


def test_bombs_and_deep_nesting_cost_little(edge: EdgeUnderTest) -> None:
    edge.send(EVENT)
    before = edge.resident_bytes()
    unsized = {int(zstd.CompressionParameter.content_size_flag): 0}
    bombs = [
        ("gzip", gzip.compress(bytes(400 * MIB), 9)),
        ("zstd", zstd.compress(bytes(400 * MIB))),
        ("zstd", zstd.compress(bytes(400 * MIB), options=unsized)),
    ]
    for _ in range(5):
        for coding, bomb in bombs:
            assert len(bomb) < MIB
            assert edge.post("/api/v1/events/batch", bomb, {"Content-Encoding": coding}).status == 413
        assert edge.post("/api/v1/events/batch", b"[" * (4 * MIB)).status == 400
        assert edge.post("/api/v1/events/batch", b'[{"a":' + b"9" * 3_000_000 + b"}]").status == 400
    assert edge.resident_bytes() < before + 64 * MIB


def test_bodies_that_arrive_share_a_bounded_memory(place: Place) -> None:
    with running_edge(place, MAX_IN_FLIGHT_BYTES=str(8 * MIB)) as edge:
        head = b"POST /api/v1/events/batch HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        clients = [edge.dial() for _ in range(8)]
        try:
            for client in clients:
                client.sendall(head + b"Content-Length: %d\r\n\r\n[" % (4 * MIB) + b" " * (2 * MIB))
            answered = [client for client in clients if _status(client) == 503]
            assert len(answered) >= 4
        finally:
            for client in clients:
                client.close()
        eventually(lambda: edge.metric("http_connections") == 1)
        assert edge.post("/api/v1/events/batch", [EVENT] * 2000).status == 200


def _status(client: socket.socket) -> int:
    client.settimeout(1.0)
    try:
        return statuses(client.recv(4096))[0]
    except (TimeoutError, IndexError, ConnectionResetError):
        return 0


def test_a_reader_that_does_not_read_is_held_back(edge: EdgeUnderTest) -> None:
    edge.send(EVENT)
    before = edge.resident_bytes()
    request = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"
    clients = [edge.dial() for _ in range(20)]
    try:
        for client in clients:
            client.settimeout(0.0)
            try:
                client.send(request * 20_000)
            except BlockingIOError:
                continue
        assert edge.send(EVENT).status == 200
        assert edge.resident_bytes() < before + 64 * MIB
    finally:
        for client in clients:
            client.close()


def test_ten_thousand_idle_connections(edge: EdgeUnderTest) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, hard - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 500), hard))
    edge.send(EVENT)
    before = edge.resident_bytes()
    clients = [socket.create_connection(("127.0.0.1", edge.port)) for _ in range(count)]
    try:
        eventually(lambda: edge.metric("http_connections") == count + 1)
        for client in clients[:: count // 100]:
            client.sendall(REQUEST)
        for client in clients[:: count // 100]:
            assert statuses(client.recv(4096)) == [200]
        assert edge.resident_bytes() < before + count * 8 * 1024
    finally:
        for client in clients:
            client.close()
    eventually(lambda: edge.metric("http_connections") == 1, timeout=30)


def test_past_the_limit_of_connections_it_says_so(place: Place) -> None:
    with running_edge(place, MAX_CONNECTIONS="20") as edge:
        clients = [edge.dial() for _ in range(20)]
        with edge.dial() as late:
            assert statuses(read_all(late)) == [503]
        for client in clients:
            client.close()
        eventually(lambda: edge.answers("/health/live"))


def test_past_the_budget_in_flight_it_says_so_at_once_and_heals(place: Place) -> None:
    with running_edge(place, MAX_IN_FLIGHT_BYTES=str(8 * MIB)) as edge:
        batch = [{**EVENT, "data": {"score": 1, "x": "y" * 1900}}] * 1900
        place.stack.kafka.pause()
        clients = [edge.dial() for _ in range(4)]
        try:
            body = json.dumps(batch).encode()
            head = b"POST /api/v1/events/batch HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            for client in clients:
                client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            answers = [client.recv(65536) for client in clients]
        finally:
            place.stack.kafka.resume()
            for client in clients:
                client.close()
        assert [statuses(answer)[0] for answer in answers] == [503] * 4
        refused = [answer for answer in answers if b"nothing was accepted" in answer]
        assert refused
        assert all(b"Retry-After: " in answer for answer in answers)
        eventually(lambda: edge.send(EVENT).status == 200, timeout=30)
        eventually(lambda: edge.metric("ingest_in_flight_bytes") == 0)


def test_nothing_a_client_says_forges_a_line_of_the_log(edge: EdgeUnderTest) -> None:
    forged = '\n{"event":"forged"}\x1b[2J'
    edge.send({**EVENT, forged: 1})
    edge.get("/%0a%7B%22event%22:%22forged%22%7D")
    edge.get("/health/live", {"User-Agent": "x\t%0d%0aforged"})
    edge.say(b"GET /\nforged HTTP/1.1\r\nHost: a\r\n\r\n")
    _, logged = edge.stop()
    assert "\x1b" not in logged
    assert all(json.loads(line)["event"] != "forged" for line in logged.splitlines() if line.startswith("{"))
    assert all("forged" not in line for line in logged.splitlines() if not line.startswith("{"))
