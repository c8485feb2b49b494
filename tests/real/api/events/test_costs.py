"""What a request may cost the edge before it is known to be good, and who waits for it meanwhile."""

import gzip
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edges import EVENT, EdgeUnderTest, read_all, running_edge
from tests.hostile import FINE, LIKE_NUL, filled
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real

BATCH = "/api/v1/events/batch"
GZIP = {"Content-Encoding": "gzip"}
LINES = {**GZIP, "Content-Type": "application/x-ndjson"}
MIB = 1 << 20
BATCH_BYTES = 4 * MIB
TOO_FINE = filled(FINE, LIKE_NUL, part=b"[]").replace(b"]}}", b",1e-20000]}}")
"""Refused by the last thing that the judge looks at."""


def cpu_seconds(edge: EdgeUnderTest) -> float:
    fields = Path(f"/proc/{edge.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(edge: EdgeUnderTest) -> int:
    """The most memory that the edge has ever had."""
    status = Path(f"/proc/{edge.pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def bodies() -> Iterator[tuple[str, bytes, dict[str, str], int]]:
    for name, one, status in (
        ("ones", b"1", 413), ("objects", b"{}", 413), ("events of nothing", b'{"data":{}}', 413), ("empty", b'""', 413)
    ):  # fmt: skip
        number = (BATCH_BYTES - 2) // (len(one) + 1)
        yield f"{number} {name}", gzip.compress(b"[" + b",".join([one] * number) + b"]"), GZIP, status
    yield "an array without end", gzip.compress(b"[" + b"1," * (2 * MIB - 1)), GZIP, 413
    yield "short lines", gzip.compress(b"12\n" * (BATCH_BYTES // 3)), LINES, 413
    yield "blank lines", gzip.compress(b"\n" * BATCH_BYTES), LINES, 413
    yield "a blank line", gzip.compress(b" " * BATCH_BYTES), LINES, 400
    yield "a blank array", gzip.compress(b"[" + b" " * (BATCH_BYTES - 2) + b"]"), GZIP, 400
    yield "no array", gzip.compress(b'{"a":[' + b"1," * (2 * MIB - 10) + b"1]}"), GZIP, 400


@pytest.mark.parametrize(("body", "headers", "status"), [pytest.param(*rest, id=name) for name, *rest in bodies()])
def test_what_is_no_batch_costs_little(edge: EdgeUnderTest, body: bytes, headers: dict[str, str], status: int) -> None:
    times = 10
    assert len(body) < 40_000
    edge.post(BATCH, body, headers)
    before, spent = peak_bytes(edge), cpu_seconds(edge)
    for _ in range(times):
        assert edge.post(BATCH, body, headers).status == status
    assert (cpu_seconds(edge) - spent) / times < 0.05
    assert peak_bytes(edge) < before + 32 * MIB


def test_as_many_as_a_batch_may_hold_and_one_more(edge: EdgeUnderTest) -> None:
    small, large = b'{"event_type":"login","player_id":"p","game_id":"g"}', b'{"data":{"x":"%s"}}' % (b"x" * 2_000)
    lines = {"Content-Type": "application/x-ndjson"}
    for one in (b"1", small, large):
        for number, status in ((1_999, None), (2_000, None), (2_001, 413)):
            array = edge.post(BATCH, b" [ " + b" , ".join([one] * number) + b" ] ")
            blank = edge.post(BATCH, b"\n\n".join([one] * number)[: BATCH_BYTES - 1], lines)
            for reply in (array, blank):
                assert reply.status == (status or (200 if one is small else 400)), reply.body[:200]
                if status is None:
                    said = reply.json()
                    assert said["accepted"] + len(said["rejected"]) == number


def test_a_body_that_is_no_batch_is_charged_for(place: Place) -> None:
    """By bytes, and as one event."""
    dear = gzip.compress(b"[" + b"1," * (2 * MIB - 10) + b"1]")
    for bytes_per_second, events_per_second in ((MIB, 0), (0, 2)):
        limits = {"RATE_LIMIT_BYTES_PER_SECOND": str(bytes_per_second), "RATE_LIMIT_RPS": str(events_per_second)}
        with running_edge(place, ready=True, **limits) as edge:
            statuses = [edge.post(BATCH, dear, GZIP).status for _ in range(6)]
            assert statuses[0] == 413
            assert 429 in statuses[1:4], statuses
            assert edge.send(EVENT).status == 429


def test_a_batch_that_is_dear_to_judge_leaves_the_loop_to_others(edge: EdgeUnderTest) -> None:
    """All of its events are refused, each at the end of the judge's work, so that it is answered without Kafka."""
    body = gzip.compress(b"[" + b",".join([TOO_FINE] * 63) + b"]")
    live = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    head = (
        f"POST {BATCH} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    edge.send(EVENT)
    with edge.dial() as client, edge.dial() as probe:
        client.sendall(head.encode() + body)
        probes = 0
        while not select.select([client], [], [], 0)[0]:
            probe.sendall(live)
            assert probe.recv(4096).startswith(b"HTTP/1.1 200 ")
            probes += 1
        reply = read_all(client)
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert reply.count(b"digits behind the point") == 63 + 1
    assert probes >= 5


def test_of_large_batches_every_event_is_answered_in_its_place(edge: EdgeUnderTest) -> None:
    good = {**EVENT, "data": {"score": 1, "x": "y" * 40_000}}
    batch = [good if index % 3 else {**good, "game_id": index} for index in range(90)]
    reply = edge.post(BATCH, batch).json()
    assert [one["index"] for one in reply["rejected"]] == list(range(0, 90, 3))
    assert [one is None for one in reply["event_ids"]] == [index % 3 == 0 for index in range(90)]
    assert reply["accepted"] == 60
    eventually(lambda: edge.metric("ingest_in_flight_bytes") == 0)


def test_large_batches_that_wait_are_held_within_the_budget(place: Place) -> None:
    with running_edge(place, MAX_IN_FLIGHT_BYTES=str(8 * MIB)) as edge:
        body = gzip.compress(b"[" + b",".join([TOO_FINE] * 60) + b"]")
        head = (
            f"POST {BATCH} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        clients = [edge.dial() for _ in range(6)]
        try:
            for client in clients:
                client.sendall(head.encode() + body)
            answers = [read_all(client) for client in clients]
        finally:
            for client in clients:
                client.close()
        statuses = sorted(answer[9:12] for answer in answers)
        assert statuses == [b"400"] * 2 + [b"503"] * 4
        eventually(lambda: edge.metric("ingest_in_flight_bytes") == 0)
        assert edge.post(BATCH, [EVENT] * 2000).status == 200
